"""What all derivatives of a user's function share: it is called on tensors, and its results become values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from autodiff import errors, ir, ops, state
from autodiff.ir import Aval, Line, Value
from autodiff.pytree import StructureError, TreeDef, flatten, flatten_like
from autodiff.signature import Parameters, describe
from autodiff.tensor import Tensor
from autodiff.trace import as_value

Tree = Any


class Call(NamedTuple):
    """A function called on tensors that stand for some of its arguments."""

    inputs: list[Value]  # the leaves of those arguments
    trees: list[TreeDef]  # their structures
    result: Tree
    outermost: bool  # nothing else is going on: results are to be computed

    def like_arguments(self, values: Sequence[Value | None]) -> tuple[Tree, ...]:
        """Trees of tensors, one for each argument; None is zero."""
        rest = tensors([ir.zeros(x.aval) if v is None else v for x, v in zip(self.inputs, values, strict=True)])
        found = []
        for tree in self.trees:
            found.append(tree.unflatten(rest[: tree.n_leaves]))
            del rest[: tree.n_leaves]
        return tuple(found)

    def finish(self, tree: Tree) -> Tree:
        """The tree as users get it: computed, if this call is the outermost."""
        return evaluated(tree) if self.outermost else tree


class Subject:
    """A user's function, of which `what` is taken."""

    def __init__(self, what: str, function: Callable[..., Any]):
        self.function = function
        self.parameters = Parameters(function)
        self.name = f"{what}({self.parameters.name})"

    def error(self, text: str, line: Line | None = None) -> TypeError:
        """An error of this derivative, at a line or where the user is."""
        return TypeError(errors.placed(line or errors.user_line(), f"{self.name}: {text}"))

    def call(self, argnums: Sequence[int], args: Sequence[Any], kwargs: dict[str, Any], also: Tree = ()) -> Call:
        """Call the function with tensors for the arguments `argnums`; `also` is what else the user gave."""
        outermost = not state.active() and not has_tensor((args, kwargs, also))
        inputs: list[Value] = []
        trees: list[TreeDef] = []
        arguments = list(args)
        for i in argnums:
            leaves, tree = flatten(args[i])
            values = []
            for x, path in zip(leaves, tree.paths(), strict=True):
                try:
                    values.append(_differentiable(x))
                except TypeError as error:
                    raise self.error(f"argument {self.parameters.positional(i)}{path} {error}") from None
            arguments[i] = tree.unflatten(tensors(values))
            inputs += values
            trees.append(tree)
        with state.within("derivative", inputs), ir.collection_paused():
            result = self.function(*arguments, **kwargs)
        return Call(inputs, trees, result, outermost)

    def pair(self, result: Any) -> tuple[Any, Any]:
        """A result that has to be a pair."""
        if isinstance(result, tuple) and len(result) == 2:
            return result
        got = f"a tuple of {len(result)}" if isinstance(result, tuple) else f"a {type(result).__name__}"
        raise self.error(f"with has_aux the function returns a pair (result, aux), not {got}")

    def scalar(self, x: Any) -> Value:
        """A result that has to be a floating scalar."""
        line = None
        found: Any = None
        if isinstance(x, Tensor):
            found, line = x._value.aval, x._value.node.line
        elif x is not None:
            try:
                found = describe(np.asarray(x) if isinstance(x, (bool, int)) else x)
            except TypeError:
                found = None
            if not isinstance(found, Aval):
                found = f"a {type(x).__name__}"
        if isinstance(found, Aval):
            if not found.shape and ir.is_float(found.dtype):
                return x._value if isinstance(x, Tensor) else as_value(x, found)
            advice = "sum or average it, or use vjp" if found.shape else "convert it with .astype(float)"
        elif x is None:
            advice = "return the value"
        else:
            advice = "return a scalar; other results go with it in a pair, with has_aux=True"
        raise self.error(f"the result is {found}, not a floating-point scalar: {advice}", line)

    def outputs(self, result: Tree) -> tuple[list[Value], TreeDef]:
        """The leaves of a result as values, and its structure."""
        leaves, structure = flatten(result)
        values: list[Value] = []
        for x, path in zip(leaves, structure.paths(), strict=True):
            if isinstance(x, Tensor):
                values.append(x._value)
                continue
            try:
                found = describe(np.asarray(x) if isinstance(x, (bool, int)) else x)
            except TypeError as error:
                raise self.error(f"the result{path} {error}") from None
            if not isinstance(found, Aval):
                raise self.error(f"the result{path} is a {type(x).__name__}, not an array")
            values.append(as_value(x, found))
        return values, structure

    def directions(self, kind: str, structure: TreeDef, tree: Tree, like: Sequence[Value]) -> list[Value | None]:
        """A tree of tangents or cotangents as values, of the structure, shapes and dtypes of what they belong to."""
        try:
            leaves = flatten_like(structure, tree)
        except StructureError as error:
            raise self.error(f"the {kind}s' structure is wrong: {error}") from None
        return [
            self._direction(f"the {kind}{path}", x, Aval(*y.aval[:2]))
            for x, y, path in zip(leaves, like, structure.paths(), strict=True)
        ]

    def _direction(self, what: str, x: Any, aval: Aval) -> Value | None:
        if x is None or not ir.is_float(aval.dtype):
            return None
        if type(x) in (int, float) and not aval.shape:
            x = aval.dtype.type(x)
        found: Any = f"a {type(x).__name__}"
        if isinstance(x, Tensor):
            found = x._value.aval
        elif isinstance(x, (np.ndarray, np.generic)):
            try:
                found = describe(x)
            except TypeError as error:
                raise self.error(f"{what} {error}") from None
        if not isinstance(found, Aval) or found[:2] != aval[:2]:
            raise self.error(f"{what} is {found}, but belongs to {aval}: make it of that shape and dtype")
        return x._value if isinstance(x, Tensor) else as_value(x, found)


def _differentiable(x: Any) -> Value:
    """A value of its own for a leaf; the message of the TypeError continues "the argument ..."."""
    found: Any = x._value.aval if isinstance(x, Tensor) else describe(x)
    if not isinstance(found, Aval):
        advice = f": pass {x}.0," if type(x) is int else ": pass an array,"
        raise TypeError(f"is the {type(x).__name__} {x!r}, and derivatives are by floating-point numbers{advice} "
                        "or do not differentiate by it")  # fmt: skip
    if not ir.is_float(found.dtype):
        raise TypeError(
            f"is {found}, and derivatives are by floating-point numbers: convert it with .astype(float), or do not "
            "differentiate by it"
        )
    if isinstance(x, Tensor):
        return ops.logic.identity(x._value)
    value = as_value(x, found)
    return value if value.node.op is ir.argument_op else ops.logic.identity(value)


def tensors(values: Iterable[Value]) -> list[Tensor]:
    """Values as users see them."""
    return [Tensor._of(x) for x in values]


def has_tensor(tree: Tree) -> bool:
    """Whether a leaf of the tree is a tensor."""
    return any(isinstance(x, Tensor) for x in flatten(tree)[0])


def evaluated(tree: Tree) -> Tree:
    """A tree with its tensors computed, by one plan: arrays that are the caller's own."""
    from autodiff.evaluate import evaluate

    leaves, structure = flatten(tree)
    positions = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
    arrays = evaluate([leaves[i]._value for i in positions])
    for i, array in zip(positions, arrays, strict=True):
        leaves[i] = array.copy()[()]
    return structure.unflatten(leaves)
