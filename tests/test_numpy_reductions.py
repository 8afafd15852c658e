"""Reductions of tensors against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_numpy import arrays, axes, check, dtypes, elements
from hypothesis import given, settings
from hypothesis import strategies as st

from autodiff.numpy.reductions import REDUCTIONS

SELECTIONS = [np.max, np.min, np.amax, np.any, np.all, np.ptp]
MOMENTS = [np.sum, np.mean, np.var, np.std]


@st.composite
def reductions(draw: Any, of: Any = elements) -> Any:
    """An array and the arguments that all reductions take."""
    x = draw(arrays(of=of))
    options = {}
    if draw(st.booleans()):
        options["axis"] = draw(axes(x.ndim))
    if draw(st.booleans()):
        options["keepdims"] = draw(st.booleans())
    return x, options


@pytest.mark.parametrize("function", SELECTIONS, ids=lambda f: f.__name__)
@given(case=reductions())
@settings(max_examples=40)
def test_selections(function: Any, case: Any) -> None:
    x, options = case
    if function is np.ptp and x.dtype == bool:
        return  # NumPy has an error of its own for it
    check(lambda t: function(t, **options), x, exact=function is not np.ptp)


@pytest.mark.parametrize("function", [*SELECTIONS, *MOMENTS], ids=lambda f: f.__name__)
@pytest.mark.parametrize("axis", [True, False, 0.0, (True,)])
def test_axes_are_integers(function: Any, axis: Any) -> None:
    check(lambda t: function(t, axis), np.ones((2, 3)))


@pytest.mark.parametrize("function", MOMENTS, ids=lambda f: f.__name__)
@given(case=reductions())
@settings(max_examples=40)
def test_moments(function: Any, case: Any) -> None:
    x, options = case
    if x.dtype.kind == "f":
        x = np.clip(x, -1e3, 1e3)
    if x.dtype.kind in "iu" and function is not np.sum:
        x = np.clip(x, 0, 100)
    check(lambda t: function(t, **options), x, rtol=3e-6 if x.dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("function", MOMENTS, ids=lambda f: f.__name__)
@given(x=arrays(), dtype=st.sampled_from([np.float32, np.float64]))
def test_dtype(function: Any, x: Any, dtype: Any) -> None:
    check(lambda t: function(t, dtype=dtype), x, rtol=3e-6)


@given(x=arrays(), dtype=dtypes)
def test_sum_and_mean_dtype(x: Any, dtype: Any) -> None:
    check(lambda t: np.sum(t, dtype=dtype), x)
    if dtype.kind == "i":
        check(lambda t: np.mean(t, dtype=dtype), np.maximum(x.astype(np.int64), 1) if x.size else np.ones(3))


@given(x=arrays(shape=(2, 3)), mask=arrays(dtype=np.bool_, shape=st.sampled_from([(), (3,), (2, 1), (2, 3)])))
def test_where(x: Any, mask: Any) -> None:
    for function in (np.sum, np.mean, np.any, np.all):
        check(lambda t: function(t, axis=0, where=mask), x)  # noqa: B023
    check(lambda t: np.var(t, where=mask), x, rtol=3e-6)
    check(lambda t, m: np.std(t, axis=1, where=m, keepdims=True), x, mask, rtol=3e-6)
    check(lambda t: np.max(t, axis=0, where=mask), x)
    check(lambda t: np.max(t, axis=0, where=mask, initial=1), x)
    check(lambda t: np.min(t, initial=0, where=mask), x)


@given(x=arrays(dtype=st.sampled_from([np.dtype("f4"), np.dtype("f8")]), shape=(3, 2)), ddof=st.integers(0, 4))
def test_degrees_of_freedom(x: Any, ddof: int) -> None:
    check(lambda t: np.var(t, axis=0, ddof=ddof), x, rtol=3e-6)
    check(lambda t: np.std(t, 1, None, None, ddof), x, rtol=3e-6)
    check(lambda t: np.var(t, axis=1, correction=1), x, rtol=3e-6)
    check(lambda t: np.var(t, axis=1, mean=np.mean(t, axis=1, keepdims=True)), x, rtol=3e-6)


@given(x=arrays(of=elements))
def test_initial(x: Any) -> None:
    check(lambda t: np.sum(t, initial=2), x)
    check(lambda t: np.max(t, initial=2), x)
    check(lambda t: np.min(t, axis=0, initial=2), x)


@pytest.mark.parametrize("function", [np.argmax, np.argmin], ids=lambda f: f.__name__)
@given(x=arrays(of=elements), axis=st.one_of(st.none(), st.integers(-4, 3)), keepdims=st.booleans())
def test_positions(function: Any, x: Any, axis: Any, keepdims: bool) -> None:
    check(lambda t: function(t, axis=axis, keepdims=keepdims), x)


@pytest.mark.parametrize("ufunc", REDUCTIONS, ids=lambda u: u.__name__)
@given(x=arrays(), axis=st.one_of(st.none(), st.integers(-3, 2)), keepdims=st.booleans())
@settings(max_examples=40)
def test_ufunc_reduce(ufunc: np.ufunc, x: Any, axis: Any, keepdims: bool) -> None:
    if ufunc.__name__.startswith("bitwise") and x.dtype.kind != "b":
        return
    check(lambda t: ufunc.reduce(t, axis=axis, keepdims=keepdims), x)
    check(ufunc.reduce, x)


@given(x=arrays(shape=(2, 3)), w=arrays(shape=(3,)))
def test_averages_and_counts(x: Any, w: Any) -> None:
    check(np.count_nonzero, x)
    check(lambda t: np.count_nonzero(t, axis=1), x)
    check(np.average, x)
    if x.dtype.kind == "f" and w.sum() != 0:
        check(lambda t: np.average(t, axis=1, weights=np.abs(w.astype(float)) + 1), x, rtol=1e-6)


@given(x=arrays(shape=(2, 3)))
def test_methods(x: Any) -> None:
    check(lambda t: (t.sum(), t.mean(0), t.max(axis=1), t.min(), t.argmax(1), t.any(), t.all(axis=0)), x)
    check(lambda t: (t.var(ddof=1), t.std(axis=1, keepdims=True)), x, rtol=1e-6)
