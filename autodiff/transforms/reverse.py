"""Reverse mode, by transposition.

A derivative is a linear map.  Forward mode writes that map out as nodes, from symbolic tangents; reverse mode walks the
linear nodes in reverse topological order, the *backward schedule*, and transposes each: a cotangent of its result
becomes cotangents of its linear operands, and those of a value that several nodes use add up; those of its slices are
kept until all have arrived (pieces.py).

*Masked branches contribute exactly zero.*  Where a selection (`select`, `slice`, `gather`: an op with `selects`) leaves
an element out, its transpose puts a zero into the cotangent, and 0 * inf further up would make that NaN.  Cotangents
downstream of a selection are therefore marked, and a marked one is multiplied by `scale`, which keeps zeros (`mul` and
`div` declare it as `masked_transpose`), unless the factor is a literal that cannot do harm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autodiff import ir
from autodiff.ir import Node, Tangents, Value
from autodiff.ops.structure import slice as slice_op
from autodiff.transforms.forward import pushforward
from autodiff.transforms.pieces import Piece, joined, piece


def pullback(outputs: Sequence[Value], inputs: Sequence[Value], cotangents: Tangents) -> list[Value | None]:
    """Cotangents of `inputs`, given those of `outputs`; None is a cotangent of zero.

    Inputs that are not floating have no cotangent.
    """
    x_dots = [ir.argument(ir.Aval(x.shape, x.dtype)) if ir.is_float(x.dtype) else None for x in inputs]
    y_dots = pushforward(outputs, inputs, x_dots)
    return transpose(y_dots, x_dots, cotangents)


def transpose(y_dots: Tangents, x_dots: Tangents, cotangents: Tangents) -> list[Value | None]:
    """Transpose the linear map that takes the arguments `x_dots` to `y_dots`."""
    x_bar: dict[Value, Value] = {}
    pieces: dict[Value, list[Piece]] = {}
    masked: set[Value] = set()

    def accumulate(x: Value, ct: Value, mask: bool) -> None:
        known = x_bar.get(x)
        if known is not None:
            mask = mask or known in masked
            ct = known + ct
        x_bar[x] = ct
        if mask:
            masked.add(ct)

    def join(x: Value) -> None:
        parts = pieces.pop(x, None)
        if parts is not None:
            ct, zeros = joined(parts, x.shape)
            accumulate(x, ct, mask=zeros or any(part.value in masked for part in parts))

    linear = {x for x in x_dots if x is not None}
    schedule = _linear_nodes(y_dots, linear)
    with ir.transforming() as builder:
        for y, ct in zip(y_dots, cotangents, strict=True):
            if y is not None and ct is not None and y in linear:
                accumulate(y, ct, mask=False)
        for node, flags in reversed(schedule):
            op, outputs = node.op, node.outputs
            builder.line = node.line
            if pieces:
                for y in outputs:
                    join(y)
            cts = [x_bar.pop(y, None) for y in outputs]
            if not any(cts):
                continue
            if op is slice_op and cts[0] is not None and (part := piece(node, cts[0])) is not None:
                pieces.setdefault(node.inputs[0], []).append(part)
                continue
            mask = not masked.isdisjoint(cts)
            rule = op.transpose
            if mask and op.masked_transpose and not _harmless(node, flags):
                rule = op.masked_transpose
            if rule is None:
                raise ir.GraphError(f"{op.name} has no transpose")
            for x, flag, ct in zip(node.inputs, flags, rule(node, cts, flags), strict=True):
                if flag and ct is not None:
                    accumulate(x, ct, mask or op.selects)
        for x_dot in x_dots:
            if x_dot is not None:
                join(x_dot)
    return [None if x is None else x_bar.get(x) for x in x_dots]


def _linear_nodes(y_dots: Tangents, linear: set[Value]) -> list[tuple[Node, list[bool]]]:
    """The nodes between the tangents, in topological order, and which of their inputs are linear.

    Adds their results to `linear`.  What depends on a tangent was made after it, so the search need not enter the
    primal network behind.
    """
    if not linear:
        return []
    first = min(x.node.serial for x in linear)
    seen: set[Node] = set()
    found: list[Node] = []
    stack = [y for y in y_dots if y is not None]
    while stack:
        node = stack.pop().node
        if node.serial > first and node not in seen:
            seen.add(node)
            found.append(node)
            stack.extend(node.inputs)
    found.sort(key=ir.serial)
    schedule = []
    for node in found:
        if not linear.isdisjoint(node.inputs):
            linear.update(node.outputs)
            schedule.append((node, [x in linear for x in node.inputs]))
    return schedule


def _harmless(node: Node, flags: Sequence[bool]) -> bool:
    """Whether no factor held constant can turn a zero into NaN: finite for a product, not zero for a quotient."""
    for x, flag in zip(node.inputs, flags, strict=True):
        number = None if flag else ir.literal(x)
        if not flag and (number is None or not np.isfinite(number) or number == 0):
            return False
    return True
