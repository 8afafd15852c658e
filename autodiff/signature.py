"""What a compiled function is compiled for: the structure of its arguments, and what is known of each leaf.

Arrays, NumPy scalars and Python floats are traced: their shape and dtype matter, not their value.  All other leaves
are static: they are part of the signature by type and value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from autodiff import ir
from autodiff.ir import Aval, Dtype
from autodiff.pytree import TreeDef, flatten

WEAK_FLOAT = Aval((), ir.FLOAT64, weak=True)
"""A Python float, which does not widen the arrays it meets."""


_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_POSITIONAL_OR_KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD


class Static(NamedTuple):
    """A leaf that is part of the signature."""

    type: type
    value: Any

    def __str__(self) -> str:
        text = repr(self.value)
        return f"static {self.type.__name__} {text if len(text) <= 40 else text[:37] + '...'}"


class StaticFloat(NamedTuple):
    """A static float by its bits: 0.0 is not -0.0, and NaN is NaN."""

    bits: str
    value: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StaticFloat) and self.bits == other.bits

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.bits)

    def __str__(self) -> str:
        return f"static float {self.value}"


Leaf = Aval | Static | StaticFloat


def shown(leaf: Leaf) -> str:
    """A leaf for people."""
    return "a Python float" if leaf == WEAK_FLOAT else str(leaf)


class Signature(NamedTuple):
    """The key of a compiled function's cache."""

    structure: TreeDef  # of (args, kwargs)
    leaves: tuple[Leaf, ...]
    donated: tuple[int, ...]  # leaves whose memory becomes a result's

    def __str__(self) -> str:
        return ", ".join(map(shown, self.leaves))


_NATIVE: dict[Dtype, Dtype] = {dtype.newbyteorder(order): dtype for dtype in ir.DTYPES for order in ("little", "big")}


def _traced(shape: ir.Shape, dtype: Dtype) -> Aval:
    native = _NATIVE.get(dtype)
    if native is None:
        names = ", ".join(d.name for d in ir.DTYPES)
        what = "an object array" if dtype.hasobject else f"an array of dtype {dtype}"
        raise TypeError(f"is {what}, shape {shape}: convert it to one of {names} with .astype")
    return Aval(shape, native)


def describe(x: Any) -> Leaf:
    """What a signature says of one leaf.

    Raises:
        TypeError: for what can be neither traced nor static; the message continues "the argument ...".
    """
    if type(x) is np.ndarray:
        return _traced(x.shape, x.dtype)
    if type(x) is float:
        return WEAK_FLOAT
    if isinstance(x, np.generic) and not isinstance(x, (str, bytes)):
        return _traced((), x.dtype)
    if isinstance(x, np.ndarray):
        if isinstance(x, (np.matrix, np.ma.MaskedArray)) or type(x).__array_ufunc__ is not np.ndarray.__array_ufunc__:
            raise TypeError(
                f"is a {type(x).__name__}, whose own arithmetic would be lost: pass its data as a plain array"
            )
        return _traced(x.shape, x.dtype)
    if isinstance(x, float):
        return WEAK_FLOAT
    if hasattr(type(x), "__array__") or hasattr(type(x), "__array_interface__"):
        raise TypeError(f"is a {type(x).__name__}: convert it with np.asarray")
    return static(x)


def static(x: Any) -> Static | StaticFloat:
    """A leaf by type and value.

    Raises:
        TypeError: for what is not hashable; the message continues "the argument ...".
    """
    if type(x) is float:
        return StaticFloat(x.hex(), x)
    try:
        hash(x)
    except TypeError:
        if hasattr(x, "shape"):
            raise TypeError(f"is an array, shape {x.shape}, where a static value is asked for") from None
        raise TypeError(
            f"is a {type(x).__name__}, which is no array and not hashable: pass arrays in tuples, lists, dicts or "
            "dataclasses, and settings as hashable values"
        ) from None
    return Static(type(x), x)


class _Missing:
    def __reduce__(self) -> str:
        return "MISSING"  # there is one, also when unpickled


MISSING = _Missing()
"""Stands for an argument that was not given."""


