"""What users apply to functions: composition, arguments of all kinds, results, caches, donation, keeping."""

from __future__ import annotations

import functools
import gc
import inspect
import pickle
import subprocess
import sys
import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import autodiff as ad
from autodiff import compiled, pytree

X = np.array([0.5, 1.0, 2.0])


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Model:
    weights: Any
    bias: Any
    power: int = 2
    note: Any = None


def loss(w: Any, x: Any, y: Any) -> Any:
    p = 1 / (1 + np.exp(-(x @ w)))
    return -np.mean(y * np.log(p) + (1 - y) * np.log1p(-p))


def fresh(*arrays: Any) -> list[Any]:
    return [np.array(a) for a in arrays]


# ---- composition ---------------------------------------------------------------------------------------------------


def cube(x: Any) -> Any:
    return np.sum(x**3 + np.sin(x))


GRADIENTS: dict[str, Callable[..., Any]] = {
    "grad": ad.grad(cube),
    "compile(grad)": ad.compile(ad.grad(cube)),
    "grad(compile)": ad.grad(ad.compile(cube)),
    "compile(grad(compile))": ad.compile(ad.grad(ad.compile(cube))),
    "value_and_grad": lambda x: ad.value_and_grad(cube)(x)[1],
    "vjp": lambda x: ad.vjp(cube, x)[1](1.0)[0],
    "compile(vjp)": ad.compile(lambda x: ad.vjp(cube, x)[1](1.0)[0]),
    "jvp": lambda x: np.array([ad.jvp(cube, (x,), (e,))[1] for e in np.eye(len(x))]),
    "jvp(compile)": lambda x: np.array([ad.jvp(ad.compile(cube), (x,), (e,))[1] for e in np.eye(len(x))]),
    "grad of jvp": lambda x: ad.grad(lambda t: ad.jvp(cube, (x,), (t,))[1])(np.zeros(len(x))),
    "compile of compile": ad.compile(ad.compile(ad.grad(cube))),
}


@pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
def test_first_order(gradient: Callable[..., Any]) -> None:
    for _ in range(3):
        np.testing.assert_allclose(gradient(X), 3 * X**2 + np.cos(X), rtol=1e-14)


SECOND: dict[str, Callable[..., Any]] = {
    "rev of rev": lambda f, x, v: ad.grad(lambda x: np.sum(ad.grad(f)(x) * v))(x),
    "fwd of rev": lambda f, x, v: ad.jvp(ad.grad(f), (x,), (v,))[1],
    "rev of fwd": lambda f, x, v: ad.grad(lambda x: ad.jvp(f, (x,), (v,))[1])(x),
    "fwd of fwd": lambda f, x, v: np.stack(
        [ad.jvp(lambda x, e=e: ad.jvp(f, (x,), (e,))[1], (x,), (v,))[1] for e in np.eye(len(x))]
    ),
    "vjp of compiled grad": lambda f, x, v: ad.vjp(ad.compile(ad.grad(f)), x)[1](v)[0],
}


@pytest.mark.parametrize("product", SECOND.values(), ids=SECOND)
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("outer", [False, True])
def test_second_order(product: Callable[..., Any], inner: bool, outer: bool) -> None:
    f = ad.compile(cube) if inner else cube
    hvp = functools.partial(product, f)
    v = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose((ad.compile(hvp) if outer else hvp)(X, v), (6 * X - np.sin(X)) * v, rtol=1e-13)


def test_third_derivative() -> None:
    f = np.sin
    for _ in range(3):
        f = ad.grad(f)
    assert f(0.3) == pytest.approx(-np.cos(0.3), rel=1e-14)
    assert ad.compile(f)(0.3) == pytest.approx(-np.cos(0.3), rel=1e-14)


@pytest.mark.parametrize("wrap", [lambda f: f, ad.compile], ids=["bare", "compiled"])
def test_perturbations_are_not_confused(wrap: Callable[..., Any]) -> None:
    """What an inner derivative holds constant, an outer one may be taken by."""
    assert ad.grad(wrap(lambda x: x * ad.grad(wrap(lambda y: x + y))(1.0)))(3.0) == 1.0
    assert ad.grad(wrap(lambda x: x * ad.grad(wrap(lambda y: x * y))(5.0)))(3.0) == 6.0
    assert ad.grad(wrap(lambda x: x * ad.grad(wrap(lambda y: x * y * y))(x)))(3.0) == 54.0  # 2 x^3
    assert ad.jvp(wrap(lambda x: x * ad.jvp(wrap(lambda y: x * y), (2.0,), (1.0,))[1]), (3.0,), (1.0,))[1] == 6.0
    assert ad.jvp(wrap(lambda x: ad.grad(wrap(lambda y: x * x * y))(x)), (3.0,), (1.0,))[1] == 6.0
    assert ad.grad(wrap(lambda x: ad.jvp(wrap(lambda y: x * y), (x,), (x,))[1]))(3.0) == 6.0
    assert wrap(ad.grad(lambda x: ad.grad(lambda y: ad.grad(lambda z: x * y * z)(1.0) * y)(x)))(3.0) == 12.0


