"""From a graph to the steps that compute it: which memory each one reads and writes, and what a tile program does.

Values that only look at others are read through them.  Memory is asked for only where something needs a value that no
register holds: a step's stores are added when a later step first reads what it made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from autodiff.ir import (
    BOOL,
    INT64,
    OPS,
    Array,
    Dtype,
    Graph,
    Line,
    Literal,
    Node,
    Op,
    Shape,
    Value,
    constant_op,
    full_op,
    literal,
)
from autodiff.ops.contraction import Axes, free_axes
from autodiff.passes.canonical import REDUCTIONS
from autodiff.passes.fuse import Region, regions
from autodiff.passes.views import View, dense, is_dense, look, squeezed, squeezed_strides

INPUT, OUTPUT, CONSTANT, ARENA = "input", "output", "constant", "arena"
READ, WRITE = "read", "write"

CONSTANT_BYTES = 4096
"""Bytes up to which 0, 1, 2 ... or a literal spread over memory is part of the plan, and not written in every run."""


class Storage:
    """A piece of memory."""

    __slots__ = ("data", "first", "index", "kind", "last", "offset", "size")

    def __init__(self, kind: str, size: int, index: int = 0, data: Any = None):
        self.kind = kind
        self.size = size  # bytes
        self.index = index  # of an input or output
        self.data = data  # of a constant: an array, or a list of numbers
        self.offset = 0  # bytes, into the arena; see memory.py
        self.first = self.last = -1  # the steps that begin and end its use


class Operand(NamedTuple):
    """What a step reads or writes: strides in elements over the step's shape."""

    role: str
    storage: Storage
    dtype: Dtype
    offset: int
    strides: Shape
    reg_dtype: Dtype
    ref: int = 0  # of what is stored: which instr made it, or which operand (~ref) loaded it


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
    if step.kind != "map":
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
            if operand.offset or known[1:] != (dtype, strides):
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


def schedule(
    graph: Graph,
    donated: Mapping[int, int] | None = None,
    *,
    fuse: bool = True,
    sink: bool = True,
    view: bool = True,
) -> Schedule:
    """Steps that compute a canonical graph.

    `donated` maps inputs to the outputs that are to be made in their memory.
    """
    return _Scheduler(graph, dict(donated or {}), view).run(fuse, sink)


class Move(NamedTuple):
    """A copy between two pieces of memory, the last thing a plan does."""

    source: Storage
    target: Storage
    shape: Shape
    dtype: Dtype


Copies = list[tuple[Value, Storage]]


class Access(NamedTuple):
    """Where to read a value: strides over its own shape."""

    storage: Storage
    offset: int
    strides: Shape


_REDUCTION_ROLES = dict(zip(REDUCTIONS, ("sum", "max", "min"), strict=True))
_CONVERT, _POW = OPS["convert"], OPS["pow"]
_SPECIAL = {*REDUCTIONS, _CONVERT, OPS["identity"], OPS["stop_gradient"]}


