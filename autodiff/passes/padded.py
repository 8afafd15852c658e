"""Cheap values that are only needed among zeros, in a larger shape, are computed in that shape.

The transpose of a slice is a pad, so gradients are full of `pad(f(a, b))`.  A pad is read through a window, but what is
padded has to be in memory for that: stored by one step and loaded by the next.  `select(mask, f(pad(a), pad(b)), 0)` is
the same to the bit, its mask a window on True, and if a and b are in memory anyway, then nothing is stored.

*Policy.*  That is done where storing would go to main memory (`LARGE`), `f` is at most `MOST_OPS` cheap operations (in
nearer caches storing is cheaper than a few of these), what it reads is in memory anyway and no more bytes than storing
and loading would move, and `f(a, b)` is no result itself.  Where f(0, 0) is 0, no mask is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.ir import BOOL, OPS, Graph, Literal, Node, Shape, Value, full_op
from autodiff.passes.program import CHEAP
from autodiff.passes.rewrite import Emit, rewrite
from autodiff.passes.views import VIEWS

LARGE = 4 << 20
"""Bytes of a value that would not be in a cache any more when it is loaded."""

MOST_OPS = 12

PAD = OPS["pad"]
EXTREMES = {OPS["maximum"], OPS["minimum"]}


def compute_padded(graph: Graph) -> Graph:
    """The same results, with pads moved from cheap values to what they are computed from."""
    if not any(node.op is PAD for node in graph.nodes):
        return graph
    stored = set(graph.outputs)

    def rule(emit: Emit, x: Value, starts: Shape, steps: Shape, shape: Shape) -> Value | None:
        return None if x in stored else _pad_operands(emit, x, starts, steps, shape)

    return rewrite(graph, {PAD: (rule,)})


def _pad_operands(emit: Emit, x: Value, starts: Shape, steps: Shape, shape: Shape) -> Value | None:
    size = x.aval.size * x.aval.dtype.itemsize
    if size < LARGE or any(abs(step) != 1 for step in steps):
        return None
    nodes, leaves = _cone(x)
    if not nodes or any(leaf.node.op.elementwise for leaf in map(_base, leaves)):
        return None
    if sum([leaf.aval.size * leaf.aval.dtype.itemsize for leaf in {_base(leaf) for leaf in leaves}]) > 2 * size:
        return None

    where: dict[str, Any] = {"starts": starts, "steps": steps, "shape": shape}
    new: dict[Value, Value] = {leaf: emit(PAD, leaf, **where) for leaf in leaves}

    def operand(y: Value) -> Value:
        return emit(full_op, value=y.node.params["value"], shape=shape) if y.node.op is full_op else new[y]

    for node in nodes:
        new[node] = emit(node.op, *map(operand, node.inputs), **node.params)
    if _is_zero_at_zero(nodes):
        return new[x]
    true, zero = Literal(np.ones((), BOOL)), Literal(np.zeros((), x.aval.dtype))
    mask = emit(PAD, emit(full_op, value=true, shape=x.aval.shape), **where)
    return emit(OPS["select"], mask, new[x], emit(full_op, value=zero, shape=shape))


def _cone(x: Value) -> tuple[list[Node], list[Value]]:
    """The cheap nodes that make a value, in order, and what they are made from; no nodes if they are too many."""
    nodes: dict[Node, None] = {}
    leaves: dict[Value, None] = {}
    stack = [x]
    while stack and len(nodes) <= MOST_OPS:
        y = stack.pop()
        if y.node.op in CHEAP:
            nodes[y.node] = None
            stack.extend([z for z in y.node.inputs if z not in nodes])
        elif y.node.op is not full_op:
            leaves[y] = None
    return ([], []) if len(nodes) > MOST_OPS else (sorted(nodes, key=lambda node: node.serial), list(leaves))


def _base(x: Value) -> Value:
    """The value that `x` is a view of."""
    while x.node.op in VIEWS and x.node.op is not OPS["convert"]:
        x = x.node.inputs[0]
    return x


def _is_zero_at_zero(nodes: list[Node]) -> bool:
    """Whether the last node is +0 where all that is no literal is; of a maximum of zeros the sign is not known."""
    if any(node.op in EXTREMES for node in nodes):
        return False
    known: dict[Value, Any] = {}

    def number(x: Value) -> Any:
        if x.node.op is full_op:
            return x.node.params["value"].array
        return known.get(x, np.zeros((), x.aval.dtype))

    with np.errstate(all="ignore"):
        for node in nodes:
            known[node] = np.asarray(node.op.oracle(*map(number, node.inputs), **node.params))
    result = known[nodes[-1]]
    return bool(result == 0 and not np.signbit(result)) if result.dtype.kind == "f" else not result