def test_compiled_closure_over_an_outer_tracer() -> None:
    for outer in (ad.grad, lambda f: ad.compile(ad.grad(f))):
        assert outer(lambda x: ad.compile(lambda y: x * y)(2.0) * x)(3.0) == 12.0
        assert outer(lambda x: ad.grad(ad.compile(lambda y: x * x * y))(2.0))(3.0) == 6.0


def test_inner_results_are_tensors_and_outer_ones_arrays() -> None:
    inner = []

    def f(x: Any) -> Any:
        value, gradient = ad.value_and_grad(lambda y: np.sum(y * y))(np.ones(2))
        inner.extend([value, gradient])
        return np.sum(x * gradient)

    gradient = ad.grad(f)(np.zeros(2))
    assert [type(x) for x in inner] == [ad.Tensor, ad.Tensor]
    assert type(gradient) is np.ndarray
    np.testing.assert_array_equal(gradient, [2.0, 2.0])


def test_derivatives_of_the_first_librarys_tensors_are_tensors() -> None:
    w = ad.Tensor([1.0, 2.0])
    gradient = ad.grad(lambda w: np.sum(w**3))(w)
    assert isinstance(gradient, ad.Tensor)
    np.testing.assert_array_equal(gradient.value, [3.0, 12.0])
    np.testing.assert_array_equal(ad.compile(lambda w: w * 2)(w).grad(w), [2.0, 2.0])
    assert ad.grad(lambda x: np.sum(x * w))(2.0) == 3.0  # captured: the result is an array


def test_functions_may_force_values_under_a_bare_grad() -> None:
    def f(x: Any) -> Any:
        y = x
        while y < 100:
            y = y * y
        return y if x > 0 else -y

    assert ad.grad(f)(3.0) == 8 * 3.0**7
    assert ad.grad(ad.grad(f))(3.0) == 56 * 3.0**6


def test_stop_gradient() -> None:
    assert ad.grad(lambda x: x * ad.stop_gradient(x * x))(3.0) == 9.0
    assert ad.jvp(lambda x: ad.stop_gradient({"a": x})["a"], (3.0,), (1.0,)) == (3.0, 0.0)
    tree = {"a": X, "b": (None, "text")}
    assert ad.stop_gradient(tree)["a"] is X
    assert ad.compile(ad.grad(lambda x: np.sum(x * ad.stop_gradient(x))))(X).tolist() == X.tolist()


# ---- grad's arguments and results ----------------------------------------------------------------------------------


def test_argnums() -> None:
    def f(a: Any, b: Any, c: Any = 2.0) -> Any:
        return a * b * c

    assert ad.grad(f)(3.0, 5.0) == 10.0
    assert ad.grad(f, 1)(3.0, 5.0) == 6.0
    assert ad.grad(f, -1)(3.0, 5.0) == 6.0
    assert ad.grad(f, (0, 1))(3.0, 5.0) == (10.0, 6.0)
    assert ad.grad(f, [2, 0])(3.0, 5.0, 7.0) == (15.0, 35.0)
    assert ad.grad(f, (1,))(3.0, 5.0) == (6.0,)
    assert ad.grad(f, np.int64(1))(3.0, 5.0) == 6.0  # type: ignore[arg-type]
    assert ad.grad(f, np.array([0, 1]))(3.0, 5.0) == (10.0, 6.0)  # type: ignore[arg-type]
    assert ad.grad(f, {0, 1})(3.0, 5.0) == (10.0, 6.0)  # type: ignore[arg-type]
    assert ad.grad(f, 1)(3.0, b=5.0, c=1.0) == 3.0
    assert ad.grad(f)(a=3.0, b=5.0, c=1.0) == 5.0
    assert ad.value_and_grad(f, (0, 1))(3.0, 5.0) == (30.0, (10.0, 6.0))


def test_has_aux() -> None:
    def f(x: Any) -> Any:
        y = x * x
        return np.sum(y), {"y": y, "text": "kept", "n": 3}

    value, aux = ad.value_and_grad(f, has_aux=True)(X)[0]
    assert value == np.sum(X * X)
    assert aux["text"] == "kept"
    np.testing.assert_array_equal(aux["y"], X * X)
    gradient, aux = ad.grad(f, has_aux=True)(X)
    np.testing.assert_array_equal(gradient, 2 * X)
    assert aux["n"] == 3
    out, pull, aux = ad.vjp(f, X, has_aux=True)
    assert out == value
    np.testing.assert_array_equal(pull(2.0)[0], 4 * X)
    np.testing.assert_array_equal(aux["y"], X * X)
    (value, aux), gradient = ad.compile(ad.value_and_grad(lambda x: (np.sum(x), x + 1), has_aux=True))(X)
    np.testing.assert_array_equal(aux, X + 1)


