"""Reading and writing parts of an array: NumPy's basic, integer-array and mask indices, mixed as NumPy mixes them.

An index is read in two parts: a lattice (slices and integers), which is a `slice` and a reshape, and computed positions
along some of the axes that leaves, which are a `gather`.  Writing undoes one after the other.
"""

# ruff: noqa: D103 - NumPy documents its functions

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np

from autodiff import ir
from autodiff.ir import BOOL, INT64, Array, Shape, Value
from autodiff.numpy.elementwise import apply
from autodiff.numpy.promotion import Operand, axis_index, broadcast_shapes, lift, operand, shape_of, spread
from autodiff.numpy.reductions import refuse_out
from autodiff.numpy.registry import implements
from autodiff.numpy.shapes import concatenate, joined, permuted, take_part, to_shape
from autodiff.ops import arithmetic, indexing, structure
from autodiff.ops.logic import convert, select


class Lattice(NamedTuple):
    """The part of an index that slices and integers make.

    Of each axis of the array: the first element, the step and how many.  `shape` is what a reshape makes of the result:
    axes of integers dropped, new ones added.
    """

    starts: Shape
    steps: Shape
    sizes: Shape
    shape: Shape

    def read(self, x: Value) -> Value:
        """The elements of `x` at the index."""
        if self.sizes != x.shape or any(step != 1 for step in self.steps):
            x = structure.slice(x, starts=self.starts, steps=self.steps, shape=self.sizes)
        return to_shape(x, self.shape)

    def write(self, x: Value, part: Value) -> Value:
        """`x` with `part`, which has the lattice's shape, in its place."""
        part = to_shape(part, self.sizes)
        if part.size == 0:
            return x
        turned = [step < 0 for step in self.steps]
        starts, steps = list(self.starts), list(self.steps)
        if any(turned):  # the same lattice, in ascending order
            for i, flag in enumerate(turned):
                if flag:
                    starts[i], steps[i] = starts[i] + (self.sizes[i] - 1) * steps[i], -steps[i]
            ends = tuple([n - 1 if flag else 0 for flag, n in zip(turned, self.sizes, strict=True)])
            signs = tuple([-1 if flag else 1 for flag in turned])
            part = structure.slice(part, starts=ends, steps=signs, shape=self.sizes)
        if any(step != 1 and n > 1 for step, n in zip(steps, self.sizes, strict=True)):
            where = {"starts": tuple(starts), "steps": tuple(steps), "shape": x.shape}
            mask = structure.pad(ir.full(True, self.sizes, BOOL), **where)
            return select(mask, structure.pad(part, **where), x)
        return _write_block(x, part, tuple(starts), 0)


def _write_block(x: Value, part: Value, starts: Shape, axis: int) -> Value:
    """Replace the block of `x` from `starts` on: what lies before, the block and what lies behind, joined."""
    while axis < x.ndim and part.shape[axis] == x.shape[axis]:
        axis += 1
    if axis == x.ndim:
        return part
    start, size = starts[axis], part.shape[axis]
    block = _write_block(take_part(x, axis, start, size), part, starts, axis + 1)
    before = take_part(x, axis, 0, start)
    behind = take_part(x, axis, start + size, x.shape[axis] - start - size)
    return concatenate([v for v in (before, block, behind) if v.shape[axis]], axis)


class Positions(NamedTuple):
    """The part of an index that arrays make: positions along some axes of what the lattice left.

    `at` is where the positions' own axes are among those of the result.
    """

    axes: Shape
    indices: tuple[Value, ...]
    at: int

    def _order(self, ndim: int) -> Shape:
        return (*self.axes, *[i for i in range(ndim) if i not in self.axes])

    def _result_order(self, ndim: int) -> Shape:
        """Where each axis of the result comes from, in one that has the positions' axes first."""
        n = self.indices[0].ndim
        return (*range(n, n + self.at), *range(n), *range(n + self.at, ndim))

    def read(self, x: Value) -> Value:
        """The elements of `x` at the index."""
        y = indexing.gather(permuted(x, self._order(x.ndim)), *self.indices)
        return permuted(y, self._result_order(y.ndim))

    def _rows(self, updates: Value) -> Value:
        return permuted(updates, structure.inverse(self._result_order(updates.ndim)))

    def write(self, x: Value, updates: Value) -> Value:
        """`x` with `updates` in their place."""
        order = self._order(x.ndim)
        y = indexing.scatter_set(permuted(x, order), self._rows(updates), *self.indices)
        return permuted(y, structure.inverse(order))

    def add(self, x: Value, updates: Value) -> Value:
        """`x` with `updates` added."""
        order = self._order(x.ndim)
        shape = tuple([x.shape[i] for i in order])
        y = indexing.scatter_add(self._rows(updates), *self.indices, shape=shape)
        return arithmetic.add(x, permuted(y, structure.inverse(order)))


