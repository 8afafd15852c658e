"""What a schedule is made of: steps, and the memory they read and write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from autodiff.ir import Dtype, Line, Shape, Value
from autodiff.passes.views import Window, dense, squeezed

INPUT, OUTPUT, CONSTANT, ARENA = "input", "output", "constant", "arena"
READ, WRITE = "read", "write"
PROGRAMS = ("map", "rows")

POSITION: Dtype = np.dtype([("position", np.int64)])
"""Of a register, in a step of rows: what an int64 in memory becomes there, a place in the row."""


class Storage:
    """A piece of memory, or a part of one, which begins at `offset` of the `whole` and lives as long.

    A value's elements lie in it one after the other, or else under `strides`, along the dimensions longer than 1.
    """

    __slots__ = ("data", "first", "index", "kind", "last", "offset", "size", "strides", "whole")

    def __init__(self, kind: str, size: int, index: int = 0, data: Any = None):
        self.kind = kind
        self.size = size  # bytes
        self.index = index  # of an input or output
        self.data = data  # of a constant: an array, or a list of numbers
        self.offset = 0  # bytes, into the arena; see memory.py
        self.first = self.last = -1  # the steps that begin and end its use
        self.whole: Storage | None = None
        self.strides: Shape | None = None

    def part(self, offset: int, size: int, strides: Shape | None = None) -> Storage:
        """A part of this storage, from that byte on."""
        part = Storage(self.kind, size)
        part.whole = self.whole or self
        part.offset = offset + (self.offset if self.whole else 0)
        part.strides = strides
        return part


class Operand(NamedTuple):
    """What a step reads or writes: strides in elements over the step's shape.

    `offset` is where index 0 is in memory, or would be if it is not in the window.
    """

    role: str
    storage: Storage
    dtype: Dtype
    offset: int
    strides: Shape
    reg_dtype: Dtype
    ref: int = 0  # of what is stored: which instr made it, or which operand (~ref) loaded it
    window: Window | None = None


Instr = tuple[str, Dtype, tuple[int, ...], Line | None]
"""One operation on registers: opcode, dtype, operands, source line.

An instr's own number names its result, ~i what operand i loaded.
"""


class Step:
    """One entry of a schedule; `kind` and the rest are as in csrc/autodiff.h."""

    __slots__ = ("detail", "instrs", "kind", "lane", "line", "name", "operands", "outer", "reduced", "refs", "shape")

    def __init__(self, kind: str, shape: Shape, name: str, line: Line | None, operands: list[Operand] | None = None):
        self.kind = kind
        self.shape = shape
        self.name = name
        self.line = line
        self.operands: list[Operand] = [] if operands is None else operands
        self.instrs: list[Instr] = []
        self.lane = 0
        self.outer = 0
        self.reduced = 0
        self.detail: Any = 0
        self.refs: dict[Value, int] = {}  # what its registers hold, of the graph's values

    def layout(self, shape: Shape, strides: Shape | None = None) -> Shape:
        """The strides over the step's space of a value of this shape: one after the other, or under `strides`.

        In a step of rows that may be one number a row.
        """
        if self.kind == "rows" and squeezed(shape) != self.shape:
            return (strides or dense(self.shape[: self.outer])) + (0,) * (len(self.shape) - self.outer)
        return strides or dense(self.shape)

    @property
    def stores(self) -> bool:
        """Whether it writes to memory at all."""
        return any(operand.role != READ for operand in reversed(self.operands))


class HostFunction(NamedTuple):
    """A Python function that a plan calls, and the shapes and dtypes it takes and gives."""

    function: Callable[..., Any]
    inputs: list[tuple[Shape, Dtype]]
    outputs: list[tuple[Shape, Dtype]]


class Schedule(NamedTuple):
    """Steps in the order they run in, and the host functions that they call."""

    steps: list[Step]
    inputs: list[Storage]
    outputs: list[Storage]
    donated: dict[int, int]
    hosts: list[HostFunction]


def last_reads(step: Step) -> dict[Storage, tuple[int, Dtype, Shape]]:
    """What of a step's memory could be written to while the step runs: after which instr, in which layout."""
    if step.kind not in PROGRAMS:
        return {}
    last: dict[int, int] = {}
    for i, instr in enumerate(step.instrs):
        for ref in instr[2]:
            last[ref] = i
    reads: dict[Storage, tuple[int, Dtype, Shape]] = {}
    spoilt = set()
    for i, operand in enumerate(step.operands):
        if operand.role == READ:
            storage, dtype, strides = operand.storage, operand.dtype, operand.strides
            known = reads.get(storage, (-1, dtype, strides))
            if storage.whole is not None:
                spoilt.add(storage.whole)
            if operand.offset or operand.window or known[1:] != (dtype, strides):
                spoilt.add(storage)
            reads[storage] = (max(last.get(~i, -1), known[0]), dtype, strides)
        elif operand.ref < 0:
            spoilt.add(step.operands[~operand.ref].storage)
    for storage in spoilt:
        reads.pop(storage, None)
    return reads


def may_overwrite(reads: dict[Storage, tuple[int, Dtype, Shape]], store: Operand, source: Storage) -> bool:
    """Whether a step, of which `reads` are the last reads, may store a result in the very memory of what it reads.

    It may if it reads that memory only in the places it then writes, and not after the instr that computes the result:
    a tile's operands are read where they lie, when an instr needs them, and its results written there.
    """
    read = reads.get(source)
    if read is None or store.role != WRITE or store.offset or read[1:] != (store.dtype, store.strides):
        return False
    return store.ref < 0 or read[0] <= store.ref
