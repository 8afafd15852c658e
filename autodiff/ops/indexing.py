"""Reading and writing at computed positions.

The indices are int64 values of one shape, one for each of the leading axes of the table they index, as in NumPy's
`table[i, j]`: negative ones count from the end, and one out of range is an `IndexError` when the plan runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff import ir
from autodiff.ir import Array, Aval, Node, Shape, Tangents, Value
from autodiff.ops.base import LINEAR, joint_jvp, primitive, with_batch_axis
from autodiff.ops.logic import eq, select
from autodiff.ops.structure import broadcast


def _check_indices(name: str, table: Shape, indices: Sequence[Aval]) -> Shape:
    """The shape of what the indices pick out of a table."""
    if not indices or len(indices) > len(table):
        raise TypeError(f"{name}: {len(indices)} indices do not fit shape {table}")
    for aval in indices:
        if aval.dtype != ir.INT64 or aval.shape != indices[0].shape:
            raise TypeError(f"{name}: indices are int64 and of one shape, not {', '.join(map(str, indices))}")
    return indices[0].shape + table[len(indices) :]


def _infer_gather(x: Aval, *indices: Aval) -> Aval:
    return Aval(_check_indices("gather", x.shape, indices), x.dtype)


def _infer_scatter_add(updates: Aval, *indices: Aval, shape: Shape) -> Aval:
    if _check_indices("scatter_add", shape, indices) != updates.shape:
        raise TypeError(f"scatter_add: {updates} does not fit the indices {indices[0]} into {shape}")
    if updates.dtype == ir.BOOL:
        raise TypeError("scatter_add is not defined for bool")
    return Aval(shape, updates.dtype)


def _infer_scatter_set(base: Aval, updates: Aval, *indices: Aval) -> Aval:
    if _check_indices("scatter_set", base.shape, indices) != updates.shape or base.dtype != updates.dtype:
        raise TypeError(f"scatter_set: {updates} does not fit the indices {indices[0]} into {base}")
    return Aval(base.shape, base.dtype)


def _scatter_add_oracle(updates: Array, *indices: Array, shape: Shape) -> Array:
    result = np.zeros(shape, updates.dtype)
    np.add.at(result, indices, updates)
    return result


def _scatter_set_oracle(base: Array, updates: Array, *indices: Array) -> Array:
    result = base.copy()
    flat = [np.ravel(i) for i in indices]
    rows = updates.reshape(flat[0].size, *base.shape[len(indices) :])
    for n, position in enumerate(zip(*flat, strict=True)):  # one by one, so that the last of equal indices wins
        result[tuple(position)] = rows[n]
    return result


def _batched_indices(indices: Sequence[Value], batched: Sequence[bool], size: int) -> list[Value]:
    """Indices into a table with a batch axis: the batch's own position first."""
    shape = next((i.shape for i, b in zip(indices, batched, strict=True) if b), (size, *indices[0].shape))
    own = broadcast(ir.iota(size), shape=shape, axes=(0,))
    return [own, *[with_batch_axis(i, size, b) for i, b in zip(indices, batched, strict=True)]]


def _batch_gather(node: Node, size: int, inputs: Sequence[Value], batched: Sequence[bool]) -> Sequence[Value]:
    x, *indices = inputs
    if batched[0]:
        return gather.emit(x, *_batched_indices(indices, batched[1:], size))
    return gather.emit(x, *[with_batch_axis(i, size, b) for i, b in zip(indices, batched[1:], strict=True)])


def _batch_scatter_add(node: Node, size: int, inputs: Sequence[Value], batched: Sequence[bool]) -> Sequence[Value]:
    updates, *indices = inputs
    return scatter_add.emit(
        with_batch_axis(updates, size, batched[0]),
        *_batched_indices(indices, batched[1:], size),
        shape=(size, *node.params["shape"]),
    )


def _batch_scatter_set(node: Node, size: int, inputs: Sequence[Value], batched: Sequence[bool]) -> Sequence[Value]:
    base, updates, *indices = inputs
    return scatter_set.emit(
        with_batch_axis(base, size, batched[0]),
        with_batch_axis(updates, size, batched[1]),
        *_batched_indices(indices, batched[2:], size),
    )


def _transpose_gather(ct: Value, x: Value, *indices: Value, **_: Any) -> Value:
    return scatter_add(ct, *indices, shape=x.shape)


def _transpose_scatter_add(ct: Value, updates: Value, *indices: Value, shape: Shape) -> Value:
    return gather(ct, *indices)


def _transpose_scatter_set(node: Node, cotangents: Tangents, linear: Sequence[bool]) -> Tangents:
    (ct,) = cotangents
    assert ct is not None
    base, updates, *indices = node.inputs
    results: list[Value | None] = [None] * len(node.inputs)
    if linear[0]:
        results[0] = scatter_set(ct, updates.full_like(0), *indices)
    if linear[1]:
        results[1] = _only_last_writes(gather(ct, *indices), base.shape, indices)
    return results


def _only_last_writes(ct: Value, table: Shape, indices: Sequence[Value]) -> Value:
    """Zero the rows of `ct` whose write a later one at an equal index replaced."""
    from autodiff.ops.structure import reshape

    shape = indices[0].shape
    mine = reshape(ir.iota(indices[0].size), shape=shape)
    winners = scatter_set(ir.full(0, table[: len(indices)], ir.INT64), mine, *indices)
    wins = eq(gather(winners, *indices), mine)
    return select(broadcast(wins, shape=ct.shape, axes=tuple(range(len(shape)))), ct, ct.full_like(0))


gather = primitive(
    "gather",
    lambda x, *indices: x[indices],
    infer=_infer_gather,
    jvp=LINEAR,
    transpose=_transpose_gather,
    batch=_batch_gather,
    selects=True,
)

# scatter_add(updates, *indices, shape): zeros of that shape, to which the updates are added at the indices
scatter_add = primitive(
    "scatter_add",
    _scatter_add_oracle,
    infer=_infer_scatter_add,
    jvp=LINEAR,
    transpose=_transpose_scatter_add,
    batch=_batch_scatter_add,
)

# scatter_set(base, updates, *indices): base with the rows at the indices replaced; of equal indices the last one wins
scatter_set = primitive(
    "scatter_set",
    _scatter_set_oracle,
    infer=_infer_scatter_set,
    jvp_rule=joint_jvp(0, 2),
    transpose_rule=_transpose_scatter_set,
    batch=_batch_scatter_set,
    selects=True,
)
