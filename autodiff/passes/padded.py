"""Cheap values that are only needed among zeros, in a larger shape, are computed in that shape.

The transpose of a slice is a pad, so gradients are full of `pad(f(a, b))`.  A pad is read through a window, but what is
padded has to be in memory for that: stored by one step and loaded by the next.  `f(pad(a), pad(b))` is the same to the
bit if f(0, 0) is 0, and if a and b are in memory anyway, then nothing is stored.  Elsewhere the literals in f may be
padded too: 1 - a is 0 where both are.  If that does not help, it is `select(mask, f(pad(a), pad(b)), 0)`, the mask a
window on True.

A sum of what is computed in the larger shape as well is made there, with the rest in one step, if the pad adds to the
end: 0s after all other terms change no bit of a sum that is not -0, nor its order.

*Policy.*  That is done where storing would go to main memory (`LARGE`), `f` is at most `MOST_OPS` cheap operations (in
nearer caches storing is cheaper than a few of these), what it reads is in memory anyway and no more bytes than storing
and loading would move, and `f(a, b)` is no result itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from autodiff import ir
from autodiff.ir import BOOL, OPS, Graph, Literal, Node, Shape, Value, full_op, is_float
from autodiff.passes.places import bytes_of
from autodiff.passes.program import CHEAP
from autodiff.passes.rewrite import Emit, rewrite
from autodiff.passes.views import VIEWS

LARGE = 4 << 20
"""Bytes of a value that would not be in a cache any more when it is loaded."""

MOST_OPS = 12

PAD, SUM = OPS["pad"], OPS["reduce_sum"]
EXTREMES = {OPS["maximum"], OPS["minimum"]}
TERMS = {OPS["add"], OPS["sub"]}


class Cone(NamedTuple):
    """The cheap nodes that make a value, in order, and what they are made from."""

    nodes: list[Node]
    leaves: list[Value]


def compute_padded(graph: Graph) -> Graph:
    """The same results, with pads moved from cheap values to what they are computed from."""
    if not any(node.op is PAD for node in graph.nodes):
        return graph
    stored = set(graph.outputs)
    longer: dict[Node, Mapping[str, Any]] = {}  # nodes that are going to be computed with zeros behind: the pad

    for node in graph.nodes:
        x = node.inputs[0] if node.inputs else None
        if node.op is PAD and x is not None and x not in stored and _adds_to_end(x, **node.params):
            longer.update(dict.fromkeys(_worthwhile(x).nodes, node.params))

    def pad(emit: Emit, x: Value, **where: Any) -> Value | None:
        if x in stored or any(abs(step) != 1 for step in where["steps"]):
            return None
        cone = _worthwhile(x)
        return _padded(emit, cone, where, may_mask=True) if cone.nodes else None

    def reduce_sum(emit: Emit, x: Value, axes: Shape) -> Value | None:
        if not longer or x in stored or len(axes) < x.ndim or not _is_never_minus_zero(x):
            return None
        cone = _worthwhile(x)
        where = next((longer[node] for node in cone.nodes if node in longer), None)
        padded = _padded(emit, cone, where, may_mask=False) if where else None
        return emit(SUM, padded, axes=axes) if padded is not None else None

    return rewrite(graph, {PAD: (pad,), SUM: (reduce_sum,)})


def _adds_to_end(x: Value, starts: Shape, steps: Shape, shape: Shape) -> bool:
    """Whether a pad leaves the elements where they are, counted from the first."""
    return not any(starts) and all(step == 1 for step in steps) and shape[1:] == x.aval.shape[1:]


def _worthwhile(x: Value) -> Cone:
    """What makes a value that had better be computed in a larger shape; no nodes if it had not."""
    size = bytes_of(x)
    cone = _cone(x) if size >= LARGE else Cone([], [])
    roots = {_base(leaf) for leaf in cone.leaves}
    if any(root.node.op.elementwise for root in roots) or sum(map(bytes_of, roots)) > 2 * size:
        return Cone([], [])
    return cone


def _padded(emit: Emit, cone: Cone, where: Mapping[str, Any], *, may_mask: bool) -> Value | None:
    """The pad of what the cone makes, from pads of what that is made from."""
    nodes, shape, x = cone.nodes, where["shape"], cone.nodes[-1]
    new: dict[Value, Value] = {leaf: emit(PAD, leaf, **where) for leaf in cone.leaves}
    unpadded = _literals_to_keep(nodes)
    if unpadded is None and not may_mask:
        return None

    def operand(y: Value) -> Value:
        if y.node.op is not full_op:
            return new[y]
        whole = emit(full_op, value=y.node.params["value"], shape=shape)
        return emit(PAD, y, **where) if unpadded is not None and y not in unpadded else whole

    for node in nodes:
        new[node] = emit(node.op, *map(operand, node.inputs), **node.params)
    if unpadded is not None:
        return new[x]
    true, zero = Literal(np.ones((), BOOL)), Literal(np.zeros((), x.aval.dtype))
    mask = emit(PAD, emit(full_op, value=true, shape=x.aval.shape), **where)
    return emit(OPS["select"], mask, new[x], emit(full_op, value=zero, shape=shape))


def _cone(x: Value) -> Cone:
    """No nodes if they are too many."""
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
    return Cone([], []) if len(nodes) > MOST_OPS else Cone(sorted(nodes, key=ir.serial), list(leaves))


def _base(x: Value) -> Value:
    """The value that `x` is a view of."""
    while x.node.op in VIEWS and x.node.op is not OPS["convert"]:
        x = x.node.inputs[0]
    return x


def _literals_to_keep(nodes: list[Node]) -> set[Value] | None:
    """Literals that need no padding for the last node to be +0 where all else is 0; None if padding does not help."""
    uses = [(node.op in TERMS, x) for node in nodes for x in node.inputs if x.node.op is full_op]
    literals = dict.fromkeys([x for _, x in sorted(uses, key=itemgetter(0))])  # factors rather than terms
    kept: set[Value] = set(literals)
    if _is_zero_at_zero(nodes, kept):
        return kept
    if not _is_zero_at_zero(nodes, set()):
        return None
    kept = set()
    for x in literals:
        if _is_zero_at_zero(nodes, kept | {x}):
            kept.add(x)
    return kept


def _is_zero_at_zero(nodes: list[Node], kept: set[Value]) -> bool:
    """Whether the last node is +0 where all but some literals is 0; of a maximum of zeros the sign is not known."""
    if any(node.op in EXTREMES for node in nodes):
        return False
    known: dict[Value, Any] = {}

    def number(x: Value) -> Any:
        return x.node.params["value"].array if x in kept else known.get(x, np.zeros((), x.aval.dtype))

    with np.errstate(all="ignore"):
        for node in nodes:
            known[node] = np.asarray(node.op.oracle(*map(number, node.inputs), **node.params))
    result = known[nodes[-1]]
    return bool(result == 0 and not np.signbit(result)) if result.dtype.kind == "f" else not result


def _is_never_minus_zero(x: Value) -> bool:
    """Whether no element can be -0: a square, or a sum of such and something else."""
    node = x.node
    if not is_float(x.aval.dtype):
        return True
    if node.op is OPS["add"]:
        return any(_is_never_minus_zero(y) for y in node.inputs)
    return _is_positive(x)


def _is_positive(x: Value) -> bool:
    """Whether every element is +0 or more, or NaN."""
    node = x.node
    if node.op is full_op:
        return not np.signbit(node.params["value"].array)
    if node.op in (OPS["add"], OPS["mul"]):
        same = node.op is OPS["mul"] and node.inputs[0] is node.inputs[1]
        return same or all(_is_positive(y) for y in node.inputs)
    return node.op is OPS["abs"]
