"""How passes from graph to graph are written: as rules, each of which may replace one node by an equal value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autodiff.ir import Builder, Graph, Op, Value, collection_paused, full_op

Rule = Callable[..., "Value | None"]
"""(emit, *inputs, **params) -> an equal value of the same shape and dtype, or None where the rule does not apply.

`emit(op, *inputs, **params)` makes the nodes of the replacement and applies the rules to those too, so a rule need only
look one node deep.
"""

Rules = Mapping[Op, Sequence[Rule]]
Emit = Callable[..., Value]


class _Rewriter:
    def __init__(self, rules: Rules, literal_rules: Rules):
        self.builder = Builder(intern=True)
        self.rules = rules
        self.literal_rules = literal_rules
        self.literals: set[Value] = set()

    def replacement(self, op: Op, inputs: tuple[Value, ...], params: Mapping[str, Any]) -> Value | None:
        for rule in self.rules.get(op, ()):
            value = rule(self.emit, *inputs, **params)
            if value is not None:
                return value
        if self.literals and not self.literals.isdisjoint(inputs):
            for rule in self.literal_rules.get(op, ()):
                value = rule(self.emit, *inputs, **params)
                if value is not None:
                    return value
        return None

    def emit(self, op: Op, *inputs: Value, **params: Any) -> Value:
        value = self.replacement(op, inputs, params)
        if value is None:
            value = self.builder.emit(op, inputs, params)
            if op is full_op:
                self.literals.add(value)
        return value


def rewrite(graph: Graph, rules: Rules, literal_rules: Rules | None = None) -> Graph:
    """Apply rules from the inputs to the outputs; `literal_rules` only to nodes with a `full` among their inputs.

    Equal nodes become one and what the outputs do not need is dropped, whatever built the graph.  Nodes that nothing
    changes are used as they are.
    """
    rewriter = _Rewriter(rules, literal_rules or {})
    builder, literals = rewriter.builder, rewriter.literals
    replaced: dict[Value, Value] = {}
    with collection_paused():
        for node in graph.nodes:
            op, inputs = node.op, node.inputs
            if not replaced.keys().isdisjoint(inputs):
                inputs = tuple([replaced.get(x, x) for x in inputs])
            if op in rules or not literals.isdisjoint(inputs):
                builder.line = node.line
                value = rewriter.replacement(op, inputs, node.params)
                if value is not None:
                    replaced[node] = value
                    continue
            new = builder.adopt(node, inputs)
            if op is full_op:
                literals.add(new)
            if new is not node:
                replaced[node] = new
                if node.results is not None:
                    replaced.update(zip(node.outputs, new.outputs, strict=True))
        if not replaced:
            return graph
        return Graph(graph.inputs, tuple([replaced.get(y, y) for y in graph.outputs]), graph.name)
