"""Ufuncs, operators and selections on tensors against NumPy."""

from __future__ import annotations

import operator
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from against_numpy import arrays, check, dtypes, elements, finite, floats, shapes
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff as ad
from autodiff.numpy.elementwise import COMPARISONS, LOOPS, loops_of

UNARY = [u for u in LOOPS if u.nin == 1]
BINARY = [u for u in LOOPS if u.nin == 2]
NOT_FOR_INTEGERS = {np.reciprocal, np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert}
"""Where what is supported ends before NumPy does."""

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul,
             operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]  # fmt: skip

scalars = st.one_of(
    st.booleans(),
    st.integers(-3, 300),
    st.floats(-4, 4, width=16),
    st.integers(-3, 3).map(np.int32),
    st.floats(-4, 4, width=16).map(np.float32),
    st.floats(-4, 4, width=16).map(np.float64),
    st.booleans().map(np.bool_),
)


@st.composite
def pairs(draw: Any, of: Any = finite) -> Any:
    """Two arrays that mostly broadcast, or an array and a number, in either order."""
    if draw(st.booleans()):
        both: list[Any] = [draw(arrays(of=of)), draw(scalars)]
    elif draw(st.integers(0, 9)):
        shape = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_side=0))
        both = [draw(arrays(shape=s, of=of)) for s in shape.input_shapes]
    else:
        both = [draw(arrays(of=of)), draw(arrays(of=of))]
    return both if draw(st.booleans()) else both[::-1]


@pytest.mark.parametrize("ufunc", UNARY, ids=lambda u: u.__name__)
@given(x=arrays(of=elements))
@settings(max_examples=25)
def test_unary(ufunc: np.ufunc, x: Any) -> None:
    if ufunc in NOT_FOR_INTEGERS and x.dtype.kind in "iu":
        return
    check(ufunc, x)


@pytest.mark.parametrize("ufunc", BINARY, ids=lambda u: u.__name__)
@given(both=pairs(of=elements))
@settings(max_examples=40)
def test_binary(ufunc: np.ufunc, both: Any) -> None:
    if ufunc in NOT_FOR_INTEGERS and any(np.asarray(x).dtype.kind in "iu" for x in both):
        return
    if ufunc in (np.power, np.float_power):  # of numbers whose powers are not all wild
        both = [np.clip(x, -4, 4) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in both]
    check(ufunc, *both, rtol=3e-6 if ufunc in (np.power, np.logaddexp) else 0)


@pytest.mark.parametrize("op", OPERATORS, ids=lambda f: f.__name__)
@given(both=pairs())
@settings(max_examples=40)
def test_operators(op: Any, both: Any) -> None:
    check(op, *both, rtol=3e-6 if op is operator.pow else 0)


@given(both=pairs())
def test_operators_with_arrays_on_either_side(both: Any) -> None:
    x, y = both
    if isinstance(x, np.ndarray):
        check(lambda t: t + y, x)
        check(lambda t: y * t, x)


@pytest.mark.parametrize("n", [0, 1, 2, 3, -1, 0.5, 4, -2, 1.5, 2.0, np.float32(2), np.int64(3), np.array(2.0), True])
@given(x=arrays())
@settings(max_examples=30)
def test_powers_by_numbers(n: Any, x: Any) -> None:
    if x.dtype == bool:
        return  # NumPy itself is of two minds about their dtype
    check(lambda t: t**n, x, rtol=1e-6)
    check(lambda t: np.power(t, n), x, rtol=1e-6)


def test_float_power_takes_no_short_cuts() -> None:
    from autodiff.tensor import Tensor

    x = np.array([-np.inf, -0.0, 4.0])
    np.testing.assert_array_equal(np.float_power(Tensor(x), 0.5).value, [np.inf, 0, 2])
    np.testing.assert_array_equal(np.power(Tensor(x), 0.5).value, [np.nan, 0, 2])


def test_powers_by_numbers_need_no_pow() -> None:
    from autodiff.tensor import Tensor

    x = Tensor([1.0, 2.0])
    for n in (0, 1, 2, 3, -1, 0.5):
        used = str(x**n)  # evaluates
        assert used
        ops = {node.op.name for node in _nodes(x**n)}
        assert "pow" not in ops


