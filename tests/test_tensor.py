"""`Tensor`: the first library's API, lazy values, views and writing in place."""

from __future__ import annotations

import copy
import doctest
import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

import autodiff.numpy as anp
from autodiff import errors, ir, state, tensor
from autodiff.numpy import registry
from autodiff.numpy.elementwise import LOOPS
from autodiff.operators import GUFUNCS
from autodiff.tensor import Tensor


def argument(x: Any) -> Tensor:
    """A tensor that stands for an argument that a derivative is taken of."""
    from autodiff.numpy.promotion import leaf

    return Tensor._of(ir.OPS["identity"](leaf(np.asarray(x))))


# ---- the first library ---------------------------------------------------------------------------------------------


def test_the_first_example() -> None:
    x = Tensor(3.0)
    y = 2 * x + 10
    assert y.value == 16.0
    assert y.grad(x) == 2.0
    assert isinstance(y.value, np.float64)


def test_values_are_the_users_own() -> None:
    data = np.array([1.0, 2.0])
    x = Tensor(data)
    data[0] = 9
    y = x * 2
    x.value[0] = 9
    y.value[0] = 9
    np.testing.assert_array_equal(x.value, [1, 2])
    np.testing.assert_array_equal(y.value, [2, 4])


def test_arrays_that_operators_meet_are_copied() -> None:
    data = np.array([1.0, 2.0])
    y = Tensor([1.0, 1.0]) + data
    data[:] = 0
    np.testing.assert_array_equal(y.value, [2, 3])


def test_backward_accumulates_in_all_trainable_leaves() -> None:
    w, b, fixed = Tensor([1.0, 2.0]), Tensor(3.0), Tensor([1.0, 1.0], trainable=False)
    np.testing.assert_array_equal(w.gradient, [0, 0])
    loss = ((w * w + b) * fixed).sum()
    loss.backward()
    np.testing.assert_array_equal(w.gradient, [2, 4])
    assert b.gradient == 2
    loss.backward()
    np.testing.assert_array_equal(w.gradient, [4, 8])
    np.testing.assert_array_equal(fixed.gradient, [0, 0])
    assert not fixed.trainable
    w.gradient = 0
    np.testing.assert_array_equal(w.gradient, [0, 0])


def test_broadcasting_is_undone_in_gradients() -> None:
    x, row, number = Tensor(np.ones((2, 3))), Tensor(np.arange(3.0)), Tensor(2.0)
    y = x * row + number
    np.testing.assert_array_equal(y.grad(row), [2, 2, 2])
    assert y.grad(number) == 6
    assert y.grad(x).shape == (2, 3)


def test_powers_are_differentiated_in_both_arguments() -> None:
    x, p = Tensor(2.0), Tensor(3.0)
    y = x**p
    np.testing.assert_allclose(y.grad(x), 12)
    np.testing.assert_allclose(y.grad(p), 8 * np.log(2))
    np.testing.assert_allclose((2**p).grad(p), 8 * np.log(2))


def test_products_of_matrices() -> None:
    a, b = Tensor(np.arange(6.0).reshape(2, 3)), Tensor(np.arange(12.0).reshape(3, 4))
    y = a @ b
    np.testing.assert_array_equal(y.grad(a), np.ones((2, 4)) @ b.value.T)
    np.testing.assert_array_equal(y.grad(b), a.value.T @ np.ones((2, 4)))
    np.testing.assert_array_equal((a.value @ b).value, y.value)


def test_gradients_of_what_lies_between() -> None:
    x = Tensor(2.0)
    between = x * 3
    y = between * between
    assert y.grad(between) == 12
    assert y.grad(x) == 36
    assert x.grad(y) == 0
    assert y.grad(Tensor(1.0)) == 0


def test_dependencies() -> None:
    x, z = Tensor(1.0), Tensor(2.0)
    y = x * 2 + z
    assert y.depends_on(x)
    assert y.depends_on(y)
    assert not x.depends_on(y)
    assert not (x * 2).depends_on(z)
    product, last = y.dependencies
    assert last is z
    assert product.dependencies[0] is x
    assert product.dependencies[1].value == 2
    assert not product.dependencies[1].trainable
    assert x.dependencies == ()
    assert (x + np.ones(3)).dependencies[0] is x
    for value in (0.0, [1.0, 2.0]):
        w = Tensor(value)
        assert (w * 2).dependencies[0] is w


