"""Reductions over axes, which vanish from the shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from autodiff import ir
from autodiff.ir import Array, Aval, Node, Op, Shape, Value
from autodiff.ops.base import LINEAR, ArgumentRule, Rule, primitive
from autodiff.ops.logic import convert, eq, select
from autodiff.ops.structure import broadcast


def kept_axes(ndim: int, axes: Shape) -> Shape:
    """The axes that a reduction over `axes` leaves."""
    return tuple(i for i in range(ndim) if i not in axes)


def spread(y: Value, shape: Shape, axes: Shape) -> Value:
    """Undo the shape of a reduction over `axes`: repeat `y` along them."""
    return broadcast(y, shape=shape, axes=kept_axes(len(shape), axes))


def _infer(name: str, *, number: bool, empty: bool) -> Callable[..., Aval]:
    @lru_cache(maxsize=1024)
    def infer(x: Aval, axes: Shape) -> Aval:
        if list(axes) != sorted(set(axes)) or not all(0 <= i < len(x.shape) for i in axes):
            raise TypeError(f"{name}: {axes} are not axes of {x} in ascending order")
        if number and x.dtype == ir.BOOL:
            raise TypeError(f"{name} is not defined for bool")
        if not empty and any(x.shape[i] == 0 for i in axes):
            raise ValueError(f"{name}: zero-size array {x} has no such element over axes {axes}")
        return Aval(tuple(x.shape[i] for i in kept_axes(len(x.shape), axes)), x.dtype)

    return infer


def _batch(node: Node, size: int, inputs: Sequence[Value], batched: Sequence[bool]) -> Sequence[Value]:
    return node.op.emit(inputs[0], axes=tuple(i + 1 for i in node.params["axes"]))


def _reduction(
    name: str,
    oracle: Callable[..., Any],
    jvp: ArgumentRule,
    transpose: Rule | None = None,
    *,
    number: bool = False,
    empty: bool = False,
) -> Op:
    return primitive(
        name, oracle, infer=_infer(name, number=number, empty=empty), jvp=jvp, transpose=transpose, batch=_batch
    )


def _share_among_ties(t: Value, y: Value, x: Value, axes: Shape) -> Value:
    """The tangent of a maximum or minimum: the mean of those of the elements that attain it."""
    attains = eq(x, spread(y, x.shape, axes))
    count = reduce_sum(convert(attains, x.dtype), axes=axes)
    return reduce_sum(select(attains, t, t.full_like(0)), axes=axes) / count


reduce_sum = _reduction(
    "reduce_sum",
    lambda x, axes: np.sum(x, axis=axes, dtype=x.dtype),
    LINEAR,
    lambda ct, x, axes: spread(ct, x.shape, axes),
    number=True,
    empty=True,
)
reduce_max = _reduction("reduce_max", lambda x, axes: np.max(x, axis=axes), _share_among_ties)
reduce_min = _reduction("reduce_min", lambda x, axes: np.min(x, axis=axes), _share_among_ties)


def _infer_position(x: Aval, axis: int) -> Aval:
    if not 0 <= axis < len(x.shape):
        raise TypeError(f"argmax and argmin: {x} has no axis {axis}")
    if x.shape[axis] == 0:
        raise ValueError(f"argmax and argmin: {x} has no element along axis {axis}")
    return Aval(x.shape[:axis] + x.shape[axis + 1 :], ir.INT64)


def _position(name: str, oracle: Callable[..., Array]) -> Op:
    return primitive(
        name,
        lambda x, axis: np.asarray(oracle(x, axis=axis), np.int64),
        infer=_infer_position,
        batch=lambda node, size, inputs, batched: node.op.emit(inputs[0], axis=node.params["axis"] + 1),
    )


argmax = _position("argmax", np.argmax)
argmin = _position("argmin", np.argmin)
