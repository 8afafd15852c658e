"""Batching: a function of single examples becomes one of many, with no loop.

Batched values carry the new axis first.  What does not depend on a batched input stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from autodiff import ir
from autodiff.ir import Value
from autodiff.ops.base import with_batch_axis


def batch(outputs: Sequence[Value], inputs: Sequence[Value], batched: Sequence[Value | None]) -> list[Value]:
    """`outputs` with a leading batch axis, where `batched` has `inputs` with one; None keeps an input as it is."""
    sizes = {x.shape[0] for x in batched if x is not None}
    if len(sizes) != 1:
        raise ValueError(f"batched inputs differ in their leading axis: {sorted(sizes)}")
    (size,) = sizes
    env = {x: b for x, b in zip(inputs, batched, strict=True) if b is not None}
    with ir.transforming() as builder:
        for node in ir.toposort(outputs, inputs):
            flags = [x in env for x in node.inputs]
            if any(flags):
                builder.line = node.line
                operands = [env.get(x, x) for x in node.inputs]
                env.update(zip(node.outputs, node.op.batch(node, size, operands, flags), strict=True))
    return [env[y] if y in env else with_batch_axis(y, size, batched=False) for y in outputs]
