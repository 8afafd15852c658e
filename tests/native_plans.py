"""Builds small plans by hand and runs them through cffi: what the tests of the native library stand on.

Nothing of the compiler is used, so that these tests and the compiler's check one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from autodiff._native import ffi, lib

Array = npt.NDArray[Any]

DTYPES = {
    "bool": lib.AD_BOOL,
    "uint8": lib.AD_U8,
    "int32": lib.AD_I32,
    "int64": lib.AD_I64,
    "float32": lib.AD_F32,
    "float64": lib.AD_F64,
}
REG_DTYPES = {**DTYPES, "position": lib.AD_POSITION}
READ, WRITE, SUM, MAX, MIN = lib.AD_READ, lib.AD_WRITE, lib.AD_SUM, lib.AD_MAX, lib.AD_MIN


def opcode_table() -> dict[str, tuple[int, int, str]]:
    """Name: (number, arity, domain)."""
    table = {}
    i = 0
    while (opcode := lib.ad_opcode_at(i)) != ffi.NULL:
        table[ffi.string(opcode.name).decode()] = (opcode.number, opcode.arity, ffi.string(opcode.domain).decode())
        i += 1
    return table


OPCODES = opcode_table()


def isas() -> list[str]:
    """The instruction sets that this machine can run."""
    names = []
    while (name := lib.ad_isa_at(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return names


@contextmanager
def isa_selected(name: str) -> Iterator[None]:
    """Plans are loaded for one instruction set."""
    before = ffi.string(lib.ad_isa_selected())
    assert lib.ad_isa_select(name.encode()) == lib.AD_OK
    try:
        yield
    finally:
        lib.ad_isa_select(before)


@contextmanager
def tiles_selected(superops: bool, nbytes: int = 0) -> Iterator[None]:
    """Plans are loaded with superinstructions or without, and with tiles of so many bytes (0: as the library likes)."""
    assert lib.ad_tiles_select(superops, nbytes) == lib.AD_OK
    try:
        yield
    finally:
        lib.ad_tiles_select(True, 0)


_pools: list[Any] = [ffi.NULL]


@contextmanager
def shared(threads: int, pieces: int) -> Iterator[None]:
    """Plans are loaded with every step cut into so many pieces at most that can be cut, and run on so many threads."""
    lib.ad_pieces_select(1, pieces)
    _pools.append(lib.ad_pool_create(threads))
    try:
        yield
    finally:
        lib.ad_pool_free(_pools.pop())
        lib.ad_pieces_select(0, 0)


def superop_trees() -> list[Any]:
    """Each superinstruction as nested tuples (opcode, operand ...); letters are its operands."""

    class Names(dict[str, Any]):
        def __missing__(self, name: str) -> str:
            return name

    trees = []
    while (text := lib.ad_superop_at(len(trees))) != ffi.NULL:
        trees.append(eval(ffi.string(text).decode(), {}, Names(OP=lambda *parts: parts)))
    return trees


def program_of(tree: Any) -> tuple[list[str], list[tuple[str, int, list[int]]]]:
    """A tree's operands, which fill registers 0, 1 ..., and instrs (opcode, register, sources), equal parts once."""

    def letters(part: Any) -> set[str]:
        return {part} if isinstance(part, str) else set().union(*map(letters, part[1:]))

    def emit(part: Any) -> int:
        if part not in registers:
            sources = [emit(operand) for operand in part[1:]]
            registers[part] = len(registers)
            instrs.append((part[0], registers[part], sources))
        return registers[part]

    leaves = sorted(letters(tree))
    registers: dict[Any, int] = {leaf: i for i, leaf in enumerate(leaves)}
    instrs: list[tuple[str, int, list[int]]] = []
    emit(tree)
    return leaves, instrs


def struct_dtype(name: str) -> np.dtype[Any]:
    """A struct of autodiff.h as NumPy sees it."""
    kinds = {"uint16_t": "u2", "uint32_t": "u4", "uint64_t": "u8", "int64_t": "i8"}
    ctype = ffi.typeof(name)
    fields: dict[str, list[Any]] = {"names": [], "formats": [], "offsets": []}
    for member, info in ctype.fields:
        fields["names"].append(member)
        fields["formats"].append(kinds.get(info.type.cname) or struct_dtype(info.type.cname))
        fields["offsets"].append(info.offset)
    return np.dtype(fields | {"itemsize": ffi.sizeof(ctype)})  # type: ignore[call-overload]


HEADER = struct_dtype("ad_plan_header")
PARTS = {
    "buffers": struct_dtype("ad_buffer"),
    "steps": struct_dtype("ad_step"),
    "operands": struct_dtype("ad_operand"),
    "instrs": struct_dtype("ad_instr"),
    "dims": np.dtype("i8"),
    "lines": struct_dtype("ad_line"),
    "strings": np.dtype("u1"),
    "constants": np.dtype("u1"),
}


