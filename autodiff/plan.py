"""The plan: bytes that hold all the native library needs to run, in the layout of csrc/autodiff.h.

A plan is a value: flat arrays of structs behind a header, offsets and no pointers.  The arrays' dtypes come from cffi's
view of the header file, so no layout is written twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from autodiff._native import ffi, lib
from autodiff.ir import BOOL, FLOAT32, FLOAT64, INT32, INT64, UINT8, Array, Dtype
from autodiff.passes.steps import POSITION

MAGIC = int.from_bytes(b"AUTODIFF", "little")
VERSION = 1
ALIGNMENT = 64

DTYPE_NUMBERS: dict[Dtype, int] = {
    BOOL: lib.AD_BOOL,
    UINT8: lib.AD_U8,
    INT32: lib.AD_I32,
    INT64: lib.AD_I64,
    FLOAT32: lib.AD_F32,
    FLOAT64: lib.AD_F64,
}
DTYPE_OF = {number: dtype for dtype, number in DTYPE_NUMBERS.items()}
REG_DTYPE_NUMBERS = {**DTYPE_NUMBERS, POSITION: lib.AD_POSITION}
_REG_NAMES = {number: dtype.name for number, dtype in DTYPE_OF.items()} | {lib.AD_POSITION: "position"}


def _opcodes() -> Iterator[tuple[str, int]]:
    i = 0
    while (opcode := lib.ad_opcode_at(i)) != ffi.NULL:
        yield ffi.string(opcode.name).decode(), opcode.number
        i += 1


OPCODES = dict(_opcodes())
_OPCODE_NAMES = {number: name for name, number in OPCODES.items()}
_ARITY = {lib.ad_opcode_at(i).number: lib.ad_opcode_at(i).arity for i in range(len(OPCODES))}


def _enum(prefix: str, names: Sequence[str]) -> dict[str, int]:
    return {name.lower(): getattr(lib, prefix + name) for name in names}


KINDS = _enum(
    "AD_",
    ["MAP", "GEMM", "COPY", "GATHER", "SCATTER_ADD", "SCATTER_SET", "ARG_REDUCE", "IOTA", "HOST", "ROWS", "SCALARS"],
)
ROLES = _enum("AD_", ["READ", "WRITE", "SUM", "MAX", "MIN"])
BUFFERS = _enum("AD_", ["INPUT", "OUTPUT", "CONSTANT", "ARENA"])


def _struct(name: str) -> np.dtype[Any]:
    """A C struct as a NumPy dtype."""
    ctype = ffi.typeof(name)
    names, formats, offsets = [], [], []
    for field, info in ctype.fields:
        names.append(field)
        offsets.append(info.offset)
        if info.type.kind == "struct":
            formats.append(_struct(info.type.cname))
        else:
            signed = int(ffi.cast(info.type, -1)) < 0
            formats.append(np.dtype(f"{'i' if signed else 'u'}{ffi.sizeof(info.type)}"))
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": ffi.sizeof(ctype)})


HEADER = _struct("ad_plan_header")
ARRAYS: dict[str, np.dtype[Any]] = {
    "buffers": _struct("ad_buffer"),
    "steps": _struct("ad_step"),
    "operands": _struct("ad_operand"),
    "instrs": _struct("ad_instr"),
    "dims": np.dtype("int64"),
    "lines": _struct("ad_line"),
    "strings": np.dtype("uint8"),
    "constants": np.dtype("uint8"),
}
"""The plan's arrays, in the order they lie in."""


class Plan:
    """A plan's bytes, which are all there is to it; `str()` of it is for people."""

    __slots__ = ("__dict__", "data")

    def __init__(self, data: bytes):
        self.data = data

    @classmethod
    def assemble(cls, arrays: Mapping[str, Array], **header: int) -> Plan:
        """Lay out arrays (see ARRAYS) behind a header of these numbers."""
        head = np.zeros((), HEADER)
        for name, number in header.items():
            head[name] = number
        offset = HEADER.itemsize
        parts: list[tuple[int, Array]] = []
        for name, dtype in ARRAYS.items():
            array = np.ascontiguousarray(arrays[name], dtype)
            align = ALIGNMENT if name == "constants" else 8
            offset = (offset + align - 1) // align * align
            head[name] = (offset, array.size)
            parts.append((offset, array))
            offset += array.nbytes
        head["magic"], head["version"] = MAGIC, VERSION
        head["header_size"], head["total_size"] = HEADER.itemsize, offset
        data = bytearray(offset)
        data[: HEADER.itemsize] = head.tobytes()
        for start, array in parts:
            data[start : start + array.nbytes] = array.tobytes()
        return cls(bytes(data))

    @cached_property
    def header(self) -> Any:
        """The plan's header, a NumPy record."""
        return np.frombuffer(self.data, HEADER, 1)[0]

    def array(self, name: str) -> Array:
        """One of the plan's arrays (see ARRAYS)."""
        offset, count = self.header[name].tolist()
        return np.frombuffer(self.data, ARRAYS[name], count, offset)

    @property
    def steps(self) -> Array:
        """The plan's steps, as records of `ad_step`."""
        return self.array("steps")

    @property
    def arena_size(self) -> int:
        """Bytes of workspace for values between the steps."""
        return int(self.header["arena_size"])

    @cached_property
    def live_bytes(self) -> int:
        """The most bytes of the arena that hold something needed later, at any one time.

        With the steps in this order no arena can be smaller: it is counted before and after each step, as in one step
        a result may take the place of what the step reads.
        """
        steps, buffers = self.steps, self.array("buffers")
        counts = steps["n_operands"].astype(np.int64)
        users = np.repeat(np.arange(len(steps)), counts)
        behind = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
        used = self.array("operands")["buffer"][np.repeat(steps["operand"].astype(np.int64), counts) + behind]
        first, last = np.full(len(buffers), len(steps)), np.full(len(buffers), -1)
        np.minimum.at(first, used, users)
        np.maximum.at(last, used, users)
        live = (buffers["kind"] == BUFFERS["arena"]) & (last >= 0)
        begin, end, sizes = 2 * first[live] + 1, 2 * last[live], buffers["size"][live].astype(np.int64)
        change = np.zeros(2 * len(steps) + 1, np.int64)  # 2 i is before step i, 2 i + 1 after it
        np.add.at(change, begin, sizes)
        np.subtract.at(change, np.maximum(begin, end) + 1, sizes)
        return int(np.cumsum(change).max(initial=0))

    def string(self, at: int) -> str:
        """The string that begins at this byte of the strings."""
        strings = self.array("strings").tobytes()
        return strings[at : strings.index(0, at)].decode()

    def line(self, number: int) -> str:
        """The user's source line with this number, as file:line; empty where it is unknown."""
        file, line = self.array("lines")[number].tolist()
        return f"{self.string(file)}:{line}" if line else ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.data)

    def __reduce__(self) -> tuple[Any, ...]:
        return Plan, (self.data,)

    def __repr__(self) -> str:
        return f"<Plan: {len(self.steps)} steps, {self.arena_size} arena bytes, {len(self.data)} bytes>"

    def __str__(self) -> str:
        return "\n".join(_dump(self))