def test_ids_are_unique() -> None:
    made = [Tensor(1.0) for _ in range(10)]
    made += [t + 1 for t in made]
    assert len({t.id for t in made}) == 20
    x = made[0]
    before = x.id
    x.value = 5
    assert x.id == before


def test_assigning_a_value_starts_a_new_version() -> None:
    w = Tensor([1.0, 2.0])
    old = (w * w).sum()
    w.value = [3.0, 4.0]
    assert old.value == 5
    assert (w * w).sum().value == 25
    np.testing.assert_array_equal(old.grad(w), [2, 4])
    old.backward()
    np.testing.assert_array_equal(w.gradient, [2, 4])


def test_a_version_of_another_shape_has_no_derivative_any_more() -> None:
    w = Tensor(2.0)
    old = w * w
    w.value = [1.0, 2.0]
    (w * w).sum().backward()
    for derive in (lambda: old.grad(w), old.backward):
        with pytest.raises(
            ValueError, match=r"float64\[2\] of what was computed from an earlier value of it, float64\[\]"
        ):
            derive()
    np.testing.assert_array_equal(w.gradient, [2, 4])


def test_a_training_loop_as_the_first_library_has_it() -> None:
    w = Tensor([0.0, 0.0])
    for _ in range(60):
        w.gradient = 0
        ((w - np.array([1.0, -2.0])) ** 2).sum().backward()
        w.value -= 0.1 * w.gradient
    np.testing.assert_allclose(w.value, [1, -2], atol=1e-4)


def test_equal_expressions_are_different_nodes() -> None:
    x = Tensor(1.0)
    a, b = x + 1, x + 1
    assert a.id != b.id
    assert (a * b).grad(a) == 2


def test_a_long_chain() -> None:
    x = Tensor(1.0)
    y = x
    for _ in range(20_000):
        y = y * 1.0001
    np.testing.assert_allclose(y.grad(x), 1.0001**20_000)


def test_nothing_keeps_a_network_alive() -> None:
    x = Tensor([1.0, 2.0])
    y = (x * x)[1:].sum()
    ref = weakref.ref(y._value.node.inputs[0].node)
    assert y.value == 4
    gc.disable()
    try:
        del y
        assert ref() is None
    finally:
        gc.enable()


# ---- NumPy's manners -----------------------------------------------------------------------------------------------


def test_python_floats_are_weak() -> None:
    weak = ir.Aval((), ir.FLOAT64, weak=True)
    with ir.building(ir.Builder(intern=True)):
        a, b = (Tensor._of(ir.argument(weak)) for _ in range(2))
        x = Tensor._of(ir.argument(ir.Aval((3,), ir.FLOAT32)))
        assert (x * (a * b)).dtype == np.float32
        assert (x * -((2 * a + 1) ** 2)).dtype == np.float32
        assert (x * abs(a / b)).dtype == np.float32
        assert (x * (a + True)).dtype == np.float32
        assert (x * np.sin(a)).dtype == np.float64
        assert (x * np.multiply(a, b)).dtype == np.float64
        assert np.where(x > 0, x, a).dtype == np.float32
        assert np.stack([a, b]).dtype == np.float64


def test_iteration_length_and_membership() -> None:
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2
    assert [row.value.tolist() for row in x] == [[1, 2], [3, 4]]
    a, b = x
    assert a.shape == b.shape == (2,)
    assert 3.0 in x
    assert 5.0 not in x
    with pytest.raises(TypeError, match="0-d"):
        iter(Tensor(1.0))
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)


def test_forcing_outside_compile() -> None:
    x = Tensor([1.0, 2.0])
    assert bool(x.sum() > 2)
    assert float(x.sum()) == 3
    assert int(x.sum()) == 3
    assert [10, 20, 30][np.argmax(x)] == 20
    assert repr(x) == "Tensor([1., 2.])"
    assert repr(x.sum()) == "Tensor(3.0)"
    assert str(x.sum()) == "3.0"
    assert f"{x.sum():.2f}" == "3.00"
    assert x.tolist() == [1, 2]
    assert x.sum().item() == 3
    np.testing.assert_array_equal(np.asarray(x), [1, 2])
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)


