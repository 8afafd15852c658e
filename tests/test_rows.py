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
    base_of,
    element_strides,
    isa_selected,
    isas,
    lib,
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
    instrs: list[Instr] = []
    for _ in range(rng.randint(0, 14)):
        instr = random_instr(rng, kinds, dtype)
        if instr is not None:
            interpreter.step(instr)
            instrs.append(instr)
            kinds[instr[2]] = interpreter.held[instr[2]].dtype.name
    results: list[tuple[int, Array, int, str]] = []
    for _ in range(rng.randint(1, 6)):
        reg = rng.choice(list(kinds))
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


def random_instr(rng: random.Random, kinds: dict[int, str], dtype: str) -> Instr | None:
    def pick(kind: str) -> int | None:
        fits = [r for r, held in kinds.items() if held == kind]
        return rng.choice(fits) if fits else None

    dst = rng.randrange(len(kinds) + 1)
    x, y, mask, other = pick(dtype), pick(dtype), pick("bool"), pick("bool")
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
