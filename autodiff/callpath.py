"""The path of a call as generated Python: tests of the known signatures, a run of the plan, the result put together.

Taking trees apart and building keys costs more than a small plan's run.  For signatures that have been seen it is
replaced by code such as

    def loss(params, x):
        if type(params) is dict and tuple(params) == ('w', 'b'):
            y = run(params['w'], params['b'], x)
            if y is not None:
                return (y[0], {'w': y[1], 'b': y[2]})
        return dispatch(*given((params, x), {}))

where `run` is a caller's, which compares shapes and dtypes and returns None where they are others.  Where arguments and
results are arrays alone there is not even that: calls lead straight to the caller.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, NamedTuple

from autodiff._caller import Caller, Entry
from autodiff.ir import Aval
from autodiff.pytree import TreeDef
from autodiff.signature import MISSING, Parameters, Signature, Static, StaticFloat

_PREFIX = "_ad"
_RESERVED = {"dispatch", "type", "len", "tuple", "list", "float", "int", "str"}
"""Names that the code uses and a user's parameter must not hide."""

_MOST_LEAVES = 2000
_DEEPEST = 50
_FOLDER = os.path.dirname(os.path.abspath(__file__))


Dispatch = Callable[[tuple[Any, ...], dict[str, Any]], Any]


class Route(NamedTuple):
    """One executable and how its inputs and outputs lie in trees."""

    signature: Signature
    caller: Caller
    result: TreeDef

    @property
    def direct(self) -> bool:
        """Whether arguments and results are arrays alone, all by position."""
        args, kwargs = self.signature.structure.subtrees()
        traced = all(isinstance(leaf, Aval) for leaf in self.signature.leaves)
        return args.is_flat_tuple and not kwargs.keys and traced and (self.result.is_flat_tuple or self.result.is_leaf)

    @property
    def simple(self) -> bool:
        """Whether code for it stays of a reasonable size."""
        trees = (self.signature.structure, self.result)
        return all(tree.n_leaves <= _MOST_LEAVES and tree.depth() <= _DEEPEST for tree in trees)


class _Code:
    """The constants and variables of a function's code."""

    def __init__(self, dispatch: Dispatch):
        self.constants: dict[str, Any] = {"dispatch": dispatch}
        self._names = (f"{_PREFIX}{i}" for i in itertools.count())

    def fresh(self) -> str:
        return next(self._names)

    def constant(self, value: Any) -> str:
        name = self.fresh()
        self.constants[name] = value
        return name


def lead(entry: Entry, parameters: Parameters, routes: Sequence[Route], dispatch: Dispatch) -> None:
    """Let calls of `entry` try the routes in order, and leave all others to `dispatch(args, kwargs)`."""
    target = _generate(parameters, [route for route in routes if route.simple], dispatch)
    direct = routes[0] if routes and routes[0].direct else None
    entry._lead(target, direct.caller if direct else None, direct is not None and direct.result.is_leaf)


def _generate(parameters: Parameters, routes: Sequence[Route], dispatch: Dispatch) -> FunctionType:
    code = _Code(dispatch)
    names = [p.name for p in parameters.declared]
    if parameters.simple and not any(name.startswith(_PREFIX) or name in _RESERVED for name in names):
        head, body = _named(code, parameters, routes)
    else:
        head, body = _starred(code, routes)
    name = parameters.name if parameters.name.isidentifier() else "call"
    source = "\n".join([f"def {name}({head}):", *body])
    filename = os.path.join(_FOLDER, f"<call of {name}>")  # no place in the user's source
    exec(compile(source, filename, "exec"), code.constants)
    function: FunctionType = code.constants[name]
    function.__qualname__ = parameters.name
    return function


def _named(code: _Code, parameters: Parameters, routes: Sequence[Route]) -> tuple[str, list[str]]:
    """Code with the user's own parameters; those that have a default may be missing."""
    missing = code.constant(MISSING)
    head: list[str] = []
    last = None
    for p in parameters.declared:
        if last is p.POSITIONAL_ONLY and p.kind is not last:
            head.append("/")
        if p.kind is p.KEYWORD_ONLY and p.kind is not last:
            head.append("*")
        head.append(p.name if p.default is p.empty else f"{p.name}={missing}")
        last = p.kind
    body: list[str] = []
    for route in routes:
        args, kwargs = route.signature.structure.subtrees()
        given = [p.name for p in parameters.declared[: len(args.keys)]] + [*kwargs.keys]
        absent = [f"{p.name} is {missing}" for p in parameters.declared if p.name not in given]
        body += _branch(code, route, absent, given)
    positional = "".join(f"{p.name}, " for p in parameters.declared if p.kind is not p.KEYWORD_ONLY)
    keywords = ", ".join(f"{p.name!r}: {p.name}" for p in parameters.declared if p.kind is p.KEYWORD_ONLY)
    given_only = code.constant(parameters.given)
    body.append(f"    return dispatch(*{given_only}(({positional}), {{{keywords}}}))")
    return ", ".join(head), body


def _starred(code: _Code, routes: Sequence[Route]) -> tuple[str, list[str]]:
    """Code that takes any arguments, and knows only calls by position."""
    args_name, kwargs_name = code.fresh(), code.fresh()
    body: list[str] = []
    for route in routes:
        args, kwargs = route.signature.structure.subtrees()
        if not kwargs.keys:
            n = len(args.keys)
            fits = [f"not {kwargs_name}", f"len({args_name}) == {n}"]
            body += _branch(code, route, fits, [f"{args_name}[{i}]" for i in range(n)])
    body.append(f"    return dispatch({args_name}, {kwargs_name})")
    return f"*{args_name}, **{kwargs_name}", body


def _branch(code: _Code, route: Route, conditions: list[str], arguments: Sequence[str]) -> list[str]:
    """Lines that take a route if the conditions hold and the arguments, given as expressions, have its signature."""
    inputs: list[str] = []
    leaves = iter(route.signature.leaves)
    args, kwargs = route.signature.structure.subtrees()
    for tree, argument in zip([*args.subtrees(), *kwargs.subtrees()], arguments, strict=True):
        tests, found = tree.guards(argument, code.fresh, code.constant)
        conditions += tests
        for expression, leaf in zip(found, leaves, strict=False):
            if isinstance(leaf, Aval):
                inputs.append(expression)
            else:
                conditions.append(_static_guard(code, leaf, expression))
    y = code.fresh()
    result = route.result.expression([f"{y}[{i}]" for i in range(route.result.n_leaves)], code.constant)
    if route.result.is_flat_tuple:
        result = y
    return [
        f"    if {' and '.join(conditions) or 'True'}:",
        f"        {y} = {code.constant(route.caller.run)}({', '.join(inputs)})",
        f"        if {y} is not None:",
        f"            return {result}",
    ]


def _static_guard(code: _Code, leaf: Static | StaticFloat, expression: str) -> str:
    """A condition that an expression is such a leaf."""
    x = code.fresh()
    first = f"({x} := {expression})"
    if isinstance(leaf, StaticFloat):
        return f"type{first} is float and {x}.hex() == {leaf.bits!r}"
    if leaf.type is int or leaf.type is str:
        return f"type{first} is {leaf.type.__name__} and {x} == {code.constant(leaf.value)}"
    return f"{first} is {code.constant(leaf.value)}"  # an equal one takes the long way
