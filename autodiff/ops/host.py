"""Python in a plan: a step that calls back into the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autodiff.ir import Aval, Node, Tangents, Value
from autodiff.ops.base import primitive


def _infer(*avals: Aval, function: Callable[..., Any], results: tuple[Aval, ...]) -> tuple[Aval, ...]:
    return results


def _oracle(*arrays: Any, function: Callable[..., Any], results: tuple[Aval, ...]) -> Any:
    return function(*arrays)


def _jvp(node: Node, tangents: Tangents) -> Tangents:
    raise TypeError(f"the host step {node.params['function']!r} has no derivative rule")


def _batch(node: Node, size: int, inputs: Sequence[Value], batched: Sequence[bool]) -> Sequence[Value]:
    raise TypeError(f"the host step {node.params['function']!r} has no batch rule")


# host(*xs, function, results): function(*arrays) -> a tuple of arrays of the avals `results`
host = primitive("host", _oracle, infer=_infer, jvp_rule=_jvp, batch=_batch)