class _Scheduler:
    def __init__(self, graph: Graph, donated: dict[int, int], view: bool):
        self.graph = graph
        self.donated = donated
        self.steps: list[Step] = []
        self.hosts: list[HostFunction] = []
        self.views: dict[Value, View] = {}
        self.storages: dict[Value, Storage] = {}
        self.owners: dict[Value, Step] = {}  # of values in registers, which may yet have to be stored
        self.numbers: dict[Literal, int] = {}  # literals: where in their dtype's storage
        self.pools: dict[Dtype, Storage] = {}
        self.inputs: list[Storage] = []
        self.outputs: list[Storage] = []
        for i, x in enumerate(graph.inputs):
            storage = Storage(INPUT, _bytes(x), i)
            self.storages[x] = storage
            self.inputs.append(storage)
        for node in graph.nodes:
            if node.op is full_op:
                self.views[node] = View(node, 0, (0,) * len(node.aval.shape))
            elif view:
                seen = look(node, self.views)
                if seen is not None:
                    self.views[node] = seen

    def run(self, fuse: bool, sink: bool) -> Schedule:
        graph = self.graph
        copies = self.claim_outputs()
        early, late, last = self.sort_copies(copies)
        for y, target in early:
            self.copy(y, target)
        overwrites = {self.root(graph.outputs[j]): graph.inputs[i] for i, j in self.donated.items()}
        for region in regions(graph.nodes, graph.outputs, self.views, overwrites, fuse=fuse, sink=sink):
            if region.lane:
                self.run_region(region)
            else:
                node = region.nodes[0]
                EMITTERS.get(node.op, _Scheduler.run_copy)(self, node)
        for y in graph.outputs:
            if self.root(y).node.op is not full_op:
                self.storage(self.root(y))
        for y, target in late:
            self.copy(y, target)
        last += self.settle_donations()
        for source, target, shape, dtype in last:
            self.move(source, target, shape, dtype)
        return Schedule(self.steps, self.inputs, self.outputs, self.donated, self.hosts)

    # ---- memory ----

    def root(self, x: Value) -> Value:
        view = self.views.get(x)
        return x if view is None else view.root

    def claim_outputs(self) -> list[tuple[Value, Storage]]:
        """Compute outputs right where they belong; the rest, which have to be copied there, are returned."""
        copies = []
        for i, y in enumerate(self.graph.outputs):
            storage = Storage(OUTPUT, _bytes(y), i)
            self.outputs.append(storage)
            root = self.root(y)
            if root in self.storages or root.node.op in (full_op, constant_op) or not self.is_whole(y):
                copies.append((y, storage))
            else:
                self.storages[root] = storage
        return copies

    def sort_copies(self, copies: list[tuple[Value, Storage]]) -> tuple[Copies, Copies, list[Move]]:
        """Which outputs to copy first, because inputs' memory may be used again, which in the end, and which last.

        The memory of a donated input is written to when nothing reads inputs any more.
        """
        early: Copies = []
        late: Copies = []
        last: list[Move] = []
        giver = {j: i for i, j in self.donated.items()}
        for y, target in copies:
            source = self.storages.get(self.root(y))
            shape, dtype = y.aval[:2]
            from_input = source is not None and source.kind == INPUT
            if target.index not in giver:
                (early if from_input else late).append((y, target))
            elif not from_input or source is not self.inputs[giver[target.index]] or not self.is_whole(y):
                staged = Storage(ARENA, target.size)
                (early if from_input else late).append((y, staged))
                last.append(Move(staged, target, shape, dtype))
        return early, late, last

    def is_whole(self, y: Value) -> bool:
        """Whether a value is all of what it looks at, in the same order."""
        view = self.views.get(y)
        if view is None:
            return True
        same_size = _bytes(view.root) == _bytes(y)
        return same_size and view.offset == 0 and is_dense(y.aval.shape, view.strides)

    def settle_donations(self) -> list[Move]:
        """Which donated outputs could not be made where the input lies, as something still reads that."""
        first_write: dict[Storage, int] = {}
        last_read: dict[Storage, int] = {}
        for i, step in enumerate(self.steps):
            for operand in step.operands:
                if operand.role == READ:
                    last_read[operand.storage] = i
                else:
                    first_write.setdefault(operand.storage, i)
        moves = []
        for i, j in self.donated.items():
            source, target = self.inputs[i], self.outputs[j]
            read, written = last_read.get(source, -1), first_write.get(target)
            if written is None or read < written:
                continue
            step = self.steps[read]
            if read == written:
                store = next(o for o in step.operands if o.storage is target and o.role != READ)
                if may_overwrite(last_reads(step), store, source):
                    continue
            target.kind = ARENA
            y = self.graph.outputs[j]
            self.outputs[j] = Storage(OUTPUT, target.size, j)
            moves.append(Move(target, self.outputs[j], y.aval.shape, y.aval.dtype))
        return moves

    def move(self, source: Storage, target: Storage, shape: Shape, dtype: Dtype) -> None:
        strides = dense(shape)
        operands = [Operand(READ, source, dtype, 0, strides, dtype), Operand(WRITE, target, dtype, 0, strides, dtype)]
        self.steps.append(Step("copy", shape, "copy: donated", None, operands))

    def storage(self, root: Value) -> Storage:
        """Where a value that is no view lies, contiguous; stores it first if only a register held it so far."""
        storage = self.storages.get(root)
        if storage is None:
            if root.node.op is constant_op:
                return self.constant(root, root.node.params["value"].array)
            storage = self.storages[root] = Storage(ARENA, _bytes(root))
        step = self.owners.pop(root, None)
        if step is not None:
            dtype = root.aval.dtype
            step.operands.append(Operand(WRITE, storage, dtype, 0, dense(step.shape), dtype, step.refs[root]))
        return storage

    def constant(self, x: Value, array: Array) -> Storage:
        storage = self.storages[x] = Storage(CONSTANT, array.nbytes, data=array)
        return storage

    def number(self, literal: Literal) -> Access:
        """A literal, in memory with all others of its dtype."""
        dtype = literal.array.dtype
        pool = self.pools.get(dtype)
        if pool is None:
            pool = self.pools[dtype] = Storage(CONSTANT, 0, data=[])
        index = self.numbers.get(literal)
        if index is None:
            index = self.numbers[literal] = len(pool.data)
            pool.data.append(literal.array)
            pool.size += dtype.itemsize
        return Access(pool, index, ())

    def access(self, x: Value) -> Access:
        """How to read a value, over its own shape."""
        view = self.views.get(x)
        if view is None:
            return Access(self.storage(x), 0, dense(x.aval.shape))
        root = view.root
        if root.node.op is full_op and root not in self.storages:
            pool, offset, _ = self.number(root.node.params["value"])
            return Access(pool, offset, view.strides)
        return Access(self.storage(root), view.offset, view.strides)

    def contiguous(self, x: Value) -> Access:
        """How to read a value whose elements have to lie one after the other; copies it if they do not."""
        access = self.access(x)
        if is_dense(x.aval.shape, access.strides):
            return access
        if self.root(x).node.op is full_op and _bytes(x) <= CONSTANT_BYTES:
            target = Storage(CONSTANT, _bytes(x), data=np.full(x.aval.shape, literal(self.root(x)), x.aval.dtype))
        else:
            target = Storage(ARENA, _bytes(x))
            self.copy(x, target, access)
        access = Access(target, 0, dense(x.aval.shape))
        if x in self.views:  # what looks at x later may as well look at the copy
            self.views[x] = View(x, 0, access.strides)
            self.storages[x] = target
        return access

    def copy(self, x: Value, target: Storage, source: Access | None = None, to: View | None = None) -> None:
        """A step that puts a value into memory, contiguous unless `to` says at which offset and strides."""
        source = source or self.access(x)
        shape, dtype = x.aval.shape, x.aval.dtype
        offset, strides = (0, dense(shape)) if to is None else to[1:]
        operands = [
            Operand(READ, source.storage, dtype, source.offset, squeezed_strides(shape, source.strides), dtype),
            Operand(WRITE, target, dtype, offset, squeezed_strides(shape, strides), dtype),
        ]
        self.steps.append(Step("copy", squeezed(shape), f"copy: {x.node.op.name}", x.node.line, operands))

    def result(self, y: Value) -> Storage:
        """Memory for what a step computes."""
        storage = self.storages.get(y)
        if storage is None:
            storage = self.storages[y] = Storage(ARENA, _bytes(y))
        return storage

    # ---- regions ----

    def run_region(self, region: Region) -> None:
        step = Step("map", region.space, "", region.nodes[0].line)
        step.lane = region.lane
        if region.split is not None:
            step.outer, step.reduced, _ = region.split
        _Program(self, step).add(region.nodes)
        names = [node.op.name for node in region.nodes[:9]]
        if len(names) > 1:
            step.name = f"fused: {' '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
        else:
            step.name = names[0]
        self.steps.append(step)

    # ---- the other steps ----

    def run_copy(self, node: Node) -> None:
        """A value that could not be looked at where it is, or was not to be."""
        x = node.inputs[0]
        source = self.access(x)
        shape = x.aval.shape
        view = look(node, {x: View(None, source.offset, source.strides)})
        if view is not None:
            source, shape = Access(source.storage, view.offset, view.strides), node.aval.shape
        dtype = node.aval.dtype
        operands = [
            Operand(READ, source.storage, dtype, source.offset, squeezed_strides(shape, source.strides), dtype),
            Operand(WRITE, self.result(node), dtype, 0, squeezed_strides(shape, dense(shape)), dtype),
        ]
        self.steps.append(Step("copy", squeezed(shape), node.op.name, node.line, operands))

    def run_iota(self, node: Node) -> None:
        dtype = node.aval.dtype
        if _bytes(node) <= CONSTANT_BYTES and node not in self.storages:
            self.constant(node, node.op.oracle(**node.params))
            return
        operands = [Operand(WRITE, self.result(node), dtype, 0, (1,), dtype)]
        self.steps.append(Step("iota", node.aval.shape, "iota", node.line, operands))

    def run_concatenate(self, node: Node) -> None:
        target, shape, axis = self.result(node), node.aval.shape, node.params["axis"]
        strides, start = dense(shape), 0
        for x in node.inputs:
            if x.aval.size:
                self.copy(x, target, to=View(None, start * strides[axis], strides))
            start += x.aval.shape[axis]

    def run_pad(self, node: Node) -> None:
        target, (x,) = self.result(node), node.inputs
        shape, dtype = node.aval.shape, node.aval.dtype
        pool, offset, _ = self.number(Literal(np.zeros((), dtype)))
        size = node.aval.size
        operands = [Operand(READ, pool, dtype, offset, (0,), dtype), Operand(WRITE, target, dtype, 0, (1,), dtype)]
        self.steps.append(Step("copy", (size,), "fill: pad", node.line, operands))
        if x.aval.size:
            strides = dense(shape)
            offset = sum([a * s for a, s in zip(node.params["starts"], strides, strict=True)])
            steps = tuple([s * step for s, step in zip(strides, node.params["steps"], strict=True)])
            self.copy(x, target, to=View(None, offset, steps))

    def run_gather(self, node: Node) -> None:
        table, *indices = node.inputs
        self.run_indexed("gather", node, table.aval.shape, [], [table], indices)

    def run_scatter_add(self, node: Node) -> None:
        updates, *indices = node.inputs
        self.run_indexed("scatter_add", node, node.aval.shape, [updates], [], indices)

    def run_scatter_set(self, node: Node) -> None:
        base, updates, *indices = node.inputs
        self.run_indexed("scatter_set", node, node.aval.shape, [updates], [base], indices)

    def run_indexed(
        self, kind: str, node: Node, table: Shape, rows: list[Value], tables: list[Value], indices: list[Value]
    ) -> None:
        sizes, dtype = table[: len(indices)], node.aval.dtype
        row = int(np.prod(table[len(indices) :], dtype=np.int64))
        count = indices[0].aval.size
        by_table = (0, 1, *[s * row for s in dense(sizes)])
        by_row, by_index = (row, 1, *[0] * len(sizes)), (1, 0, *[0] * len(sizes))

        def read(x: Value, strides: Shape) -> Operand:
            access = self.contiguous(x)
            return Operand(READ, access.storage, x.aval.dtype, access.offset, strides, x.aval.dtype)

        operands = [read(x, by_table) for x in tables] + [read(x, by_row) for x in rows]
        operands += [read(x, by_index) for x in indices]
        strides = by_row if kind == "gather" else by_table
        operands.append(Operand(WRITE, self.result(node), dtype, 0, strides, dtype))
        self.steps.append(Step(kind, (count, row, *sizes), kind, node.line, operands))

    def run_position(self, node: Node) -> None:
        (x,), axis = node.inputs, node.params["axis"]
        source, shape = self.access(x), x.aval.shape
        strides = list(dense(node.aval.shape))
        strides.insert(axis, 0)
        operands = [
            Operand(READ, source.storage, x.aval.dtype, source.offset, source.strides, x.aval.dtype),
            Operand(WRITE, self.result(node), INT64, 0, tuple(strides), INT64),
        ]
        step = Step("arg_reduce", shape, node.op.name, node.line, operands)
        step.outer, step.reduced = axis, 1
        step.detail = "max" if node.op.name == "argmax" else "min"
        self.steps.append(step)

    def run_dot_general(self, node: Node) -> None:
        x, y = node.inputs
        contract, batch = node.params["contract"], node.params["batch"]
        a, b = self.access(x), self.access(y)
        layout = product_layout(x.aval.shape, a.strides, y.aval.shape, b.strides, contract, batch)
        if layout is None:
            a, b = self.with_axes_last(x, contract[0]), self.with_axes_last(y, contract[1])
            layout = product_layout(x.aval.shape, a.strides, y.aval.shape, b.strides, contract, batch)
            assert layout is not None
        dtype = node.aval.dtype
        operands = [
            Operand(READ, a.storage, dtype, a.offset, layout.a, dtype),
            Operand(READ, b.storage, dtype, b.offset, layout.b, dtype),
            Operand(WRITE, self.result(node), dtype, 0, layout.c, dtype),
        ]
        self.steps.append(Step("gemm", layout.shape, "dot_general", node.line, operands))

    def with_axes_last(self, x: Value, axes: Shape) -> Access:
        """A value whose `axes` can be walked as one: itself, or a copy in which they come last, in this order."""
        shape, source = x.aval.shape, self.access(x)
        if len(_merged([(shape[i], (source.strides[i],)) for i in axes])) <= 1:
            return source
        order = [i for i in range(len(shape)) if i not in axes] + list(axes)
        strides = [0] * len(shape)
        for i, s in zip(order, dense(tuple([shape[i] for i in order])), strict=True):
            strides[i] = s
        target = Storage(ARENA, _bytes(x))
        self.copy(x, target, source, to=View(None, 0, tuple(strides)))
        return Access(target, 0, tuple(strides))

    def run_host(self, node: Node) -> None:
        operands = []
        for x in node.inputs:
            access = self.contiguous(x)
            operands.append(Operand(READ, access.storage, x.aval.dtype, access.offset, (), x.aval.dtype))
        operands += [Operand(WRITE, self.result(y), y.aval.dtype, 0, (), y.aval.dtype) for y in node.outputs]
        sizes = tuple([v.aval.size for v in (*node.inputs, *node.outputs)])
        function = node.params["function"]
        step = Step("host", sizes, f"host: {getattr(function, '__qualname__', function)}", node.line, operands)
        step.detail = len(self.hosts)
        self.hosts.append(HostFunction(function, [x.aval[:2] for x in node.inputs], [y.aval[:2] for y in node.outputs]))
        self.steps.append(step)


