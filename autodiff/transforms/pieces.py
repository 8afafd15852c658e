"""Cotangents of slices: what arrives in parts of a value, put together.

Each part alone would be a pad, and n pads of n elements add up in n^2 steps.  Parts that do not overlap are joined by
one concatenation instead, with zeros where nothing arrives; only parts that do are padded and added.
"""

from __future__ import annotations

from functools import reduce
from heapq import heappush, heapreplace
from operator import add
from typing import NamedTuple

from autodiff import ir
from autodiff.ir import Node, Shape, Value
from autodiff.ops.structure import concatenate, pad


class Piece(NamedTuple):
    """A cotangent of the elements from `starts` on."""

    starts: Shape
    value: Value


def piece(node: Node, ct: Value) -> Piece | None:
    """The cotangent of what a slice is taken from; None where the slice has gaps, or is of nothing."""
    if 0 in ct.shape:
        return None
    gaps = any(step != 1 and d != 1 for step, d in zip(node.params["steps"], ct.shape, strict=True))
    return None if gaps else Piece(node.params["starts"], ct)


def joined(pieces: list[Piece], shape: Shape) -> tuple[Value, bool]:
    """The sum of pieces among zeros, in a value of this shape; and whether there are any zeros."""
    axis = next((i for i, d in enumerate(shape) if any(piece.value.shape[i] != d for piece in pieces)), None)
    if axis is None:
        return reduce(add, [piece.value for piece in pieces]), False
    intervals: dict[tuple[int, int], list[Piece]] = {}  # those with the same place along the axis
    for piece in pieces:
        start = piece.starts[axis]
        intervals.setdefault((start, start + piece.value.shape[axis]), []).append(piece)
    rows: list[list[tuple[int, Value]]] = []  # of intervals that do not overlap
    ends: list[tuple[int, int]] = []  # where each row ends, and its number: a heap
    zeros = False
    for (start, stop), inner in sorted(intervals.items(), key=lambda item: item[0]):
        within = [Piece((*p.starts[:axis], 0, *p.starts[axis + 1 :]), p.value) for p in inner]
        value, some = joined(within, (*shape[:axis], stop - start, *shape[axis + 1 :]))
        zeros = zeros or some
        if ends and ends[0][0] <= start:
            row = ends[0][1]
            heapreplace(ends, (stop, row))
            rows[row].append((start, value))
        else:
            heappush(ends, (stop, len(rows)))
            rows.append([(start, value)])
    filled = [_row(row, axis, shape) for row in rows]
    return reduce(add, [value for value, _ in filled]), zeros or any(some for _, some in filled)


def _row(parts: list[tuple[int, Value]], axis: int, shape: Shape) -> tuple[Value, bool]:
    """Parts in order along an axis, with zeros around them; and whether there are any."""
    if len(parts) == 1:
        start, value = parts[0]
        if value.shape == shape:
            return value, False
        starts = tuple([start if i == axis else 0 for i in range(len(shape))])
        return pad(value, starts=starts, steps=(1,) * len(shape), shape=shape), True
    filled: list[Value] = []
    at = 0

    def fill(end: int) -> None:
        if at < end:
            filled.append(ir.full(0, (*shape[:axis], end - at, *shape[axis + 1 :]), parts[0][1].dtype))

    for start, value in parts:
        fill(start)
        filled.append(value)
        at = start + value.shape[axis]
    fill(shape[axis])
    return concatenate(*filled, axis=axis), len(filled) > len(parts)
