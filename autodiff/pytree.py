"""Trees of containers: the arguments and results of user functions as flat lists of leaves, and back.

Containers are tuples, namedtuples, lists, dicts (also ordered and default ones), dataclasses and None, which has no
leaves.  Everything else is a leaf.  A dict keeps the order of its keys, which a function that runs over its items sees:
two dicts that were filled in different order have different structures, but fit each other, key by key.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

Constant = Callable[[Any], str]
"""Gives an object a name in generated code."""


class Kind(NamedTuple):
    """How one type of container is taken apart and put together, also in generated Python."""

    keys: Callable[[Any], tuple[Any, ...]]  # names of its children
    children: Callable[[Any, tuple[Any, ...]], Iterable[Any]]  # in the order of the keys
    build: Callable[[Container, list[Any]], Any]
    path: Callable[[Any], str]  # how a child is written in Python, given its key
    expression: Callable[[Container, list[str], Constant], str]  # what builds it, given its children's expressions
    guard: Callable[[Container, str, str, Constant], str]  # tells whether a variable, and how it is first written, fits
    item: Callable[[Container, int, Constant], str]  # what picks the i-th child out of a variable


class Container(NamedTuple):
    """One container in a tree's structure; its children follow it."""

    type: type
    keys: tuple[Any, ...]
    extra: Any = None  # a defaultdict's factory


LEAF = None
"""A leaf in a tree's structure."""


def _values(tree: Any, keys: tuple[Any, ...]) -> list[Any]:
    return [tree[key] for key in keys]


def _field_names(tree: Any) -> tuple[Any, ...]:
    import dataclasses

    return tuple([f.name for f in dataclasses.fields(tree)])


def _field_values(tree: Any, keys: tuple[Any, ...]) -> list[Any]:
    return [getattr(tree, key) for key in keys]


def _build_default(container: Container, children: list[Any]) -> Any:
    return defaultdict(container.extra, zip(container.keys, children, strict=True))


def _build_dataclass(container: Container, children: list[Any]) -> Any:
    # not through __init__: it may check, convert or compute what is here already
    tree: Any = object.__new__(container.type)
    for key, child in zip(container.keys, children, strict=True):
        object.__setattr__(tree, key, child)
    return tree


def _by_position(key: Any) -> str:
    return f"[{key!r}]"


def _by_name(key: Any) -> str:
    return f".{key}"


def _key(key: Any, constant: Constant) -> str:
    return repr(key) if type(key) is str or type(key) is int else constant(key)


def _tuple_display(container: Container, children: list[str], constant: Constant) -> str:
    return f"({', '.join(children)}{',' * (len(children) == 1)})"


def _list_display(container: Container, children: list[str], constant: Constant) -> str:
    return f"[{', '.join(children)}]"


def _dict_display(container: Container, children: list[str], constant: Constant) -> str:
    items = [f"{_key(key, constant)}: {child}" for key, child in zip(container.keys, children, strict=True)]
    return "{" + ", ".join(items) + "}"


def _call(container: Container, children: list[str], constant: Constant) -> str:
    return f"{constant(container.type)}({', '.join(children)})"


def _built(container: Container, children: list[str], constant: Constant) -> str:
    return f"{constant(partial(_known(container).build, container))}([{', '.join(children)}])"


def _is_none(container: Container, first: str, x: str, constant: Constant) -> str:
    return f"({first}) is None"


def _is_type(container: Container, first: str, x: str, constant: Constant) -> str:
    return f"type({first}) is {constant(container.type)}"


def _is_sequence(container: Container, first: str, x: str, constant: Constant) -> str:
    return f"type({first}) is {container.type.__name__} and len({x}) == {len(container.keys)}"


def _is_dict(container: Container, first: str, x: str, constant: Constant) -> str:
    return f"type({first}) is {constant(container.type)} and tuple({x}) == {constant(container.keys)}"


def _is_default(container: Container, first: str, x: str, constant: Constant) -> str:
    return f"{_is_dict(container, first, x, constant)} and {x}.default_factory is {constant(container.extra)}"


def _by_index(container: Container, i: int, constant: Constant) -> str:
    return f"[{i}]"


def _by_key(container: Container, i: int, constant: Constant) -> str:
    return f"[{_key(container.keys[i], constant)}]"


def _by_field(container: Container, i: int, constant: Constant) -> str:
    return f".{container.keys[i]}"


def _positions(tree: Any) -> tuple[Any, ...]:
    return tuple(range(len(tree)))


def _in_order(tree: Any, keys: tuple[Any, ...]) -> Iterable[Any]:
    return tree  # type: ignore[no-any-return]


# fmt: off
_NONE = Kind(lambda tree: (), lambda tree, keys: (), lambda c, children: None, _by_position,
             lambda c, children, constant: "None", _is_none, _by_index)
