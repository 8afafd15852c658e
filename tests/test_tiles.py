"""How the tile VM runs a program changes no bit: superinstructions or none, tiles of any length, on every set."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_plans import (
    MAX,
    OPCODES,
    SUM,
    WRITE,
    Array,
    aligned,
    isa_selected,
    isas,
    lib,
    load,
    map_plan,
    program_of,
    run,
    superop_trees,
    tiles_selected,
)
from random_graphs import random_array, random_case, same_bits

from autodiff.executable import compile_graph
from autodiff.ir import FLOAT64

VARIANTS = [(superops, nbytes) for superops in (True, False) for nbytes in (0, 256, 768, 1024, 4096)]
TREES = superop_trees()


@pytest.fixture(params=isas(), autouse=True)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with isa_selected(request.param):
        yield request.param


@pytest.mark.parametrize("tree", TREES, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_each_superinstruction(tree: Any, dtype: str) -> None:
    """It is found where its tree stands, whichever of its operands are one number, and gives what its opcodes give."""
    leaves, instrs = program_of(tree)
    result = instrs[-1][1]
    rng = random.Random(1)
    for n in (1, 9, 64, 1027):
        for still in range(1 << len(leaves)):
            arrays = [random_array(rng, () if still >> k & 1 else (n,), np.dtype(dtype)) for k in range(len(leaves))]
            outs = [np.empty(n, dtype) for _ in range(2)]
            for superops, out in enumerate(outs):
                plan, inputs, outputs = map_plan(
                    [n],
                    [(array, dtype) for array in arrays],
                    [(opcode, dtype, dst, sources) for opcode, dst, sources in instrs],
                    [(WRITE, out, result, dtype)],
                    lane=out.itemsize,
                )
                with tiles_selected(bool(superops)):
                    prepared = load(plan.to_bytes())
                assert lib.ad_plan_ops(prepared) == (1 if superops else len(instrs))
                run(prepared, inputs, outputs)
            assert same_bits(*outs)


def test_what_does_not_exist_is_refused() -> None:
    for superops, nbytes in [(2, 0), (1, 64), (1, 8192)]:
        assert lib.ad_tiles_select(superops, nbytes) == lib.AD_ERROR_ARGUMENT


ARITHMETIC = [name for name, (_, _, domain) in OPCODES.items() if domain == "number"]
COMMON = ["add", "sub", "mul", "div", "sqrt", "neg"]
COMPARISONS = [name for name, (_, _, domain) in OPCODES.items() if domain == "compare"]


class Program:
    """A random program: few registers, so that they are written again soon, and results here and there."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.dtype = rng.choice(["float64", "float64", "float32"])
        self.shape = rng.choice([(1,), (10,), (77,), (1300,), (3, 5), (40, 9), (6, 300), (3, 2000)])
        self.reads = [self.read() for _ in range(rng.randint(1, 6))]
        n_registers = len(self.reads) + rng.randint(1, 4)
        self.values = list(range(len(self.reads)))  # registers that hold numbers
        self.masks: list[int] = []
        self.last = [-1] * len(self.reads)  # use of each operand
        self.held = list(range(len(self.reads))) + [-1] * (n_registers - len(self.reads))
        self.instrs: list[Any] = []
        self.writer = [-1] * n_registers
        for i in range(rng.randint(1, 40)):
            self.instr(i, rng.randrange(n_registers))
        self.results = [(WRITE, self.values[-1])] + [
            (rng.choice([WRITE, WRITE, SUM, MAX]), rng.choice(self.values)) for _ in range(rng.randint(0, 3))
        ]

    def read(self) -> Array:
        rng, shape = self.rng, self.shape
        kind = rng.choice(["full", "full", "full", "one", "row", "column"])
        own = {"full": shape, "one": (), "row": shape[-1:], "column": (*shape[:-1], 1)}[kind]
        return random_array(rng, own, np.dtype(self.dtype))

    def instr(self, i: int, dst: int) -> None:
        rng = self.rng
        kind = rng.random()
        if kind < 0.15:
            name, kept, gone = rng.choice(COMPARISONS), self.masks, self.values
        elif kind < 0.3 and self.masks:
            name, kept, gone = "select", self.values, self.masks
        else:
            name, kept, gone = rng.choice(ARITHMETIC + 4 * COMMON), self.values, self.masks
        # mostly what is new, so that there is something to fuse
        sources = [self.values[-1 - min(int(rng.expovariate(0.7)), len(self.values) - 1)] for _ in range(3)]
        if name == "select":
            sources[0] = self.masks[-1]
        if kept is self.masks and self.values == [dst]:
            return  # some number has to be left
        sources = sources[: OPCODES[name][1]]
        for register in sources:
            if self.held[register] >= 0:
                self.last[self.held[register]] = len(self.instrs)
        self.held[dst] = -1
        self.writer[dst] = len(self.instrs)
        for registers in (kept, gone):
            if dst in registers:
                registers.remove(dst)
        kept.append(dst)
        self.instrs.append((name, self.dtype, dst, sources))

    def outputs(self) -> list[Array]:
        n_outer = len(self.shape) - 1
        return [np.zeros(self.shape if role == WRITE else self.shape[:n_outer], self.dtype) for role, _ in self.results]

    def run(self, overwrite: bool) -> list[Array]:
        """The results; in the memory of operands that have been read by then, if so wished."""
        outs, reads = self.outputs(), [aligned(x.nbytes).view(x.dtype).reshape(x.shape) for x in self.reads]
        for mine, x in zip(reads, self.reads, strict=True):
            mine[...] = x
        plan, inputs, outputs = map_plan(
            self.shape,
            [(x, self.dtype) for x in self.reads],
            self.instrs,
            [(role, out, r, self.dtype) for (role, r), out in zip(self.results, outs, strict=True)],
            lane=outs[0].itemsize,
            n_outer=len(self.shape) - 1,
            n_reduced=1,
        )
        free = [i for i, x in enumerate(reads) if x.shape == self.shape and i not in self.held]
        inputs = list(reads)
        written: set[int] = set()
        for j, (role, register) in enumerate(self.results):
            if not overwrite or role != WRITE or self.writer[register] < 0 or register in written:
                continue
            written.add(register)
            source = next((i for i in free if self.last[i] <= self.writer[register]), None)
            if source is not None:
                free.remove(source)
                outputs[j] = outs[j] = reads[source]
        run(plan, inputs, outputs)
        return outs


