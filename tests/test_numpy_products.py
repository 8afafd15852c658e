"""Products of tensors against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_numpy import check, dtypes, finite
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff as ad

sides = st.integers(0, 3)
shapes = st.lists(sides, max_size=4).map(tuple)


@st.composite
def operands(draw: Any) -> Any:
    """Two arrays that mostly fit `matmul`."""
    if draw(st.integers(0, 4)):
        m, k, n = draw(sides), draw(sides), draw(sides)
        stack = draw(st.lists(st.integers(1, 3), max_size=2))
        left = [draw(st.sampled_from([s, 1])) for s in stack][draw(st.integers(0, len(stack))) :]
        right = [draw(st.sampled_from([s, 1])) for s in stack][draw(st.integers(0, len(stack))) :]
        first = (*left, m, k) if draw(st.booleans()) else (k,)
        second = (*right, k, n) if draw(st.booleans()) else (k,)
    else:
        first, second = draw(shapes), draw(shapes)
    types = draw(dtypes), draw(dtypes)
    seed = draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 5, shape).astype(d) for shape, d in zip((first, second), types, strict=True)]


@given(pair=operands())
@settings(max_examples=150)
def test_matmul(pair: Any) -> None:
    check(np.matmul, *pair, exact=True)
    check(lambda x, y: x @ y, *pair, exact=True)
    check(lambda x: pair[0] @ x, pair[1], exact=True)


@pytest.mark.parametrize(
    "function", [np.dot, np.inner, np.outer, np.vdot, np.kron, np.vecdot], ids=lambda f: f.__name__
)
@given(pair=operands())
@settings(max_examples=60)
def test_products(function: Any, pair: Any) -> None:
    if function is np.vdot and pair[0].size != pair[1].size:
        return
    check(function, *pair, exact=True)
    check(lambda x: function(x, pair[1]), pair[0], exact=True)


@given(pair=operands(), n=st.integers(0, 3))
@settings(max_examples=60)
def test_tensordot(pair: Any, n: int) -> None:
    if not pair[0].ndim or not pair[1].ndim:
        return
    if n <= min(pair[0].ndim, pair[1].ndim):
        check(lambda x, y: np.tensordot(x, y, n), *pair, exact=True)
    check(lambda x, y: np.tensordot(x, y, ([-1], [0])), *pair, exact=True)


@given(st.data())
def test_dot_with_numbers(data: Any) -> None:
    x = np.arange(6.0).reshape(2, 3)
    number = data.draw(finite(np.float64))
    check(lambda t: (np.dot(t, number), np.dot(number, t), np.inner(t, 2)), x)
    check(lambda t: t.dot(np.arange(3)), x)
    check(lambda t: t @ 2, x)


@pytest.mark.parametrize(
    "shapes", [((0, 3, 4), (0, 4, 5)), ((2, 0, 3, 4), (2, 0, 4, 5)), ((0, 3, 4), (4, 5)), ((0, 4), (4, 5))]
)
def test_no_products_at_all(shapes: Any) -> None:
    a, b = (np.ones(shape) for shape in shapes)
    got = ad.compile(np.matmul)(a, b)
    assert got.shape == np.matmul(a, b).shape