def test_trees_of_parameters() -> None:
    def f(p: Any) -> Any:
        return np.sum(p["pair"].left * p["list"][0]) + p["model"].weights * p["model"].bias ** 2 + p["order"]["z"]

    params = {
        "pair": Pair(X, None),
        "list": [X + 1, (np.float32(3.0),)],
        "model": Model(2.0, 3.0, note=None, power=None),
        "order": OrderedDict(z=1.0, a=2.0),
    }
    gradient = ad.grad(f)(params)
    assert type(gradient["pair"]) is Pair
    np.testing.assert_array_equal(gradient["pair"].left, X + 1)
    assert gradient["pair"].right is None
    assert gradient["list"][1] == (0.0,)
    assert gradient["list"][1][0].dtype == np.float32
    assert gradient["model"] == Model(9.0, 12.0, power=None)
    assert gradient["order"] == OrderedDict(z=1.0, a=0.0)
    compiled_gradient = ad.compile(ad.grad(f))
    for _ in range(3):
        again = compiled_gradient(params)
        assert str(again) == str(gradient)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_have_their_arguments_shape_and_dtype(dtype: Any) -> None:
    for x in (np.ones((2, 3), dtype), np.ones((), dtype), dtype(1), np.ones((0, 2), dtype)):
        for f in (ad.grad(lambda x: np.sum(x * x)), ad.compile(ad.grad(lambda x: np.sum(x * x)))):
            gradient = f(x)
            assert (gradient.shape, gradient.dtype) == (np.shape(x), dtype)
            assert isinstance(gradient, np.ndarray if np.ndim(x) else np.generic)


def test_value_that_depends_on_nothing() -> None:
    assert ad.grad(lambda x: 3.0)(2.0) == 0.0
    assert ad.value_and_grad(lambda x: np.float32(3))(2.0) == (3.0, 0.0)
    assert ad.jvp(lambda x: (x, 3, np.arange(2)), (2.0,), (1.0,))[1][1] == 0


def test_jvp_and_vjp_of_trees() -> None:
    def f(a: Any, b: Any) -> Any:
        return {"sum": a["x"] + b, "none": None, "count": np.argmax(a["x"])}

    y, y_dot = ad.jvp(f, ({"x": X}, 2.0), ({"x": X}, None))
    np.testing.assert_array_equal(y["sum"], X + 2)
    np.testing.assert_array_equal(y_dot["sum"], X)
    assert y_dot["count"] == 0
    y, pull = ad.vjp(f, {"x": X}, 2.0)
    a_bar, b_bar = pull({"sum": np.ones(3), "none": None, "count": None})
    np.testing.assert_array_equal(a_bar["x"], np.ones(3))
    assert b_bar == 3.0
    assert pull({"sum": None, "none": None, "count": None})[1] == 0.0


def test_vjp_is_pulled_back_often_and_inside_other_transforms() -> None:
    y, pull = ad.vjp(lambda x: x * x, X)
    y[...] = np.nan  # it is the caller's own
    for scale in (1.0, 2.0):
        np.testing.assert_array_equal(pull(np.full(3, scale))[0], 2 * X * scale)
    np.testing.assert_array_equal(ad.grad(lambda c: np.sum(pull(c)[0]))(np.ones(3)), 2 * X)


# ---- compile's arguments -------------------------------------------------------------------------------------------


def traced(f: Callable[..., Any], **options: Any) -> tuple[Any, list[Any]]:
    """A compiled function, and the arguments each of its traces saw."""
    seen: list[Any] = []

    @functools.wraps(f)
    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return f(*args, **kwargs)

    return ad.compile(watched, **options), seen


def test_numbers_are_traced_and_others_static() -> None:
    f, seen = traced(lambda x, n, flag, text, none: x * n if flag else x)
    for x in (2.0, 3.0, -0.0):
        for _ in range(3):
            assert f(x, 2, True, "a", None) == 2 * x
    assert len(seen) == 1
    (x, *others), _ = seen[0]
    assert isinstance(x, ad.Tensor)
    assert others == [2, True, "a", None]
    f(2.0, 3, True, "a", None)
    f(2.0, 1, True, "a", None)
    f(2.0, True, True, "a", None)  # equal to 1, of another type
    f(2.0, 1, 1, "a", None)
    f(2.0, 1, True, "b", None)
    assert len(seen) == 6


