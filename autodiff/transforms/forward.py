"""Forward mode: what a dual number does, f(a + b eps) = f(a) + f'(a) b eps, node by node."""

from __future__ import annotations

from collections.abc import Sequence

from autodiff import ir
from autodiff.ir import Tangents, Value


def pushforward(outputs: Sequence[Value], inputs: Sequence[Value], tangents: Tangents) -> list[Value | None]:
    """Tangents of `outputs`, given those of `inputs`; None is a tangent of zero.

    Emits only tangents: the primal nodes are used where they are, so what `inputs` do not reach costs nothing.
    """
    x_dot = {x: t for x, t in zip(inputs, tangents, strict=True) if t is not None}
    with ir.transforming() as builder:
        for node in ir.toposort(outputs, inputs):
            ts = list(map(x_dot.get, node.inputs))
            if not any(ts):
                continue
            builder.line = node.line
            y_dots = zip(node.outputs, node.op.jvp(node, ts), strict=True)
            x_dot.update([(y, t) for y, t in y_dots if t is not None])
    return [x_dot.get(y) for y in outputs]
