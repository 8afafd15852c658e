"""The tile program of a region: what is loaded into registers, computed and stored.

*Policy.*  What one region computes and a later one needs is stored and loaded, unless it is cheaper to compute it
again: in a large space, by cheap operations, from what the later region has in registers or in memory already, if that
reads no more bytes than storing and loading would move.
"""

from __future__ import annotations

from typing import Any

from autodiff.ir import BOOL, OPS, Dtype, Node, Shape, Value, constant_op
from autodiff.passes import fuse
from autodiff.passes.canonical import REDUCTIONS
from autodiff.passes.places import Places, bytes_of
from autodiff.passes.steps import READ, WRITE, Operand, Step
from autodiff.passes.views import dense, is_dense, squeezed, squeezed_strides, squeezed_window

ROLES_OF = dict(zip(REDUCTIONS, ("sum", "max", "min"), strict=True))
_CONVERT, _POW = OPS["convert"], OPS["pow"]
_SPECIAL = {*REDUCTIONS, _CONVERT, OPS["identity"], OPS["stop_gradient"]}

# fmt: off
CHEAP = {OPS[name] for name in (
    "add", "sub", "mul", "neg", "abs", "sign", "maximum", "minimum", "scale", "eq", "ne", "lt", "le", "gt", "ge",
    "logical_and", "logical_or", "logical_xor", "logical_not", "select",
)}
# fmt: on
"""Operations that take no longer than to store and load their results."""

DEPTH = 4
"""How many operations deep a value is computed again."""

MOST_TO_RECOMPUTE = 96
"""Operands of a program from which on nothing is computed again, since that may take more operands."""


class Program:
    """The tile program of a step."""

    def __init__(self, places: Places, step: Step, recompute: bool):
        self.places = places
        self.recompute = recompute and _size(step) > fuse.SMALL
        self.step = step
        self.refs = step.refs
        self.loads: dict[Any, int] = {}

    def add(self, nodes: list[Node]) -> None:
        """Append the nodes of a region."""
        refs, instrs, owners, step = self.refs, self.step.instrs, self.places.owners, self.step
        for node in nodes:
            op = node.op
            if op in _SPECIAL:
                if op in ROLES_OF:
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
        places, step = self.places, self.step
        shape, own, _ = x.aval
        if dtype is None and x not in places.views:
            if self.recompute and x in places.owners and len(step.operands) < MOST_TO_RECOMPUTE:
                nodes: list[Node] = []
                read: set[Value] = set()
                if self.can_recompute(x, nodes, read, DEPTH) and len(read) <= 2 and _worth(read, x):
                    return self.compute_again(nodes)
            operand = Operand(READ, places.storage(x), own, 0, step.layout(shape), own)
            ref = self.refs[x] = ~len(step.operands)
            step.operands.append(operand)
            return ref
        dtype = dtype or own
        if dtype == own:
            held = self.held(x)
            if held is not None:
                self.refs[x] = held
                return held
        storage, offset, strides, window = places.access(x)
        strides, window = self.over_space(squeezed_strides(shape, strides)), squeezed_window(shape, window)
        key = (storage, offset, strides, window, dtype)
        known = self.loads.get(key)
        if known is None:
            known = self.loads[key] = ~len(step.operands)
            step.operands.append(Operand(READ, storage, own, offset, strides, dtype, window=window))
        if dtype == own:
            self.refs[x] = known
        return known

    def over_space(self, strides: Shape) -> Shape:
        """Strides over a value's own dimensions as strides over the step's."""
        return strides

    def can_recompute(self, x: Value, nodes: list[Node], read: set[Value], depth: int) -> bool:
        """Whether a value can be had without storing anything; by which nodes, and what they read from memory."""
        if x in self.refs or x in nodes:
            return True
        places, node = self.places, x.node
        root = places.root(x)
        if (root in places.storages and root not in places.owners) or root.node.op is constant_op:
            read.add(min(x, root, key=bytes_of))
            return True
        if root in places.views:
            return True  # a literal
        owner = places.owners.get(x)
        if not depth or owner is None or x in places.storages or node.op not in CHEAP:
            return False
        if owner.shape != self.step.shape or owner.lane != self.step.lane:
            return False
        if not all(self.can_recompute(y, nodes, read, depth - 1) for y in node.inputs):
            return False
        nodes.append(node)
        return True

    def compute_again(self, nodes: list[Node]) -> int:
        """Append nodes of another region; the register of the last one."""
        ref = 0
        for node in nodes:
            operands = tuple([self.refs[x] if x in self.refs else self.load(x) for x in node.inputs])
            ref = self.refs[node] = len(self.step.instrs)
            self.step.instrs.append((node.op.name, node.inputs[-1].aval.dtype, operands, node.line))
        return ref

    def held(self, x: Value) -> int | None:
        """The register that holds a value of this region, or one that looks the same."""
        ref = self.refs.get(x)
        if ref is not None:
            return ref
        view = self.places.views.get(x)
        if view is None or view.offset or view.window or self.places.owners.get(view.root) is not self.step:
            return None
        same = squeezed(view.root.aval.shape) == self.step.shape and is_dense(x.aval.shape, view.strides)
        return self.step.refs[view.root] if same else None

    def narrow(self, node: Node) -> bool:
        """Whether a conversion ends in this region: then what a register holds is stored converted."""
        (x,) = node.inputs
        own, dtype = x.aval.dtype, node.aval.dtype
        if dtype == BOOL or dtype.itemsize >= own.itemsize or own.itemsize != self.step.lane:
            return False
        ref = self.refs[x] if x in self.refs else self.load(x)
        storage = self.places.result(node)
        strides = self.step.layout(node.aval.shape, storage.strides)
        self.step.operands.append(Operand(WRITE, storage, dtype, 0, strides, own, ref))
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
        """A reduction of what a register holds."""
        (x,) = node.inputs
        places, step = self.places, self.step
        ref = self.refs[x] if x in self.refs else self.load(x)
        storage, dtype = places.result(node), node.aval.dtype
        space, outer, reduced = step.shape, step.outer, step.reduced
        kept = dense(space[:outer] + space[outer + reduced :])
        strides = kept[:outer] + (0,) * reduced + kept[outer:]
        step.operands.append(Operand(ROLES_OF[node.op], storage, dtype, 0, strides, dtype, ref))


def _conversion(source: Dtype, target: Dtype) -> tuple[str, Dtype]:
    """The opcode that converts between numbers of one width, or masks, and the dtype it is named with."""
    if source == BOOL:
        return "from_bool", target
    if target == BOOL:
        return "to_bool", source
    return ("to_float", target) if target.kind == "f" else ("to_int", source)


def _worth(read: set[Value], x: Value) -> bool:
    """Whether reading these moves no more bytes than to store and load a value."""
    return sum(map(bytes_of, read)) <= 2 * bytes_of(x)


def _size(step: Step) -> int:
    size = 1
    for d in step.shape:
        size *= d
    return size
