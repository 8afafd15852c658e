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
from autodiff.passes import ALL, fuse, optimise, padded
from autodiff.passes.canonical import canonical
from autodiff.passes.simplify import simplify
from autodiff.plan import KINDS, ROLES

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
        patch.setattr(padded, "LARGE", small * 8)
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
    for change in (simplify, canonical, padded.compute_padded):
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
    ("-x + y", lambda x, y: -x + y, [V, V], ["sub"]),
    ("x - -y", lambda x, y: x - -y, [V, V], ["add"]),
    ("-x - x", lambda x: -x - x, [V], ["full", "mul"]),
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
    ("slice of a pad", lambda x: _part(_ringed(x), 2, 3), [V], ["slice"]),
    ("slice of a pad's zeros", lambda x: _part(_ringed(x), 5, 1), [V], ["full"]),
    ("slice of a pad's border", lambda x: _part(_ringed(x), 4, 2), [V], ["pad", "slice"]),
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


def _ringed(x: Value, before: int = 0, after: int = 1) -> Value:
    return OPS["pad"](x, starts=(before,), steps=(1,), shape=(before + x.size + after,))


def _part(x: Value, start: int, size: int) -> Value:
    return OPS["slice"](x, starts=(start,), steps=(1,), shape=(size,))


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
    cube = ((3, 4, 5), FLOAT64)
    assert len(steps(compiled(lambda x: [_sum(OPS["exp"](x), 0), _sum(OPS["exp"](x), 1)], cube))) == 2


def test_sums_along_rows_and_over_all_rows_are_one_step() -> None:
    def function(x: Value) -> list[Value]:
        y = OPS["exp"](x)
        return [_sum(y, 0), _sum(y, 1), _sum(y)]

    assert steps(compiled(function, M)) == ["rows: exp reduce_sum reduce_sum reduce_sum"]


def _softmax(x: Value) -> Value:
    leading = tuple(range(x.ndim - 1))
    e = OPS["exp"](x - _spread(OPS["reduce_max"](x, axes=(x.ndim - 1,)), x.shape, *leading))
    return e / _spread(_sum(e, x.ndim - 1), x.shape, *leading)


@pytest.mark.parametrize("shape", [(40, 30), (5, 600), (2, 3, 4, 50), (100, 1, 7), (2, 10000)])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
def test_softmax_is_one_step(shape: Shape, dtype: Dtype) -> None:
    assert steps(compiled(_softmax, (shape, dtype))) == ["rows: reduce_max sub exp reduce_sum div"]


def test_rows_that_do_not_stay_in_the_cache_are_a_step_a_stage() -> None:
    assert steps(compiled(_softmax, ((2, 60000), FLOAT32))) == ["reduce_max", "fused: sub exp reduce_sum", "div"]
    assert steps(compiled(_softmax, ((2, 100000), FLOAT32))) == ["reduce_max", "fused: sub exp reduce_sum", "div"]


def test_rows_of_nothing_and_no_rows() -> None:
    for shape in ((0, 5), (5, 0)):
        g = graph(lambda x: x + _spread(_sum(x, 1), x.shape, 0), (shape, FLOAT64))
        (got,) = compile_graph(g).run_flat([np.zeros(shape)])
        assert got.shape == shape


def test_a_row_that_leaves_and_comes_back_is_two_steps() -> None:
    def function(x: Value, w: Value) -> Value:
        return _softmax(_dot(_softmax(x), w))

    names = steps(compiled(function, ((40, 30), FLOAT64), ((30, 30), FLOAT64)))
    softmax = "rows: reduce_max sub exp reduce_sum div"
    assert names == [softmax, "dot_general", softmax]


def test_what_is_stored_converted_is_no_register_of_rows() -> None:
    def function(x: Value) -> list[Value]:
        spread = _spread(OPS["reduce_max"](x, axes=(1,)), x.shape, 0)
        narrow = OPS["convert"](OPS["convert"](OPS["abs"](x), dtype=ir.UINT8, weak=False), dtype=ir.INT64, weak=False)
        return [x - spread, OPS["convert"](narrow, dtype=FLOAT64, weak=False) + spread]

    executable = compile_graph(graph(function, M))
    (x,) = arrays = [np.arange(12.0).reshape(3, 4) + 0.5]
    _, got = executable.run_flat(arrays)
    np.testing.assert_array_equal(got, np.floor(x) + x.max(1, keepdims=True))


def test_numbers_used_in_another_order_are_stored() -> None:
    def function(x: Value) -> Value:
        sums = _sum(x, 1)
        turned = OPS["slice"](sums, starts=(7,), steps=(-1,), shape=(8,))
        return x * _spread(sums, (8, 8), 0) + _spread(turned, (8, 8), 0) + _spread(sums, (8, 8), 1)

    executable = compiled(function, ((8, 8), FLOAT64))
    assert len(steps(executable)) == 2
    assert executable.plan.arena_size == 64


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
    assert executable.plan.arena_size == 0  # it runs row by row
    executable = compile_graph(graph(normalise, (shape, FLOAT64)), passes=ALL - {"rows"})
    assert executable.plan.arena_size < 100 * 50 * 8
    assert steps(executable) == ["reduce_sum", "div", "fused: sub mul reduce_sum", "add", "div"]
    without = compile_graph(graph(normalise, (shape, FLOAT64)), passes=ALL - {"rows", "recompute"})
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


