"""A Python function and example arguments become a graph: the function is called once, on tensors without values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from autodiff import errors, ir, randomness, state
from autodiff.errors import placed
from autodiff.ir import Aval, Graph, Line, Value
from autodiff.numpy.promotion import leaf, lift
from autodiff.ops.logic import identity
from autodiff.pytree import TreeDef, flatten
from autodiff.signature import Binder, Leaf, describe, static
from autodiff.tensor import Tensor


class Traced(NamedTuple):
    """A graph of the arguments' traced leaves, and the structure its outputs are the leaves of."""

    graph: Graph
    structure: TreeDef


def trace(function: Callable[..., Any], name: str, structure: TreeDef, leaves: Sequence[Leaf]) -> Traced:
    """Call `function` on tensors that stand for the traced leaves of (args, kwargs).

    Raises:
        RuntimeError: if it draws from NumPy's global generator.
        TypeError: if it returns what is no array, or uses a tensor from outside.
    """
    line = errors.user_line()

    def call() -> tuple[list[Value], Any]:
        inputs = [ir.argument(x) for x in leaves if isinstance(x, Aval)]
        rest = iter([Tensor._of(x) for x in inputs])
        args, kwargs = structure.unflatten([next(rest) if isinstance(x, Aval) else x.value for x in leaves])
        return inputs, function(*args, **kwargs)

    with ir.building(ir.Builder(intern=True)), state.within("compile"), ir.collection_paused():
        inputs, result = _without_drawing(call, name)
        tree, result_structure = flatten(result)
        outputs = [_output(x, name, path, line) for x, path in zip(tree, result_structure.paths(), strict=True)]
    graph = Graph(tuple(inputs), tuple(outputs), name)
    _refuse_captured(graph)
    return Traced(graph, result_structure)


def inline(function: Callable[..., Any], binder: Binder, leaves: list[Any], structure: TreeDef) -> Any:
    """Call `function` as a part of what is being traced or differentiated already.

    It gets tensors as it would when compiled, of no known value.
    """
    is_static = binder.static_leaves(structure)
    for i, x in enumerate(leaves):
        held = bool(is_static) and is_static[i]
        if type(x) is Tensor and not held:
            leaves[i] = Tensor._of(identity(x._value))
            continue
        try:
            found = static(x) if held else describe(x)
        except TypeError as error:
            raise TypeError(placed(errors.user_line(), binder.complaint(structure, i, error))) from None
        if isinstance(found, Aval):
            leaves[i] = Tensor._of(identity(as_value(x, found)))
    args, kwargs = structure.unflatten(leaves)
    if state.compiling():
        return function(*args, **kwargs)
    with state.within("compile"):
        return _without_drawing(lambda: function(*args, **kwargs), binder.parameters.name)


def as_value(x: Any, aval: Aval) -> Value:
    """An array or number as a value that carries its data, or is a constant inside `compile`."""
    array = np.asarray(x, aval.dtype)
    if aval.weak:
        return ir.full(float(x), (), aval.dtype) if ir.current().interns else leaf(array, weak=True)
    return lift(array)


def _without_drawing(call: Callable[[], Any], name: str) -> Any:
    before = randomness.fingerprint()
    result = call()
    if randomness.fingerprint() != before:
        draws, line = randomness.drawing_line(call)
        if draws:
            raise RuntimeError(
                placed(
                    line,
                    f"compile({name}): the function draws from NumPy's global generator, whose numbers would be frozen "
                    "into the plan: draw them outside and pass them as arguments",
                )
            )
    return result


def _output(x: Any, name: str, path: str, line: Line | None) -> Value:
    if isinstance(x, Tensor):
        return x._value
    try:
        found = describe(np.asarray(x) if isinstance(x, (bool, int)) else x)
    except TypeError as error:
        raise TypeError(placed(line, f"compile({name}): the result{path} {error}")) from None
    if not isinstance(found, Aval):
        raise TypeError(
            placed(
                line,
                f"compile({name}): the result{path} is a {type(x).__name__}: a compiled function returns arrays and "
                "numbers in tuples, lists, dicts or dataclasses; return the rest from a function around it",
            )
        )
    return ir.constant(np.asarray(x, found.dtype))


def _refuse_captured(graph: Graph) -> None:
    """What is not among the arguments would be frozen, or has no value at all."""
    free = graph.free
    outputs = [x for x in graph.outputs if x.node.op is ir.argument_op and x not in graph.inputs]
    for x in [*free, *outputs]:
        user = next((node.line for node in graph.nodes if x in node.inputs), None) or errors.user_line()
        if x.data is None:
            raise RuntimeError(
                placed(
                    user,
                    f"compile({graph.name}): the function uses a tensor, {x.aval}, that was traced in another call and "
                    "has no value: return it from there, do not keep it",
                )
            )
        raise TypeError(
            placed(
                user,
                f"compile({graph.name}): the function uses a tensor, {x.aval}, made outside of it, whose value would "
                "be frozen into the plan: pass it as an argument, or use its .value if that is meant",
            )
        )