def test_static_argnums() -> None:
    f, seen = traced(lambda x, p, axes: np.sum(x**p, axis=axes), static_argnums=(1, -1))
    x = np.arange(6.0).reshape(2, 3)
    for p in (2.0, 2, 3.0, 0.0, -0.0):
        for _ in range(3):
            np.testing.assert_allclose(f(x, p, (0,)), np.sum(x**p, axis=0), rtol=1e-14)
    assert len(seen) == 5
    np.testing.assert_allclose(f(x, axes=(1,), p=2), np.sum(x**2, axis=1))
    assert seen[-1][0][1:] == (2, (1,))


def test_python_floats_are_weak() -> None:
    f = ad.compile(lambda x, s: x * s)
    x = X.astype(np.float32)
    for _ in range(3):
        assert f(x, 2.5).dtype == np.float32
        assert f(x, np.float64(2.5)).dtype == np.float64
        assert f(x, np.array(2.5)).dtype == np.float64
    assert f(1.5, 2.0).dtype == np.float64
    weak = ad.compile(lambda x, a, b: x * (a * b))
    assert weak(x, 2.0, 3.0).dtype == np.float32


def test_weak_floats_change_without_a_trace() -> None:
    f, seen = traced(lambda x, s: x * s)
    assert [f(X, s).tolist() for s in (1.0, 2.0, 3.0, 4.0)] == [(X * s).tolist() for s in (1.0, 2.0, 3.0, 4.0)]
    assert len(seen) == 1


def test_signatures_by_position_and_by_name_are_the_same() -> None:
    f, seen = traced(lambda x, y=2.0, *, z=0.0: x * y + z)
    for _ in range(3):
        assert f(3.0) == 6.0
        assert f(3.0, 5.0) == f(3.0, y=5.0) == f(y=5.0, x=3.0) == 15.0
        assert f(3.0, z=1.0) == 7.0
    assert len(seen) == 3
    assert seen[0] == ((seen[0][0][0],), {})  # defaults are the function's own business


def test_any_kind_of_parameters() -> None:
    f = ad.compile(lambda *xs, **named: sum(xs) + named.get("a", 0.0))
    for _ in range(3):
        assert f(1.0, 2.0) == 3.0
        assert f(1.0, 2.0, 4.0) == 7.0
        assert f(1.0, a=2.0) == 3.0
    g = ad.compile(eval("lambda x, /, type, *, len=1.0: x * type + len"))
    for _ in range(3):
        assert g(2.0, 3.0) == 7.0
        assert g(2.0, type=3.0, len=2.0) == 8.0
    h = ad.compile(eval("lambda self, _ad0=1.0: self * _ad0"))
    for _ in range(3):
        assert h(self=2.0) == 2.0
    assert [ad.compile(np.sin)(0.5) for _ in range(3)] == [pytest.approx(np.sin(0.5))] * 3
    partial = ad.compile(functools.partial(lambda a, b: a - b, 5.0))
    assert [partial(2.0) for _ in range(3)] == [3.0] * 3


def test_wrong_calls_are_type_errors() -> None:
    f = ad.compile(lambda x, y: x + y)
    for _ in range(3):
        assert f(1.0, 2.0) == 3.0
        with pytest.raises(TypeError, match="missing"):
            f(1.0)
        with pytest.raises(TypeError, match="multiple values"):
            f(1.0, 2.0, x=3.0)
        with pytest.raises(TypeError, match="argument"):
            f(1.0, 2.0, 3.0)


def test_decorator_method_and_metadata() -> None:
    class Scaler:
        def __init__(self, factor: float):
            self.factor = factor

        @ad.compile
        def scale(self, x: Any) -> Any:
            """Scale it."""
            return x * self.factor

        @ad.compile(static_argnums=2)
        def power(self, x: Any, n: Any) -> Any:
            return x**n

    two, three = Scaler(2.0), Scaler(3.0)
    for _ in range(3):
        assert (two.scale(5.0), three.scale(5.0)) == (10.0, 15.0)
        assert two.power(5.0, 2) == 25.0
    assert Scaler.scale.__doc__ == "Scale it."
    assert Scaler.scale.__name__ == "scale"
    assert list(inspect.signature(ad.compile(loss)).parameters) == ["w", "x", "y"]
    assert repr(ad.compile(loss)) == "<compiled loss>"
    assert ad.grad(loss).__name__ == "grad(loss)"


TREES: list[Any] = [
    {"b": X, "a": [X, (X, None)]},
    Pair(X, {1: X, 2: X}),
    [Model(X, X), ()],
    OrderedDict([("z", X), ("a", X)]),
    (X, {("k", 1): X}, "static", 7),
]