def test_masks_are_known_outside_compile() -> None:
    x = Tensor([1.0, -2.0, 3.0])
    y = x[x > 0]
    assert y.shape == (2,)
    np.testing.assert_array_equal(y.grad(x), [1, 0, 1])


def test_copies_and_pickles() -> None:
    x = Tensor([1.0, 2.0], trainable=False)
    for other in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x)):
        assert not other.trainable
        np.testing.assert_array_equal(other.value, x.value)
    assert copy.copy(x).depends_on(x)


def test_unknown_types_may_answer_themselves() -> None:
    class Other:
        __array_ufunc__ = None

        def __radd__(self, other: Any) -> str:
            return "other"

    assert Tensor(1.0) + Other() == "other"
    assert (Tensor(1.0) == None) is False  # noqa: E711
    with pytest.raises(TypeError, match="str"):
        Tensor(1.0) + "a"


# ---- writing in place ----------------------------------------------------------------------------------------------


def test_writing_into_what_was_made_inside() -> None:
    x = argument([1.0, 2.0, 3.0])
    y = np.zeros_like(x)
    y[0] = x[2]
    y[1:] += x[:2] * 2
    y *= 2
    y[1] -= 1
    y[...] = y[::-1]
    np.testing.assert_array_equal(y.value, [8, 3, 6])
    y.fill(4)
    np.testing.assert_array_equal(y.value, [4, 4, 4])


def test_rows_of_a_loop_are_written_to() -> None:
    x = np.ones_like(Tensor(np.zeros((3, 2))))
    for i, row in enumerate(x):
        row *= i
        row[0] = 7
    np.testing.assert_array_equal(x.value, [[7, 0], [7, 1], [7, 2]])


def test_derivatives_pass_through_writes() -> None:
    x = Tensor([1.0, 2.0, 3.0])
    y = np.zeros_like(x)
    y[:2] = x[1:] ** 2
    y += x
    np.testing.assert_array_equal(y.grad(x), [1, 5, 7])


def test_a_view_writes_through() -> None:
    x = np.zeros(4) + Tensor(np.zeros(4))
    view = x[1:3]
    view += 1
    view[0] = 5
    np.testing.assert_array_equal(x.value, [0, 5, 1, 0])
    np.testing.assert_array_equal(view.value, [5, 1])
    rows = np.zeros((2, 2)) + Tensor(0.0)
    rows[1][0] = 3
    np.testing.assert_array_equal(rows.value, [[0, 0], [3, 0]])


def test_overlapping_parts() -> None:
    x = Tensor(np.arange(4.0)) + 0
    part = x[:2]
    x[1:3] = part
    np.testing.assert_array_equal(x.value, [0, 0, 1, 3])
    np.testing.assert_array_equal(part.value, [0, 0])
    y = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]) * 1.0
    y[0] += y[1]
    row = y[0]
    y[1] *= row
    np.testing.assert_array_equal(y.value, [[5, 7, 9], [20, 35, 54]])
    part = x[:2]
    x[1:3] += part
    np.testing.assert_array_equal(x.value, [0, 0, 1, 3])
    np.testing.assert_array_equal(part.value, [0, 0])
    del part
    x[1:3] += 1
    part = x[:2]
    x[1:3] += part
    np.testing.assert_array_equal(part.value, [0, 1])


def test_numbers_are_never_changed() -> None:
    x = argument(3.0)
    before = x
    x += 1
    assert before.value == 3
    assert x.value == 4
    total = 0.0
    total += x
    assert total.value == 4


@pytest.mark.parametrize(
    "view", [lambda x: x[1:], lambda x: x.T, lambda x: x.reshape(-1), lambda x: x[None], np.ravel, np.real]
)
def test_a_view_that_is_still_in_use(view: Any) -> None:
    x = Tensor(np.ones(3)) * 2
    other = view(x)
    with pytest.raises(TypeError, match=r"view of the same memory.*copy"):
        x[0] = 1
    with pytest.raises(TypeError, match=r"view of the same memory.*copy"):
        x += 1
    del other
    x[0] = 1
    np.testing.assert_array_equal(x.value, [1, 2, 2])


