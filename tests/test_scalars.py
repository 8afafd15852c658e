"""Programs on single numbers: by hand through the native library, on every instruction set, and made of graphs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_plans import (
    DTYPES,
    OPCODES,
    READ,
    WRITE,
    Array,
    Operand,
    Plan,
    PlanError,
    isa_selected,
    isas,
    lane_of,
    lib,
    run_map,
)
from native_plans import run as run_plan
from random_graphs import ELEMENTWISE, random_case, rounding
from test_native import EVERY_OP, numbers, op_types, same
from test_passes import check_passes_change_no_bit, graph, property_test

import autodiff as ad
from autodiff.executable import compile_graph
from autodiff.interpret import interpret
from autodiff.ir import FLOAT32, FLOAT64, OPS, Value

Instr = tuple[str, str, int, Sequence[int]]


@pytest.fixture(params=isas())
def isa(request: pytest.FixtureRequest) -> Any:
    with isa_selected(request.param):
        yield request.param


def scalars_plan(
    reads: Sequence[tuple[Array, str]], instrs: Sequence[Instr], writes: Sequence[tuple[Array, list[int], str]]
) -> Plan:
    """A plan of one step: every element of each array read, in registers of a dtype; registers for elements to write.

    An array written gets a register an element; -1 leaves the element as it is.
    """
    plan, operands = Plan(), []
    for array, reg_dtype in reads:
        buffer = plan.input(array.nbytes)
        for i in range(array.size):
            operands.append(Operand(READ, buffer, array.dtype.name, [], len(operands), reg_dtype, i))
    n = len(operands) + len(instrs)
    dtypes = [reg_dtype for _, reg_dtype in reads] + [dtype for _, dtype, _, _ in instrs]
    for array, registers, reg_dtype in writes:
        buffer = plan.output(array.nbytes)
        for i, reg in enumerate(registers):
            if reg >= 0:
                operands.append(Operand(WRITE, buffer, array.dtype.name, [], reg, reg_dtype, i))
    plan.step(lib.AD_SCALARS, [], operands, instrs, lane=lane_of(*dtypes), n_registers=n)
    return plan


def run(
    reads: Sequence[tuple[Array, str]], instrs: Sequence[Instr], writes: Sequence[tuple[Array, list[int], str]]
) -> None:
    run_plan(scalars_plan(reads, instrs, writes), [x for x, _ in reads], [y for y, _, _ in writes])


# ---- by hand -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), EVERY_OP)
@pytest.mark.parametrize("n", [1, 3, 17, 300])
@pytest.mark.usefixtures("isa")
def test_every_opcode_as_in_a_map(name: str, dtype: str, n: int) -> None:
    types, result = op_types(name, dtype)
    args = [numbers(t, n, seed=i) for i, t in enumerate(types)]
    if name == "int_pow":
        args[1] = np.abs(args[1] % 40).astype(dtype)
    want, got = np.empty(n, result), np.empty(n, result)
    last = len(args)
    reads = list(zip(args, types, strict=True))
    run_map([n], reads, [(name, dtype, last, range(last))], [(WRITE, want, last, result)], lane=lane_of(dtype))
    first = n * last
    instrs = [(name, dtype, first + i, [k * n + i for k in range(last)]) for i in range(n)]
    run(reads, instrs, [(got, list(range(first, first + n)), result)])
    same(got, want)


CHEAP: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "abs": np.abs,
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32", "uint8"])
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.usefixtures("isa")
def test_any_order_gives_the_same(dtype: str, seed: int) -> None:
    """Random programs, many of products that sums and differences want, some of which others want too."""
    rng = random.Random(seed)
    x = numbers(dtype, 9, seed)
    values, instrs = list(x), []
    with np.errstate(all="ignore"):
        for reg in range(len(x), len(x) + rng.choice([1, 10, 500])):
            name = rng.choice([*CHEAP, "mul", "mul", "add", "sub"])
            sources = [max(0, reg - 1 - int(rng.expovariate(0.2))) for _ in range(OPCODES[name][1])]
            values.append(CHEAP[name](*[values[s] for s in sources]))
            instrs.append((name, dtype, reg, sources))
    stored = [rng.randrange(len(values)) if rng.random() < 0.7 else -1 for _ in range(30)]
    got = np.zeros(30, dtype)
    run([(x, dtype)], instrs, [(got, stored, dtype)])
    same(got, np.array([0 if reg < 0 else values[reg] for reg in stored], dtype))


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
@pytest.mark.usefixtures("isa")
def test_conversions(source: str, target: str) -> None:
    """On load and on store, many numbers in a row and numbers one by one."""
    x = np.array([0, 1, 2, 100, 7, 0, 1], source)
    got, back = np.zeros(7, target), np.zeros(7, target)
    order = [3, 4, 5, 0, 2, 1, 6]
    run([(x, target)], [], [(got, order, target)])
    same(got, x[order].astype(target))
    run([(x, source)], [], [(back, order, source)])
    same(back, x[order].astype(target))


@pytest.mark.usefixtures("isa")
def test_all_is_read_before_anything_is_written() -> None:
    plan, x = Plan(), np.array([1.0, 2.0, 3.0])
    buffer, copy = plan.output(24), plan.output(24)
    operands = [Operand(READ, buffer, "float64", [], i, offset=i) for i in range(3)]
    operands += [Operand(WRITE, buffer, "float64", [], 2 - i, offset=i) for i in range(3)]
    operands += [Operand(WRITE, copy, "float64", [], i, offset=i) for i in range(3)]
    plan.step(lib.AD_SCALARS, [], operands, lane=8, n_registers=3)
    got = np.zeros(3)
    run_plan(plan, [], [x, got])
    assert x.tolist() == [3.0, 2.0, 1.0]
    assert got.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.usefixtures("isa")
def test_negative_power(dtype: str) -> None:
    x, y, out = np.full(5, 3, dtype), np.arange(5).astype(dtype), np.zeros(5, dtype)
    instrs = [("int_pow", dtype, 10 + i, [i, 5 + i]) for i in range(5)]
    plan = scalars_plan([(x, dtype), (y, dtype)], instrs, [(out, list(range(10, 15)), dtype)])
    run_plan(plan, [x, y], [out])
    same(out, x**y)
    y[3] = -1
    with pytest.raises(PlanError) as caught:
        run_plan(plan, [x, y], [out])
    assert caught.value.status == lib.AD_ERROR_NEGATIVE_POWER


def test_refusals() -> None:
    x, y = np.zeros(2), np.zeros(1)

    def refuses(message: str, instrs: list[Instr], change: Callable[[Plan], None] = lambda plan: None) -> None:
        plan = scalars_plan([(x, "float64")], instrs, [(y, [2], "float64")])
        change(plan)
        with pytest.raises(PlanError, match=message):
            run_plan(plan, [x], [y])

    def operand(i: int, **fields: int) -> Callable[[Plan], None]:
        names = ["role", "buffer", "dtype", "reg_dtype", "reg", "reserved", "offset", "strides"]

        def change(plan: Plan) -> None:
            row = list(plan.parts["operands"][i])
            for name, value in fields.items():
                row[names.index(name)] = value
            plan.parts["operands"][i] = tuple(row)

        return change

    def step(plan: Plan, at: int, value: int) -> None:
        row = list(plan.parts["steps"][0])
        row[at] = value
        plan.parts["steps"][0] = tuple(row)

    good: list[Instr] = [("add", "float64", 2, [0, 1])]
    refuses("do not fill its registers in order", [("add", "float64", 1, [0, 1])])
    refuses("do not fill its registers in order", [("add", "float64", 3, [0, 1])])
    refuses("holds nothing", [("add", "float64", 2, [0, 2])])
    refuses("register does not exist", [("add", "float64", 2, [0, 3])])
    refuses("another dtype", [("add", "int64", 2, [0, 1])])
    refuses("do not fill its registers in order", good, operand(1, reg=0))
    refuses("first read, then written", good, operand(2, role=lib.AD_SUM))
    refuses("one register for each", good, operand(0, role=WRITE, buffer=1))
    refuses("reaches past", good, operand(1, offset=2))
    refuses("writes to a constant or an input", good, operand(2, buffer=0))
    refuses("another dtype", good, operand(2, reg_dtype=DTYPES["int64"]))
    refuses("has dimensions", good, lambda plan: (plan.dims([1]), step(plan, 1, 1))[1])
    refuses("one register for each", good, lambda plan: step(plan, 7, 4))
    refuses("lanes are not", good, lambda plan: step(plan, 8, 2))


# ---- graphs --------------------------------------------------------------------------------------------------------


def kinds(executable: Any) -> list[int]:
    return [int(step["kind"]) for step in executable.plan.steps]


@property_test
@given(st.integers(0, 2**32), st.integers(1, 300))
def test_random_graphs(seed: int, size: int) -> None:
    rng = random.Random(seed)
    case = random_case(rng, size, [(), (), (1,)], ELEMENTWISE)
    executable = compile_graph(case.graph)
    assert set(kinds(executable)) <= {lib.AD_SCALARS, lib.AD_COPY}
    results, wants = executable.run_flat(case.arrays), interpret(case.graph, *case.arrays)
    moves = rounding(case.graph, case.arrays)
    for got, want, exact, move in zip(results, wants, case.exact, moves, strict=True):
        if exact:
            np.testing.assert_array_equal(got, want)  # which of two equal zeros is a maximum is left open
        elif want.dtype.kind == "f" and np.isfinite(move).all() and np.isfinite(want).all():
            unit = float(np.finfo(want.dtype).eps) * np.abs(want).max(initial=1)
            np.testing.assert_allclose(got, want, rtol=0, atol=30 * (move.max() + unit))
    check_passes_change_no_bit(case, rng)


def orbit(state: Any, steps: int) -> Any:
    """A satellite's energy after some steps of a leapfrog, as one writes it element by element."""
    x, y, u, v = state[0], state[1], state[2], state[3]
    for _ in range(steps):
        k = 0.01 / (np.sqrt(x * x + y * y) * (x * x + y * y))
        u, v = u - k * x, v - k * y
        x, y = x + 0.01 * u, y + 0.01 * v
    return 0.5 * (u * u + v * v) - 1.0 / np.sqrt(x * x + y * y)


