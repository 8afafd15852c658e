"""Damaged plans: refused, or they run within their buffers and within max_work; never a crash.

What a buffer overrun does shows under the sanitizers only; test_native.py's docstring says how to run both there.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from native_plans import (
    HEADER,
    MAX,
    PARTS,
    READ,
    SUM,
    WRITE,
    Callbacks,
    Operand,
    Plan,
    PlanError,
    ffi,
    isa_selected,
    isas,
    lib,
    load,
    run,
)

MAX_WORK = 10_000_000
MAX_BYTES = 1 << 24  # of any buffer that a damaged plan asks its caller for


@pytest.fixture(params=isas(), autouse=True)
def isa(request: pytest.FixtureRequest) -> Any:
    with isa_selected(request.param):
        yield request.param


def map_plan() -> Plan:
    """Loads that convert, walk and repeat; a select; a store and two reductions."""
    plan = Plan()
    x, row, bias = plan.input(24 * 8), plan.input(4 * 4), plan.constant(np.arange(6.0))
    y, total, most = plan.output(24 * 8), plan.output(6 * 8), plan.arena(6)
    operands = [
        Operand(READ, x, "float64", [6, 1], 0),
        Operand(READ, row, "int32", [1, 0], 1, "float64"),
        Operand(READ, bias, "float64", [0, -1], 2, offset=5),
        Operand(WRITE, y, "float64", [6, 1], 4),
        Operand(SUM, total, "float64", [0, 1], 4),
        Operand(MAX, most, "bool", [0, 1], 3),
    ]
    instrs = [
        ("mul", "float64", 0, [0, 1]),
        ("lt", "float64", 3, [0, 2]),
        ("select", "float64", 4, [3, 0, 2]),
        ("sqrt", "float64", 4, [4]),
    ]
    plan.step(lib.AD_MAP, [4, 6], operands, instrs, lane=8, n_registers=5, n_reduced=1)
    return plan


def window_plan() -> Plan:
    """Windows along one dimension and two, on numbers, a row and a mask."""
    plan = Plan()
    x, mask, y = plan.input(20 * 4), plan.constant(np.ones(1, bool)), plan.output(42 * 4)
    operands = [
        Operand(READ, x, "float32", [5, 1], 0, window=[(2, 6), (1, 6)]),
        Operand(READ, x, "float32", [7, 1], 1, window=[(1, 3), (0, 7)]),
        Operand(READ, x, "float32", [0, -2], 2, offset=9, window=[(0, 6), (2, 5)]),
        Operand(READ, mask, "bool", [0, 0], 3, window=[(1, 5), (0, 7)]),
        Operand(WRITE, y, "float32", [7, 1], 0),
    ]
    instrs = [("add", "float32", 0, [0, 1]), ("select", "float32", 0, [3, 0, 2])]
    plan.step(lib.AD_MAP, [6, 7], operands, instrs, lane=4, n_registers=4)
    return plan


def integer_plan() -> Plan:
    plan = Plan()
    x, y = plan.input(40 * 4), plan.output(40 * 4)
    operands = [Operand(READ, x, "int32", [1], 0), Operand(WRITE, y, "int32", [1], 1)]
    instrs = [("to_float", "float32", 1, [0]), ("to_int", "float32", 1, [1]), ("int_pow", "int32", 1, [1, 0])]
    plan.step(lib.AD_MAP, [40], operands, instrs, lane=4, n_registers=2)
    return plan


def scalars_plan() -> Plan:
    """Runs of several numbers and of one, numbers by products, gathered operands, conversions."""
    plan = Plan()
    x, k, y, mask = plan.input(5 * 4), plan.constant(np.array([2, -1])), plan.output(6 * 4), plan.arena(3)
    reads = [Operand(READ, x, "float32", [], i, offset=i) for i in range(5)]
    reads += [Operand(READ, k, "int64", [], 5, "float32"), Operand(READ, k, "int64", [], 6, "float32", 1)]
    instrs = [("mul", "float32", 7 + i, [i, i + 1]) for i in range(4)]
    instrs += [("add", "float32", 11 + i, [7 + i, 4 - i]) for i in range(3)]
    instrs += [("lt", "float32", 14, [11, 10]), ("select", "float32", 15, [14, 12, 5]), ("tanh", "float32", 16, [15])]
    instrs += [("to_int", "float32", 17, [6]), ("to_int", "float32", 18, [5]), ("int_pow", "int32", 19, [17, 18])]
    writes = [Operand(WRITE, y, "float32", [], reg, offset=i) for i, reg in enumerate((13, 16, 15, 5, 10))]
    writes += [Operand(WRITE, y, "int32", [], 19, offset=5), Operand(WRITE, mask, "bool", [], 14, offset=2)]
    plan.step(lib.AD_SCALARS, [], [*reads, *writes], instrs, lane=4, n_registers=20)
    return plan


def gemm_and_copy_plan() -> Plan:
    plan = Plan()
    a, b, c = plan.input(2 * 3 * 4 * 8), plan.input(4 * 5 * 8), plan.arena(2 * 3 * 5 * 8)
    out = plan.output(2 * 3 * 5 * 8)
    operands = [Operand(READ, a, "float64", [12, 4, 0, 1]), Operand(READ, b, "float64", [0, 0, 1, 5])]
    operands.append(Operand(WRITE, c, "float64", [15, 1, 3, 0]))
    plan.step(lib.AD_GEMM, [2, 3, 5, 4], operands)
    operands = [Operand(READ, c, "float64", [15, 1, 3]), Operand(WRITE, out, "float64", [15, 5, 1])]
    plan.step(lib.AD_COPY, [2, 3, 5], operands)
    return plan


def index_plan() -> Plan:
    """Gather, both scatters, arg_reduce, iota and a host step."""
    plan = Plan(n_hosts=2)
    table, index = plan.input(2 * 3 * 2 * 4), plan.constant(np.array([0, 1, -1, 1]))
    picked, summed, replaced = plan.arena(4 * 2 * 4), plan.output(12 * 4), plan.output(12 * 4)
    where, counted = plan.output(2 * 8), plan.output(3 * 1)
    by_index, by_row, by_table = [1, 0, 0, 0], [2, 1, 0, 0], [0, 1, 6, 2]
    indices = [Operand(READ, index, "int64", by_index), Operand(READ, index, "int64", by_index)]
    whole = Operand(READ, table, "float32", by_table)
    shape = [4, 2, 2, 3]
    plan.step(lib.AD_GATHER, shape, [whole, *indices, Operand(WRITE, picked, "float32", by_row)])
    updates = [Operand(READ, picked, "float32", by_row), *indices]
    plan.step(lib.AD_SCATTER_ADD, shape, [*updates, Operand(WRITE, summed, "float32", by_table)])
    plan.step(lib.AD_SCATTER_SET, shape, [whole, *updates, Operand(WRITE, replaced, "float32", by_table)])
    operands = [Operand(READ, summed, "float32", [6, 1]), Operand(WRITE, where, "int64", [1, 0])]
    plan.step(lib.AD_ARG_REDUCE, [2, 6], operands, n_outer=1, n_reduced=1, detail=MAX)
    plan.step(lib.AD_IOTA, [3], [Operand(WRITE, counted, "uint8", [1])])
    operands = [Operand(READ, where, "int64", []), Operand(WRITE, counted, "uint8", [])]
    plan.step(lib.AD_HOST, [2, 3], operands, detail=1)
    return plan


def rows_plan() -> Plan:
    """A softmax of masked rows in small, with all kinds of results."""
    plan = Plan()
    x, mask, bias = plan.input(24 * 4), plan.input(24), plan.constant(np.arange(6.0))
    labels = plan.constant(np.array([0, 5, -1, -6]))
    y, sums, columns, most = plan.output(24 * 4), plan.output(4 * 4), plan.output(6 * 8), plan.arena(4)
    operands = [
        Operand(READ, x, "float32", [6, 1], 0),
        Operand(READ, mask, "bool", [-6, 1], 1, offset=18),
        Operand(READ, bias, "float64", [0, -1], 2, "float32", offset=5),
        Operand(READ, labels, "int64", [1, 0], 5, "position"),
        Operand(WRITE, y, "float32", [6, 1], 4),
        Operand(WRITE, sums, "float32", [1, 0], 3),
        Operand(SUM, columns, "float64", [0, 1], 4, "float32"),
        Operand(MAX, most, "float32", [0, 0], 3),
    ]
    instrs = [
        ("row_max", "float32", 3, [0]),
        ("sub", "float32", 4, [0, 3]),
        ("select", "float32", 4, [1, 4, 2]),
        ("row_sum", "float32", 3, [4]),
        ("sqrt", "float32", 3, [3]),
        ("div", "float32", 4, [4, 3]),
        ("pick", "float32", 3, [4, 5]),
        ("place", "float32", 0, [3, 5]),
        ("sub", "float32", 4, [4, 0]),
    ]
    plan.step(lib.AD_ROWS, [4, 6], operands, instrs, lane=4, n_registers=6, n_outer=1)
    return plan


PLAN_MAKERS = (map_plan, window_plan, integer_plan, scalars_plan, gemm_and_copy_plan, index_plan, rows_plan)
PLANS = {plan.__name__: plan().to_bytes() for plan in PLAN_MAKERS}


def buffer_sizes(data: bytes, kind: int, count: int) -> list[int]:
    """What the plan's caller has to provide: the plan says, and the caller must believe or refuse it."""
    header = np.frombuffer(data, HEADER, 1)[0]
    offset, n = (int(v) for v in header["buffers"])
    sizes = [0] * count
    for buffer in np.frombuffer(data, PARTS["buffers"], n, offset):
        if buffer["kind"] == kind:
            index = int(buffer["index"])
            sizes[index] = max(sizes[index], int(buffer["size"]))
    return sizes


