"""Steps of rows: plans by hand on every instruction set, and which regions the compiler makes of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from native_plans import (
    MAX,
    MIN,
    READ,
    SUM,
    WRITE,
    Array,
    Callbacks,
    Operand,
    Plan,
    PlanError,
    base_of,
    element_strides,
    isa_selected,
    isas,
    lib,
    load,
    run,
)
from stated_order import numbers, reduction

FLOATS = ["float64", "float32"]
INT_OF = {"float64": "int64", "float32": "int32", "uint8": "uint8"}
ROLES = {"row_sum": SUM, "row_max": MAX, "row_min": MIN}
Instr = tuple[str, str, int, Sequence[int]]


@pytest.fixture(params=isas(), autouse=True)
def isa(request: pytest.FixtureRequest) -> Any:
    with isa_selected(request.param):
        yield request.param


def rows_plan(
    shape: Sequence[int],
    n_outer: int,
    reads: Sequence[tuple[Array, str]],
    instrs: Sequence[Instr],
    results: Sequence[tuple[int, Array, int, str]],
    lane: int,
) -> tuple[Plan, list[Array], list[Array]]:
    """A plan of one step; reads broadcast to the shape, results are (role, view, register, register dtype)."""
    plan, inputs, outputs, operands = Plan(), [], [], []
    n = len(shape)
    for reg, (array, reg_dtype) in enumerate(reads):
        base, offset = base_of(array)
        inputs.append(base)
        strides = element_strides(np.broadcast_to(array, tuple(shape)))
        operands.append(Operand(READ, plan.input(base.nbytes), array.dtype.name, strides, reg, reg_dtype, offset))
    for role, view, reg, reg_dtype in results:
        base, offset = base_of(view)
        outputs.append(base)
        strides, missing = element_strides(view), [0] * (n - view.ndim)
        strides = strides + missing if role == WRITE else missing + strides
        operands.append(Operand(role, plan.output(base.nbytes), view.dtype.name, strides, reg, reg_dtype, offset))
    n_registers = 1 + max([len(reads) - 1, *(i[2] for i in instrs), *(r[2] for r in results)])
    plan.step(lib.AD_ROWS, shape, operands, instrs, lane=lane, n_registers=n_registers, n_outer=n_outer)
    return plan, inputs, outputs


def run_rows(*args: Any, callbacks: Callbacks | None = None) -> None:
    run(*rows_plan(*args), callbacks=callbacks)


ORACLES: dict[str, Callable[..., Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
    "neg": np.negative, "sqrt": np.sqrt, "lt": np.less, "eq": np.equal, "logical_and": np.logical_and,
    "logical_not": np.logical_not, "select": np.where, "from_bool": lambda x: x, "to_float": lambda x: x,
}  # fmt: skip


class Interpreter:
    """What each register holds: a row's elements as an array of the whole space, or a number a row."""

    def __init__(self, shape: Sequence[int], n_outer: int):
        self.shape, self.n_outer = tuple(shape), n_outer
        self.held: dict[int, Array] = {}

    def is_number(self, reg: int) -> bool:
        return self.held[reg].ndim == self.n_outer

    def elements(self, reg: int) -> Array:
        x = self.held[reg]
        spread = x.reshape(x.shape + (1,) * (len(self.shape) - x.ndim))
        return np.broadcast_to(spread, self.shape).copy()

    def load(self, reg: int, array: Array, dtype: str) -> None:
        wide = np.broadcast_to(array, self.shape)
        if dtype == "position":
            self.held[reg] = wide[..., 0] % self.shape[-1]
            return
        moves = any(element_strides(wide)[self.n_outer :])
        first = wide if moves else wide[(slice(None),) * self.n_outer + (0,) * (len(self.shape) - self.n_outer)]
        self.held[reg] = first.astype(dtype)

    def step(self, instr: Instr) -> None:
        name, dtype, dst, sources = instr
        with np.errstate(all="ignore"):
            if name in ROLES:
                n = len(self.shape) - self.n_outer
                self.held[dst] = reduction(self.elements(sources[0]), self.n_outer, n, ROLES[name])
                return
            if name == "pick":
                at = self.held[sources[1]][..., None]
                self.held[dst] = np.take_along_axis(self.elements(sources[0]), at, axis=-1)[..., 0]
                return
            if name == "place":
                x, at = self.held[sources[0]], self.held[sources[1]][..., None]
                self.held[dst] = np.where(np.arange(self.shape[-1]) == at, x[..., None] + x.dtype.type(0), 0)
                return
            numbers_alone = all(self.is_number(r) for r in sources)
            values = [self.held[r] if numbers_alone else self.elements(r) for r in sources]
            kind = "bool" if name in ("lt", "eq", "logical_and", "logical_not") else dtype
            self.held[dst] = np.asarray(ORACLES[name](*values)).astype(kind)

    def result(self, role: int, shape: Sequence[int], reg: int) -> Array:
        n = len(self.shape)
        if role == WRITE:
            return self.held[reg] if len(shape) == self.n_outer else self.elements(reg)
        if shape:
            return reduction(self.elements(reg), 0, self.n_outer, role)
        x = self.held[reg]
        return reduction(x, 0, self.n_outer if self.is_number(reg) else n, role)