def test_thousands_of_numbers_are_one_step() -> None:
    state = np.array([1.0, 0.1, -0.2, 0.9])
    executable = ad.compile(ad.value_and_grad(lambda s: orbit(s, 100))).lower(state)
    assert kinds(executable).count(lib.AD_SCALARS) == 1
    (instrs,) = {int(step["n_instrs"]) for step in executable.plan.steps if step["kind"] == lib.AD_SCALARS}
    assert instrs > 3000
    value, gradient = executable(state)
    assert value == orbit(state, 100)
    for i in range(4):
        h = 1e-6 * np.eye(4)[i]
        slope = (orbit(state + h, 100) - orbit(state - h, 100)) / 2e-6
        np.testing.assert_allclose(gradient[i], slope, rtol=1e-6)


def test_numbers_of_one_width_run_together() -> None:
    def function(x: Value, y: Value) -> list[Value]:
        return [OPS["sin"](x) + 1.0, OPS["convert"](x, dtype=FLOAT32, weak=False), OPS["exp"](y)]

    executable = compile_graph(graph(function, ((), FLOAT64), ((1,), FLOAT32)))
    assert kinds(executable) == [lib.AD_SCALARS, lib.AD_SCALARS]


def test_donated_numbers_are_overwritten() -> None:
    executable = compile_graph(graph(lambda x, y: [x * y, y + x], ((1,), FLOAT64), ((1,), FLOAT64)), {0: 1, 1: 0})
    assert kinds(executable) == [lib.AD_SCALARS]
    x, y = np.array([3.0]), np.array([5.0])
    product, total = executable.run_flat([x, y])
    assert product is y
    assert total is x
    assert (product, total) == (15.0, 8.0)


def test_a_failing_line_is_named() -> None:
    def f(n: Any) -> Any:
        first = 3 ** abs(n)
        return first + 2**n

    with pytest.raises(ValueError, match=rf"negative.*\n?.*test_scalars.py:{f.__code__.co_firstlineno + 2}"):
        ad.compile(f)(np.int64(-4))
