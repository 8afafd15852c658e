"""What the kernels take, and no more.  Not optional: it fixes the order of sums, which every other pass keeps.

A reduction is over neighbouring axes; one over several groups of them becomes one reduction a group, the rightmost
first.  Sums of uint8 are made in int32.  A product with a single term a sum is an elementwise product.
"""

from __future__ import annotations

from autodiff.ir import INT32, OPS, UINT8, Graph, Op, Shape, Value
from autodiff.ops.contraction import Axes, dot_general, free_axes
from autodiff.ops.structure import broadcast, reshape, transpose
from autodiff.passes.rewrite import Emit, Rule, Rules, rewrite

REDUCTIONS = (OPS["reduce_sum"], OPS["reduce_max"], OPS["reduce_min"])


def reduced_group(shape: Shape, axes: Shape) -> tuple[int, int, int]:
    """How a reduction over neighbouring axes splits the dimensions longer than 1: kept, reduced and kept again."""
    longer = [i in axes for i, d in enumerate(shape) if d != 1]
    n = sum(longer)
    outer = longer.index(True) if n else 0
    return outer, n, len(longer) - n - outer


def _one_group_at_a_time(op: Op) -> Rule:
    def rule(emit: Emit, x: Value, axes: Shape) -> Value | None:
        shape = x.aval.shape
        longer = [i for i, d in enumerate(shape) if d != 1]
        group: list[int] = []  # the rightmost neighbours among the axes
        for i in reversed(longer):
            if i in axes:
                group.append(i)
            elif group:
                break
        if not group:
            return emit(reshape, x, shape=tuple([d for i, d in enumerate(shape) if i not in axes]))
        rest = tuple([i for i in axes if i not in group])
        if all(shape[i] == 1 for i in rest):
            return None
        left = tuple([i - sum(j < i for j in group) for i in rest])
        return emit(op, emit(op, x, axes=tuple(sorted(group))), axes=left)

    return rule


def _sum_of_bytes(emit: Emit, x: Value, axes: Shape) -> Value | None:
    """There are no sums of uint8: wider ones wrap to the same."""
    if x.aval.dtype != UINT8:
        return None
    wide = emit(OPS["convert"], x, dtype=INT32, weak=False)
    return emit(OPS["convert"], emit(OPS["reduce_sum"], wide, axes=axes), dtype=UINT8, weak=False)


def _product_of_single_terms(emit: Emit, x: Value, y: Value, contract: Axes, batch: Axes) -> Value | None:
    if any(x.aval.shape[i] != 1 for i in contract[0]):
        return None
    free = free_axes(x.ndim, contract[0], batch[0]), free_axes(y.ndim, contract[1], batch[1])
    n_batch, n_left = len(batch[0]), len(free[0])
    shape = tuple([x.aval.shape[i] for i in batch[0] + free[0]]) + tuple([y.aval.shape[i] for i in free[1]])
    factors = []
    for value, side, first in ((x, 0, n_batch), (y, 1, n_batch + n_left)):
        order = batch[side] + free[side] + contract[side]
        value = emit(transpose, value, axes=order)
        value = emit(reshape, value, shape=value.aval.shape[: len(order) - len(contract[side])])
        axes = (*range(n_batch), *range(first, first + len(free[side])))
        factors.append(emit(broadcast, value, shape=shape, axes=axes))
    return emit(OPS["mul"], *factors)


RULES: Rules = {
    **{op: (_one_group_at_a_time(op),) for op in REDUCTIONS},
    OPS["reduce_sum"]: (_sum_of_bytes, _one_group_at_a_time(OPS["reduce_sum"])),
    dot_general: (_product_of_single_terms,),
}


def canonical(graph: Graph) -> Graph:
    """The graph in terms of what the kernels take."""
    return rewrite(graph, RULES)