@pytest.mark.parametrize("tree", TREES, ids=[type(t).__name__ for t in TREES])
def test_trees_in_and_out(tree: Any) -> None:
    def double(tree: Any) -> Any:
        leaves, structure = pytree.flatten(tree)
        return structure.unflatten([2 * x for x in leaves if isinstance(x, ad.Tensor)] + [0.0] * sum(
            not isinstance(x, ad.Tensor) for x in leaves))  # fmt: skip

    f = ad.compile(double)
    for _ in range(4):
        result = f(tree)
        assert type(result) is type(tree)
        leaves = pytree.flatten(result)[0]
        for leaf in leaves[: 2 if len(leaves) > 2 else 1]:
            np.testing.assert_array_equal(leaf, 2 * X)


def test_dicts_keep_their_order() -> None:
    """As in NumPy code that runs over its layers: the tenth is not the second."""

    def f(layers: Any) -> Any:
        y = 0.0
        for x in layers.values():
            y = y * 10 + x
        return y

    compiled_f = ad.compile(f)
    forwards, backwards = {"layer2": 1.0, "layer10": 2.0}, {"layer10": 2.0, "layer2": 1.0}
    for _ in range(4):  # generated code too
        assert compiled_f(forwards) == 12
        assert compiled_f(backwards) == 21
    assert ad.value_and_grad(f)(forwards) == (12.0, {"layer2": 10.0, "layer10": 1.0})
    assert list(ad.grad(f)(backwards)) == ["layer10", "layer2"]
    assert list(ad.compile(lambda x: {"b": x, "a": x})(1.0)) == ["b", "a"]
    assert ad.jvp(f, (forwards,), (dict(reversed(forwards.items())),))[1] == 12


def test_structures_are_told_apart_by_generated_code() -> None:
    f, seen = traced(lambda t: sum(pytree.flatten(t)[0], start=0.0) * 1.0)
    trees = [
        (1.0, 2.0),
        [1.0, 2.0],
        {"a": 1.0, "b": 2.0},
        {"a": 1.0, "c": 2.0},
        Pair(1.0, 2.0),
        (1.0, (2.0,)),
        (1.0, 2.0, None),
    ]
    for _ in range(4):
        for tree in trees:
            assert f(tree) == 3.0
    assert len(seen) == len(trees)
    assert [type(args[0]) for args, _ in seen] == [type(tree) for tree in trees]


def arrays_of_all_kinds() -> dict[str, Any]:
    base = np.arange(24.0).reshape(4, 6)
    readonly = base.copy()
    readonly.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + base.tobytes(), np.float64, 24, 1).reshape(4, 6)

    class Sub(np.ndarray):
        pass

    return {
        "plain": base,
        "strided": np.repeat(base, 2, 1)[:, ::2],
        "reversed": base[::-1, ::-1],
        "fortran": np.asfortranarray(base),
        "transposed": base.T.copy().T,
        "broadcast": np.broadcast_to(base[0], (4, 6)),
        "readonly": readonly,
        "big-endian": base.astype(">f8"),
        "unaligned": unaligned,
        "subclass": base.view(Sub),
        "memmap-like": base[1:][:3],
        "empty": base[:0],
    }


@pytest.mark.parametrize("kind", arrays_of_all_kinds())
def test_arrays_of_all_kinds(kind: str) -> None:
    x = arrays_of_all_kinds()[kind]
    want = np.asarray(x, np.float64)
    f = ad.compile(lambda x: (x, x + 1, np.sum(x)))
    for _ in range(4):
        same, more, total = f(x)
        assert type(same) is np.ndarray
        assert same.dtype.isnative
        np.testing.assert_array_equal(same, want)
        np.testing.assert_array_equal(more, want + 1)
        assert total == want.sum()
        assert not np.may_share_memory(same, x)
        assert same.flags.writeable
        assert same.flags.owndata or same.base is None
    np.testing.assert_array_equal(ad.grad(lambda x: np.sum(x * x))(x), 2 * want)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_dtypes(dtype: str) -> None:
    x = np.array([0, 1, 1], dtype)
    f = ad.compile(lambda x: (x, x[1]))
    for _ in range(3):
        same, one = f(x)
        assert (same.dtype, one.dtype) == (x.dtype, x.dtype)
        assert type(one) is x.dtype.type
        np.testing.assert_array_equal(same, x)
        assert f(np.stack([x, x]))[0].shape == (2, 3)
        assert type(ad.compile(lambda x: x)(x.dtype.type(1))) is x.dtype.type


# ---- compile's results ---------------------------------------------------------------------------------------------


