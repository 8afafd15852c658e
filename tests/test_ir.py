"""The graph: interning, order, printing, verification."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import autodiff.ops  # noqa: F401  (declares the primitives)
from autodiff import ir
from autodiff.ir import FLOAT64, INT64, Aval, Builder, Graph
from autodiff.ops.arithmetic import add, mul
from autodiff.ops.reduction import reduce_sum
from autodiff.ops.transcendental import sin

VECTOR = Aval((3,), FLOAT64)


def test_equal_nodes_are_made_once_where_the_builder_interns() -> None:
    with ir.building(Builder(intern=True)):
        x = ir.argument(VECTOR)
        assert sin(x) is sin(x)
        assert sin(x) is not sin(ir.argument(VECTOR))
        assert reduce_sum(x, axes=(0,)) is reduce_sum(x, axes=(0,))
    with ir.building(Builder(intern=False)):
        x = ir.argument(VECTOR)
        assert sin(x) is not sin(x)


@pytest.mark.parametrize(("a", "b"), [(0.0, -0.0), (0.0, 0), (1, True), (1.0, 1)])
def test_constants_are_told_apart_by_their_bits_and_type(a: object, b: object) -> None:
    with ir.building(Builder(intern=True)):
        assert ir.constant(np.array([a, a])) is not ir.constant(np.array([b, b]))
        assert ir.constant(np.array(a)) is not ir.constant(np.array(b))
        assert ir.constant(np.array([a, a])) is ir.constant(np.array([a, a]))
        assert ir.full(a, (2,), FLOAT64) is ir.full(a, (2,), FLOAT64)
    negative_zero = ir.literal(ir.full(-0.0, (2,), FLOAT64))
    assert negative_zero is not None
    assert np.signbit(negative_zero)
    assert not np.signbit(ir.literal(ir.full(0.0, (2,), FLOAT64)))


def test_a_constant_is_a_copy() -> None:
    array = np.arange(3.0)
    value = ir.constant(array)
    array[0] = 7
    assert value.node.params["value"].array[0] == 0


def test_nodes_are_sorted_and_only_those_needed() -> None:
    x, y = ir.argument(VECTOR), ir.argument(VECTOR)
    a = sin(x)
    sin(y)
    b = mul(a, y)
    graph = Graph((x, y), (add(b, a),))
    assert [n.op.name for n in graph.nodes] == ["sin", "mul", "add"]
    assert graph.free == []
    assert Graph((x,), graph.outputs).free == [y]
    ir.verify(graph)


def test_a_network_is_freed_without_the_collector() -> None:
    gc.disable()
    try:
        x = ir.argument(VECTOR)
        y = sin(sin(x))
        gone = weakref.ref(y)
        del x, y
        assert gone() is None
    finally:
        gc.enable()


def test_a_deep_network_is_sorted_and_freed_without_recursion() -> None:
    y = x = ir.argument(VECTOR)
    for _ in range(200_000):
        y = sin(y)
    assert len(Graph((x,), (y,)).nodes) == 200_000


def test_line_is_no_part_of_identity() -> None:
    with ir.building(Builder(intern=True)) as builder:
        x = ir.argument(VECTOR)
        builder.line = ir.Line("a.py", 1)
        first = sin(x)
        builder.line = ir.Line("b.py", 2)
        assert sin(x) is first
        assert str(first.node.line) == "a.py:1"


def test_render_shows_avals_params_and_lines() -> None:
    with ir.building(Builder(intern=True)) as builder:
        x = ir.argument(VECTOR)
        builder.line = ir.Line("model.py", 7)
        text = str(Graph((x,), (reduce_sum(sin(x), axes=(0,)),), "loss"))
    assert text.splitlines()[0] == "loss(%0: float64[3]):"
    assert "%1: float64[3] = sin(%0)" in text
    assert "%2: float64[] = reduce_sum(%1, axes=(0,))" in text
    assert "# model.py:7" in text
    assert text.splitlines()[-1].strip() == "return %2"


def test_rebuild_keeps_the_graph_and_its_lines() -> None:
    x = ir.argument(VECTOR)
    ir.current().line = ir.Line("a.py", 3)
    graph = Graph((x,), (mul(sin(x), sin(x)),))
    ir.current().line = None
    with ir.building(Builder(intern=True)):
        again = ir.rebuild(graph)
    assert [n.op.name for n in graph.nodes] == ["sin", "sin", "mul"]
    assert [n.op.name for n in again.nodes] == ["sin", "mul"]
    assert again.nodes[0].line == ir.Line("a.py", 3)


def test_verify_refuses() -> None:
    x = ir.argument(VECTOR)
    y = sin(x)
    with pytest.raises(ir.GraphError, match="captured"):
        ir.verify(Graph((), (y,)))
    with pytest.raises(ir.GraphError, match="not an argument"):
        ir.verify(Graph((y,), (y,)))
    wrong = ir.Node(y.node.op, (x,), {}, Aval((4,), FLOAT64), None, 10**9)
    with pytest.raises(ir.GraphError, match="has results"):
        ir.verify(Graph((x,), (wrong,)))


def test_operands_must_match() -> None:
    x = ir.argument(VECTOR)
    with pytest.raises(TypeError, match=r"add takes operands of one shape and dtype, not float64\[3\], float64\[4\]"):
        add(x, ir.argument(Aval((4,), FLOAT64)))
    with pytest.raises(TypeError, match="sin is not defined for int64"):
        sin(ir.argument(Aval((4,), INT64)))
    with pytest.raises(TypeError, match="add takes 2 operands, not 1"):
        add(x)
