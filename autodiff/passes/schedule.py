"""From a graph to the steps that compute it, and the memory each one reads and writes.

Values that only look at others are read through them, with offsets and strides, by all steps that take strides; for
the rest they are copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from autodiff.ir import INT64, OPS, Dtype, Graph, Line, Literal, Node, Op, Shape, Value, constant_op, full_op, literal
from autodiff.passes.fuse import Region, regions
from autodiff.passes.order import in_order
from autodiff.passes.parts import place_parts
from autodiff.passes.places import Access, Places, bytes_of
from autodiff.passes.products import merged, product_layout
from autodiff.passes.program import Program
from autodiff.passes.row_program import RowProgram
from autodiff.passes.rows import row_regions
from autodiff.passes.steps import (
    ARENA,
    CONSTANT,
    INPUT,
    OUTPUT,
    READ,
    WRITE,
    HostFunction,
    Operand,
    Schedule,
    Step,
    Storage,
    last_reads,
    may_overwrite,
)
from autodiff.passes.views import View, dense, is_dense, look, squeezed, squeezed_strides, squeezed_window

CONSTANT_BYTES = 4096
"""Bytes up to which 0, 1, 2 ... or a literal spread over memory is part of the plan, and not written in every run."""


def schedule(
    graph: Graph,
    donated: Mapping[int, int] | None = None,
    *,
    fuse: bool = True,
    sink: bool = True,
    rows: bool = True,
    recompute: bool = True,
    view: bool = True,
) -> Schedule:
    """Steps that compute a canonical graph.

    `donated` maps inputs to the outputs that are to be made in their memory.
    """
    return _Scheduler(graph, dict(donated or {}), view, recompute).run(fuse, sink, rows)


class Move(NamedTuple):
    """A copy between two pieces of memory, the last thing a plan does."""

    source: Storage
    target: Storage
    shape: Shape
    dtype: Dtype


Copies = list[tuple[Value, Storage]]


class _Scheduler:
    def __init__(self, graph: Graph, donated: dict[int, int], view: bool, recompute: bool):
        self.graph = graph
        self.view = view
        self.places = Places(graph.nodes, view)
        self.placed: dict[Node, set[int]] = {}  # of concatenations: operands that are computed where they belong
        self.donated = donated
        self.recompute = recompute
        self.steps: list[Step] = []
        self.hosts: list[HostFunction] = []
        self.inputs: list[Storage] = []
        self.outputs: list[Storage] = []
        for i, x in enumerate(graph.inputs):
            storage = Storage(INPUT, bytes_of(x), i)
            self.places.storages[x] = storage
            self.inputs.append(storage)

    def run(self, fuse: bool, sink: bool, rows: bool) -> Schedule:
        graph = self.graph
        copies = self.claim_outputs()
        if self.view:
            self.placed = place_parts(graph, self.places, [self.outputs[j] for j in self.donated.values()])
        early, late, last = self.sort_copies(copies)
        for y, target in early:
            self.copy(y, target)
        overwrites = {self.places.root(graph.outputs[j]): graph.inputs[i] for i, j in self.donated.items()}
        for region in self.regions(overwrites, fuse=fuse, sink=sink, rows=rows):
            if region.lane:
                self.run_region(region)
            else:
                node = region.nodes[0]
                EMITTERS.get(node.op, _Scheduler.run_copy)(self, node)
        for y in graph.outputs:
            if self.places.root(y).node.op is not full_op:
                self.places.storage(self.places.root(y))
        for y, target in late:
            self.copy(y, target)
        self.steps = [step for step in self.steps if step.stores]  # all of the others is computed again elsewhere
        last += self.settle_donations()
        for source, target, shape, dtype in last:
            self.move(source, target, shape, dtype)
        return Schedule(self.steps, self.inputs, self.outputs, self.donated, self.hosts)

    def regions(self, overwrites: Mapping[Value, Value], *, fuse: bool, sink: bool, rows: bool) -> list[Region]:
        """What runs together, in the order it runs in."""
        nodes, views = self.graph.nodes, self.places.views
        made = regions(nodes, self.graph.outputs, views, fuse=fuse, sink=sink)
        if not fuse:
            return made
        if rows:
            made = row_regions(made, views)
        return in_order(made, views, overwrites)

    # ---- memory ----

    def claim_outputs(self) -> list[tuple[Value, Storage]]:
        """Compute outputs right where they belong; the rest, which have to be copied there, are returned."""
        copies = []
        for i, y in enumerate(self.graph.outputs):
            storage = Storage(OUTPUT, bytes_of(y), i)
            self.outputs.append(storage)
            root = self.places.root(y)
            if root in self.places.storages or root.node.op in (full_op, constant_op) or not self.places.is_whole(y):
                copies.append((y, storage))
            else:
                self.places.storages[root] = storage
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
            source = self.places.storages.get(self.places.root(y))
            shape, dtype = y.aval[:2]
            from_input = source is not None and source.kind == INPUT
            if target.index not in giver:
                (early if from_input else late).append((y, target))
            elif not from_input or source is not self.inputs[giver[target.index]] or not self.places.is_whole(y):
                staged = Storage(ARENA, target.size)
                (early if from_input else late).append((y, staged))
                last.append(Move(staged, target, shape, dtype))
        return early, late, last

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
            if read == written and step.kind == "scalars":  # reads all before it writes anything
                continue
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

    def contiguous(self, x: Value) -> Access:
        """How to read a value whose elements have to lie one after the other; copies it if they do not."""
        access = self.places.access(x)
        if access.window is None and is_dense(x.aval.shape, access.strides):
            return access
        literal_root = self.places.root(x).node.op is full_op and access.window is None
        if literal_root and bytes_of(x) <= CONSTANT_BYTES:
            array = np.full(x.aval.shape, literal(self.places.root(x)), x.aval.dtype)
            target = Storage(CONSTANT, array.nbytes, data=array)
        else:
            target = Storage(ARENA, bytes_of(x))
            self.copy(x, target, access)
        access = Access(target, 0, dense(x.aval.shape))
        if x in self.places.views:  # what looks at x later may as well look at the copy
            self.places.views[x] = View(x, 0, access.strides)
            self.places.storages[x] = target
        return access

    def unwindowed(self, x: Value) -> Access:
        """How to read a value all of which has to be in memory."""
        access = self.places.access(x)
        return access if access.window is None else self.contiguous(x)

    def copy(self, x: Value, target: Storage, source: Access | None = None, to: View | None = None) -> None:
        """A step that puts a value into memory, contiguous unless `to` says at which offset and strides."""
        source = source or self.places.access(x)
        offset, strides = (0, dense(x.aval.shape)) if to is None else to[1:3]
        self.copy_step(f"copy: {x.node.op.name}", x, source, Access(target, offset, strides), x.node.line)

    def copy_step(self, name: str, x: Value, source: Access, target: Access, line: Line | None) -> None:
        """Copy what is of the shape and dtype of `x`; through a window it takes a map that computes nothing."""
        shape, dtype = x.aval.shape, x.aval.dtype
        window = squeezed_window(shape, source.window)
        read, write = (squeezed_strides(shape, access.strides) for access in (source, target))
        operands = [
            Operand(READ, source.storage, dtype, source.offset, read, dtype, window=window),
            Operand(WRITE, target.storage, dtype, target.offset, write, dtype, ref=~0),
        ]
        step = Step("copy" if window is None else "map", squeezed(shape), name, line, operands)
        step.lane = dtype.itemsize
        self.steps.append(step)

    # ---- regions ----

    def run_region(self, region: Region) -> None:
        kind = "rows" if region.rows else "map" if region.space or region.split else "scalars"
        step = Step(kind, region.space, "", region.nodes[0].line)
        step.lane = region.lane
        if region.rows:
            step.outer = region.rows
            RowProgram(self.places, step, recompute=False).add(region.nodes)
        else:
            if region.split is not None:
                step.outer, step.reduced, _ = region.split
            Program(self.places, step, self.recompute).add(region.nodes)
        names = [node.op.name for node in region.nodes[:9]]
        if len(names) > 1:
            step.name = f"{'rows' if region.rows else 'fused'}: {' '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
        else:
            step.name = names[0]
        self.steps.append(step)

    # ---- the other steps ----

    def run_copy(self, node: Node) -> None:
        """A value that could not be looked at where it is, or was not to be."""
        x = node.inputs[0]
        source, of = self.places.access(x), x
        view = look(node, {x: View(None, *source[1:])})
        if view is None and node.aval.size != x.aval.size:  # a slice of nothing but the zeros around a window
            source = self.contiguous(x)
            view = look(node, {x: View(None, *source[1:])})
        if view is not None:
            source, of = Access(source.storage, *view[1:]), node
        target = Access(self.places.result(node), 0, dense(of.aval.shape))
        self.copy_step(node.op.name, of, source, target, node.line)

    def run_iota(self, node: Node) -> None:
        dtype = node.aval.dtype
        if bytes_of(node) <= CONSTANT_BYTES and node not in self.places.storages:
            self.places.constant(node, node.op.oracle(**node.params))
            return
        operands = [Operand(WRITE, self.places.result(node), dtype, 0, (1,), dtype)]
        self.steps.append(Step("iota", node.aval.shape, "iota", node.line, operands))

    def run_concatenate(self, node: Node) -> None:
        target, shape, axis = self.places.result(node), node.aval.shape, node.params["axis"]
        strides, start, placed = dense(shape), 0, self.placed.get(node, ())
        for i, x in enumerate(node.inputs):
            if i in placed:
                self.places.storage(self.places.root(x))
            elif x.aval.size:
                self.copy(x, target, to=View(None, start * strides[axis], strides))
            start += x.aval.shape[axis]

    def run_pad(self, node: Node) -> None:
        target, (x,) = self.places.result(node), node.inputs
        shape, dtype = node.aval.shape, node.aval.dtype
        pool, offset, *_ = self.places.number(Literal(np.zeros((), dtype)))
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
        operands.append(Operand(WRITE, self.places.result(node), dtype, 0, strides, dtype))
        self.steps.append(Step(kind, (count, row, *sizes), kind, node.line, operands))

    def run_position(self, node: Node) -> None:
        (x,), axis = node.inputs, node.params["axis"]
        source, shape = self.unwindowed(x), x.aval.shape
        strides = list(dense(node.aval.shape))
        strides.insert(axis, 0)
        operands = [
            Operand(READ, source.storage, x.aval.dtype, source.offset, source.strides, x.aval.dtype),
            Operand(WRITE, self.places.result(node), INT64, 0, tuple(strides), INT64),
        ]
        step = Step("arg_reduce", shape, node.op.name, node.line, operands)
        step.outer, step.reduced = axis, 1
        step.detail = "max" if node.op.name == "argmax" else "min"
        self.steps.append(step)

    def run_dot_general(self, node: Node) -> None:
        x, y = node.inputs
        contract, batch = node.params["contract"], node.params["batch"]
        a, b = self.unwindowed(x), self.unwindowed(y)
        layout = product_layout(x.aval.shape, a.strides, y.aval.shape, b.strides, contract, batch)
        if layout is None:
            a, b = self.with_axes_last(x, contract[0]), self.with_axes_last(y, contract[1])
            layout = product_layout(x.aval.shape, a.strides, y.aval.shape, b.strides, contract, batch)
            assert layout is not None
        dtype = node.aval.dtype
        operands = [
            Operand(READ, a.storage, dtype, a.offset, layout.a, dtype),
            Operand(READ, b.storage, dtype, b.offset, layout.b, dtype),
            Operand(WRITE, self.places.result(node), dtype, 0, layout.c, dtype),
        ]
        self.steps.append(Step("gemm", layout.shape, "dot_general", node.line, operands))

    def with_axes_last(self, x: Value, axes: Shape) -> Access:
        """A value whose `axes` can be walked as one: itself, or a copy in which they come last, in this order."""
        shape, source = x.aval.shape, self.places.access(x)
        if len(merged([(shape[i], (source.strides[i],)) for i in axes])) <= 1:
            return source
        order = [i for i in range(len(shape)) if i not in axes] + list(axes)
        strides = [0] * len(shape)
        for i, s in zip(order, dense(tuple([shape[i] for i in order])), strict=True):
            strides[i] = s
        target = Storage(ARENA, bytes_of(x))
        self.copy(x, target, source, to=View(None, 0, tuple(strides)))
        return Access(target, 0, tuple(strides))

    def run_host(self, node: Node) -> None:
        operands = []
        for x in node.inputs:
            access = self.contiguous(x)
            operands.append(Operand(READ, access.storage, x.aval.dtype, access.offset, (), x.aval.dtype))
        operands += [Operand(WRITE, self.places.result(y), y.aval.dtype, 0, (), y.aval.dtype) for y in node.outputs]
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