_TUPLE = Kind(_positions, _in_order, lambda c, children: tuple(children), _by_position,
              _tuple_display, _is_sequence, _by_index)
_LIST = Kind(_positions, _in_order, lambda c, children: children, _by_position,
             _list_display, _is_sequence, _by_index)
_NAMEDTUPLE = Kind(lambda tree: tree._fields, _in_order, lambda c, children: c.type(*children), _by_name,
                   _call, _is_type, _by_index)
_DICT = Kind(tuple, _values, lambda c, children: dict(zip(c.keys, children, strict=True)), _by_position,
             _dict_display, _is_dict, _by_key)
_ORDERED = Kind(tuple, _values, lambda c, children: OrderedDict(zip(c.keys, children, strict=True)), _by_position,
                _built, _is_dict, _by_key)
_DEFAULT = Kind(tuple, _values, _build_default, _by_position,
                _built, _is_default, _by_key)
_DATACLASS = Kind(_field_names, _field_values, _build_dataclass, _by_name,
                  _built, _is_type, _by_field)
# fmt: on

_KINDS: dict[type, Kind | None] = {
    type(None): _NONE,
    tuple: _TUPLE,
    list: _LIST,
    dict: _DICT,
    OrderedDict: _ORDERED,
    defaultdict: _DEFAULT,
    float: None,
    int: None,
    str: None,
    bool: None,
    np.ndarray: None,
    np.float32: None,
    np.float64: None,
}


def _kind(cls: type) -> Kind | None:
    """How a type of container works; None for a leaf's type.  Not kept for other types, which may come and go."""
    try:
        return _KINDS[cls]
    except KeyError:
        pass
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _NAMEDTUPLE
    if hasattr(cls, "__dataclass_fields__"):
        return _DATACLASS
    return None


class TreeDef:
    """A tree's structure: what is left when the leaves are taken out.  Hashable, picklable.

    `spec` lists containers and leaves, each container before its children, from left to right.
    """

    __slots__ = ("_hash", "n_leaves", "spec")

    def __init__(self, spec: Sequence[Container | None]):
        self.spec = tuple(spec)
        self.n_leaves = self.spec.count(LEAF)
        self._hash = hash(self.spec)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, TreeDef) and self._hash == other._hash and self.spec == other.spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return TreeDef, (self.spec,)  # hashes of strings differ from process to process

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """The tree with these leaves, in the order of `flatten`."""
        rest = list(leaves)
        if len(rest) != self.n_leaves:
            raise ValueError(f"{self} has {self.n_leaves} leaves, not {len(rest)}")
        return self._fold(lambda c, children: _known(c).build(c, children), rest.pop)

    def expression(self, leaves: Sequence[str], constant: Constant) -> str:
        """The tree as a Python expression, given those of its leaves."""
        rest = list(leaves)
        result: str = self._fold(lambda c, children: _known(c).expression(c, children, constant), rest.pop)
        return result

    def guards(self, root: str, fresh: Callable[[], str], constant: Constant) -> tuple[list[str], list[str]]:
        """Conditions under which the variable `root` has this structure, and expressions for its leaves.

        To be tested in order, left to right, before the leaves are looked at; `fresh` names new variables.
        """
        conditions: list[str] = []
        leaves: list[str] = []
        stack = [root]
        for item in self.spec:
            here = stack.pop()
            if item is LEAF:
                leaves.append(here)
                continue
            first = here
            if not here.isidentifier():
                name = fresh()
                first, here = f"{name} := {here}", name
            kind = _known(item)
            conditions.append(kind.guard(item, first, here, constant))
            stack.extend([here + kind.item(item, i, constant) for i in reversed(range(len(item.keys)))])
        return conditions, leaves

    def depth(self) -> int:
        """How deep the containers are nested."""
        result: int = self._fold(lambda c, children: 1 + max(children, default=0), lambda: 0)
        return result

    def _fold(self, build: Callable[[Container, list[Any]], Any], next_leaf: Callable[[], Any]) -> Any:
        """Build the tree from the right, so that children are there before their container."""
        done: list[Any] = []
        for item in reversed(self.spec):
            if item is LEAF:
                done.append(next_leaf())
            else:
                n = len(done) - len(item.keys)
                children = done[n:][::-1]
                del done[n:]
                done.append(build(item, children))
        return done[0]

    def paths(self) -> list[str]:
        """Where each leaf is, as it is written in Python: `['w'][1]`, `.weights`; `` for a tree that is one leaf."""
        result: list[str] = []
        stack = [""]
        for item in self.spec:
            here = stack.pop()
            if item is LEAF:
                result.append(here)
            else:
                write = _known(item).path
                stack.extend([here + write(key) for key in reversed(item.keys)])
        return result

    @property
    def keys(self) -> tuple[Any, ...]:
        """The root's keys; none for a leaf."""
        root = self.spec[0]
        return root.keys if root else ()

    @property
    def is_leaf(self) -> bool:
        """Whether the tree is one leaf."""
        return len(self.spec) == self.n_leaves

    @property
    def is_flat_tuple(self) -> bool:
        """Whether the tree is a tuple of leaves."""
        root = self.spec[0]
        return root is not LEAF and root.type is tuple and self.n_leaves == len(self.spec) - 1

    def subtrees(self) -> list[TreeDef]:
        """The structures of the root's children."""
        result: list[TreeDef] = []
        start, missing = 1, 0
        for i, item in enumerate(self.spec[1:], 1):
            missing += 0 if item is LEAF else len(item.keys)
            if missing == 0:
                result.append(TreeDef(self.spec[start : i + 1]))
                start, missing = i + 1, 0
            else:
                missing -= 1
        return result

    def __str__(self) -> str:
        def build(container: Container, children: list[str]) -> str:
            if container.type in (type(None), tuple, list, dict):
                return _known(container).expression(container, children, repr)
            named = [f"{key}={child}" for key, child in zip(container.keys, children, strict=True)]
            return f"{container.type.__name__}({', '.join(named)})"

        return str(self._fold(build, lambda: "*"))

    def __repr__(self) -> str:
        return f"TreeDef({self})"