def test_results_are_fresh() -> None:
    y = np.ones(3)
    f = ad.compile(lambda x: (x, x, x * 1, y, np.zeros(2), x[:2]))
    for call in (f, f, f, f.lower(X), ad.grad(lambda x: (np.sum(x), (x, x)), has_aux=True)):
        results = pytree.flatten(call(X))[0]
        for i, a in enumerate(results):
            assert not np.may_share_memory(a, X)
            assert not np.may_share_memory(a, y)
            assert not any(np.may_share_memory(a, b) for b in results[:i])
            assert np.ndim(a) == 0 or a.flags.writeable
    first = f(X)
    first[3][...] = 7
    np.testing.assert_array_equal(f(X)[3], np.ones(3))


def test_scalars_are_numpys() -> None:
    f = ad.compile(lambda x: {"sum": np.sum(x), "n": 3, "flag": True, "pi": 3.5, "max": np.argmax(x)})
    for _ in range(3):
        types = {k: type(v) for k, v in f(X).items()}
        assert types == {"flag": np.bool_, "max": np.int64, "n": np.int64, "pi": np.float64, "sum": np.float64}


def test_results_without_arrays() -> None:
    f = ad.compile(lambda x: (None, (), {}))
    assert [f(1.0) for _ in range(3)] == [(None, (), {})] * 3
    assert ad.compile(lambda: np.float32(3))() == 3


def test_captured_arrays_are_frozen() -> None:
    w = np.ones(3)
    f = ad.compile(lambda x: x * w)
    f(X)
    w[:] = 5
    np.testing.assert_array_equal(f(X), X)


# ---- the cache -----------------------------------------------------------------------------------------------------


def test_one_trace_a_signature() -> None:
    f, seen = traced(lambda x: x + x)
    for _ in range(3):
        for n in (1, 2, 3, 4, 5, 6):
            np.testing.assert_array_equal(f(np.ones(n)), np.full(n, 2.0))
        f(np.ones(3, np.float32))
    assert len(seen) == 7


def test_the_least_recently_used_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "CACHE_SIZE", 3)
    f, seen = traced(lambda x, n: x * n, static_argnums=1)
    for n in (1, 2, 3, 1, 4):  # 4 displaces 2
        f(2.0, n)
    assert len(seen) == 4
    f(2.0, 1)
    f(2.0, 3)
    assert len(seen) == 4
    f(2.0, 2)
    assert len(seen) == 5
    assert compiled.CACHE_SIZE == 3


def test_the_cache_keeps_128() -> None:
    assert compiled.CACHE_SIZE == 128


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([(np.ones(n), 1.0) for n in range(9)], r"argument x: float64\[7\] -> float64\[8\]"),
        ([(X, n) for n in range(9)], "argument scale: static int 7 -> static int 8"),
        ([({"a": [X] * n}, 1.0) for n in range(9)], r"argument x: .* -> \{'a': \[\*, \*, \*, \*, \*, \*, \*, \*\]\}"),
        ([(X, 1.0)] * 5 + [(np.ones(n), 1.0) for n in range(10, 18)], r"argument x: float64\[16\] -> float64\[17\]"),
    ],
)
def test_a_warning_after_eight_compiles_names_the_argument(calls: list[Any], message: str) -> None:
    @ad.compile
    def scaled(x: Any, scale: Any) -> Any:
        return x * scale if not isinstance(x, dict) else None

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for args in calls[:-1]:
            scaled(*args)
    with pytest.warns(RuntimeWarning, match=f"scaled is compiled for the 9th time.*{message}") as record:
        scaled(*calls[-1])
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled(np.ones(99), 1.0)  # said once


def test_calls_that_lead_straight_to_c() -> None:
    """Functions of arrays by position, once known; every other call of them is as good as ever."""

    def f(a: Any, b: Any = 3.0) -> Any:
        return a * b + 1

    g = ad.compile(f)
    for _ in range(5):
        np.testing.assert_array_equal(g(X, X), X * X + 1)
    np.testing.assert_array_equal(g(X), 3 * X + 1)
    np.testing.assert_array_equal(g(X, b=X), X * X + 1)
    np.testing.assert_array_equal(g(b=2.0, a=X), 2 * X + 1)
    np.testing.assert_array_equal(g(X.astype(np.float32), X), X * X + 1)
    assert g(ad.Tensor(2.0), 3.0).grad is not None
    assert ad.grad(g)(2.0, 3.0) == 3.0
    for arguments in ((), (X, X, X)):
        with pytest.raises(TypeError, match="argument"):
            g(*arguments)
    with pytest.raises(TypeError, match="c"):
        g(X, c=X)
    pair = ad.compile(lambda a, b: (b, a))
    for _ in range(5):
        result = pair(X, 2.0)
    assert type(result) is tuple
    assert type(result[0]) is np.float64
    single = ad.compile(lambda a: [a])
    for _ in range(5):
        assert type(single(X)) is list


