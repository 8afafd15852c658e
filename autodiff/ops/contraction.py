"""Sums of products over shared axes: every matrix product there is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from autodiff import ir
from autodiff.ir import Array, Aval, Node, Shape, Value
from autodiff.ops.base import LINEAR, primitive
from autodiff.ops.structure import inverse, transpose

Axes = tuple[Shape, Shape]
"""Axes of the left operand and those of the right that they go with."""


@lru_cache(maxsize=1024)
def free_axes(ndim: int, contract: Shape, batch: Shape) -> Shape:
    """The axes of an operand that are neither summed over nor shared."""
    return tuple(i for i in range(ndim) if i not in contract and i not in batch)


@lru_cache(maxsize=1024)
def _infer(x: Aval, y: Aval, contract: Axes, batch: Axes) -> Aval:
    if x.dtype != y.dtype or not ir.is_float(x.dtype):
        raise TypeError(f"dot_general takes two operands of one floating dtype, not {x} and {y}")
    for what, (left, right) in (("contract", contract), ("batch", batch)):
        sizes = [x.shape[i] for i in left], [y.shape[i] for i in right]
        if sizes[0] != sizes[1]:
            raise TypeError(f"dot_general: {what} axes {left} of {x} and {right} of {y} differ in size")
    shape = tuple(x.shape[i] for i in batch[0])
    shape += tuple(x.shape[i] for i in free_axes(len(x.shape), contract[0], batch[0]))
    shape += tuple(y.shape[i] for i in free_axes(len(y.shape), contract[1], batch[1]))
    return Aval(shape, x.dtype)


def _oracle(x: Array, y: Array, contract: Axes, batch: Axes) -> Array:
    left, right = list(range(x.ndim)), [x.ndim + i for i in range(y.ndim)]
    for axes in (contract, batch):
        for i, j in zip(*axes, strict=True):
            right[j] = left[i]
    out = [left[i] for i in batch[0]]
    out += [left[i] for i in free_axes(x.ndim, contract[0], batch[0])]
    out += [right[i] for i in free_axes(y.ndim, contract[1], batch[1])]
    return np.asarray(np.einsum(x, left, y, right, out))


def _transpose_left(ct: Value, x: Value, y: Value, contract: Axes, batch: Axes) -> Value:
    n_batch, free_x = len(batch[0]), free_axes(x.ndim, contract[0], batch[0])
    free_y = free_axes(y.ndim, contract[1], batch[1])
    from_ct = tuple(range(ct.ndim - len(free_y), ct.ndim))
    result = dot_general(ct, y, contract=(from_ct, free_y), batch=(tuple(range(n_batch)), batch[1]))
    # its axes: batch, x's free ones, then the contracted ones in y's order
    axes = [*batch[0], *free_x, *[contract[0][i] for i in inverse(contract[1])]]
    return _in_order(result, tuple(axes))


def _transpose_right(ct: Value, x: Value, y: Value, contract: Axes, batch: Axes) -> Value:
    n_batch, free_x = len(batch[0]), free_axes(x.ndim, contract[0], batch[0])
    free_y = free_axes(y.ndim, contract[1], batch[1])
    from_ct = tuple(range(n_batch, n_batch + len(free_x)))
    result = dot_general(x, ct, contract=(free_x, from_ct), batch=(batch[0], tuple(range(n_batch))))
    # its axes: batch, the contracted ones in x's order, then y's free ones
    axes = [*batch[1], *[contract[1][i] for i in inverse(contract[0])], *free_y]
    return _in_order(result, tuple(axes))


def _in_order(x: Value, axes: Shape) -> Value:
    """`x`, whose axis i belongs at axes[i]."""
    return x if axes == tuple(range(x.ndim)) else transpose(x, axes=inverse(axes))


def _batch(node: Node, size: int, inputs: Sequence[Value], batched: Sequence[bool]) -> Sequence[Value]:
    x, y = inputs
    contract, batch = (tuple(tuple(i + b for i in axes) for axes, b in zip(pair, batched, strict=True))
                       for pair in (node.params["contract"], node.params["batch"]))  # fmt: skip
    if all(batched):
        return dot_general.emit(x, y, contract=contract, batch=((0, *batch[0]), (0, *batch[1])))
    result = dot_general(x, y, contract=contract, batch=batch)
    # the batch axis is now among the free ones: first of x's, or first of y's
    n_batch = len(batch[0])
    at = n_batch if batched[0] else n_batch + len(free_axes(x.ndim, contract[0], batch[0]))
    return transpose.emit(result, axes=(at, *[i for i in range(result.ndim) if i != at]))


# dot_general(x, y, contract, batch): axes of the result are the batch axes, x's free ones, y's free ones
dot_general = primitive(
    "dot_general",
    _oracle,
    infer=_infer,
    jvp=(LINEAR, LINEAR),
    transpose=(_transpose_left, _transpose_right),
    batch=_batch,
)