def attempt(data: bytes) -> bool:
    """Load and run; whether it ran to the end."""
    try:
        prepared = load(data)
    except PlanError as error:
        assert error.status == lib.AD_ERROR_PLAN  # noqa: PT017
        assert error.message != "not a valid plan"  # noqa: PT017  (the message says what is wrong)
        return False
    header = np.frombuffer(data, HEADER, 1)[0]
    counts = int(header["n_inputs"]), int(header["n_outputs"])
    if max(counts) > 1000 or lib.ad_plan_workspace(prepared) > MAX_BYTES:
        return False
    ins, outs = (buffer_sizes(data, kind, n) for kind, n in zip((lib.AD_INPUT, lib.AD_OUTPUT), counts, strict=True))
    if sum(ins) > MAX_BYTES or sum(outs) > MAX_BYTES:
        return False
    rng = np.random.default_rng(0)
    inputs = [rng.integers(0, 4, n, np.uint8) for n in ins]
    outputs = [np.zeros(n, np.uint8) for n in outs]
    try:
        run(prepared, inputs, outputs, max_work=MAX_WORK, callbacks=Callbacks(host=lambda *_: 0))
    except PlanError as error:
        assert error.status in (lib.AD_ERROR_INDEX, lib.AD_ERROR_NEGATIVE_POWER, lib.AD_ERROR_WORK)  # noqa: PT017
        return False
    return True


