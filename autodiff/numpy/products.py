"""Sums of products: vectors, matrices, and stacks of them."""

# ruff: noqa: D103 - NumPy documents its functions

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from autodiff import ir
from autodiff.ir import BOOL, Shape, Value, is_float
from autodiff.numpy.elementwise import apply2
from autodiff.numpy.promotion import axis_index, broadcast_shapes, common_dtype, lift, operand, spread
from autodiff.numpy.reductions import refuse_out
from autodiff.numpy.registry import implements
from autodiff.numpy.shapes import moveaxis, permuted, to_shape
from autodiff.ops import contraction, reduction

Axes = tuple[Shape, Shape]


def contract(x: Value, y: Value, contract: Axes, batch: Axes = ((), ())) -> Value:
    """The primitive `dot_general` for every dtype: of numbers that are not floating, products are summed plainly."""
    if is_float(x.dtype):
        return contraction.dot_general(x, y, contract=contract, batch=batch)
    free_x = contraction.free_axes(x.ndim, contract[0], batch[0])
    free_y = contraction.free_axes(y.ndim, contract[1], batch[1])
    x = permuted(x, (*batch[0], *free_x, *contract[0]))
    y = permuted(y, (*batch[1], *free_y, *contract[1]))
    n_batch, n_sum = len(batch[0]), len(contract[0])
    x = to_shape(x, (*x.shape[: x.ndim - n_sum], *(1,) * len(free_y), *x.shape[x.ndim - n_sum :]))
    y = to_shape(y, (*y.shape[:n_batch], *(1,) * len(free_x), *y.shape[n_batch:]))
    shape = broadcast_shapes([x.shape, y.shape])
    products = apply2(np.multiply, spread(x, shape), spread(y, shape))
    axes = tuple(range(len(shape) - n_sum, len(shape)))
    if not axes:
        return products
    if products.dtype == BOOL:
        if products.size == 0:
            return ir.full(False, shape[: len(shape) - n_sum], BOOL)
        return reduction.reduce_max(products, axes=axes)
    return reduction.reduce_sum(products, axes=axes)


def _pair(a: Any, b: Any) -> tuple[Value, Value]:
    """Two operands as values of their common dtype."""
    x, y = operand(a), operand(b)
    dtype = common_dtype([x, y])
    return lift(x, dtype), lift(y, dtype)


def _mismatch(name: str, x: Value, y: Value, i: int, j: int) -> ValueError:
    return ValueError(
        f"shapes {x.shape} and {y.shape} not aligned for {name}: {x.shape[i]} (axis {i % x.ndim}) != "
        f"{y.shape[j]} (axis {j % y.ndim}); transpose one of them or reshape"
    )


def matmul(a: Any, b: Any) -> Value:
    x, y = _pair(a, b)
    if x.ndim == 0 or y.ndim == 0:
        raise ValueError("matmul: an operand does not have enough dimensions: it is 0-d; multiply with * instead")
    of_x, of_y = x.ndim - 1, max(y.ndim - 2, 0)
    if x.shape[of_x] != y.shape[of_y]:
        raise _mismatch("matmul", x, y, of_x, of_y)
    if x.ndim <= 2 and y.ndim <= 2:
        return contract(x, y, ((of_x,), (of_y,)))
    if y.ndim <= 2:  # one matrix or vector for a whole stack: its axes are the last
        return contract(x, y, ((of_x,), (of_y,)))
    stack = broadcast_shapes([x.shape[:-2], y.shape[:-2]])
    x = spread(x, (*stack, *x.shape[-2:]))
    y = spread(y, (*stack, *y.shape[-2:]))
    axes = tuple(range(len(stack)))
    return contract(x, y, ((x.ndim - 1,), (y.ndim - 2,)), (axes, axes))


@implements(np.dot)
def dot(a: Any, b: Any, out: Any = None) -> Value:
    refuse_out(out)
    x, y = _pair(a, b)
    if x.ndim == 0 or y.ndim == 0:
        return multiply(x, y)
    of_y = max(y.ndim - 2, 0)
    if x.shape[-1] != y.shape[of_y]:
        raise _mismatch("dot", x, y, -1, of_y)
    return contract(x, y, ((x.ndim - 1,), (of_y,)))


def multiply(x: Value, y: Value) -> Value:
    shape = broadcast_shapes([x.shape, y.shape])
    return apply2(np.multiply, spread(x, shape), spread(y, shape))


@implements(np.inner)
def inner(a: Any, b: Any, /) -> Value:
    x, y = _pair(a, b)
    if x.ndim == 0 or y.ndim == 0:
        return multiply(x, y)
    if x.shape[-1] != y.shape[-1]:
        raise _mismatch("inner", x, y, -1, -1)
    return contract(x, y, ((x.ndim - 1,), (y.ndim - 1,)))


@implements(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Value:
    refuse_out(out)
    x, y = _pair(a, b)
    return multiply(to_shape(x, (x.size, 1)), to_shape(y, (1, y.size)))


@implements(np.vdot)
def vdot(a: Any, b: Any, /) -> Value:
    x, y = _pair(a, b)
    if x.size != y.size:
        raise ValueError(f"cannot reshape array of size {x.size} into shape ({y.size},)")
    return contract(to_shape(x, (x.size,)), to_shape(y, (y.size,)), ((0,), (0,)))


def vecdot(x1: Any, x2: Any, axis: Any = -1) -> Value:
    x, y = _pair(x1, x2)
    if x.ndim == 0 or y.ndim == 0:
        raise ValueError("vecdot: an operand does not have enough dimensions: it is 0-d; multiply with * instead")
    x, y = moveaxis(x, axis, -1), moveaxis(y, axis, -1)
    if x.shape[-1] != y.shape[-1]:
        raise _mismatch("vecdot", x, y, -1, -1)
    shape = broadcast_shapes([x.shape, y.shape])
    x, y = spread(x, shape), spread(y, shape)
    axes = tuple(range(len(shape) - 1))
    return contract(x, y, ((x.ndim - 1,), (y.ndim - 1,)), (axes, axes))


@implements(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Value:
    x, y = _pair(a, b)
    if isinstance(axes, (tuple, list)):
        left, right = (part if isinstance(part, (tuple, list)) else (part,) for part in axes)
        left = tuple([axis_index(i, x.ndim) for i in left])
        right = tuple([axis_index(i, y.ndim) for i in right])
    else:
        n = operator.index(axes)
        if n > min(x.ndim, y.ndim):
            raise ValueError(f"shape-mismatch for sum: {n} axes of shapes {x.shape} and {y.shape}")
        left, right = tuple(range(x.ndim - n, x.ndim)), tuple(range(n))
    if [x.shape[i] for i in left] != [y.shape[i] for i in right]:
        raise ValueError(f"shape-mismatch for sum: axes {left} of {x.shape} and axes {right} of {y.shape}")
    return contract(x, y, (left, right))


@implements(np.kron)
def kron(a: Any, b: Any) -> Value:
    x, y = _pair(a, b)
    ndim = max(x.ndim, y.ndim)
    left = (1,) * (ndim - x.ndim) + x.shape
    right = (1,) * (ndim - y.ndim) + y.shape
    x = to_shape(x, tuple([n for size in left for n in (size, 1)]))
    y = to_shape(y, tuple([n for size in right for n in (1, size)]))
    return to_shape(multiply(x, y), tuple([m * n for m, n in zip(left, right, strict=True)]))


@implements(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Value:
    from autodiff.numpy.indexing import diagonal
    from autodiff.numpy.reductions import sum as sum_

    refuse_out(out)
    return sum_(diagonal(a, offset, axis1, axis2), -1, dtype)