SPACES = [
    *[((n, m), 1) for n, m in ((5, 1), (7, 2), (64, 10), (33, 33), (70, 64), (9, 65), (3, 256), (40, 257))],
    *[((n, m), 1) for n, m in ((2, 511), (20, 512), (3, 513), (70, 700), (1, 1000), (1, 3), (2, 5000))],
    *[((2, 3, 40), 2), ((3, 4, 5), 1), ((2, 2, 3, 33), 3), ((5, 1, 7), 2), ((130, 3, 1), 1)],
]


def random_program(rng: random.Random, shape: Sequence[int], n_outer: int, dtype: str) -> None:
    """Grow a program, running it in Python as it grows; then run it as a plan."""
    interpreter = Interpreter(shape, n_outer)
    lane = np.dtype(dtype).itemsize
    rows, row = tuple(shape[:n_outer]), tuple(shape[n_outer:])
    ones = (1,) * len(row)
    reads: list[tuple[Array, str]] = []
    kinds: dict[int, str] = {}  # what the registers hold
    sizes = [tuple(shape), tuple(shape), (*rows, *ones), row, ()]
    for i in range(rng.randint(1, 5)):
        size = rng.choice(sizes) if i else tuple(shape)
        source = rng.choice([dtype, dtype, "bool", *(["int32", "float64"] if lane > 1 else [])])
        array = numbers(source, size, rng.randrange(1000))
        if source != dtype and source != "bool":
            array = np.clip(np.nan_to_num(array.astype("float64")), -1000, 1000).astype(source)
        if array.ndim > 1 and rng.random() < 0.3:
            array = np.ascontiguousarray(array.T).T
        kinds[i] = "bool" if source == "bool" else dtype
        array = np.asarray(array)
        reads.append((array, kinds[i]))
        interpreter.load(i, array, kinds[i])
    if len(row) == 1 and lane > 1:
        positions = np.random.default_rng(rng.randrange(1000)).integers(-row[0], row[0], (*rows, 1))
        reads.append((positions if rng.random() < 0.8 else positions[:1], "position"))
        interpreter.load(len(reads) - 1, reads[-1][0], "position")
        kinds[len(reads) - 1] = "position"
    instrs: list[Instr] = []
    for _ in range(rng.randint(0, 14)):
        instr = random_instr(rng, kinds, dtype, interpreter.is_number)
        if instr is not None:
            interpreter.step(instr)
            instrs.append(instr)
            kinds[instr[2]] = interpreter.held[instr[2]].dtype.name
    results: list[tuple[int, Array, int, str]] = []
    for _ in range(rng.randint(1, 6)):
        reg = rng.choice([r for r, kind in kinds.items() if kind != "position"])
        role = rng.choice([WRITE, WRITE, SUM, MAX, MIN])
        if role == SUM and kinds[reg] in ("bool", "uint8"):
            role = WRITE
        size = rng.choice([tuple(shape), rows]) if role == WRITE else rng.choice([row, ()])
        if role == WRITE and not interpreter.is_number(reg):
            size = tuple(shape)
        results.append((role, np.zeros(size, kinds[reg]), reg, kinds[reg]))
    wants = [interpreter.result(role, view.shape, reg) for role, view, reg, _ in results]
    run_rows(shape, n_outer, reads, instrs, results, lane)
    for (_, got, _, _), want in zip(results, wants, strict=True):
        np.testing.assert_array_equal(got, want.astype(got.dtype))  # which zero is the maximum is left open