def _entry(item: Any) -> Any:
    """One entry of an index: None, Ellipsis, a slice, an int, a bool, an array of int64 or bool, an int64 value."""
    if item is None or item is Ellipsis or isinstance(item, (slice, bool)):
        return item
    if isinstance(item, np.bool_):
        return bool(item)
    if isinstance(item, Value):
        if item.dtype == BOOL:
            raise IndexError(
                "a mask that is computed from a tensor makes a result whose shape depends on the data: use "
                "np.where(mask, x, other), or sums with where=mask"
            )
        if item.dtype.kind not in "iu":
            raise IndexError(f"tensors used as indices must be of integer type, not {item.dtype.name}")
        return convert(item, INT64)
    if isinstance(item, (list, tuple)):
        array: Any = joined(item) if _holds_values(item) else np.asarray(item)
        if isinstance(array, Value):
            return _entry(array)
        if array.size == 0 and array.dtype.kind == "f":
            array = array.astype(INT64)
    elif isinstance(item, np.ndarray):
        array = item
    else:
        try:
            return operator.index(item)
        except TypeError as error:
            raise IndexError(
                "only integers, slices (`:`), ellipsis (`...`), None and integer or boolean arrays are valid indices, "
                f"not {type(item).__name__}"
            ) from error
    if array.dtype == BOOL:
        return bool(array) if array.ndim == 0 else array
    if array.dtype.kind not in "iu":
        raise IndexError(f"arrays used as indices must be of integer (or boolean) type, not {array.dtype.name}")
    return int(array) if array.ndim == 0 else array.astype(INT64)


def _holds_values(items: Any) -> bool:
    return any(isinstance(x, Value) or (isinstance(x, (list, tuple)) and _holds_values(x)) for x in items)


def _axes_taken(entry: Any) -> int:
    if entry is None or entry is Ellipsis or isinstance(entry, bool):
        return 0
    return entry.ndim if isinstance(entry, np.ndarray) and entry.dtype == BOOL else 1


def _out_of_bounds(i: int, axis: int, n: int) -> IndexError:
    return IndexError(f"index {i} is out of bounds for axis {axis} with size {n}")