def _known(container: Container) -> Kind:
    kind = _kind(container.type)
    assert kind is not None
    return kind


def _flatten_into(leaves: list[Any], spec: list[Container | None], tree: Any) -> None:
    cls = type(tree)
    kind = _kind(cls)
    if kind is None:
        leaves.append(tree)
        spec.append(LEAF)
        return
    keys = kind.keys(tree)
    spec.append(Container(cls, keys, tree.default_factory if kind is _DEFAULT else None))
    for child in kind.children(tree, keys):
        _flatten_into(leaves, spec, child)


def flatten(tree: Any) -> tuple[list[Any], TreeDef]:
    """The leaves of a tree and its structure.

    >>> leaves, structure = flatten({"w": [1.0, 2.0], "b": (3.0, None)})
    >>> leaves, str(structure)
    ([1.0, 2.0, 3.0], "{'w': [*, *], 'b': (*, None)}")
    >>> structure.unflatten([10 * leaf for leaf in leaves])
    {'w': [10.0, 20.0], 'b': (30.0, None)}
    """
    leaves: list[Any] = []
    spec: list[Container | None] = []
    _flatten_into(leaves, spec, tree)
    return leaves, TreeDef(spec)


class StructureError(ValueError):
    """Two trees that should have the same structure do not; `path` is where they part."""

    def __init__(self, path: str, wanted: str, got: str):
        super().__init__(f"expected {wanted}{' at ' + path if path else ''}, not {got}")
        self.path = path


def _describe(item: Container | None) -> str:
    if item is LEAF:
        return "an array"
    if item.type is type(None):
        return "None"
    kind = _kind(item.type)
    if kind in (_TUPLE, _LIST):
        return f"a {item.type.__name__} of {len(item.keys)}"
    return f"a {item.type.__name__} of {', '.join(map(repr, item.keys)) or 'nothing'}"


def flatten_like(structure: TreeDef, tree: Any) -> list[Any]:
    """The parts of `tree` that stand where `structure` has its leaves; they may be trees themselves.

    Raises:
        StructureError: where a container of `structure` meets something else.
    """
    result: list[Any] = []
    stack: list[tuple[Any, str]] = [(tree, "")]
    for item in structure.spec:
        here, path = stack.pop()
        if item is LEAF:
            result.append(here)
            continue
        kind = _kind(type(here))
        keys = kind.keys(here) if kind else ()
        if kind in (_DICT, _DEFAULT) and set(keys) == set(item.keys):
            keys = item.keys
        if type(here) is not item.type or keys != item.keys:
            got = type(here).__name__ if kind is None else _describe(Container(type(here), keys))
            raise StructureError(path, _describe(item), got)
        assert kind is not None
        children = [(x, path + kind.path(key)) for key, x in zip(keys, kind.children(here, keys), strict=True)]
        stack.extend(reversed(children))
    return result


def map_leaves(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """A tree of the same structure with the function's results for leaves; further trees give further arguments.

    Raises:
        StructureError: where the others' structure is not the first's.

    >>> map_leaves(lambda x, y: x + y, {"a": 1, "b": (2, 3)}, {"a": 10, "b": (20, 30)})
    {'a': 11, 'b': (22, 33)}
    """
    leaves, structure = flatten(tree)
    rows = [leaves, *[flatten_like(structure, other) for other in others]]
    return structure.unflatten([function(*row) for row in zip(*rows, strict=True)])


def leaves_of(tree: Any) -> Iterator[Any]:
    """The leaves of a tree, from left to right."""
    yield from flatten(tree)[0]