@pytest.mark.parametrize(
    "make", [lambda: argument(np.ones(3)), lambda: argument(np.ones(3))[:], lambda: argument(np.ones((1, 3)))[0]]
)
def test_arguments_are_not_written_to(make: Any) -> None:
    x = make()
    with pytest.raises(TypeError, match=r"argument.*copy\(\).*\.at\["):
        x[0] = 1
    with pytest.raises(TypeError, match="argument"):
        x += 1
    y = x.copy()
    y[0] = 7
    y += 1
    np.testing.assert_array_equal(y.value, [8, 2, 2])
    np.testing.assert_array_equal(x.value, [1, 1, 1])
    np.testing.assert_array_equal(x.at[0].add(7).value, [8, 1, 1])


def test_leaves_are_not_written_to() -> None:
    w = Tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"assign to its \.value"):
        w[0] = 1
    with pytest.raises(TypeError, match=r"assign to its \.value"):
        w -= 1


def test_in_place_operators_keep_shape_and_dtype() -> None:
    x = np.ones_like(Tensor(np.zeros(3, np.float32)))
    x += np.ones(3)
    assert x.dtype == np.float32
    with pytest.raises(ValueError, match="shape"):
        x += np.ones((2, 3))
    n = np.ones_like(Tensor([1, 2]))
    with pytest.raises(TypeError, match="same_kind"):
        n += 0.5
    n[0] = 2.7
    assert n.value.tolist() == [2, 1]


def test_at_leaves_the_tensor_as_it_is() -> None:
    x = argument([1.0, 2.0, 3.0])
    y = x.at[1:].set(0)
    z = x.at[np.array([0, 0, 2])].add([1.0, 1.0, 5.0])
    np.testing.assert_array_equal(x.value, [1, 2, 3])
    np.testing.assert_array_equal(y.value, [1, 0, 0])
    np.testing.assert_array_equal(z.value, [3, 2, 8])


# ---- the namespace and this file's own floor -----------------------------------------------------------------------


def test_namespace_has_what_is_implemented() -> None:
    functions = {*registry.IMPLEMENTATIONS, *LOOPS, *GUFUNCS}
    of_numpy = [f.__name__ for f in functions if hasattr(np, f.__name__)]  # SciPy's join them when they are met
    missing = [name for name in of_numpy if not hasattr(anp, name)]
    assert missing == []
    own = {"array", "asarray", "full", "full_like", "take"}
    for name in set(anp.__all__) - own:
        assert getattr(anp, name) is getattr(np, name)


def test_namespace_joins_tensors() -> None:
    t = argument(2.0)
    np.testing.assert_array_equal(anp.array([[t, 1.0], [3.0, t]]).value, [[2, 1], [3, 2]])
    assert isinstance(anp.array([1, 2]), np.ndarray)
    assert anp.asarray(t) is t
    assert anp.array(t, np.float32, ndmin=2).shape == (1, 1)
    np.testing.assert_array_equal(anp.full((2,), t).value, [2, 2])
    assert anp.full_like(np.zeros(3, np.float32), t).dtype == np.float32


def test_docstrings() -> None:
    for module in (tensor, anp):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed


def test_lines() -> None:
    x = Tensor([1.0])
    y = np.sin(x) + 1
    line = y._value.node.line
    assert line is not None
    assert line.file == __file__
    assert errors.is_user_code(__file__)
    assert not errors.is_user_code(tensor.__file__)
    assert not errors.is_user_code(np.__file__)


def test_state() -> None:
    x, y = argument(1.0), argument(2.0)
    with state.within("derivative", [x._value]):
        assert not state.compiling()
        assert state.depends_on_active((x * 2 + y)._value)
        assert not state.depends_on_active((y * 2)._value)
        assert not state.depends_on_active((x > 2)._value)
        assert not state.depends_on_active(ir.OPS["stop_gradient"](x._value))
        with state.within("compile"):
            assert state.compiling()
    assert not state.active()
    assert not state.depends_on_active(x._value)
