"""Trees of containers are taken apart and put together again."""

from __future__ import annotations

import itertools
import pickle
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from autodiff import pytree


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Layer:
    weights: Any
    bias: Any = None


@dataclass(frozen=True, slots=True)
class Checked:
    a: Any
    twice: Any = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.a, int):
            raise TypeError("only ints when made by a user")
        object.__setattr__(self, "twice", 2 * self.a)


TREES = [
    1.5,
    None,
    (),
    [],
    {},
    (1,),
    [1, (2, 3), None],
    {"b": 1, "a": [2, {"c": 3}]},
    {1: "x", 0: "y"},
    Pair(1, [2, 3]),
    Layer(1, (2, None)),
    Checked(4),
    OrderedDict([("z", 1), ("a", 2)]),
    defaultdict(list, {"k": 1, "a": (2,)}),
    (Pair(Layer(1, 2), {"x": [None, 3]}), [[], [4]]),
]


@pytest.mark.parametrize("tree", TREES, ids=repr)
def test_round_trip(tree: Any) -> None:
    leaves, structure = pytree.flatten(tree)
    again = structure.unflatten(leaves)
    assert again == tree
    assert type(again) is type(tree)
    assert len(leaves) == structure.n_leaves == len(structure.paths())
    assert pytree.flatten(again) == (leaves, structure)
    assert hash(pytree.flatten(again)[1]) == hash(structure)
    assert pickle.loads(pickle.dumps(structure)) == structure
    assert pytree.flatten_like(structure, tree) == leaves


def test_structures_differ() -> None:
    structures = [pytree.flatten(tree)[1] for tree in TREES if tree not in ((1,), {1: "x", 0: "y"})]
    assert len(set(structures)) == len(structures)


def test_order_of_dicts() -> None:
    tree: Any
    for make in (dict, OrderedDict, lambda items: defaultdict(list, items)):
        tree = make([("b", 1), ("a", 2)])
        leaves, structure = pytree.flatten(tree)
        assert leaves == [1, 2]
        assert list(structure.unflatten(leaves)) == ["b", "a"]
    assert pytree.map_leaves(lambda x, y: (x, y), {"b": 1, "a": 2}, {"a": 20, "b": 10}) == {"b": (1, 10), "a": (2, 20)}


def test_default_factory_survives() -> None:
    leaves, structure = pytree.flatten(defaultdict(list, a=1))
    assert structure.unflatten(leaves)["missing"] == []
    assert structure != pytree.flatten(defaultdict(int, a=1))[1]


def test_paths() -> None:
    tree = {"w": [1, (2,)], "layer": Layer(Pair(3, 4), None)}
    assert pytree.flatten(tree)[1].paths() == [
        "['w'][0]",
        "['w'][1][0]",
        "['layer'].weights.left",
        "['layer'].weights.right",
    ]
    assert pytree.flatten(1)[1].paths() == [""]


def test_dataclasses_are_rebuilt_as_they_were() -> None:
    leaves, structure = pytree.flatten(Checked(4))
    assert leaves == [4, 8]
    again = structure.unflatten(["not", "ints"])
    assert (again.a, again.twice) == ("not", "ints")


def test_classes_and_strings_are_leaves() -> None:
    assert pytree.flatten(Layer)[0] == [Layer]
    assert pytree.flatten("ab")[0] == ["ab"]


@pytest.mark.parametrize("tree", TREES, ids=repr)
def test_generated_code(tree: Any) -> None:
    """What a compiled call runs: a guard that tells this structure from all others, and what rebuilds it."""
    _, structure = pytree.flatten(tree)
    constants: dict[str, Any] = {}

    def constant(value: Any) -> str:
        constants[name := f"c{len(constants)}"] = value
        return name

    names = (f"v{i}" for i in itertools.count())
    conditions, found = structure.guards("tree", lambda: next(names), constant)
    source = f"lambda tree: {' and '.join(conditions) or 'True'} and {structure.expression(found, constant)}"
    check = eval(source, constants)
    rebuilt = check(tree)
    assert rebuilt == tree
    assert type(rebuilt) is type(tree)
    for other in TREES:
        if conditions and pytree.flatten(other)[1] != structure:
            assert check(other) is False


def test_depth() -> None:
    assert [pytree.flatten(tree)[1].depth() for tree in (1, (), [1, (2, [3])], {"a": (None,)})] == [0, 1, 3, 3]


def test_subtrees() -> None:
    children: list[Any] = [1, (2, [3]), None, {"a": (4, None)}]
    assert pytree.flatten(children)[1].subtrees() == [pytree.flatten(child)[1] for child in children]


@pytest.mark.parametrize(
    ("tree", "other", "message"),
    [
        ((1, 2), (1, 2, 3), "expected a tuple of 2, not a tuple of 3"),
        ({"a": [1, 2]}, {"a": 1}, r"expected a list of 2 at \['a'\], not int"),
        ({"a": 1}, {"b": 1}, "expected a dict of 'a', not a dict of 'b'"),
        (Layer((1,)), Layer(None), r"expected a tuple of 1 at \.weights, not None"),
        ([None], [1], r"expected None at \[0\], not int"),
    ],
)
def test_wrong_structure(tree: Any, other: Any, message: str) -> None:
    with pytest.raises(pytree.StructureError, match=f"^{message}$"):
        pytree.map_leaves(lambda x, y: x, tree, other)


def test_map() -> None:
    tree, other = {"a": 1, "b": (2, None)}, {"a": [10, 20], "b": (30, None)}
    assert pytree.map_leaves(lambda x, y: (x, y), tree, other) == {"a": (1, [10, 20]), "b": ((2, 30), None)}


def test_wrong_number_of_leaves() -> None:
    with pytest.raises(ValueError, match="2 leaves, not 1"):
        pytree.flatten((1, 2))[1].unflatten([1])
