"""Values that are computed when they are asked for: executables of the graphs behind them, kept for the next time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from autodiff import ir
from autodiff.executable import Executable, compile_graph
from autodiff.ir import Array, Builder, Graph, Node, Value


class _Cache:
    """The executables used last, by the structure of what they compute."""

    def __init__(self, size: int):
        self.size = size
        self.lock = threading.Lock()
        self.table: OrderedDict[Any, Executable] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Executable]) -> Executable:
        with self.lock:
            known = self.table.get(key)
            if known is not None:
                self.table.move_to_end(key)
                return known
        made = make()
        with self.lock:
            self.table[key] = made
            while len(self.table) > self.size:
                self.table.popitem(last=False)
        return made


_evaluations = _Cache(256)


def evaluate(values: Sequence[Value]) -> list[Array]:
    """The NumPy values of nodes made outside `compile`; they are kept, and computing starts from what is known.

    Networks of the same structure, written in the same lines, share one executable, so that a loop compiles once.
    """
    wanted = list(dict.fromkeys([x for x in values if x.data is None]))
    if wanted:
        nodes, leaves = _cut(wanted)
        numbers: dict[Value, int] = {x: i for i, x in enumerate(leaves)}
        key: list[Any] = [x.aval[:2] for x in leaves]
        for node in nodes:
            key.append((node.op, node.line, *node.params.values(), *[numbers[x] for x in node.inputs]))
            for y in node.outputs:
                numbers[y] = len(numbers)
        key.append(tuple([numbers[x] for x in wanted]))

        def make() -> Executable:
            return compile_graph(_as_graph(nodes, leaves, wanted))

        arrays = [x.data for x in leaves if x.data is not None]
        for x, array in zip(wanted, _evaluations.get(tuple(key), make).run_flat(arrays), strict=True):
            x.data = array
    return [x.data for x in values if x.data is not None]


def _cut(wanted: Sequence[Value]) -> tuple[list[Node], list[Value]]:
    """The nodes that have to be computed, sorted; and the known values that they begin with."""
    seen: set[Node] = set()
    stack = [x.node for x in wanted]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        if node.op is ir.argument_op:
            raise ValueError(f"{node.aval} is an argument of a function that is being traced: it has no value yet")
        seen.add(node)
        stack.extend([x.node for x in node.inputs if x.data is None and x.node not in seen])
    nodes = sorted(seen, key=ir.serial)
    leaves = {x: None for node in nodes for x in node.inputs if x.data is not None}
    return nodes, list(leaves)


def _as_graph(nodes: list[Node], leaves: list[Value], wanted: Sequence[Value]) -> Graph:
    """The same nodes on arguments, so that what is cached keeps none of the user's arrays."""
    builder = Builder(intern=True)
    with ir.building(builder):
        env: dict[Value, Value] = {x: ir.argument(x.aval) for x in leaves}
        inputs = tuple(env.values())
        for node in nodes:
            builder.line = node.line
            new = builder.emit(node.op, tuple([env[x] for x in node.inputs]), node.params)
            for y, result in zip(node.outputs, new.outputs, strict=True):
                env.setdefault(y, result)
    return Graph(inputs, tuple([env[x] for x in wanted]), "lazy")
