"""Passes: what each rewrites, what is fused, and that none changes a bit of any result."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import Case, random_case, rounding, same_bits

from autodiff import ir
from autodiff.executable import Executable, compile_graph
from autodiff.interpret import interpret
from autodiff.ir import BOOL, FLOAT32, FLOAT64, OPS, Array, Aval, Dtype, Graph, Shape, Value
from autodiff.passes import ALL, fuse, optimise
from autodiff.passes.canonical import canonical
from autodiff.passes.simplify import simplify

VARIANTS = [frozenset[str](), *[ALL - {name} for name in sorted(ALL)]]


def graph(function: Callable[..., Value | Sequence[Value]], *avals: tuple[Shape, Dtype]) -> Graph:
    with ir.building(ir.Builder(intern=True)):
        inputs = tuple(ir.argument(Aval(*aval)) for aval in avals)
        outputs = function(*inputs)
    return Graph(inputs, (outputs,) if isinstance(outputs, Value) else tuple(outputs))


def random_arrays(g: Graph) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=x.shape).astype(x.dtype) / x.dtype.type(2) for x in g.inputs]


# ---- all passes, on random graphs ----------------------------------------------------------------------------------

property_test = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def donations(case: Case, rng: random.Random) -> dict[int, int]:
    donated: dict[int, int] = {}
    for i, x in enumerate(case.graph.inputs):
        fits = [j for j, y in enumerate(case.graph.outputs) if x.aval[:2] == y.aval[:2] and j not in donated.values()]
        if fits and rng.random() < 0.7:
            donated[i] = rng.choice(fits)
    return donated


@property_test
@given(st.integers(0, 2**32), st.integers(1, 100), st.sampled_from([64, 10, 3]), st.sampled_from([1024, 0]))
def test_passes_change_no_bit(seed: int, size: int, most: int, small: int) -> None:
    rng = random.Random(seed)
    case = random_case(rng, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuse, "MOST_OPERANDS", most)
        patch.setattr(fuse, "MOST_SMALL", most)
        patch.setattr(fuse, "SMALL", small)
        check_passes_change_no_bit(case, rng)


def check_passes_change_no_bit(case: Case, rng: random.Random) -> None:
    results = compile_graph(case.graph).run_flat(case.arrays)
    for passes in VARIANTS:
        others = compile_graph(case.graph, passes=passes).run_flat(case.arrays)
        for i, (a, b) in enumerate(zip(results, others, strict=True)):
            assert same_bits(a, b), f"output {i} without {sorted(ALL - passes)}"
    donated = donations(case, rng)
    for passes in (ALL, *VARIANTS):
        arrays = [x.copy() for x in case.arrays]
        others = compile_graph(case.graph, donated, passes).run_flat(arrays)
        for i, (a, b) in enumerate(zip(results, others, strict=True)):
            assert same_bits(a, b), f"output {i} without {sorted(ALL - passes)}, donated {donated}"
        for i, j in donated.items():
            assert others[j] is arrays[i]
        for i, (x, y) in enumerate(zip(case.arrays, arrays, strict=True)):
            assert i in donated or same_bits(x, y), f"input {i} was written to"


@property_test
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_compiled_is_what_numpy_computes(seed: int, size: int) -> None:
    case = random_case(random.Random(seed), size)
    results = compile_graph(case.graph).run_flat(case.arrays)
    wants, moves = interpret(case.graph, *case.arrays), rounding(case.graph, case.arrays)
    for got, want, exact, move in zip(results, wants, case.exact, moves, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        if exact:
            np.testing.assert_array_equal(got, want)
        elif want.dtype.kind == "f":
            finite = np.isfinite(move) & np.isfinite(want)
            unit = float(np.finfo(want.dtype).eps) * np.abs(want[finite]).max(initial=1)
            assert np.all(np.abs(got[finite] - want[finite]) <= 30 * (move[finite].max(initial=0) + unit))


@property_test
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_passes_keep_graphs_valid(seed: int, size: int) -> None:
    case = random_case(random.Random(seed), size)
    want = interpret(case.graph, *case.arrays)
    for change in (simplify, canonical):
        changed = change(case.graph)
        ir.verify(changed)
        assert [y.aval[:2] for y in changed.outputs] == [y.aval[:2] for y in case.graph.outputs]
        for got, array, exact in zip(interpret(changed, *case.arrays), want, case.exact, strict=True):
            if exact:
                np.testing.assert_array_equal(got, array)
        again = change(changed)
        assert len(again.nodes) == len(changed.nodes), "a second time changes no more"


# ---- simplify ------------------------------------------------------------------------------------------------------

V, M = ((5,), FLOAT64), ((3, 4), FLOAT64)
I5 = ((5,), ir.INT64)

SIMPLER: list[tuple[str, Callable[..., Value], list[tuple[Shape, Dtype]], list[str]]] = [
    ("x * 1", lambda x: x * 1.0, [V], []),
    ("1 * x", lambda x: 1.0 * x, [V], []),
    ("x * -1", lambda x: x * -1.0, [V], ["neg"]),
    ("x / 1", lambda x: x / 1.0, [V], []),
    ("x + -0", lambda x: x + -0.0, [V], []),
    ("x + 0 is not x", lambda x: x + 0.0, [V], ["full", "add"]),
    ("integers: x + 0", lambda x: x + 0, [I5], []),
    ("x - 0", lambda x: x - 0.0, [V], []),
    ("-0 - x", lambda x: -0.0 - x, [V], ["neg"]),
    ("0 - x is not -x", lambda x: 0.0 - x, [V], ["full", "sub"]),
    ("x * 0 is not 0", lambda x: x * 0.0, [V], ["full", "mul"]),
    ("x - x is not 0", lambda x: x - x, [V], ["sub"]),
    ("--x", lambda x: OPS["neg"](-x), [V], []),
    ("x + -y", lambda x, y: x + -y, [V, V], ["sub"]),
    ("x - -y", lambda x, y: x - -y, [V, V], ["add"]),
    ("literals", lambda x: x * (x.full_like(2.0) + 1.0), [V], ["full", "mul"]),
    ("same branches", lambda x: OPS["select"](x > 0.0, x, x), [V], []),
    ("known mask", lambda x: OPS["select"](ir.full(True, (5,), BOOL), x, -x), [V], []),
    ("not <", lambda x: OPS["logical_not"](x < 0.0), [V], ["full", "lt", "logical_not"]),
    ("not ==", lambda x: OPS["logical_not"](OPS["eq"](x, x)), [V], ["ne"]),
    ("scale of 0", lambda x: OPS["scale"](x.full_like(0.0), x), [V], ["full"]),
    ("identity", lambda x: OPS["identity"](OPS["stop_gradient"](x)), [V], []),
    ("transpose twice", lambda x: _t(_t(x)), [M], []),
    ("reshape twice", lambda x: OPS["reshape"](OPS["reshape"](x, shape=(12,)), shape=(4, 3)), [M], ["reshape"]),
    ("reshape back", lambda x: OPS["reshape"](OPS["reshape"](x, shape=(12,)), shape=(3, 4)), [M], []),
    ("slice of all", lambda x: OPS["slice"](x, starts=(0,), steps=(1,), shape=(5,)), [V], []),
    ("slice of slice", lambda x: _every_other(_every_other(x)), [V], ["slice"]),
    ("pad by nothing", lambda x: OPS["pad"](x, starts=(0,), steps=(1,), shape=(5,)), [V], []),
    ("join with nothing", lambda x: OPS["concatenate"](x, ir.full(0, (0,), FLOAT64), axis=0), [V], []),
    ("transposed product", lambda x: _t(_dot(x, _t(x))), [M], ["transpose", "dot_general"]),
    ("sum of one", lambda x: OPS["reduce_sum"](x, axes=(0,)), [((1, 4), FLOAT64)], ["reshape"]),
    ("sum of pieces", lambda x: OPS["reduce_sum"](x, axes=(0, 2)), [((2, 3, 4), FLOAT64)], ["reduce_sum"] * 2),
]


def _t(x: Value) -> Value:
    return OPS["transpose"](x, axes=(1, 0))


def _dot(x: Value, y: Value) -> Value:
    return OPS["dot_general"](x, y, contract=((1,), (0,)), batch=((), ()))


def _every_other(x: Value) -> Value:
    return OPS["slice"](x, starts=(0,), steps=(2,), shape=((x.size + 1) // 2,))


@pytest.mark.parametrize(("function", "avals", "ops"), [c[1:] for c in SIMPLER], ids=[c[0] for c in SIMPLER])
def test_simplify(function: Callable[..., Value], avals: list[tuple[Shape, Dtype]], ops: list[str]) -> None:
    g = graph(function, *avals)
    simple = simplify(g)
    ir.verify(simple)
    assert [n.op.name for n in simple.nodes] == ops
    arrays = [np.round(x * 4) for x in random_arrays(g)]
    for got, want in zip(interpret(simple, *arrays), interpret(g, *arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14)


def test_equal_nodes_become_one() -> None:
    x = ir.argument(Aval((3,), FLOAT64))
    y = OPS["add"](OPS["sin"](x), OPS["sin"](x))  # outside `compile`: not interned
    assert len(Graph((x,), (y,)).nodes) == 3
    assert len(optimise(Graph((x,), (y,)), passes=()).nodes) == 2


# ---- fusion --------------------------------------------------------------------------------------------------------


def steps(executable: Executable) -> list[str]:
    return [executable.plan.string(int(step["name"])) for step in executable.plan.steps]


def compiled(function: Callable[..., Value | Sequence[Value]], *avals: tuple[Shape, Dtype]) -> Executable:
    g = graph(function, *avals)
    executable = compile_graph(g)
    arrays = random_arrays(g)
    for got, want in zip(executable.run_flat(arrays), interpret(g, *arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 if want.dtype == FLOAT32 else 1e-11)
    return executable


def _sum(x: Value, *axes: int) -> Value:
    return OPS["reduce_sum"](x, axes=axes or tuple(range(x.ndim)))


def _spread(x: Value, shape: Shape, *axes: int) -> Value:
    return OPS["broadcast"](x, shape=shape, axes=axes)


def test_elementwise_chain_and_its_sums_are_one_step() -> None:
    def function(x: Value, y: Value) -> list[Value]:
        z = OPS["tanh"](x * _spread(y, (50, 60), 1)) + 1.0
        return [z, _sum(z, 1), OPS["reduce_max"](z * z, axes=(1,))]

    executable = compiled(function, ((50, 60), FLOAT64), ((60,), FLOAT64))
    assert steps(executable) == ["fused: mul tanh add reduce_sum mul reduce_max"]
    assert executable.plan.arena_size == 0


def test_reductions_that_split_the_space_differently_are_two_steps() -> None:
    assert len(steps(compiled(lambda x: [_sum(OPS["exp"](x), 0), _sum(OPS["exp"](x), 1)], M))) == 2


def test_softmax_is_a_step_a_stage() -> None:
    def softmax(x: Value) -> Value:
        e = OPS["exp"](x - _spread(OPS["reduce_max"](x, axes=(1,)), x.shape, 0))
        return e / _spread(_sum(e, 1), x.shape, 0)

    assert steps(compiled(softmax, ((40, 30), FLOAT64))) == ["reduce_max", "fused: sub exp reduce_sum", "div"]


def test_shapes_that_differ_by_dimensions_of_one_share_a_step() -> None:
    def function(x: Value) -> Value:
        return OPS["exp"](OPS["reshape"](OPS["sin"](x), shape=(1, 5, 1))) + 1.0

    assert steps(compiled(function, V)) == ["fused: sin exp add"]


def test_views_cost_no_step() -> None:
    def function(x: Value, y: Value) -> Value:
        rows = OPS["slice"](_t(x), starts=(3, 0), steps=(-1, 2), shape=(4, 2))
        return _dot(OPS["sin"](rows), _t(y))

    assert steps(compiled(function, M, ((4, 2), FLOAT64))) == ["sin", "dot_general"]


def test_widths_are_separate_regions() -> None:
    def function(x: Value) -> Value:
        return OPS["sin"](OPS["convert"](OPS["cos"](x), dtype=FLOAT64, weak=False))

    assert steps(compiled(function, ((7,), FLOAT32))) == ["cos", "fused: convert sin"]


def test_narrower_numbers_are_stored_by_the_region_that_computes_them() -> None:
    def function(x: Value) -> list[Value]:
        y = OPS["cos"](x)
        return [OPS["convert"](y, dtype=FLOAT32, weak=False), OPS["convert"](y, dtype=ir.INT32, weak=False), y + 1.0]

    assert steps(compiled(function, V)) == ["fused: cos convert convert add"]


def test_masks_live_in_the_lanes_of_what_they_select() -> None:
    def function(x: Value) -> Value:
        return OPS["select"](OPS["logical_and"](x > 0.0, OPS["logical_not"](x > 1.0)), x, -x)

    assert len(steps(compiled(function, V))) == 1
    assert len(steps(compiled(function, ((5,), FLOAT32)))) == 1


def test_derivative_sinks_to_the_backward_pass() -> None:
    """1 - y * y is computed where the cotangent meets it: only y itself is stored."""

    def function(x: Value, w: Value, u: Value) -> list[Value]:
        y = OPS["tanh"](_dot(x, w))
        ct = _dot(_dot(y, u), _t(u))
        return [ct * (1.0 - y * y), _dot(y, u)]

    executable = compiled(function, ((40, 50), FLOAT64), ((50, 30), FLOAT64), ((30, 20), FLOAT64))
    assert steps(executable) == ["dot_general", "tanh", "dot_general", "dot_general", "fused: mul sub mul"]


def test_cheap_values_are_computed_again() -> None:
    """Centred values, which both passes of a normalisation need, are not stored: x and its means are."""
    shape = (100, 50)

    def normalise(x: Value) -> Value:
        centred = x - _spread(_sum(x, 1) / 50.0, shape, 0)
        return centred / _spread(_sum(centred * centred, 1) + 1.0, shape, 0)

    executable = compiled(normalise, (shape, FLOAT64))
    assert executable.plan.arena_size < 100 * 50 * 8
    assert steps(executable) == ["reduce_sum", "div", "fused: sub mul reduce_sum", "add", "div"]
    without = compile_graph(graph(normalise, (shape, FLOAT64)), passes=ALL - {"recompute"})
    assert without.plan.arena_size > 100 * 50 * 8


def test_what_is_computed_again_elsewhere_is_left_out() -> None:
    def function(x: Value) -> list[Value]:
        y = x * 2.0
        return [_sum(OPS["exp"](y), 0), _sum(OPS["sin"](y), 1)]

    executable = compiled(function, ((100, 50), FLOAT64))
    assert executable.plan.arena_size == 0


def test_long_regions_are_cut() -> None:
    def function(x: Value) -> list[Value]:
        ys = [x]
        for _ in range(300):
            ys.append(OPS["sin"](ys[-1]) * 1.5)
        return ys[1:]

    executable = compiled(function, ((2000,), FLOAT64))
    assert all(step["n_operands"] <= 64 for step in executable.plan.steps)
    assert len(executable.plan.steps) > 4


def test_unrelated_nodes_run_together_only_where_they_are_small() -> None:
    def function(x: Value, y: Value) -> list[Value]:
        return [OPS["sin"](x), OPS["cos"](y)]

    assert len(steps(compiled(function, V, V))) == 1
    assert len(steps(compiled(function, *[((5000,), FLOAT64)] * 2))) == 2


def test_product_of_one_term_is_elementwise() -> None:
    def outer(x: Value, y: Value) -> Value:
        return OPS["exp"](OPS["dot_general"](x, y, contract=((), ()), batch=((), ())))

    assert steps(compiled(outer, V, V)) == ["fused: mul exp"]


# ---- memory --------------------------------------------------------------------------------------------------------


def test_memory_is_used_again() -> None:
    def function(x: Value) -> Value:
        y = x
        for _ in range(50):
            y = OPS["tanh"](_dot(y, x) / 16.0)
        return y

    executable = compiled(function, ((16, 16), FLOAT64))
    assert executable.plan.arena_size == 2 * 16 * 16 * 8  # a product cannot overwrite its operand; tanh can
    without = compile_graph(graph(function, ((16, 16), FLOAT64)), passes=ALL - {"reuse"})
    assert without.plan.arena_size == 99 * 16 * 16 * 8
    # between any two steps one matrix is needed, of those that are neither an argument nor a result
    assert executable.plan.live_bytes == without.plan.live_bytes == 16 * 16 * 8


def test_what_is_live_together_is_counted_together() -> None:
    def function(x: Value) -> Value:
        kept = [_dot(x, x)]
        for _ in range(3):
            kept.append(_dot(kept[-1], x))
        total = kept[0]
        for y in kept[1:]:
            total = _dot(total, y)
        return total

    # the four powers; the first product of them can lie where no power does any more
    plan = compile_graph(graph(function, ((16, 16), FLOAT64))).plan
    assert plan.live_bytes == 4 * 16 * 16 * 8
    assert plan.arena_size == 5 * 16 * 16 * 8  # in one step a product needs room beside its operands


@pytest.mark.parametrize("seed", range(20))
def test_no_arena_is_smaller_than_what_is_live(seed: int) -> None:
    case = random_case(random.Random(seed), 40)
    for passes in (ALL, ALL - {"reuse"}):
        plan = compile_graph(case.graph, passes=passes).plan
        assert 0 <= plan.live_bytes <= plan.arena_size


def test_an_input_is_overwritten_when_all_else_has_read_it() -> None:
    def function(w: Value, x: Value) -> list[Value]:
        new = w - _dot(_t(x), x)  # could run before the product with the old weights
        return [new, _dot(x, w)]

    executable = compile_graph(graph(function, ((4, 4), FLOAT64), ((9, 4), FLOAT64)), {0: 0})
    assert steps(executable) == ["dot_general", "dot_general", "sub"]
    w, x = np.eye(4), np.arange(36.0).reshape(9, 4)
    new, product = executable.run_flat([w, x])
    assert new is w
    np.testing.assert_allclose(new, np.eye(4) - x.T @ x)
    np.testing.assert_array_equal(product, x)


def test_constants_are_in_the_plan_once() -> None:
    table = np.arange(12.0).reshape(3, 4)

    def function(x: Value) -> Value:
        return x * ir.constant(table) + _t(OPS["reshape"](ir.constant(table), shape=(4, 3)))

    executable = compiled(function, M)
    assert executable.plan.array("constants").size == table.nbytes