def _nodes(t: Any) -> list[Any]:
    from autodiff import ir

    return ir.toposort([t._value])


@pytest.mark.parametrize("ufunc", COMPARISONS, ids=lambda u: u.__name__)
@pytest.mark.parametrize("n", [300, -1, 2**40, -(2**70)])
def test_comparison_with_numbers_out_of_range(ufunc: np.ufunc, n: int) -> None:
    for dtype in ("uint8", "int32", "int64"):
        x = np.array([0, 1, 100], dtype)
        check(lambda t: ufunc(t, n), x)
        check(lambda t: ufunc(n, t), x)


@given(x=arrays(shape=(3,), dtype=dtypes), dtype=dtypes)
def test_dtype_argument(x: Any, dtype: Any) -> None:
    check(lambda t: np.add(t, t, dtype=dtype), x)


@given(x=arrays(dtype=floats, shape=(7,), of=lambda dtype: st.floats(-80, 80, width=32)))
def test_hyperbolic_functions_within_ulps(x: Any) -> None:
    eps = float(np.finfo(x.dtype).eps)
    for ufunc in (np.sinh, np.cosh, np.tan):
        check(ufunc, x.astype(np.float64), rtol=8 * 2.3e-16)
        check(ufunc, x, rtol=8 * eps)


def test_hyperbolic_functions_at_the_edges() -> None:
    x = np.array([0.0, -0.0, 1e-300, 710.3, -710.3, 711.0, np.inf, -np.inf, np.nan, 1e-9, -20.0])
    check(np.sinh, x, rtol=2e-15)
    check(np.cosh, x, rtol=2e-15)


@given(
    mask=arrays(dtype=np.bool_),
    both=pairs(of=elements),
)
def test_where(mask: Any, both: Any) -> None:
    check(np.where, mask, *both, exact=True)


bounds = st.one_of(st.none(), st.integers(-2, 3), st.floats(-2, 3), st.just(np.float32(1)), arrays(shape=(3,)))


@given(x=arrays(shape=(2, 3), of=elements), low=bounds, high=bounds)
def test_clip(x: Any, low: Any, high: Any) -> None:
    check(np.clip, x, low, high, exact=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float32])
@pytest.mark.parametrize("low", [None, -300, -(2**40), -(2**70), 2])
@pytest.mark.parametrize("high", [None, 300, 2**40, 2**70, 2])
def test_clip_by_numbers_beyond_the_dtype(dtype: Any, low: int | None, high: int | None) -> None:
    check(lambda t: np.clip(t, low, high), np.arange(5).astype(dtype), exact=True)
    check(lambda t: np.clip(t, high, low), np.arange(5).astype(dtype), exact=True)


@given(x=arrays(of=elements), y=arrays(of=elements))
@settings(max_examples=50)
def test_closeness(x: Any, y: Any) -> None:
    check(np.array_equal, x, y)
    if x.dtype.kind != "f":
        check(lambda a, b: np.isclose(a, b, atol=1), x, y)
        check(lambda a: np.isclose(a, 3, atol=1), x)
    if x.dtype.kind == "f" and x.shape == y.shape:
        check(np.isclose, x, y)
        check(np.allclose, x, y)
        check(lambda a, b: np.allclose(a, b, equal_nan=True), x, x)
        check(np.nan_to_num, x)


@given(x=arrays(of=elements))
def test_astype(x: Any) -> None:
    x = np.nan_to_num(x, posinf=9, neginf=-9) if x.dtype.kind == "f" else x
    x = np.clip(x, 0, 99) if x.dtype.kind == "f" else x  # other numbers have no agreed conversion
    for dtype in (bool, "uint8", "int32", "int64", "float32", "float64"):
        check(lambda t: t.astype(dtype), x, exact=True)  # noqa: B023


@given(x=arrays(), shape=shapes)
def test_likes(x: Any, shape: Any) -> None:
    for function in (np.zeros_like, np.ones_like):
        check(function, x, exact=True)
        check(lambda t: function(t, dtype=np.float32, shape=shape), x, exact=True)  # noqa: B023
    check(lambda t: np.full_like(t, 3), x, exact=True)
    check(lambda t: np.full_like(t, t), x, exact=True)
    check(lambda t: np.copy(t), x, exact=True)
    check(lambda t: (np.shape(t), np.ndim(t), np.size(t)), x)


