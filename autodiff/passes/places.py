"""Where each value of a graph is: in memory, in a register of a step, or only another way to look at a value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from autodiff.ir import Array, Dtype, Literal, Node, Shape, Value, constant_op, full_op
from autodiff.passes.steps import ARENA, CONSTANT, WRITE, Operand, Step, Storage
from autodiff.passes.views import View, Window, dense, is_dense, look


class Access(NamedTuple):
    """Where to read a value: strides and a window over its own shape."""

    storage: Storage
    offset: int
    strides: Shape
    window: Window | None = None


class Places:
    """Memory is asked for only where something needs a value that no register holds.

    A step's stores are therefore added when a later step first reads what it made.
    """

    def __init__(self, nodes: Iterable[Node], view: bool):
        self.views: dict[Value, View] = {}
        self.storages: dict[Value, Storage] = {}
        self.owners: dict[Value, Step] = {}  # of values in registers, which may yet have to be stored
        self.numbers: dict[Literal, int] = {}  # literals: where in their dtype's storage
        self.pools: dict[Dtype, Storage] = {}
        for node in nodes:
            if node.op is full_op:
                self.views[node] = View(node, 0, (0,) * len(node.aval.shape))
            elif view:
                seen = look(node, self.views)
                if seen is not None:
                    self.views[node] = seen

    def root(self, x: Value) -> Value:
        """The value that a view looks at, or else the value itself."""
        view = self.views.get(x)
        return x if view is None else view.root

    def is_whole(self, y: Value) -> bool:
        """Whether a value is all of what it looks at, in the same order."""
        view = self.views.get(y)
        if view is None:
            return True
        same_size = bytes_of(view.root) == bytes_of(y)
        return same_size and view.offset == 0 and view.window is None and is_dense(y.aval.shape, view.strides)

    def storage(self, root: Value) -> Storage:
        """Where a value that is no view lies, contiguous; stores it first if only a register held it so far."""
        storage = self.storages.get(root)
        if storage is None:
            if root.node.op is constant_op:
                return self.constant(root, root.node.params["value"].array)
            storage = self.storages[root] = Storage(ARENA, bytes_of(root))
        step = self.owners.pop(root, None)
        if step is not None:
            dtype = root.aval.dtype
            strides = step.layout(root.aval.shape, storage.strides)
            step.operands.append(Operand(WRITE, storage, dtype, 0, strides, dtype, step.refs[root]))
        return storage

    def constant(self, x: Value, array: Array) -> Storage:
        """Make a value part of the plan."""
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
            pool, offset, *_ = self.number(root.node.params["value"])
            return Access(pool, offset, view.strides, view.window)
        return Access(self.storage(root), view.offset, view.strides, view.window)

    def result(self, y: Value) -> Storage:
        """Memory for what a step computes."""
        storage = self.storages.get(y)
        if storage is None:
            storage = self.storages[y] = Storage(ARENA, bytes_of(y))
        return storage


def bytes_of(x: Value) -> int:
    """How much memory a value takes."""
    return x.aval.size * x.aval.dtype.itemsize