EMITTERS: dict[Op, Callable[[_Scheduler, Node], None]] = {
    OPS["iota"]: _Scheduler.run_iota,
    OPS["concatenate"]: _Scheduler.run_concatenate,
    OPS["pad"]: _Scheduler.run_pad,
    OPS["gather"]: _Scheduler.run_gather,
    OPS["scatter_add"]: _Scheduler.run_scatter_add,
    OPS["scatter_set"]: _Scheduler.run_scatter_set,
    OPS["argmax"]: _Scheduler.run_position,
    OPS["argmin"]: _Scheduler.run_position,
    OPS["dot_general"]: _Scheduler.run_dot_general,
    OPS["host"]: _Scheduler.run_host,
}


class _Program:
    """The tile program of a step."""

    def __init__(self, scheduler: _Scheduler, step: Step):
        self.scheduler = scheduler
        self.step = step
        self.refs = step.refs
        self.strides = dense(step.shape)
        self.loads: dict[Any, int] = {}

    def add(self, nodes: list[Node]) -> None:
        """Append the nodes of a region."""
        refs, instrs, owners, step = self.refs, self.step.instrs, self.scheduler.owners, self.step
        for node in nodes:
            op = node.op
            if op in _SPECIAL:
                if op in _REDUCTION_ROLES:
                    self.reduce(node)
                    continue
                if self.narrow(node):
                    continue
                ref, done = self.convert(node)
                if done:
                    refs[node] = ref
                    owners[node] = step
                    continue
                operands: tuple[int, ...] = (ref,)
                opcode, dtype = _conversion(node.inputs[0].aval.dtype, node.aval.dtype)
            else:
                operands = tuple([refs[x] if x in refs else self.load(x) for x in node.inputs])
                dtype = node.inputs[-1].aval.dtype
                opcode = "int_pow" if op is _POW and dtype.kind != "f" else op.name
            refs[node] = len(instrs)
            owners[node] = step
            instrs.append((opcode, dtype, operands, node.line))

    def load(self, x: Value, dtype: Dtype | None = None) -> int:
        """The register of a value, converted to `dtype`."""
        scheduler, step = self.scheduler, self.step
        shape, own, _ = x.aval
        if dtype is None and x not in scheduler.views:
            operand = Operand(READ, scheduler.storage(x), own, 0, self.strides, own)
            ref = self.refs[x] = ~len(step.operands)
            step.operands.append(operand)
            return ref
        dtype = dtype or own
        if dtype == own:
            held = self.held(x)
            if held is not None:
                self.refs[x] = held
                return held
        storage, offset, strides = scheduler.access(x)
        strides = squeezed_strides(shape, strides)
        key = (storage, offset, strides, dtype)
        known = self.loads.get(key)
        if known is None:
            known = self.loads[key] = ~len(step.operands)
            step.operands.append(Operand(READ, storage, own, offset, strides, dtype))
        if dtype == own:
            self.refs[x] = known
        return known

    def held(self, x: Value) -> int | None:
        """The register that holds a value of this region, or one that looks the same."""
        ref = self.refs.get(x)
        if ref is not None:
            return ref
        view = self.scheduler.views.get(x)
        if view is None or view.offset or self.scheduler.owners.get(view.root) is not self.step:
            return None
        same = squeezed(view.root.aval.shape) == self.step.shape and is_dense(x.aval.shape, view.strides)
        return self.refs[view.root] if same else None

    def narrow(self, node: Node) -> bool:
        """Whether a conversion ends in this region: then what a register holds is stored converted."""
        (x,) = node.inputs
        own, dtype = x.aval.dtype, node.aval.dtype
        if dtype == BOOL or dtype.itemsize >= own.itemsize or own.itemsize != self.step.lane:
            return False
        ref = self.refs[x] if x in self.refs else self.load(x)
        storage = self.scheduler.result(node)
        self.step.operands.append(Operand(WRITE, storage, dtype, 0, self.strides, own, ref))
        return True

    def convert(self, node: Node) -> tuple[int, bool]:
        """The register to convert, and whether that has been done already, on the way into it.

        Registers hold numbers of one width: one of another is converted when it is loaded.
        """
        (x,) = node.inputs
        own, dtype = x.aval.dtype, node.aval.dtype
        ref = self.held(x)
        if dtype != BOOL and (own.itemsize != dtype.itemsize if own != BOOL else ref is None):
            return self.load(x, dtype), True
        return (self.load(x) if ref is None else ref), own == dtype

    def reduce(self, node: Node) -> None:
        (x,) = node.inputs
        scheduler, step = self.scheduler, self.step
        ref = self.refs[x] if x in self.refs else self.load(x)
        storage, dtype = scheduler.result(node), node.aval.dtype
        space, outer, reduced = step.shape, step.outer, step.reduced
        kept = dense(space[:outer] + space[outer + reduced :])
        strides = kept[:outer] + (0,) * reduced + kept[outer:]
        step.operands.append(Operand(_REDUCTION_ROLES[node.op], storage, dtype, 0, strides, dtype, ref))