def parse(index: Any, shape: Shape) -> tuple[Lattice, Positions | None]:
    """Read an index into an array of that shape."""
    entries = [_entry(item) for item in (index if isinstance(index, tuple) else (index,))]
    taken = sum(map(_axes_taken, entries))
    if taken > len(shape):
        raise IndexError(f"too many indices for array: array is {len(shape)}-dimensional, but {taken} were indexed")
    dots = [i for i, entry in enumerate(entries) if entry is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    at = dots[0] if dots else len(entries)
    rest: list[Any] = [slice(None)] * (len(shape) - taken)
    apart = bool(dots) and not rest  # even an empty ellipsis keeps arrays on its two sides apart
    entries[at : at + 1] = rest
    advanced = any(isinstance(e, (np.ndarray, Value, bool)) for e in entries)

    starts, steps, sizes, kept = [], [], [], []
    axes: list[int] = []
    indices: list[Operand] = []
    indexed: list[int | None] = []  # the array's axis that each goes along
    groups: list[int] = []  # where in the index each array was written, to see whether they are neighbours
    axis = 0
    for where, entry in enumerate(entries):
        n = shape[axis] if axis < len(shape) else 0
        place = where + (apart and where >= at)
        if entry is None:
            kept.append(1)
        elif isinstance(entry, bool):
            axes.append(len(kept))
            indices.append(np.zeros(int(entry), INT64))
            groups.append(place)
            indexed.append(None)
            kept.append(1)
        elif isinstance(entry, slice):
            first, stop, step = entry.indices(n)
            size = len(range(first, stop, step))
            starts.append(first if size else 0)
            steps.append(step if size else 1)
            sizes.append(size)
            kept.append(size)
            axis += 1
        elif isinstance(entry, int) and not advanced:
            if not -n <= entry < n:
                raise _out_of_bounds(entry, axis, n)
            starts.append(entry % n)
            steps.append(1)
            sizes.append(1)
            axis += 1
        else:
            for positions in _positions(entry, shape, axis):
                n = shape[axis]
                axes.append(len(kept))
                indices.append(positions)
                groups.append(place)
                indexed.append(axis)
                starts.append(0)
                steps.append(1)
                sizes.append(n)
                kept.append(n)
                axis += 1
    lattice = Lattice(tuple(starts), tuple(steps), tuple(sizes), tuple(kept))
    if not advanced:
        return lattice, None
    try:
        common = broadcast_shapes([shape_of(i) for i in indices])
    except ValueError as error:
        shapes = " ".join(str(shape_of(i)) for i in indices)
        raise IndexError(
            f"shape mismatch: indexing arrays could not be broadcast together with shapes {shapes}"
        ) from error
    if 0 not in common:  # as in NumPy, who picks nothing can pick out of bounds
        for known, along in zip(indices, indexed, strict=True):
            if along is not None and isinstance(known, np.ndarray):
                n = shape[along]
                bad = known[(known < -n) | (known >= n)]
                if bad.size:
                    raise _out_of_bounds(int(bad.flat[0]), along, n)
    neighbours = groups[-1] - groups[0] + 1 == len(set(groups))
    values = tuple([spread(lift(i, INT64), common) for i in indices])
    return lattice, Positions(tuple(axes), values, axes[0] if neighbours else 0)


def _positions(entry: Any, shape: Shape, axis: int) -> tuple[Array | Value, ...]:
    """The positions an entry stands for along the axes from `axis` on."""
    if isinstance(entry, int):
        if not -shape[axis] <= entry < shape[axis]:
            raise _out_of_bounds(entry, axis, shape[axis])
        return (np.asarray(entry, INT64),)
    if isinstance(entry, np.ndarray) and entry.dtype == BOOL:
        for i, n in enumerate(entry.shape):
            if n not in (0, shape[axis + i]):
                raise IndexError(
                    f"boolean index did not match indexed array along axis {axis + i}; size of axis is "
                    f"{shape[axis + i]} but size of corresponding boolean axis is {n}"
                )
        return tuple([positions.astype(INT64) for positions in entry.nonzero()])
    return (entry,)


def getitem(x: Value, index: Any) -> tuple[Value, bool]:
    """`x[index]`, and whether NumPy's would be a view."""
    lattice, positions = parse(index, x.aval.shape)
    part = lattice.read(x)
    return (part, True) if positions is None else (positions.read(part), False)


def _fitted(values: Any, x: Value, shape: Shape) -> Value:
    """What is to be written, in the dtype of `x` and the shape of the place for it."""
    v = lift(joined(values) if isinstance(values, (list, tuple)) else operand(values), x.dtype)
    old = v.shape
    while v.ndim > len(shape) and v.shape[0] == 1:
        v = to_shape(v, v.shape[1:])
    if v.ndim > len(shape) or any(n not in (1, m) for n, m in zip(v.shape[::-1], shape[::-1], strict=False)):
        raise ValueError(f"could not broadcast input array from shape {old} into shape {shape}")
    return spread(v, shape)


def set_item(x: Value, index: Any, values: Any) -> Value:
    """`x` with `x[index]` replaced by `values`."""
    lattice, positions = parse(index, x.shape)
    if positions is None:
        return lattice.write(x, _fitted(values, x, lattice.shape))
    part = lattice.read(x)
    shape = positions.read(part).shape
    return lattice.write(x, positions.write(part, _fitted(values, x, shape)))


def add_item(x: Value, index: Any, values: Any) -> Value:
    """`x` with `values` added to `x[index]`; where an index is repeated, as often as it is."""
    if x.dtype == BOOL:
        raise TypeError("at[...].add is not defined for bool: use at[...].set")
    lattice, positions = parse(index, x.shape)
    part = lattice.read(x)
    if positions is None:
        return lattice.write(x, arithmetic.add(part, _fitted(values, x, part.shape)))
    shape = positions.read(part).shape
    return lattice.write(x, positions.add(part, _fitted(values, x, shape)))


# ---- functions -----------------------------------------------------------------------------------------------------


def _indices(indices: Any) -> Array | Value:
    entry = _entry(indices if not isinstance(indices, tuple) else list(indices))
    if isinstance(entry, (slice, bool)) or entry is None or entry is Ellipsis:
        raise TypeError(f"indices must be integers, not {indices!r}")
    if isinstance(entry, np.ndarray) and entry.dtype == BOOL:
        raise TypeError("Cannot cast array data from bool to int64 according to the rule 'safe'")
    return entry if isinstance(entry, (np.ndarray, Value)) else np.asarray(entry, INT64)


@implements(np.take)
def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: Any = "raise") -> Value:
    refuse_out(out)
    x = lift(operand(a))
    if axis is None:
        x, axis = to_shape(x, (x.size,)), 0
    axis = axis_index(axis, x.ndim)
    where = _indices(indices)
    n = x.shape[axis]
    if mode == "clip":
        if isinstance(where, Value):
            where = apply(np.minimum, (apply(np.maximum, (where, 0)), n - 1))
        else:
            where = np.clip(where, 0, n - 1)
    elif mode == "wrap" and isinstance(where, np.ndarray):
        where = where % n
    elif mode != "raise":
        raise ValueError(f"mode must be 'raise' or 'clip', or 'wrap' with known indices, not {mode!r}")
    return getitem(x, (slice(None),) * axis + (where,))[0]