@dataclass
class Operand:
    """One operand of a step; strides and offset in elements, as in the plan."""

    role: int
    buffer: int
    dtype: str
    strides: Sequence[int]
    reg: int = 0
    reg_dtype: str = ""
    offset: int = 0
    window: Sequence[tuple[int, int]] | None = None


@dataclass
class Plan:
    """A plan being written."""

    parts: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in PARTS})
    n_inputs: int = 0
    n_outputs: int = 0
    n_hosts: int = 0
    arena_size: int = 0
    constants: bytes = b""

    def _buffer(self, kind: int, index: int, offset: int, size: int) -> int:
        self.parts["buffers"].append((kind, index, offset, size))
        return len(self.parts["buffers"]) - 1

    def input(self, nbytes: int) -> int:
        self.n_inputs += 1
        return self._buffer(lib.AD_INPUT, self.n_inputs - 1, 0, nbytes)

    def output(self, nbytes: int) -> int:
        self.n_outputs += 1
        return self._buffer(lib.AD_OUTPUT, self.n_outputs - 1, 0, nbytes)

    def arena(self, nbytes: int) -> int:
        offset = self.arena_size
        self.arena_size += -(-nbytes // 64) * 64
        return self._buffer(lib.AD_ARENA, 0, offset, nbytes)

    def constant(self, value: Array) -> int:
        offset = len(self.constants)
        self.constants += value.tobytes() + bytes(-value.nbytes % 64)
        return self._buffer(lib.AD_CONSTANT, 0, offset, value.nbytes)

    def dims(self, values: Sequence[int]) -> int:
        self.parts["dims"].extend(values)
        return len(self.parts["dims"]) - len(values)

    def step(
        self,
        kind: int,
        shape: Sequence[int],
        operands: Sequence[Operand],
        instrs: Sequence[tuple[str, str, int, Sequence[int]]] = (),
        *,
        lane: int = 0,
        n_registers: int = 0,
        n_outer: int = 0,
        n_reduced: int = 0,
        detail: int = 0,
    ) -> None:
        """Instrs are (opcode, dtype, dst, sources)."""
        first_operand, first_instr = len(self.parts["operands"]), len(self.parts["instrs"])
        for o in operands:
            reg_dtype = REG_DTYPES[o.reg_dtype or o.dtype]
            row = (o.role, o.buffer, DTYPES[o.dtype], reg_dtype, o.reg, o.window is not None, o.offset)
            window = 0 if o.window is None else self.dims([limit for limits in o.window for limit in limits])
            self.parts["operands"].append((*row, self.dims(o.strides), window))
        for name, dtype, dst, sources in instrs:
            self.parts["instrs"].append((OPCODES[name][0], DTYPES[dtype], dst, *sources, *[0] * (3 - len(sources)), 0))
        row = (kind, len(shape), self.dims(shape), first_operand, len(operands), first_instr, len(instrs))
        self.parts["steps"].append((*row, n_registers, lane, n_outer, n_reduced, detail, 0, 0, 0))

    def to_bytes(self) -> bytes:
        self.parts["lines"] = [(0, 7)]
        self.parts["strings"] = list(b"here\0")
        self.parts["constants"] = list(self.constants)
        header = np.zeros((), HEADER)
        body = b""
        for name, dtype in PARTS.items():
            position = HEADER.itemsize + len(body)
            body += bytes(-position % 64)
            header[name] = (HEADER.itemsize + len(body), len(self.parts[name]))
            body += np.array(self.parts[name], dtype).tobytes()
        header["magic"] = int.from_bytes(b"AUTODIFF", "little")
        header["version"] = 1
        header["header_size"] = HEADER.itemsize
        header["total_size"] = HEADER.itemsize + len(body)
        header["arena_size"] = self.arena_size
        header["n_inputs"], header["n_outputs"], header["n_hosts"] = self.n_inputs, self.n_outputs, self.n_hosts
        return header.tobytes() + body


class PlanError(Exception):
    """What the library said, field by field."""

    def __init__(self, status: int, message: str, step: int, line: int, detail: tuple[int, int]) -> None:
        super().__init__(f"{message} (status {status}, step {step}, detail {detail})")
        self.status, self.message, self.step, self.line, self.detail = status, message, step, line, detail


def check(status: int, error: Any) -> None:
    if status != lib.AD_OK:
        assert error.status == status
        message = ffi.string(error.message).decode()
        raise PlanError(status, message, error.step, error.line, (error.detail[0], error.detail[1]))


def load(data: bytes) -> Any:
    """The prepared plan, freed with the object."""
    prepared, error = ffi.new("ad_prepared **"), ffi.new("ad_error *")
    # A buffer of exactly this size, so that a sanitizer sees every read behind it.
    check(lib.ad_plan_load(ffi.from_buffer(np.frombuffer(data, np.uint8).copy()), len(data), prepared, error), error)
    return ffi.gc(prepared[0], lib.ad_plan_free)


GUARD = 0xA5


def aligned(nbytes: int) -> Array:
    """That many bytes on a 64-byte boundary, with guards behind them."""
    raw = np.full(nbytes + 128, GUARD, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + nbytes]


def untouched_behind(array: Array) -> bool:
    raw = array.base
    assert isinstance(raw, np.ndarray)
    end = -raw.ctypes.data % 64 + array.nbytes
    return bool(np.all(raw[end:] == GUARD))


@dataclass
class Callbacks:
    """What the context of a run points to."""

    host: Callable[[int, Any, Any], int] | None = None
    poll: Callable[[], int] | None = None


# Callbacks of our own: the library's `extern "Python"` functions are the executables'.
@ffi.callback("int(void *, uint32_t, const void *const *, void *const *)", error=1)  # type: ignore[untyped-decorator]
def _host(context: Any, function: int, inputs: Any, outputs: Any) -> int:
    return ffi.from_handle(context).host(function, inputs, outputs)


@ffi.callback("int(void *)", error=1)  # type: ignore[untyped-decorator]
def _poll(context: Any) -> int:
    return ffi.from_handle(context).poll()


def run(
    plan: Plan | bytes | Any,
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    *,
    callbacks: Callbacks | None = None,
    max_work: int = 0,
) -> None:
    """Run a plan in place on C-contiguous arrays; raises PlanError."""
    if isinstance(plan, Plan):
        plan = plan.to_bytes()
    prepared = load(plan) if isinstance(plan, bytes) else plan
    workspace = aligned(lib.ad_plan_workspace(prepared))
    handle = ffi.new_handle(callbacks or Callbacks())
    pointers_in = ffi.new("const void *[]", [ffi.cast("void *", a.ctypes.data) for a in inputs])
    pointers_out = ffi.new("void *[]", [ffi.cast("void *", a.ctypes.data) for a in outputs])
    error = ffi.new("ad_error *")
    args = ffi.new("ad_run *")
    args.size = ffi.sizeof("ad_run")
    args.inputs, args.outputs = pointers_in, pointers_out
    args.workspace, args.workspace_size = ffi.cast("void *", workspace.ctypes.data), workspace.nbytes
    args.max_work, args.context, args.error, args.pool = max_work, handle, error, _pools[-1]
    if callbacks and callbacks.host:
        args.host = _host
    if callbacks and callbacks.poll:
        args.poll = _poll
    status = lib.ad_plan_run(prepared, args)
    assert untouched_behind(workspace)
    check(status, error)


def element_strides(array: Array) -> list[int]:
    return [s // array.itemsize for s in array.strides]


def row_major(shape: Sequence[int]) -> list[int]:
    return [prod(shape[d + 1 :]) for d in range(len(shape))]


def base_of(view: Array) -> tuple[Array, int]:
    """The contiguous array that a view looks into, and the view's offset in it, in elements."""
    base = view
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert base.flags.c_contiguous
    return base, (view.ctypes.data - base.ctypes.data) // view.itemsize


def lane_of(*dtypes: str) -> int:
    sizes = {np.dtype(d).itemsize for d in dtypes if d != "bool"} or {1}
    assert len(sizes) == 1
    return sizes.pop()


def map_plan(
    shape: Sequence[int],
    reads: Sequence[tuple[Array, str]],
    instrs: Sequence[tuple[str, str, int, Sequence[int]]],
    results: Sequence[tuple[int, Array, int, str]],
    *,
    lane: int,
    n_outer: int = 0,
    n_reduced: int = 0,
) -> tuple[Plan, list[Array], list[Array]]:
    """A plan of one MAP.

    Reads are (view that broadcasts to shape, register dtype), filling registers 0, 1 ...; results are
    (role, view, register, register dtype).  Returns the plan and the arrays to run it on.
    """
    plan, inputs, outputs, operands = Plan(), [], [], []
    rank = len(shape)
    n_registers = 1 + max([len(reads) - 1, *(i[2] for i in instrs), *(r[2] for r in results)])
    for reg, (array, reg_dtype) in enumerate(reads):
        base, offset = base_of(array)
        inputs.append(base)
        strides = element_strides(np.broadcast_to(array, tuple(shape)))
        buffer = plan.input(base.nbytes)
        operands.append(Operand(READ, buffer, array.dtype.name, strides, reg, reg_dtype, offset))
    for role, view, reg, reg_dtype in results:
        base, offset = base_of(view)
        outputs.append(base)
        strides = element_strides(view)
        if role != WRITE:  # the view has the kept dimensions
            strides[n_outer:n_outer] = [0] * n_reduced
        assert len(strides) == rank
        operands.append(Operand(role, plan.output(base.nbytes), view.dtype.name, strides, reg, reg_dtype, offset))
    plan.step(
        lib.AD_MAP, shape, operands, instrs, lane=lane, n_registers=n_registers, n_outer=n_outer, n_reduced=n_reduced
    )
    return plan, inputs, outputs


def run_map(*args: Any, **options: Any) -> None:
    run(*map_plan(*args, **options))
