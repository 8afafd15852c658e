"""From a schedule to a plan: registers, and everything as numbers in flat arrays."""

from __future__ import annotations

from array import array
from itertools import zip_longest

import numpy as np

from autodiff.ir import Line, Shape
from autodiff.passes import ALL, memory
from autodiff.passes.steps import ARENA, CONSTANT, PROGRAMS, READ, Operand, Schedule, Step, Storage
from autodiff.plan import (
    ALIGNMENT,
    ARRAYS,
    BUFFERS,
    DTYPE_NUMBERS,
    KINDS,
    OPCODES,
    REG_DTYPE_NUMBERS,
    ROLES,
    Plan,
)


def lower(schedule: Schedule, *, reuse: bool = "reuse" in ALL) -> Plan:
    """The plan that runs a schedule's steps, within an arena as small as `reuse` makes it."""
    arena = memory.assign(schedule, reuse=reuse)
    return _Lowering().run(schedule, arena)


class _Lowering:
    def __init__(self) -> None:
        self.buffers: list[tuple[int, int, int, int]] = []  # kind, index, offset, size
        self.buffer_of: dict[Storage, int] = {}
        self.steps: list[int] = []  # the fields of one after those of another, here and below
        self.operands: list[int] = []
        self.instrs = array("I")
        self.dims: list[int] = []
        self.dims_at: dict[Shape, int] = {(): 0}
        self.strings = bytearray(b"\0")
        self.string_at: dict[str, int] = {"": 0}
        self.lines: list[tuple[int, int]] = [(0, 0)]
        self.line_number: dict[Line | None, int] = {None: 0}
        self.constants = bytearray()

    def run(self, schedule: Schedule, arena: int) -> Plan:
        for storage in (*schedule.inputs, *schedule.outputs):
            self.buffer(storage)
        for step in schedule.steps:
            self.step(step)
        arrays = {
            "buffers": np.array(self.buffers, "u8").reshape(-1, 4),
            "steps": np.array(self.steps, "u8").reshape(-1, len(_STEP)),
            "operands": np.array(self.operands, "i8").reshape(-1, len(_OPERAND)),
            "instrs": np.frombuffer(self.instrs, "u4").reshape(-1, len(_INSTR)),
            "lines": np.array(self.lines, "u4").reshape(-1, 2),
        }
        made = {}
        for name, columns in arrays.items():
            made[name] = np.zeros(len(columns), ARRAYS[name])
            for field, column in zip(_FIELDS[name], columns.T, strict=True):
                made[name][field] = column
        made["dims"] = np.array(self.dims, np.int64)
        made["strings"] = np.frombuffer(bytes(self.strings), np.uint8)
        made["constants"] = np.frombuffer(bytes(self.constants), np.uint8)
        return Plan.assemble(
            made,
            arena_size=arena,
            n_inputs=len(schedule.inputs),
            n_outputs=len(schedule.outputs),
            n_hosts=len(schedule.hosts),
        )

    def shape(self, shape: Shape) -> int:
        at = self.dims_at.get(shape)
        if at is None:
            at = self.dims_at[shape] = len(self.dims)
            self.dims.extend(shape)
        return at

    def string(self, text: str) -> int:
        at = self.string_at.get(text)
        if at is None:
            at = self.string_at[text] = len(self.strings)
            self.strings += text.encode().replace(b"\0", b" ") + b"\0"
        return at

    def line(self, line: Line) -> int:
        number = self.line_number[line] = len(self.lines)
        self.lines.append((self.string(line.file), line.line))
        return number

    def buffer(self, storage: Storage) -> int:
        number = self.buffer_of.get(storage)
        if number is None:
            number = self.buffer_of[storage] = len(self.buffers)
            offset = 0
            if storage.kind == ARENA:
                offset = storage.offset
            elif storage.kind == CONSTANT:
                offset = self.constant(storage)
            self.buffers.append((BUFFERS[storage.kind], storage.index, offset, storage.size))
        return number

    def constant(self, storage: Storage) -> int:
        self.constants += bytes(-len(self.constants) % ALIGNMENT)
        at = len(self.constants)
        parts = storage.data if isinstance(storage.data, list) else [storage.data]
        for part in parts:
            self.constants += part.tobytes()
        return at

    def step(self, step: Step) -> None:
        rows = step.operands
        first_operand, first_instr = len(self.operands) // len(_OPERAND), len(self.instrs) // len(_INSTR)
        n_registers = 0
        if step.kind in PROGRAMS:
            n_registers, registers = self.program(step)
        elif step.kind == "scalars":
            n_registers, rows, registers = self.scalars(step)
        else:
            registers = [0] * len(rows)
        out, buffer_of, dims_at = self.operands, self.buffer_of, self.dims_at
        for operand, register in zip(rows, registers, strict=True):
            if register < 0:
                continue
            role, storage, dtype, offset, strides, reg_dtype, _, window = operand
            if storage.whole is not None:
                offset += storage.offset // dtype.itemsize
                storage = storage.whole
            within = 0
            if window is not None:
                limits = tuple([limit for each in window for limit in each])
                offset += sum([low * s for low, s in zip(limits[::2], strides, strict=True)])
                within = self.shape(limits)
            number = buffer_of.get(storage)
            where = dims_at.get(strides)
            out += (
                ROLES[role],
                self.buffer(storage) if number is None else number,
                DTYPE_NUMBERS[dtype],
                REG_DTYPE_NUMBERS[reg_dtype],
                register,
                window is not None,
                offset,
                self.shape(strides) if where is None else where,
                within,
            )
        detail = ROLES[step.detail] if isinstance(step.detail, str) else step.detail
        line = self.line_number.get(step.line)
        self.steps += (
            KINDS[step.kind],
            len(step.shape),
            self.shape(step.shape),
            first_operand,
            len(out) // len(_OPERAND) - first_operand,
            first_instr,
            len(self.instrs) // len(_INSTR) - first_instr,
            n_registers,
            step.lane,
            step.outer,
            step.reduced,
            detail,
            self.line(step.line) if line is None and step.line is not None else line or 0,
            self.string(step.name),
        )

    def program(self, step: Step) -> tuple[int, list[int]]:
        """Append a step's instrs; how many registers they take, and which one each operand is in.

        What operands load is in the first registers, as each needs one of its own; the rest are taken when something
        is computed, and used again after its last use.  What is stored keeps its register to the end.

        What nobody uses, as it is computed again elsewhere, is left out; -1 is the register of an operand that is.
        """
        operands, instrs = step.operands, step.instrs
        end = len(instrs)
        register = [0] * (end + len(operands))  # by ref: what operands load counts from the back
        last = [-1] * len(register)  # use of it
        for operand in operands:
            if operand.role != READ:
                last[operand.ref] = end
        for i in range(end - 1, -1, -1):
            if last[i] >= 0:
                for ref in instrs[i][2]:
                    if last[ref] < 0:
                        last[ref] = i
        n = 0
        for i, operand in enumerate(operands):
            if operand.role == READ and last[~i] >= 0:
                register[~i] = n
                n += 1
        free: list[int] = []
        out, line_number = self.instrs, self.line_number
        for i, (opcode, dtype, refs, line) in enumerate(instrs):
            if last[i] < 0:
                continue
            sources = [register[ref] for ref in refs]
            for ref in refs:
                if last[ref] == i:
                    last[ref] = end  # it may be named twice
                    free.append(register[ref])
            if free:
                target = free.pop()
            else:
                target = n
                n += 1
            register[i] = target
            number = line_number.get(line)
            if number is None:
                assert line is not None
                number = self.line(line)
            out.extend((OPCODES[opcode], DTYPE_NUMBERS[dtype], target, *sources, *_PADDING[len(sources)], number))
        return n, [
            register[o.ref] if o.role != READ else register[~i] if last[~i] >= 0 else -1 for i, o in enumerate(operands)
        ]

    def scalars(self, step: Step) -> tuple[int, list[Operand], list[int]]:
        """Append the instrs of a step on single numbers; how many registers they take, its operands, and theirs.

        Each number has a register to itself: first what operands load, then what instrs compute.
        """
        reads = [i for i, operand in enumerate(step.operands) if operand.role == READ]
        stores = [operand for operand in step.operands if operand.role != READ]
        n_reads, n = len(reads), len(step.instrs)
        register = np.zeros(n + len(step.operands), np.int64)  # by ref, as in `program`
        register[:n] = np.arange(n_reads, n_reads + n)
        register[[~i for i in reads]] = np.arange(n_reads)
        rows = np.zeros((n, len(_INSTR)), np.uint32)
        rows[:, 2] = register[:n]
        if n:
            opcodes, dtypes, refs, lines = zip(*step.instrs, strict=True)
            for line in dict.fromkeys(lines):  # in order: equal graphs have equal plans
                if line not in self.line_number:
                    self.line(line)
            rows[:, 0] = [OPCODES[opcode] for opcode in opcodes]
            rows[:, 1] = [DTYPE_NUMBERS[dtype] for dtype in dtypes]
            for k, sources in enumerate(zip_longest(*refs, fillvalue=0)):
                rows[:, 3 + k] = register[list(sources)]
            rows[:, 6] = [self.line_number[line] for line in lines]
        self.instrs.frombytes(rows.tobytes())
        operands = [step.operands[i] for i in reads] + stores
        return n_reads + n, operands, [*range(n_reads), *register[[operand.ref for operand in stores]].tolist()]


_PADDING: list[tuple[int, ...]] = [(0, 0, 0), (0, 0), (0,), ()]
_STEP = (
    *("kind", "rank", "shape", "operand", "n_operands", "instr", "n_instrs", "n_registers", "lane", "n_outer"),
    *("n_reduced", "detail", "line", "name"),
)
_OPERAND = ("role", "buffer", "dtype", "reg_dtype", "reg", "windowed", "offset", "strides", "window")
_INSTR = ("opcode", "dtype", "dst", "a", "b", "c", "line")
_FIELDS = {
    "buffers": ("kind", "index", "offset", "size"),
    "steps": _STEP,
    "operands": _OPERAND,
    "instrs": _INSTR,
    "lines": ("file", "line"),
}