class Parameters:
    """What a user's function calls its arguments.  Picklable: it holds no defaults and annotations."""

    def __init__(self, function: Callable[..., Any]):
        self.name: str = getattr(function, "__name__", None) or type(function).__name__
        try:
            found = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # of some functions written in C
            found = [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)]
            found.append(inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD))
        self.declared = [
            p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else MISSING) for p in found
        ]
        self.simple = not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in self.declared)

    def positional(self, i: int) -> str:
        """The name of a positional argument, or its number where it has none of its own."""
        if i < len(self.declared) and self.declared[i].kind in (_POSITIONAL_ONLY, _POSITIONAL_OR_KEYWORD):
            return self.declared[i].name
        return str(i)

    def paths(self, structure: TreeDef) -> list[str]:
        """Each leaf of (args, kwargs) as people write it: `params['w'][1]`."""
        return [name + path for name, tree in self.arguments(structure) for path in tree.paths()]

    def arguments(self, structure: TreeDef) -> list[tuple[str, TreeDef]]:
        """Names and structures of the arguments in (args, kwargs)."""
        args, kwargs = structure.subtrees()
        names = [self.positional(i) for i in range(len(args.keys))] + list(kwargs.keys)
        return list(zip(names, [*args.subtrees(), *kwargs.subtrees()], strict=True))

    def normalise(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same call with arguments by position where they can be; TypeError where they do not fit."""
        try:
            bound = inspect.Signature(self.declared).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        return bound.args, bound.kwargs

    def given(self, positional: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A call as `normalise` has it, from all parameters' values, of which some may be missing."""
        n = next((i for i, x in enumerate(positional) if x is MISSING), len(positional))
        kwargs = {p.name: x for p, x in zip(self.declared[n:], positional[n:], strict=False) if x is not MISSING}
        kwargs.update((name, x) for name, x in keywords.items() if x is not MISSING)
        return positional[:n], kwargs


class Binder:
    """Makes signatures of a function's calls."""

    def __init__(self, parameters: Parameters, static_argnums: Iterable[int], donate_argnums: Iterable[int]):
        self.parameters = parameters
        self.static = self._arguments("static_argnums", static_argnums)
        self.donate = self._arguments("donate_argnums", donate_argnums)
        if self.static & self.donate:
            both = ", ".join(map(str, self.static & self.donate))
            raise ValueError(f"{parameters.name}: argument {both} cannot be both static and donated")

    def _arguments(self, what: str, argnums: Iterable[int]) -> frozenset[str]:
        """The names (or numbers) of arguments given by position."""
        parameters = self.parameters
        n = len(parameters.declared)
        names = set()
        for i in argnums:
            if not isinstance(i, int) or isinstance(i, bool):
                raise TypeError(f"{parameters.name}: {what} are positions of arguments, not {i!r}")
            if not (-n <= i < n if parameters.simple else i >= 0):
                raise ValueError(f"{parameters.name}: {what} has {i}, but there are {n} arguments")
            names.add(parameters.positional(i % n if i < 0 else i))
        return frozenset(names)

    def flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], TreeDef]:
        """All leaves of a call, and the structure of (args, kwargs)."""
        return flatten(self.parameters.normalise(args, kwargs) if kwargs else (args, kwargs))

    def sign(self, values: Sequence[Any], structure: TreeDef) -> Signature:
        """The signature of a call.

        Raises:
            TypeError: where a leaf can be neither traced nor static, naming it.
        """
        is_static, is_donated = self.static_leaves(structure), self._flags(structure, self.donate)
        leaves: list[Leaf] = []
        for i, x in enumerate(values):
            try:
                leaves.append(static(x) if is_static and is_static[i] else describe(x))
            except TypeError as error:
                raise TypeError(self.complaint(structure, i, error)) from None
        donated = tuple([i for i, flag in enumerate(is_donated) if flag and isinstance(values[i], np.ndarray)])
        return Signature(structure, tuple(leaves), donated)

    def complaint(self, structure: TreeDef, leaf: int, what: object) -> str:
        """What is said of one leaf of the arguments."""
        return f"{self.parameters.name}: argument {self.parameters.paths(structure)[leaf]} {what}"

    def static_leaves(self, structure: TreeDef) -> list[bool]:
        """Which leaves the user wants to be static; nothing where there are none."""
        return self._flags(structure, self.static)

    def _flags(self, structure: TreeDef, names: frozenset[str]) -> list[bool]:
        """Which leaves belong to arguments of those names; nothing where there are no names."""
        if not names:
            return []
        return [name in names for name, tree in self.parameters.arguments(structure) for _ in range(tree.n_leaves)]

    def difference(self, old: Signature, new: Signature) -> str:
        """How two signatures differ, for people."""
        if old.structure == new.structure:
            paths = self.parameters.paths(new.structure)
            found = [
                f"{path}: {shown(a)} -> {shown(b)}"
                for path, a, b in zip(paths, old.leaves, new.leaves, strict=True)
                if a != b
            ]
            if not found:
                found = [f"{p}: a NumPy scalar is not donated, an array is" for p in self.donate]
        else:
            before, after = (dict(self.parameters.arguments(s.structure)) for s in (old, new))
            found = [
                f"{name}: {before.get(name, 'not given')} -> {after.get(name, 'not given')}"
                for name in dict.fromkeys([*before, *after])
                if before.get(name) != after.get(name)
            ]
        return "argument " + "; ".join(found[:3]) + f"; and {len(found) - 3} more" * (len(found) > 3)