@pytest.mark.parametrize("n", [5, 64, 1000])
def test_an_operand_is_read_before_it_is_overwritten(n: int) -> None:
    """An op is not moved to its user past the result that takes its operand's memory."""
    x, y, rest = random_array(random.Random(1), (n,), FLOAT64), np.full(n, 3.0), np.empty(n)
    both = aligned(x.nbytes).view("f8")
    both[...] = x
    instrs = [("mul", "float64", 2, [0, 1]), ("add", "float64", 3, [1, 1]), ("add", "float64", 4, [2, 1])]
    results = [(WRITE, np.empty(n), 3, "float64"), (WRITE, rest, 4, "float64")]
    plan, _, _ = map_plan([n], [(x, "float64"), (y, "float64")], instrs, results, lane=8)
    run(plan, [both, y], [both, rest])
    assert same_bits(both, y + y)
    assert same_bits(rest, x * y + y)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32))
def test_programs(seed: int) -> None:
    program = Program(random.Random(seed))
    with tiles_selected(False):
        wants = program.run(overwrite=False)
    for superops, nbytes in VARIANTS:
        for overwrite in (False, True):
            with tiles_selected(superops, nbytes):
                results = program.run(overwrite)
            for i, (got, want) in enumerate(zip(results, wants, strict=True)):
                assert same_bits(got, want), f"result {i}: superops {superops}, {nbytes} bytes, overwrite {overwrite}"


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_graphs(seed: int, size: int) -> None:
    case = random_case(random.Random(seed), size)
    wants = compile_graph(case.graph).run_flat(case.arrays)
    for superops, nbytes in VARIANTS:
        with tiles_selected(superops, nbytes):
            results = compile_graph(case.graph).run_flat(case.arrays)
        for got, want in zip(results, wants, strict=True):
            assert same_bits(got, want)