_KIND_NAMES = {number: name for name, number in KINDS.items()}
_ROLE_NAMES = {number: name for name, number in ROLES.items()}
_BUFFER_NAMES = {number: name for name, number in BUFFERS.items()}


def _dump(plan: Plan) -> Iterator[str]:
    header = plan.header
    buffers, operands, instrs = plan.array("buffers"), plan.array("operands"), plan.array("instrs")
    dims = plan.array("dims").tolist()
    yield (
        f"plan: {len(plan.steps)} steps, {header['n_inputs']} inputs, {header['n_outputs']} outputs, "
        f"{plan.arena_size} arena bytes ({plan.live_bytes} live), {header['constants']['count']} constant bytes, "
        f"{len(plan.data)} bytes in all"
    )

    def where(buffer: int) -> str:
        b = buffers[buffer]
        kind = _BUFFER_NAMES[int(b["kind"])]
        return f"{kind}[{b['index']}]" if kind in ("input", "output") else f"{kind}@{b['offset']}"

    for i, step in enumerate(plan.steps):
        kind, rank, at = _KIND_NAMES[int(step["kind"])], int(step["rank"]), int(step["shape"])
        shape = dims[at : at + rank]
        outer, reduced = int(step["n_outer"]), int(step["n_reduced"])
        space = "x".join(map(str, shape)) or "1"
        if kind == "rows":
            space = f"{'x'.join(map(str, shape[:outer]))} rows of {'x'.join(map(str, shape[outer:]))}"
        elif reduced:
            space += f" (reduces {'x'.join(map(str, shape[outer : outer + reduced]))})"
        line = plan.line(int(step["line"]))
        yield f"{i:4} {kind} {space}: {plan.string(int(step['name']))}{f'  # {line}' if line else ''}"
        mine = operands[int(step["operand"]) :][: int(step["n_operands"])]
        rows: list[str] = []
        for operand in mine:
            strides = [] if kind == "host" else dims[int(operand["strides"]) :][:rank]
            dtype, register = DTYPE_OF[int(operand["dtype"])], _REG_NAMES[int(operand["reg_dtype"])]
            place = f"{where(int(operand['buffer']))} {dtype.name}"
            place += f" + {operand['offset']}" if operand["offset"] else ""
            place += f" strides {','.join(map(str, strides))}" if strides else ""
            if operand["windowed"]:
                limits = dims[int(operand["window"]) :][: 2 * rank]
                pairs = zip(limits[::2], limits[1::2], strict=True)
                place += f" within {','.join([f'{low}:{high}' for low, high in pairs])}"
            role = _ROLE_NAMES[int(operand["role"])]
            as_what = f" as {register}" if register != dtype.name else ""
            if kind not in ("map", "rows", "scalars"):
                rows.append(f"       {role} {place}")
            elif role == "read":
                rows.append(f"       r{operand['reg']} = {place}{as_what}")
            else:
                rows.append(f"       {place} = {'' if role == 'write' else role + ' '}r{operand['reg']}")
        reads = [row for row, operand in zip(rows, mine, strict=True) if int(operand["role"]) == ROLES["read"]]
        yield from reads
        for instr in instrs[int(step["instr"]) :][: int(step["n_instrs"])]:
            opcode = int(instr["opcode"])
            sources = " ".join(f"r{instr[name]}" for name in "abc"[: _ARITY[opcode]])
            what = f"{_OPCODE_NAMES[opcode]}.{DTYPE_OF[int(instr['dtype'])].name}"
            line = plan.line(int(instr["line"]))
            yield f"           r{instr['dst']} = {what} {sources}{f'  # {line}' if line else ''}"
        yield from [row for row in rows if row not in reads]