# ---- windows ---------------------------------------------------------------------------------------------------------


def rosenbrock(x: Value) -> list[Value]:
    n = x.size - 1
    a, b = _part(x, 0, n), _part(x, 1, n)
    d = b - a * a
    ct = 200.0 * d
    inner = (-ct - ct) * a - 2.0 * (1.0 - a)
    return [_sum(100.0 * (d * d) + (1.0 - a) * (1.0 - a)), _ringed(inner) + _ringed(ct, 1, 0)]


def kinds(executable: Executable) -> list[str]:
    return [{number: name for name, number in KINDS.items()}[int(step["kind"])] for step in executable.plan.steps]


def test_pads_are_read_through_windows() -> None:
    executable = compiled(rosenbrock, ((1000,), FLOAT64))
    assert kinds(executable) == ["map", "map"]
    assert sum(bool(operand["windowed"]) for operand in executable.plan.array("operands")) == 2


def test_what_is_padded_is_computed_again_where_it_would_go_to_memory() -> None:
    """Rosenbrock's value and gradient: one pass over x and the gradient, and nothing stored between."""
    aval = ((600_000,), FLOAT64)
    executable = compile_graph(graph(rosenbrock, aval))
    assert kinds(executable) == ["map"]
    assert executable.plan.arena_size == 0
    operands = executable.plan.array("operands")
    assert sum(operands["role"] == ROLES["write"]) == 1
    assert "select" not in str(executable.plan)
    without = compile_graph(graph(rosenbrock, aval), passes=ALL - {"recompute"})
    assert without.plan.arena_size > 2 * 600_000 * 7


@pytest.mark.parametrize("shape", [(40,), (5, 8), (3, 4, 5)])
@pytest.mark.parametrize("mask", [True, False])
def test_padded_space_changes_no_bit(monkeypatch: pytest.MonkeyPatch, shape: Shape, mask: bool) -> None:
    monkeypatch.setattr(padded, "LARGE", 0)

    def function(x: Value, y: Value) -> Value:
        z = (x - y) * x if not mask else 1.0 - OPS["maximum"](x, -y) * 3.0
        starts = tuple(range(1, len(shape) + 1))
        return OPS["pad"](z, starts=starts, steps=(1,) * len(shape), shape=tuple(d + 4 for d in shape)) * 2.0

    g = graph(function, (shape, FLOAT64), (shape, FLOAT64))
    changed = padded.compute_padded(g)
    ir.verify(changed)
    ops = [node.op.name for node in changed.nodes]
    assert ops.count("select") == mask
    assert all(node.inputs[0] in changed.inputs for node in changed.nodes if node.op.name == "pad" and not mask)
    arrays = random_arrays(g)
    arrays[0].reshape(-1)[:3] = np.nan, np.inf, -0.0
    want = interpret(g, *arrays)
    for passes in (ALL, *VARIANTS):
        for got, array in zip(compile_graph(g, passes=passes).run_flat(arrays), want, strict=True):
            assert same_bits(got, array)


@pytest.mark.parametrize(
    ("term", "moves"),
    [
        (lambda x, y: x * x, True),
        (lambda x, y: (1.0 - x) * (1.0 - x) + x * x, True),  # 1 is padded too
        (lambda x, y: OPS["maximum"](x * x, y * y) + x * x, False),  # what a maximum of zeros is, is not known
        (lambda x, y: x * x * y, False),  # may all be -0
        (lambda x, y: -(x * x), False),
        (lambda x, y: y * y, False),  # nothing of it is needed there
    ],
)
@pytest.mark.parametrize("shape", [(511,), (512,), (33, 16)])
@pytest.mark.parametrize("value", [-0.0, 0.3, np.inf])
def test_sums_in_a_padded_space_change_no_bit(
    monkeypatch: pytest.MonkeyPatch, term: Callable[..., Value], moves: bool, shape: Shape, value: float
) -> None:
    monkeypatch.setattr(padded, "LARGE", 0)

    def function(x: Value, y: Value) -> list[Value]:
        whole = (shape[0] + 3, *shape[1:])
        behind = OPS["pad"](x * x * y, starts=(0,) * len(shape), steps=(1,) * len(shape), shape=whole)
        return [OPS["reduce_sum"](term(x, y), axes=tuple(range(len(shape)))), behind]

    g = graph(function, (shape, FLOAT64), (shape, FLOAT64))
    changed = padded.compute_padded(g)
    ir.verify(changed)
    summed = next(node.inputs[0] for node in changed.nodes if node.op is OPS["reduce_sum"])
    assert (summed.shape != shape) == moves
    arrays = [np.full(shape, value), np.full(shape, value)]
    for passes in VARIANTS:
        results = (compile_graph(g, passes=names).run_flat(arrays) for names in (passes, ALL))
        assert all(same_bits(a, b) for a, b in zip(*results, strict=True))