def test_a_compiled_function_is_freed() -> None:
    f = ad.compile(lambda x: x + 1)
    for _ in range(5):
        f(X)
    alive = weakref.ref(f), weakref.ref(f.lower(X))
    f.lower(X)(X)
    del f
    gc.collect()
    assert [x() for x in alive] == [None, None]


# ---- donation ------------------------------------------------------------------------------------------------------


def test_donated_arrays_are_the_results() -> None:
    f = ad.compile(lambda p, x: p - 2 * x, donate_argnums=0)
    p, x = fresh(X, X)
    for i in range(1, 5):
        result = f(p, x)
        assert result is p
        np.testing.assert_array_equal(p, X - 2 * i * X)
    np.testing.assert_array_equal(x, X)


def test_donated_trees_keep_their_places() -> None:
    """`params` and `velocity` have equal shapes: paths tell which array is which."""

    def step(velocity: Any, params: Any, g: Any) -> Any:
        velocity = {k: 0.5 * v + g for k, v in velocity.items()}
        return {k: params[k] - velocity[k] for k in params}, {"loss": np.sum(g), "velocity": velocity}

    f = ad.compile(step, donate_argnums=(0, 1))
    velocity = {"b": np.full(3, 1.0), "a": np.full(3, 2.0)}
    params = {"b": np.full(3, 10.0), "a": np.full(3, 20.0)}
    for _ in range(4):
        want_params, want_other = step(velocity, params, X)
        got_params, got_other = f(velocity, params, X)
        for k in "ab":
            assert got_params[k] is params[k]
            assert got_other["velocity"][k] is velocity[k]
            np.testing.assert_array_equal(params[k], want_params[k])
            np.testing.assert_array_equal(velocity[k], want_other["velocity"][k])


def test_swapped_results() -> None:
    """Each result is made in the memory that the other is read from."""
    f = ad.compile(lambda a, b: (b + 1, a + 1), donate_argnums=(0, 1))
    for _ in range(3):
        a, b = fresh([1.0, 2.0], [10.0, 20.0])
        first, second = f(a, b)
        assert first is a
        assert second is b
        np.testing.assert_array_equal(first, [11.0, 21.0])
        np.testing.assert_array_equal(second, [2.0, 3.0])


def test_scalars_of_a_donated_argument_are_passed() -> None:
    f = ad.compile(lambda s: {"n": s["n"] + 1, "x": s["x"] * s["r"], "r": s["r"]}, donate_argnums=0)
    state = {"n": np.int64(0), "x": np.ones(3), "r": 2.0}
    for i in range(1, 5):
        x = state["x"]
        state = f(state)
        assert state["x"] is x
        assert state["n"] == i
        state["r"] = float(state["r"])


def test_donation_is_nothing_inside_a_derivative() -> None:
    f = ad.compile(lambda p, x: np.sum(p * x) * p, donate_argnums=0)
    (p,) = fresh(X)
    ad.grad(lambda x: np.sum(f(p, x)))(X)
    np.testing.assert_array_equal(p, X)


# ---- executables ---------------------------------------------------------------------------------------------------


def test_lower() -> None:
    f = ad.compile(ad.value_and_grad(loss))
    args = np.zeros(3), np.ones((4, 3)), np.ones(4)
    executable = f.lower(*args)
    want = f(*args)
    for _ in range(3):
        got = executable(*args)
        assert got[0] == want[0]
        np.testing.assert_array_equal(got[1], want[1])
    assert "dot_general" in str(executable.graph)
    assert __file__ in str(executable.plan)
    assert "value_and_grad(loss)" in repr(executable)


@dataclass
class Scale:
    """Importable, so that executables that take or return it can be pickled."""

    factor: Any


def scale_pair(s: Scale, p: Pair, n: int = 2) -> Any:
    return Pair(p.left * s.factor, Scale(p.right**n))


def test_pickle() -> None:
    executable = ad.compile(scale_pair, static_argnums=2).lower(Scale(2.0), Pair(X, X), n=3)
    again = pickle.loads(pickle.dumps(executable))
    for e in (executable, again):
        for _ in range(3):
            result = e(Scale(2.0), Pair(X, X), n=3)
            np.testing.assert_array_equal(result.left, 2 * X)
            np.testing.assert_allclose(result.right.factor, X**3)
    with pytest.raises(TypeError, match="argument n: static int 3 -> static int 4"):
        again(Scale(2.0), Pair(X, X), n=4)