def random_instr(
    rng: random.Random, kinds: dict[int, str], dtype: str, is_number: Callable[[int], bool]
) -> Instr | None:
    def pick(kind: str) -> int | None:
        fits = [r for r, held in kinds.items() if held == kind]
        return rng.choice(fits) if fits else None

    dst = rng.randrange(len(kinds) + 1)
    x, y, mask, other, position = pick(dtype), pick(dtype), pick("bool"), pick("bool"), pick("position")
    if position is not None and x is not None and rng.random() < 0.2:
        return "place" if is_number(x) else "pick", dtype, dst, [x, position]
    if mask is not None and other is not None and (x is None or rng.random() < 0.3):
        name = rng.choice(["logical_and", "logical_not", "from_bool", "row_max", "row_min", "select"])
        if name == "logical_and":
            return name, "bool", dst, [mask, other]
        if name == "select":
            return None if x is None or y is None else (name, dtype, dst, [mask, x, y])
        return name, dtype if name == "from_bool" else "bool", dst, [mask]
    if x is None or y is None:
        return None
    floating = np.dtype(dtype).kind == "f"
    names = ["add", "sub", "mul", "maximum", "neg", "lt", "eq", "row_max", "row_min", "row_min"]
    names += ["row_sum"] * 3 if dtype != "uint8" else []
    name = rng.choice(names + (["sqrt"] if floating else []))
    return name, dtype, dst, [x] if name in ("neg", "sqrt", *ROLES) else [x, y]


@pytest.mark.parametrize(("shape", "n_outer"), SPACES)
@pytest.mark.parametrize("dtype", [*FLOATS, "int32", "uint8"])
def test_random_programs(shape: tuple[int, ...], n_outer: int, dtype: str) -> None:
    rng = random.Random(f"{shape} {dtype}")
    for _ in range(12 if np.prod(shape) < 10000 else 3):
        random_program(rng, shape, n_outer, dtype)


@pytest.mark.parametrize(("dtype", "lane"), [("float32", 4), ("float64", 8)])
@pytest.mark.parametrize("wrong", [7, -8, 2**32 + 1, -(2**63)])
def test_position_out_of_range(dtype: str, lane: int, wrong: int) -> None:
    positions = np.zeros((90, 1), np.int64)
    positions[77] = wrong
    reads = [(np.zeros((90, 7), dtype), dtype), (positions, "position")]
    results = [(WRITE, np.zeros(90, dtype), 2, dtype)]
    with pytest.raises(PlanError) as error:
        run_rows([90, 7], 1, reads, [("pick", dtype, 2, [0, 1])], results, lane)
    assert error.value.status == lib.AD_ERROR_INDEX
    assert error.value.detail == (wrong, 7)


def test_negative_power_of_a_number_and_of_an_element() -> None:
    x, e = np.full((5, 3), 2), np.ones((5, 1), np.int64)
    for exponents in (e, np.broadcast_to(e, (5, 3)).copy()):
        out = np.zeros((5, 3), np.int64)
        args = [5, 3], 1, [(x, "int64"), (exponents, "int64")], [("int_pow", "int64", 2, [0, 1])]
        run_rows(*args, [(WRITE, out, 2, "int64")], 8)
        assert np.all(out == 2)
        exponents[4] = -1
        with pytest.raises(PlanError) as error:
            run_rows(*args, [(WRITE, out, 2, "int64")], 8)
        assert error.value.status == lib.AD_ERROR_NEGATIVE_POWER


