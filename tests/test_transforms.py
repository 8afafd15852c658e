"""Forward mode, reverse mode and batching, on networks rather than single primitives."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import ir
from autodiff.interpret import interpret
from autodiff.ir import FLOAT64, INT64, Aval, Graph, Value
from autodiff.ops.arithmetic import add, maximum, mul, scale, sqrt
from autodiff.ops.host import host
from autodiff.ops.logic import convert, select, stop_gradient
from autodiff.ops.reduction import reduce_sum
from autodiff.ops.transcendental import exp, log, sin
from autodiff.transforms import batch, pullback, pushforward

SCALAR = Aval((), FLOAT64)
VECTOR = Aval((3,), FLOAT64)


def gradient(y: Value, *xs: Value) -> list[Value | None]:
    return pullback([y], xs, [y.full_like(1.0)])


def evaluate(values: list[Value | None], **known: tuple[Value, object]) -> list[np.ndarray]:
    inputs, arrays = zip(*known.values(), strict=True)
    outputs = tuple(v if v is not None else ir.full(0.0, (), FLOAT64) for v in values)
    return interpret(Graph(inputs, outputs), *[np.asarray(a, x.dtype) for x, a in zip(inputs, arrays, strict=True)])


def ops_of(values: list[Value | None], *inputs: Value) -> list[str]:
    return [n.op.name for n in ir.toposort([v for v in values if v is not None], inputs)]


def test_shared_values_add_their_cotangents() -> None:
    x = ir.argument(SCALAR)
    (g,) = evaluate(gradient(x * x * x + x, x), x=(x, 2.0))
    assert g == 13


def test_what_does_not_depend_has_no_tangent_and_no_cotangent() -> None:
    x, y, n = ir.argument(SCALAR), ir.argument(SCALAR), ir.argument(Aval((), INT64))
    z = sin(x) * convert(n, FLOAT64)
    assert pushforward([z], [y], [y]) == [None]
    assert pullback([z], [y, n], [z]) == [None, None]
    assert pullback([stop_gradient(x) * 2.0], [x], [x.full_like(1.0)]) == [None]


def test_only_the_paths_that_matter_are_visited() -> None:
    x, y = ir.argument(SCALAR), ir.argument(SCALAR)
    z = mul(x, exp(sin(y)))
    emitted = ops_of(gradient(z, x), x, y)
    assert "cos" not in emitted


def test_inputs_may_be_inner_values() -> None:
    x = ir.argument(SCALAR)
    y = sin(x)
    (g,) = evaluate(gradient(y * y, y), x=(x, 1.0))
    assert g == 2 * np.sin(1.0)


def test_a_derivative_of_a_derivative_does_not_confuse_variables() -> None:
    """d/dx (x * d/dy (x + y)) at y = 1 is 1, not 2."""
    x, y = ir.argument(SCALAR), ir.argument(SCALAR)
    (inner,) = pushforward([x + y], [y], [y.full_like(1.0)])
    assert inner is not None
    (outer,) = evaluate(pushforward([x * inner], [x], [x.full_like(1.0)]), x=(x, 3.0), y=(y, 1.0))
    assert outer == 1


def test_hessian_of_a_chain_is_the_same_both_ways() -> None:
    x, t = ir.argument(VECTOR), ir.argument(VECTOR)
    y = reduce_sum(exp(sin(x)) * x, axes=(0,))
    (g,) = gradient(y, x)
    assert g is not None
    forward = pushforward([g], [x], [t])
    backward = gradient(reduce_sum(mul(g, t), axes=(0,)), x)
    a, b = evaluate([*forward, *backward], x=(x, [0.1, 0.2, 0.3]), t=(t, [1, -2, 3]))
    np.testing.assert_allclose(a, b, rtol=1e-14)


# ---- masked branches -----------------------------------------------------------------------------------------------


def test_plain_networks_are_plain_ieee() -> None:
    x = ir.argument(VECTOR)
    assert "scale" not in ops_of(gradient(reduce_sum(log(x) * sqrt(x), axes=(0,)), x), x)


def test_downstream_of_a_selection_products_keep_zeros() -> None:
    x = ir.argument(VECTOR)
    y = reduce_sum(select(x > 0.0, sqrt(x), x), axes=(0,))
    assert "scale" in ops_of(gradient(y, x), x)
    (g,) = evaluate(gradient(y, x), x=(x, [0.0, 4.0, -1.0]))
    np.testing.assert_array_equal(g, [1, 0.25, 1])


def test_a_harmless_literal_needs_no_scale() -> None:
    x = ir.argument(VECTOR)
    y = reduce_sum(maximum(x * 3.0, x.full_like(0.0)), axes=(0,))
    assert "scale" not in ops_of(gradient(y, x), x)


def test_a_zero_cotangent_by_coincidence_still_has_a_derivative() -> None:
    """Scale's own derivative: the cotangent of sin(x) is 0 at x = 0 here, but its tangent is not."""
    x = ir.argument(VECTOR)
    y = select(x > -1.0, sin(x), x)
    (g,) = gradient(reduce_sum(y * y, axes=(0,)), x)
    assert g is not None
    (h,) = evaluate(pushforward([g], [x], [x.full_like(1.0)]), x=(x, [0.0, 0.0, 0.0]))
    np.testing.assert_array_equal(h, [2, 2, 2])