@pytest.mark.parametrize("name", PLANS)
def test_the_plans_run(name: str) -> None:
    assert attempt(PLANS[name])


@pytest.mark.parametrize("name", PLANS)
def test_every_byte_flipped(name: str) -> None:
    data = PLANS[name]
    ran = 0
    for i in range(len(data)):
        for flip in (0x01, 0x02, 0x08, 0x40, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[i] ^= flip
            ran += attempt(bytes(damaged))
    assert ran < len(data) * 6


@pytest.mark.parametrize("name", PLANS)
def test_truncated_at_every_length(name: str) -> None:
    data = PLANS[name]
    for length in range(len(data)):
        assert not attempt(data[:length])
        header = np.frombuffer(data, HEADER, 1).copy()
        header["total_size"] = length  # ... and a header that agrees
        assert not attempt((header.tobytes() + data[HEADER.itemsize :])[:length])


@pytest.mark.parametrize("name", PLANS)
def test_random_damage(name: str) -> None:
    """Several places at once, with the numbers that trip arithmetic."""
    rng, data = random.Random(name), PLANS[name]
    numbers = [0, 1, 2, 3, 8, 63, 64, 65, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 64]
    for _ in range(3000):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            width = rng.choice((1, 2, 4, 8))
            at = rng.randrange(HEADER.itemsize // 2, len(data) - width) // width * width
            value = rng.choice((rng.choice(numbers), rng.getrandbits(8), -rng.getrandbits(8)))
            damaged[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")
        attempt(bytes(damaged))


@pytest.mark.parametrize("kind", [lib.AD_GATHER, lib.AD_SCATTER_SET])
def test_rows_that_overlap(kind: int) -> None:
    """Where a plan's buffers lie is its own affair: what comes out is arbitrary, but it has to run."""
    n, row, plan = 20, 9, Plan()
    first, second = plan.arena(n * row * 8), plan.arena(n * row * 8)
    plan.parts["buffers"][second] = (lib.AD_ARENA, 0, 64, n * row * 8)
    by_row, by_table = [row, 1, 0], [0, 1, row]
    index = Operand(READ, plan.input(n * 8), "int64", [1, 0, 0])
    if kind == lib.AD_GATHER:
        operands = [Operand(READ, first, "float64", by_table), index, Operand(WRITE, second, "float64", by_row)]
    else:
        operands = [Operand(READ, first, "float64", by_table), Operand(READ, second, "float64", by_row), index]
        operands.append(Operand(WRITE, first, "float64", by_table))
    plan.step(kind, [n, row, n], operands)
    run(plan, [np.arange(n)], [])


@pytest.mark.parametrize("size", [1, 3])
def test_strides_of_single_elements(size: int) -> None:
    """A dimension of one element may have any stride."""
    plan, far = Plan(), 2**60 + 2**59
    x, ones, out = plan.input(size * 8), plan.constant(np.ones(1)), plan.output((size + 2) * 8)
    a, b = Operand(READ, x, "float64", [1, 0, far]), Operand(READ, ones, "float64", [0, far, -far])
    plan.step(lib.AD_GEMM, [size, 1, 1], [a, b, Operand(WRITE, out, "float64", [1, far, 0])])
    plan.step(lib.AD_IOTA, [1], [Operand(WRITE, out, "float64", [far], offset=size)])
    operands = [Operand(READ, ones, "float64", [far]), Operand(WRITE, out, "float64", [-far], offset=size + 1)]
    plan.step(lib.AD_COPY, [1], operands)
    b = Operand(READ, x, "float64", [0, 1, far])
    square = plan.output(size * size * 8)
    plan.step(lib.AD_GEMM, [size, size, 1], [a, b, Operand(WRITE, square, "float64", [size, 1, far])])
    numbers, got, products = np.arange(1.0, size + 1), np.empty(size + 2), np.empty((size, size))
    run(plan, [numbers], [got, products])
    assert got.tolist() == [*numbers, 0.0, 1.0]
    assert np.array_equal(products, np.outer(numbers, numbers))


@pytest.mark.parametrize("depth", [2**61 - 2**59 + 512, 2**61, 2**63 - 1])
def test_sums_whose_scratch_has_no_size(depth: int) -> None:
    """Beside an arena of nearly all there is, the bytes of the workspace would be few again."""
    plan = Plan()
    a, b, c = plan.input(8), plan.input(8), plan.output(8)
    operands = [Operand(READ, a, "float64", [0] * 4), Operand(READ, b, "float64", [0] * 4)]
    plan.step(lib.AD_GEMM, [0, 1, 1, depth], [*operands, Operand(WRITE, c, "float64", [0] * 4)])
    plan.arena_size = 2**62 - 64
    with pytest.raises(PlanError, match="too long"):
        load(plan.to_bytes())


def test_garbage() -> None:
    rng = random.Random(0)
    header = PLANS["map_plan"][: HEADER.itemsize]
    for _ in range(500):
        assert not attempt(rng.randbytes(rng.randrange(2000)))
        body = rng.randbytes(rng.randrange(2000))
        damaged = bytearray(header + body)
        at = HEADER.fields["total_size"][1]  # type: ignore[index]
        damaged[at : at + 8] = len(damaged).to_bytes(8, "little")
        attempt(bytes(damaged))


def test_nothing_at_all() -> None:
    prepared = ffi.new("ad_prepared **")
    assert lib.ad_plan_load(ffi.NULL, 0, prepared, ffi.NULL) == lib.AD_ERROR_PLAN
    lib.ad_plan_free(ffi.NULL)
