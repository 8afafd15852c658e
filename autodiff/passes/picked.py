"""Elements picked out of an array, one a row, and put into one: cross entropy and its like.

What is computed only to be picked from is computed for those elements alone, and a row with one number among zeros sums
to that number.  Both are exact.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from autodiff.ir import OPS, Array, Graph, Literal, Shape, Value, constant_op, full_op, is_float, literal
from autodiff.passes.rewrite import Emit, rewrite

GATHER, SCATTER_ADD, IOTA, BROADCAST = OPS["gather"], OPS["scatter_add"], OPS["iota"], OPS["broadcast"]
ARRANGED = {BROADCAST, OPS["reshape"], OPS["transpose"], OPS["slice"], OPS["concatenate"]}


def compute_picked(graph: Graph) -> Graph:
    """The same results, with elements picked before they are computed, and sums of picked places undone."""
    if not any(node.op is GATHER or node.op is SCATTER_ADD for node in graph.nodes):
        return graph
    uses = Counter([*graph.outputs, *(x for node in graph.nodes for x in node.inputs)])

    def gather(emit: Emit, x: Value, *indices: Value) -> Value | None:
        node, n = x.node, indices[0].aval.size
        alone = node.op.elementwise and uses[x] == 1 and len(indices) == x.ndim and n < x.size
        if not alone or not all(is_float(y.aval.dtype) for y in node.inputs):  # integers may raise
            return None
        of_rows = counts_rows(indices, x.aval.shape)
        known = [_number_of_row(emit, y, indices[0].aval.shape, of_rows) for y in node.inputs]
        if None not in known:
            return None  # nothing would check the indices
        operands = [y if k is None else k for y, k in zip(node.inputs, known, strict=True)]
        operands = [emit(GATHER, y, *indices) if k is None else y for y, k in zip(operands, known, strict=True)]
        return emit(node.op, *operands, **node.params)

    return rewrite(graph, {GATHER: (gather,), OPS["reduce_sum"]: (_sum_of_placed,)})


def _number_of_row(emit: Emit, x: Value, shape: Shape, of_rows: bool) -> Value | None:
    """What is picked, in the order of rows, from an array that is one number a row, or one alone."""
    if x.node.op is full_op:
        return emit(full_op, value=x.node.params["value"], shape=shape)
    if of_rows and x.node.op is BROADCAST and x.node.params["axes"] == tuple(range(x.ndim - 1)):
        return emit(OPS["reshape"], x.node.inputs[0], shape=shape)
    return None


def _sum_of_placed(emit: Emit, x: Value, axes: Shape) -> Value | None:
    """Zeros do not count, but that 0 + -0.0 is 0.0."""
    if x.node.op is not SCATTER_ADD or axes != (x.ndim - 1,) or not counts_rows(x.node.inputs[1:], x.aval.shape):
        return None
    shape = x.aval.shape[:-1]
    zero = emit(full_op, value=Literal(np.zeros((), x.aval.dtype)), shape=shape)
    return emit(OPS["add"], emit(OPS["reshape"], x.node.inputs[0], shape=shape), zero)


def counts_rows(indices: Sequence[Value], shape: Shape) -> bool:
    """Whether the n-th of these indices is in the n-th row, all but the last index being known."""
    rows = shape[:-1]
    if len(indices) != len(shape) or indices[0].aval.size != math.prod(rows):
        return False
    for x, count in zip(indices, np.indices(rows, sparse=True), strict=False):
        array = known_array(x)
        if array is None or not (array.reshape(rows) == count).all():
            return False
    return True


def known_array(x: Value) -> Array | None:
    """What a value is, if that is a constant or counts, or an arrangement of such."""
    node = x.node
    if node.op is full_op:
        return np.broadcast_to(np.asarray(literal(x)), x.aval.shape)
    if node.op is constant_op or node.op is IOTA:
        return np.asarray(node.op.oracle(**node.params))
    if node.op not in ARRANGED:
        return None
    arrays = [known_array(y) for y in node.inputs]
    return None if any(array is None for array in arrays) else np.asarray(node.op.oracle(*arrays, **node.params))