@given(x=arrays())
def test_outer(x: Any) -> None:
    check(np.multiply.outer, x, np.arange(3.0))
    check(np.subtract.outer, np.arange(3), x.astype(np.int64))


@pytest.mark.parametrize("name", ["erf", "erfc", "expit", "log_expit", "softplus", "gammaln", "digamma"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
def test_special_functions(name: str, dtype: str) -> None:
    """SciPy's ufuncs by NumPy's protocol, and those of `autodiff.special` on tensors and arrays."""
    special, ours = pytest.importorskip("scipy.special"), getattr(ad.special, name)
    if not hasattr(special, name):
        pytest.skip("this SciPy is too old")
    theirs = getattr(special, name)
    x = np.array([[-3, -0.0, 0.0], [0.25, 1.5, 7]]).astype(dtype)
    want = theirs(x)
    lazily = (theirs(ad.Tensor(x)).value, ours(ad.Tensor(x)).value)
    for got in (*lazily, ours(x), ad.compile(theirs)(x), ad.compile(ours)(x)):
        assert got.dtype == want.dtype
        np.testing.assert_array_max_ulp(got, want, 4)  # SciPy's own errors among them
    assert isinstance(ours(x), np.ndarray)
    assert isinstance(ours(0.5), np.float64)


@pytest.mark.parametrize("x", [0.0, -0.0, 1e-9, -1e-9, 3.0, -3.0, 800.0, -800.0])
def test_softplus_is_smooth(x: float) -> None:
    """Where its branches meet, too."""
    e = np.exp(-abs(x))
    slope, bend = (1 if x > 0 else e) / (1 + e), e / (1 + e) ** 2
    forms: list[Any] = [ad.special.softplus, lambda x: -ad.special.log_expit(-x)]
    forms += [lambda x: np.logaddexp(x, 0.0), lambda x: np.logaddexp(0.0, x)]
    for softplus in forms:
        np.testing.assert_allclose(ad.grad(softplus)(x), slope, rtol=1e-14)
        np.testing.assert_allclose(ad.grad(ad.grad(softplus))(x), bend, rtol=1e-13)
        np.testing.assert_allclose(ad.jvp(ad.grad(softplus), (x,), (1.0,))[1], bend, rtol=1e-13)


def test_logaddexp_of_equal_numbers_and_infinities() -> None:
    f = ad.compile(ad.grad(lambda a, b: np.sum(np.logaddexp(a, b)), argnums=(0, 1)))
    a, b = np.array([1.0, -np.inf, np.inf, 2.0]), np.array([1.0, 3.0, 3.0, -np.inf])
    np.testing.assert_array_equal(np.array(f(a, b)), [[0.5, 0, 1, 1], [0.5, 1, 0, 0]])
    with np.errstate(all="ignore"):
        check(np.logaddexp, np.array([np.inf, -np.inf, np.nan, 1.0]), np.array([np.inf, -np.inf, 1.0, np.nan]))


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_derivative_of_arctan2_at_any_scale(scale: float) -> None:
    by_a, by_b = ad.grad(np.arctan2, argnums=(0, 1))(3 * scale, 4 * scale)
    np.testing.assert_allclose([by_a * scale, by_b * scale], [4 / 25, -3 / 25], rtol=1e-14)


def test_error_functions_of_constants_in_a_trace() -> None:
    x = np.linspace(-1, 1, 5)
    value, gradient = ad.value_and_grad(lambda v: np.sum(ad.special.erf(x) * ad.special.erf(v)))(x)
    np.testing.assert_allclose(value, np.sum(ad.special.erf(x) ** 2), rtol=1e-14)
    np.testing.assert_allclose(gradient, ad.special.erf(x) * 2 / np.sqrt(np.pi) * np.exp(-x * x), rtol=1e-14)


def test_other_ufuncs_of_scipy_are_refused() -> None:
    special = pytest.importorskip("scipy.special")
    with pytest.raises(TypeError, match="gamma is not supported"):
        special.gamma(ad.Tensor(1.0))


def test_a_ufunc_called_erf_need_not_be_scipys() -> None:
    class Impostor:
        __name__ = "erf"

    with pytest.raises(TypeError, match="erf is not supported"):
        loops_of(Impostor())  # type: ignore[arg-type]
