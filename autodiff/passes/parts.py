"""Concatenations made in place: a part is computed right where it belongs in the whole.

What only other values look at, or what is copied from elsewhere (an input, a constant, a value that two wholes want),
is left for the concatenation itself to copy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from functools import cache

from autodiff.ir import OPS, Graph, Node, Value, argument_op, constant_op, full_op
from autodiff.passes.places import Places
from autodiff.passes.steps import Storage
from autodiff.passes.views import dense, is_dense, squeezed, squeezed_strides

CONCATENATE = OPS["concatenate"]


def place_parts(graph: Graph, places: Places, fixed: Collection[Storage]) -> dict[Node, set[int]]:
    """Give values memory that is part of another's; by concatenation, which of its operands need no copy.

    Nothing is placed in `fixed` storages: when those may be written to is somebody else's affair.
    """
    wholes = [node for node in graph.nodes if node.op is CONCATENATE]
    if not wholes:
        return {}

    @cache
    def uses() -> Counter[Value]:
        nodes = [node for node in graph.nodes if node not in places.views]
        return Counter(map(places.root, [*graph.outputs, *[x for node in nodes for x in node.inputs]]))

    placed: dict[Node, set[int]] = {}
    for node in reversed(wholes):  # what a whole is part of comes after it
        whole = places.result(node)
        if whole in fixed:
            continue
        axis, strides, start = node.params["axis"], dense(node.aval.shape), 0
        for i, x in enumerate(node.inputs):
            root, size = places.root(x), x.aval.dtype.itemsize
            spread = None if is_dense(x.aval.shape, strides) else squeezed_strides(x.aval.shape, strides)
            fits = spread is None or (uses()[root] == 1 and _can_spread(x, root))
            if fits and x.aval.size and _is_free(root, places) and places.is_whole(x):
                places.storages[root] = whole.part(start * strides[axis] * size, x.aval.size * size, spread)
                placed.setdefault(node, set()).add(i)
            start += x.aval.shape[axis]
    return placed


def _is_free(root: Value, places: Places) -> bool:
    """Whether a value is computed, and may be in any memory."""
    return root not in places.storages and root.node.op not in (argument_op, constant_op, full_op)


def _can_spread(x: Value, root: Value) -> bool:
    """Whether a region computes a value in the shape of the part `x`, so that it can store it under any strides."""
    return root.node.op.elementwise and squeezed(x.aval.shape) == squeezed(root.aval.shape)
