"""Writing in place: which tensors share memory in NumPy, and so what a write would change.

Values never change: a tensor takes a new one, and so does what it is a view of.
"""

from __future__ import annotations

import weakref
from itertools import pairwise
from typing import Any

from autodiff import ir, state
from autodiff.history import Tracked
from autodiff.ir import Value
from autodiff.lazy import Lazy
from autodiff.numpy import indexing


class Storage:
    """Tensors that share memory in NumPy: an array and views of it.  `owned`: whether it may be written to."""

    __slots__ = ("_limit", "_tensors", "owned")

    def __init__(self, tensor: Stored, owned: bool):
        self.owned = owned
        self._tensors = [weakref.ref(tensor)]
        self._limit = 16

    def add(self, tensor: Stored) -> None:
        """Count one more tensor in."""
        self._tensors.append(weakref.ref(tensor))
        if len(self._tensors) > self._limit:
            self._tensors = [ref for ref in self._tensors if ref() is not None]
            self._limit = 2 * len(self._tensors) + 16

    def live(self) -> list[Stored]:
        """Those still in use."""
        return [t for ref in self._tensors if (t := ref()) is not None]


class Stored(Tracked):
    """A value in memory that others may share: `Tensor` is made of it."""

    __slots__ = ("_part_of", "_storage")

    _storage: Storage | None  # None: shares memory with no other tensor, and owns it unless its value is an argument
    _part_of: tuple[Stored, Any] | None  # the tensor that this is an index of, and the index

    def _write(self, new: Value, operand: Any, what: str) -> None:
        """Take a new value in place, as far as nobody else can see that this is not done in memory."""
        chain: list[Stored] = [self]
        while (part := chain[-1]._part_of) is not None:
            chain.append(part[0])
        if not (owned(self._value) if self._storage is None else self._storage.owned):
            whose = "a tensor made by Tensor(...): assign to its .value," if chain[-1]._made else "an argument:"
            raise TypeError(
                f"{what} would change {whose} work on a copy, x = x.copy(), or make a new one, x = x.at[...].set(v)"
            )
        others = [t for t in self._storage.live() if not any(t is c for c in chain)] if self._storage else []
        stale = None
        for t in others:
            if t is operand and t._part_of is not None and any(t._part_of[0] is c for c in chain):
                stale = t
                continue
            raise TypeError(
                f"{what}: another tensor that is still in use, {t._value.aval}, is a view of the same memory and would "
                "change with it: take it as a copy, y = x[...].copy(), or make a new one with x = x.at[...].set(v)"
            )
        self._value = new
        for inner, outer in pairwise(chain):
            assert inner._part_of is not None
            outer._value = indexing.set_item(outer._value, index_of(inner._part_of[1]), inner._value)
        if stale is not None and stale._part_of is not None:
            base, index = stale._part_of
            stale._value = indexing.getitem(base._value, index_of(index))[0]


_IDENTITY = ir.OPS["identity"]


def owned(value: Value) -> bool:
    """Whether a value was computed: it is no argument, nor what stands for one while a derivative is taken."""
    op = value.node.op
    return op is not ir.argument_op and op is not _IDENTITY


def share(base: Stored, view: Stored) -> None:
    """Note that `view` shares its memory with `base`."""
    storage = base._storage
    if storage is None:
        storage = base._storage = Storage(base, owned(base._value))
    view._storage = storage
    storage.add(view)


def index_of(index: Any) -> Any:
    """An index with values for tensors; outside `compile` masks have their data."""
    if isinstance(index, Lazy):
        if index.dtype == ir.BOOL and not state.compiling():
            return index._data("a mask")
        return index._value
    if type(index) is list or type(index) is tuple:
        return type(index)([index_of(item) for item in index])
    return index


def same_index(a: Any, b: Any) -> bool:
    """Whether two indices surely mean the same elements; of arrays, only if they are the same objects."""
    a, b = (i if isinstance(i, tuple) else (i,) for i in (a, b))
    return len(a) == len(b) and all(
        x is y or (type(x) is type(y) and isinstance(x, (int, slice)) and x == y) for x, y in zip(a, b, strict=True)
    )