def test_scale_keeps_zero() -> None:
    x, k = ir.argument(VECTOR), ir.argument(VECTOR)
    got, *grads = evaluate(
        [scale(x, k), *gradient(reduce_sum(scale(x, k), axes=(0,)), x, k)], x=(x, [0, 2, 0]), k=(k, [np.inf, 3, np.nan])
    )
    np.testing.assert_array_equal(got, [0, 6, 0])
    np.testing.assert_array_equal(grads[1], [0, 2, 0])


# ---- structure -----------------------------------------------------------------------------------------------------


def test_host_steps_have_no_derivative() -> None:
    x = ir.argument(VECTOR)
    (y,) = host.emit(x, function=np.sin, results=(VECTOR,))
    with pytest.raises(TypeError, match="no derivative rule"):
        pushforward([y], [x], [x])


def test_long_chains_are_linear_and_do_not_recurse() -> None:
    x = ir.argument(VECTOR)
    y: Value = x
    for _ in range(20_000):
        y = add(sin(y), x)
    (g,) = gradient(reduce_sum(y, axes=(0,)), x)
    assert g is not None
    assert len(ir.toposort([g], [x])) < 130_000


def test_lines_ride_along() -> None:
    builder = ir.current()
    x = ir.argument(VECTOR)
    builder.line = ir.Line("user.py", 5)
    y = sin(x)
    builder.line = None
    (g,) = gradient(reduce_sum(y, axes=(0,)), x)
    assert g is not None
    assert any(n.op.name == "cos" and n.line == ir.Line("user.py", 5) for n in ir.toposort([g], [x]))
    assert builder.line is None


def test_batch_leaves_what_is_not_batched() -> None:
    x, w = ir.argument(VECTOR), ir.argument(VECTOR)
    hidden = sin(w)
    y = reduce_sum(x * hidden, axes=(0,))
    xs = ir.argument(Aval((4, 3), FLOAT64))
    got, same = batch([y, hidden], [x, w], [xs, None])
    assert got.shape == (4,)
    assert same.shape == (4, 3)
    data = np.arange(12.0).reshape(4, 3)
    a, b = evaluate([got, same], xs=(xs, data), w=(w, [1, 2, 3]))
    np.testing.assert_allclose(a, data @ np.sin([1, 2, 3]))
    np.testing.assert_array_equal(b, np.broadcast_to(np.sin([1.0, 2, 3]), (4, 3)))


def test_batch_sizes_must_agree() -> None:
    x, y = ir.argument(SCALAR), ir.argument(SCALAR)
    with pytest.raises(ValueError, match=r"differ in their leading axis: \[3, 4\]"):
        batch([x + y], [x, y], [ir.argument(VECTOR), ir.argument(Aval((4,), FLOAT64))])