def test_a_window_on_a_view_of_a_view() -> None:
    def function(x: Value) -> Value:
        middle = OPS["pad"](_t(x), starts=(1, 0), steps=(1, 1), shape=(6, 3))
        flat = OPS["reshape"](middle, shape=(2, 9))
        return OPS["sin"](OPS["slice"](flat, starts=(1, 8), steps=(-1, -2), shape=(2, 5)))

    def not_flat(x: Value) -> Value:
        return OPS["cos"](OPS["reshape"](OPS["pad"](x, starts=(0, 1), steps=(1, 1), shape=(3, 6)), shape=(18,)))

    executable = compiled(lambda x: OPS["sin"](OPS["reshape"](_ringed(x, 6, 12), shape=(4, 6))), ((6,), FLOAT64))
    assert steps(executable) == ["sin"]
    compiled(function, M)
    assert steps(compiled(not_flat, M)) == ["reshape", "cos"]


def test_a_window_repeated_no_times() -> None:
    def function(x: Value) -> Value:
        return OPS["sin"](OPS["reshape"](_spread(_ringed(x, 2, 1), (0, 8), 1), shape=(8, 0)))

    compiled(function, V)


def test_windows_are_copied_for_what_reads_memory_as_it_lies() -> None:
    def function(x: Value, y: Value) -> list[Value]:
        wide = OPS["pad"](x, starts=(0, 2), steps=(1, 1), shape=(3, 8))
        index = ir.constant(np.array([2, 0]))
        return [_dot(wide, y), OPS["gather"](wide, index), OPS["argmax"](wide, axis=1), wide, _t(_dot(wide, _t(wide)))]

    assert steps(compiled(function, M, ((8, 2), FLOAT64))).count("copy: pad") == 2  # for the product; and the result


# ---- parts -----------------------------------------------------------------------------------------------------------


def _stack(values: Sequence[Value], axis: int = 0) -> Value:
    shape = values[0].shape
    rows = [OPS["reshape"](x, shape=(*shape[:axis], 1, *shape[axis:])) for x in values]
    return OPS["concatenate"](*rows, axis=axis)


def test_stacked_numbers_are_computed_in_place() -> None:
    def function(x: Value) -> Value:
        numbers = [OPS["reshape"](_part(x, i, 1), shape=()) for i in range(5)]
        return _stack([OPS["sin"](numbers[i % 5]) * float(i) for i in range(12)])

    executable = compiled(function, V)
    assert kinds(executable) == ["scalars"]
    assert executable.plan.arena_size == 0


def test_parts_are_computed_in_place() -> None:
    def function(x: Value, y: Value) -> list[Value]:
        inner = OPS["concatenate"](OPS["sin"](x), _dot(x, y), axis=0)
        total = _stack([_sum(x, 0), OPS["tanh"](_sum(y, 0))])
        return [OPS["concatenate"](inner, total, _t(OPS["exp"](y)), axis=0), _dot(inner, y)]

    executable = compiled(function, ((3, 4), FLOAT64), ((4, 4), FLOAT64))
    copies = [name for name, kind in zip(steps(executable), kinds(executable), strict=True) if kind == "copy"]
    assert copies == ["copy: transpose"]


def test_columns_are_stored_spread() -> None:
    def function(x: Value, y: Value) -> list[Value]:
        return [_stack([OPS["sin"](x), x * y, OPS["convert"](y, dtype=FLOAT64, weak=False)], axis=1), x + y]

    assert kinds(compiled(function, V, V)) == ["map", "copy"]  # y is not computed


def test_what_is_wanted_twice_is_copied_once() -> None:
    def function(x: Value) -> list[Value]:
        y, z = OPS["sin"](x), OPS["cos"](x)
        return [OPS["concatenate"](y, z, axis=0), OPS["concatenate"](z, y, y, axis=0) * 2.0]

    assert kinds(compiled(function, V)).count("copy") == 3


def test_parts_and_wholes_in_one_arena() -> None:
    """A value that is read where it is a part, while a later whole takes the memory of an earlier one."""

    def function(x: Value) -> Value:
        y = x
        for _ in range(6):
            part = OPS["tanh"](y)
            whole = OPS["concatenate"](part, _dot(part, y), axis=0)
            y = OPS["slice"](whole, starts=(8, 0), steps=(1, 1), shape=(16, 16)) + part
        return y

    executable = compiled(function, ((16, 16), FLOAT64))
    assert "copy" not in kinds(executable)
    assert executable.plan.arena_size <= 5 * 16 * 16 * 8


def test_nothing_is_placed_in_donated_memory() -> None:
    def function(w: Value, x: Value) -> list[Value]:
        new = OPS["concatenate"](x * 2.0, OPS["sin"](x), axis=0)
        return [new, _sum(w * new)]

    w, x = np.arange(10.0), np.arange(5.0)
    new, total = compile_graph(graph(function, ((10,), FLOAT64), V), {0: 0}).run_flat([w, x])
    want = np.concatenate([x * 2, np.sin(x)])
    assert new is w
    np.testing.assert_allclose(new, want)
    np.testing.assert_allclose(total, np.arange(10.0) @ want)


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