def test_save_and_load_in_another_process(tmp_path: Path) -> None:
    file = tmp_path / "step.plan"
    ad.compile(lambda p, x: {"p": p - x, "sum": np.sum(p)}, donate_argnums=0).lower(X, X).save(file)
    code = (
        "import sys, numpy as np, autodiff as ad\n"
        "f, p = ad.load(sys.argv[1]), np.array([1.0, 2.0, 3.0])\n"
        "for _ in range(3): result = f(p, np.ones(3))\n"
        "assert result['p'] is p\n"
        "print(p.tolist(), result['sum'])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[-2.0, -1.0, 0.0] 0.0"


def test_load_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"something else")
    with pytest.raises(ValueError, match="not an executable"):
        ad.load(tmp_path / "x")


# ---- random numbers ------------------------------------------------------------------------------------------------


def test_drawing_is_fine_under_a_bare_grad() -> None:
    gradients = {float(ad.grad(lambda x: x * np.random.normal())(1.0)) for _ in range(5)}  # noqa: NPY002
    assert len(gradients) == 5


def test_other_threads_may_draw_while_a_function_is_traced() -> None:
    stop, drawn = threading.Event(), threading.Event()

    def draw() -> None:
        while not stop.is_set():
            np.random.random(10)  # noqa: NPY002
            drawn.set()

    waited = []

    def f(x: Any) -> Any:
        if not waited:
            drawn.clear()
            waited.append(drawn.wait(10))
        return x + 1

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        assert ad.compile(f)(1.0) == 2.0
        assert waited == [True]
    finally:
        stop.set()
        thread.join()


# ---- check_grads ---------------------------------------------------------------------------------------------------


def test_check_grads() -> None:
    ad.check_grads(
        lambda p, x, n: np.tanh(x @ p["w"] + p["b"]) ** n, ({"w": np.eye(3), "b": X.astype(np.float32)}, X, 3)
    )
    ad.check_grads(ad.compile(loss), (X / 3, np.eye(3), np.array([1.0, 0.0, 1.0])), order=3)
    ad.check_grads(lambda x: {"a": x * x, "n": np.argmax(x), "none": None}, (X,), modes=("rev",))
    ad.check_grads(lambda x: 1e6 + 1e-3 * x, (X,), order=1)


@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_check_grads_names_the_argument_and_both_numbers(mode: str) -> None:
    def wrong(params: Any, x: Any) -> Any:
        return x * x + np.sin(params["w"][1]) + ad.stop_gradient(np.sin(params["w"][0]))

    number = r"-?[\d.e+-]+"
    message = rf"wrong: the derivative \({mode}\) with respect to argument params\['w'\]\[0\] is 0 .* give {number}"
    with pytest.raises(AssertionError, match=message):
        ad.check_grads(wrong, ({"w": [X, X]}, X), order=1, modes=(mode,))


def test_check_grads_at_second_order() -> None:
    def wrong(x: Any) -> Any:  # f'(x) = 2 x stopped: right once, wrong twice
        return ad.stop_gradient(x * x - 2 * x * x) + 2 * x * ad.stop_gradient(x)

    with pytest.raises(AssertionError, match=r"of"):
        ad.check_grads(wrong, (X,), order=2, modes=("rev",))


def test_check_grads_refuses_what_it_cannot_check() -> None:
    with pytest.raises(TypeError, match="no argument is floating"):
        ad.check_grads(lambda n: n, (3,))
    with pytest.raises(TypeError, match="no result of argmax is floating"):
        ad.check_grads(np.argmax, (X,))
    with pytest.raises(ValueError, match="'back'"):
        ad.check_grads(np.sin, (1.0,), modes=("back",))


# ---- many operations -----------------------------------------------------------------------------------------------


def test_long_chains() -> None:
    def f(x: Any) -> Any:
        for i in range(3000):
            x = np.sin(x) if i % 3 == 0 else x * 1.01 if i % 3 == 1 else x + 0.1
        return x

    bare, fast = ad.grad(f)(0.5), ad.compile(ad.grad(f))(0.5)
    assert bare == pytest.approx(fast, rel=1e-12)


# ---- instruction sets ----------------------------------------------------------------------------------------------


def test_arithmetic_has_the_same_bits_on_every_instruction_set() -> None:
    args = X, np.linspace(-1, 1, 3000).reshape(1000, 3)
    results = []
    for name in ("base", "avx2", "avx512"):
        try:
            with ad.testing.instruction_set(name):
                executable = ad.compile(ad.grad(lambda w, x: np.sum(np.sqrt(np.abs(x * w + 1)) / 3))).lower(*args)
        except ValueError:
            continue  # not on this machine
        assert executable.isa == name
        results.append(executable(*args))
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    with pytest.raises(ValueError, match="no instruction set 'abacus'"), ad.testing.instruction_set("abacus"):
        pass