def test_in_place() -> None:
    """A result may be the very memory of what it is computed from, if nothing reads that afterwards."""
    for shape in ((30, 64), (30, 61), (4, 700)):
        plan, memory = Plan(), np.random.default_rng(0).standard_normal(shape).astype("float32")
        want = memory - memory.max(1, keepdims=True)
        arena, x, y = plan.arena(memory.nbytes), plan.input(memory.nbytes), plan.output(memory.nbytes)
        strides = [shape[1], 1]
        plan.step(lib.AD_COPY, shape, [Operand(READ, x, "float32", strides), Operand(WRITE, arena, "float32", strides)])
        operands = [Operand(READ, arena, "float32", strides, 0), Operand(WRITE, arena, "float32", strides, 2)]
        instrs = [("row_max", "float32", 1, [0]), ("sub", "float32", 2, [0, 1])]
        plan.step(lib.AD_ROWS, shape, operands, instrs, lane=4, n_registers=3, n_outer=1)
        plan.step(lib.AD_COPY, shape, [Operand(READ, arena, "float32", strides), Operand(WRITE, y, "float32", strides)])
        got = np.zeros_like(memory)
        run(plan, [memory], [got])
        np.testing.assert_array_equal(got, want)


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("rows are none", {"n_outer": 0}),
    ("rows are none", {"n_outer": 2}),
    ("rows are none", {"n_reduced": 1}),
    ("rows are empty", {"shape": [0, 6]}),
    ("rows are empty", {"shape": [4, 0]}),
    ("too long", {"shape": [1, 70000]}),
    ("stores a row as a number", {"stored": [1, 0]}),
    ("no part in", {"role": SUM, "stored": [1, 0]}),
    ("no part in", {"role": SUM, "stored": [6, 1]}),
    ("sums bool", {"instr": ("lt", "float32", 1, [0, 0]), "role": SUM, "stored": [0, 0], "kind": "bool"}),
    ("does not work on", {"instr": ("row_sum", "bool", 1, [0])}),
    ("another dtype", {"instr": ("pick", "float32", 1, [0, 0])}),
    ("no position", {"read": ("int64", [6, 1], "position")}),
    ("no position", {"read": ("int32", [1, 0], "position")}),
    ("dtype is unknown", {"stored_as": "position"}),
]


@pytest.mark.parametrize(("message", "change"), REFUSED)
def test_refused(message: str, change: dict[str, Any]) -> None:
    shape, kind = change.get("shape", [4, 6]), change.get("kind", "float32")
    plan = Plan()
    x, y = plan.input(70000 * 8), plan.output(70000 * 8)
    dtype, strides, reg_dtype = change.get("read", ("float32", [6, 1], "float32"))
    instr = change.get("instr", ("neg", "float32", 1, [0]))
    operands = [
        Operand(READ, x, dtype, strides, 0, reg_dtype),
        Operand(change.get("role", WRITE), y, kind, change.get("stored", [6, 1]), 1, change.get("stored_as", kind)),
    ]
    options = {"n_outer": 1, "n_reduced": 0} | {k: v for k, v in change.items() if k.startswith("n_")}
    plan.step(lib.AD_ROWS, shape, operands, [instr], lane=4, n_registers=2, **options)
    with pytest.raises(PlanError, match=message):
        load(plan.to_bytes())


def test_a_map_does_not_reduce_rows() -> None:
    plan = Plan()
    x, y = plan.input(24 * 4), plan.output(24 * 4)
    operands = [Operand(READ, x, "float32", [6, 1], 0), Operand(WRITE, y, "float32", [6, 1], 1)]
    plan.step(lib.AD_MAP, [4, 6], operands, [("row_max", "float32", 1, [0])], lane=4, n_registers=2)
    with pytest.raises(PlanError, match="rows where there are none"):
        load(plan.to_bytes())