@implements(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Value:
    x = lift(operand(arr))
    where = _indices(indices)
    if axis is None:
        if where.ndim != 1:
            raise ValueError("when axis=None, `indices` must have a single dimension.")
        x, axis = to_shape(x, (x.size,)), 0
    axis = axis_index(axis, x.ndim)
    if where.ndim != x.ndim:
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    grids: list[Any] = []
    for i, n in enumerate(x.shape):
        grid = np.arange(n).reshape([-1 if j == i else 1 for j in range(x.ndim)])
        grids.append(where if i == axis else grid)
    return getitem(x, tuple(grids))[0]


@implements(np.diagonal, views=True)
def diagonal(a: Any, offset: Any = 0, axis1: Any = 0, axis2: Any = 1) -> Value:
    x = lift(operand(a))
    if x.ndim < 2:
        raise ValueError("diag requires an array of at least two dimensions")
    i, j = axis_index(axis1, x.ndim), axis_index(axis2, x.ndim)
    if i == j:
        raise ValueError("axis1 and axis2 cannot be the same")
    x = permuted(x, (*[k for k in range(x.ndim) if k not in (i, j)], i, j))
    rows, columns = x.shape[-2:]
    row, column = max(-offset, 0), max(offset, 0)
    size = max(min(rows - row, columns - column), 0)
    flat = to_shape(x, (*x.shape[:-2], rows * columns))
    return take_part(flat, x.ndim - 2, row * columns + column, size, columns + 1)


@implements(np.diag, views=True)
def diag(v: Any, k: int = 0) -> Value:
    x = lift(operand(v))
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    n = x.size + abs(k)
    start = k if k >= 0 else -k * n
    flat = structure.pad(x, starts=(start if x.size else 0,), steps=(n + 1,), shape=(n * n,))
    return to_shape(flat, (n, n))


def _triangle(m: Any, k: int, upper: bool) -> Value:
    x = lift(operand(m))
    if x.ndim == 0:
        raise ValueError("np.tril and np.triu take arrays of at least one dimension")
    if x.ndim == 1:
        x = spread(x, (x.size, x.size))
    mask = np.tri(x.shape[-2], x.shape[-1], k - upper, bool)
    keep = spread(lift(~mask if upper else mask), x.shape)
    return select(keep, x, x.full_like(0))


@implements(np.tril)
def tril(m: Any, k: int = 0) -> Value:
    return _triangle(m, k, upper=False)


@implements(np.triu)
def triu(m: Any, k: int = 0) -> Value:
    return _triangle(m, k, upper=True)
