"""Elements picked from rows before they are computed: to the same bit, and indices are still checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from random_graphs import same_bits

import autodiff as ad
from autodiff import ir
from autodiff.executable import compile_graph
from autodiff.ir import FLOAT64, INT64, OPS, Array, Aval, Graph
from autodiff.passes import ALL
from autodiff.passes.picked import compute_picked, counts_rows


def picking(*, rows: Array) -> Graph:
    """X - log(sum(exp(x))), of each row the element at its label; and the sum of what is put there, negated."""
    with ir.building(ir.Builder(intern=True)):
        x, labels, c = (ir.argument(Aval(*a)) for a in [((4, 3), FLOAT64), ((4,), INT64), ((4,), FLOAT64)])
        total = OPS["log"](OPS["reduce_sum"](OPS["exp"](x), axes=(1,)))
        y = x - OPS["broadcast"](total, shape=(4, 3), axes=(0,))
        index = ir.constant(rows)
        picked = OPS["gather"](y, index, labels)
        placed = OPS["scatter_add"](c, index, labels, shape=(4, 3))
        outputs = (picked, OPS["reduce_sum"](placed, axes=(1,)), placed * x)
    return Graph((x, labels, c), outputs)


def arguments(labels: list[int]) -> list[Array]:
    x = np.random.default_rng(0).normal(size=(4, 3))
    return [x, np.array(labels), np.array([-0.0, np.nan, -np.inf, 1e-320])]


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [0, 2, 1, 3], [1, 1, 1, 1]])
def test_picking_first_changes_no_bit(rows: list[int]) -> None:
    graph = picking(rows=np.array(rows))
    arrays = arguments([2, 0, -1, 1])
    plain, picked = (compile_graph(graph, passes=passes).run_flat(arrays) for passes in (ALL - {"simplify"}, ALL))
    for x, y in zip(plain, picked, strict=True):
        assert same_bits(x, y)
    assert np.signbit(picked[1][0]) == np.signbit(0.0)


def test_what_is_picked_from_is_not_computed() -> None:
    ops = [node.op.name for node in compute_picked(picking(rows=np.arange(4))).nodes]
    assert ops.index("gather") < ops.index("sub")
    assert "broadcast" not in ops
    assert ops.count("reduce_sum") == 1
    in_another_order = [node.op.name for node in compute_picked(picking(rows=np.array([1, 0, 2, 3]))).nodes]
    assert in_another_order.count("reduce_sum") == 2


def test_what_is_needed_elsewhere_is_picked_from() -> None:
    with ir.building(ir.Builder(intern=True)):
        x, labels = ir.argument(Aval((4, 3), FLOAT64)), ir.argument(Aval((4,), INT64))
        y = OPS["sin"](x)
        picked = OPS["gather"](y, ir.constant(np.arange(4)), labels)
    shared, alone = Graph((x, labels), (picked, y)), Graph((x, labels), (picked,))
    for graph, order in ((shared, ["sin", "gather"]), (alone, ["gather", "sin"])):
        assert [node.op.name for node in compute_picked(graph).nodes if node.inputs] == order


@pytest.mark.parametrize("label", [3, -4])
def test_indices_are_checked(label: int) -> None:
    executable = compile_graph(picking(rows=np.arange(4)))
    with pytest.raises(IndexError, match=f"index {label} is out of bounds"):
        executable.run_flat(arguments([0, 1, label, 2]))

    @ad.compile
    def of_numbers_alone(c: Any, labels: Any) -> Any:  # every element of a row is the same
        return (np.broadcast_to(c[:, None], (4, 3)) * 2.0)[np.arange(4), labels]

    with pytest.raises(IndexError, match=f"index {label} is out of bounds"):
        of_numbers_alone(np.ones(4), np.array([0, 1, label, 2]))


def test_what_counts_rows() -> None:
    with ir.building(ir.Builder(intern=True)):
        count, labels = ir.iota(6), ir.argument(Aval((6,), INT64))
        first = OPS["broadcast"](ir.iota(2), shape=(2, 3), axes=(0,))
        second = OPS["broadcast"](ir.iota(3), shape=(2, 3), axes=(1,))
        third = ir.argument(Aval((2, 3), INT64))
        assert counts_rows([count, labels], (6, 4))
        assert counts_rows([first, second, third], (2, 3, 4))
        assert not counts_rows([second, first, third], (2, 3, 4))
        assert not counts_rows([count, labels], (7, 4))
        assert not counts_rows([labels, labels], (6, 4))
        assert not counts_rows([labels], (4,))
        assert not counts_rows([count], (6, 4))


def test_the_sum_over_a_subtracted_mean_is_of_numbers() -> None:
    x = np.random.default_rng(1).normal(size=(5, 7))
    ad.testing.check_grads(lambda x: np.sum((x - np.mean(x, axis=1, keepdims=True)) ** 3), (x,))
    steps = ad.compile(ad.grad(lambda x: np.sum(np.exp(x - np.mean(x, axis=1, keepdims=True))))).lower(x).plan
    assert str(steps).count("row_sum") == 2