def _conversion(source: Dtype, target: Dtype) -> tuple[str, Dtype]:
    """The opcode that converts between numbers of one width, or masks, and the dtype it is named with."""
    if source == BOOL:
        return "from_bool", target
    if target == BOOL:
        return "to_bool", source
    return ("to_float", target) if target.kind == "f" else ("to_int", source)


# ---- products ------------------------------------------------------------------------------------------------------


class ProductLayout(NamedTuple):
    """A product's iteration space (batch..., m, n, k), and its operands' strides over that."""

    shape: Shape
    a: Shape
    b: Shape
    c: Shape


Dims = list[tuple[int, tuple[int, ...]]]
"""Sizes, and the strides of some operands."""


def _merged(dims: Dims) -> Dims:
    """Dimensions longer than 1, those made one that all operands walk as one."""
    result: Dims = []
    for d, strides in dims:
        if d == 1:
            continue
        if result and all(outer == s * d for outer, s in zip(result[-1][1], strides, strict=True)):
            result[-1] = (result[-1][0] * d, strides)
        else:
            result.append((d, strides))
    return result


@lru_cache(maxsize=4096)
def product_layout(x: Shape, a: Shape, y: Shape, b: Shape, contract: Axes, batch: Axes) -> ProductLayout | None:
    """How to compute dot_general of operands of shapes x and y and strides a and b as matrix products.

    Whatever of the free axes does not merge into one becomes a batch axis.  None if the contracted axes do not merge.
    """
    free_x, free_y = free_axes(len(x), contract[0], batch[0]), free_axes(len(y), contract[1], batch[1])
    result = tuple([x[i] for i in batch[0] + free_x] + [y[i] for i in free_y])
    c = iter(dense(result))
    batches: Dims = [(x[i], (a[i], b[j], next(c))) for i, j in zip(*batch, strict=True)]
    rows = _merged([(x[i], (a[i], 0, next(c))) for i in free_x])
    columns = _merged([(y[i], (0, b[i], next(c))) for i in free_y])
    terms = _merged([(x[i], (a[i], b[j], 0)) for i, j in zip(*contract, strict=True)])
    if len(terms) > 1:
        return None
    dims = _merged(batches) + rows[:-1] + columns[:-1]
    for last in (rows, columns, terms):
        dims.append(last[-1] if last else (1, (0, 0, 0)))
    sizes, strides = zip(*dims, strict=True)
    return ProductLayout(tuple(sizes), *[tuple(s) for s in zip(*strides, strict=True)])


def _bytes(x: Value) -> int:
    return x.aval.size * x.aval.dtype.itemsize
