"""A NumPy expression on arrays and the same on tensors: value, shape, dtype and kind of error must agree."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from autodiff import ir
from autodiff.ir import DTYPES, Aval, Value
from autodiff.numpy.promotion import leaf
from autodiff.tensor import Tensor

settings.register_profile("tensors", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("tensors")

KINDS = (np.exceptions.AxisError, IndexError, OverflowError, ValueError, TypeError)


def interpret(values: Sequence[Value]) -> list[Any]:
    """The primitives' own NumPy oracles, node by node: tests this floor without those below."""
    with np.errstate(all="ignore"):
        for node in ir.toposort(values):
            if node.outputs[0].data is None:
                result = node.op.oracle(*[x.data for x in node.inputs], **node.params)
                for y, array in zip(node.outputs, [result] if node.results is None else result, strict=True):
                    y.data = np.asarray(array)
                    assert y.data.shape == y.shape, node
                    assert y.data.dtype == y.dtype, node
    return [x.data for x in values]


def tensors(result: Any) -> list[Any]:
    return [x for part in result for x in tensors(part)] if isinstance(result, (list, tuple)) else [result]


def lazily(function: Callable[..., Any], args: Sequence[Any]) -> Any:
    """On tensors that carry their data, outside `compile`."""
    return function(*[Tensor._of(leaf(x)) if isinstance(x, np.ndarray) else x for x in args])


def traced(function: Callable[..., Any], args: Sequence[Any]) -> Any:
    """On tensors that stand for arguments of a compiled function, and get their data afterwards."""
    inputs = [ir.argument(Aval(x.shape, x.dtype)) if isinstance(x, np.ndarray) else None for x in args]
    with ir.building(ir.Builder(intern=True)):
        result = function(*[x if v is None else Tensor._of(v) for x, v in zip(args, inputs, strict=True)])
        ir.verify(
            ir.Graph(
                tuple(x for x in inputs if x is not None),
                tuple(t._value for t in tensors(result) if isinstance(t, Tensor)),
            )
        )
    for x, v in zip(args, inputs, strict=True):
        if v is not None:
            v.data = x
    return result


def run(mode: Callable[..., Any], function: Callable[..., Any], args: Sequence[Any]) -> Any:
    got = mode(function, args)
    interpret([t._value for t in tensors(got) if isinstance(t, Tensor)])
    return got


def kind_of(error: Exception) -> type[Exception]:
    return next(kind for kind in KINDS if isinstance(error, kind))


def check(function: Callable[..., Any], *args: Any, exact: bool = False, rtol: float = 0) -> None:
    """Arrays among the arguments become tensors; the rest is passed as it is."""
    expected: Any = None
    failure: Exception | None = None
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = function(*[x.copy() if isinstance(x, np.ndarray) else x for x in args])
        except KINDS as error:
            failure = error
    for mode in (lazily, traced):
        if failure is None and all(np.asarray(x).dtype in DTYPES for x in tensors(expected)):
            got = run(mode, function, args)
            assert len(tensors(got)) == len(tensors(expected))
            for g, e in zip(tensors(got), tensors(expected), strict=True):
                compare(g, np.asarray(e), exact, rtol)
            continue
        try:
            got = run(mode, function, args)
        except KINDS as error:
            if failure is not None:
                assert isinstance(error, kind_of(failure)), (error, failure)  # noqa: PT017
            else:
                assert isinstance(error, TypeError)  # noqa: PT017
                assert any(np.asarray(x).dtype.name in str(error) for x in tensors(expected)), error  # noqa: PT017
        else:
            raise AssertionError(f"{got!r}, but NumPy: {failure or expected!r}")


def compare(got: Any, expected: Any, exact: bool, rtol: float) -> None:
    if isinstance(got, Tensor):
        assert got.shape == expected.shape
        assert got.dtype == expected.dtype
        array = got._value.data
    else:
        array = np.asarray(got)
        assert array.shape == expected.shape
        assert array.dtype == expected.dtype
    if exact or expected.dtype.kind != "f":
        np.testing.assert_array_equal(array, expected)
    else:
        bound = rtol or 50 * np.finfo(expected.dtype).eps
        np.testing.assert_allclose(array, expected, rtol=bound, atol=bound, equal_nan=True)


# ---- what to draw --------------------------------------------------------------------------------------------------

dtypes = st.sampled_from(DTYPES)
floats = st.sampled_from([ir.FLOAT32, ir.FLOAT64])
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def elements(dtype: Any) -> st.SearchStrategy[Any]:
    """Small numbers and special ones."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        special = st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, 0.5, 1e-30, 1e30])
        return st.one_of(st.integers(-4, 4).map(float), st.floats(-10, 10, width=32), special)
    if kind == "b":
        return st.booleans()
    info = np.iinfo(dtype)
    return st.one_of(st.integers(max(-4, info.min), 4), st.sampled_from([info.min, info.max]))


def finite(dtype: Any) -> st.SearchStrategy[Any]:
    """Small numbers, whose sums and products are exact."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        return st.booleans()
    small = st.integers(0 if kind == "u" else -4, 4)
    return small.map(float) if kind == "f" else small


@st.composite
def arrays(draw: Any, shape: Any = shapes, dtype: Any = dtypes, of: Any = finite) -> Any:
    dtype = draw(dtype) if isinstance(dtype, st.SearchStrategy) else np.dtype(dtype)
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    return draw(hnp.arrays(dtype, shape, elements=of(dtype), fill=st.nothing()))


@st.composite
def axes(draw: Any, ndim: int, out_of_range: bool = True) -> Any:
    """None, an axis or a tuple of axes; sometimes wrong."""
    more = 1 if out_of_range else 0
    one = st.integers(-ndim - more, ndim - 1 + more) if ndim + more else st.none()
    return draw(st.one_of(st.none(), one, st.lists(one, max_size=3).map(tuple)))
