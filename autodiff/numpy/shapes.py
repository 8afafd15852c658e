"""Rearranging elements: shapes, axes, joining and cutting."""

# ruff: noqa: D103 - NumPy documents its functions

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np

from autodiff import ir
from autodiff.ir import Dtype, Shape, Value
from autodiff.numpy.promotion import (
    Operand,
    axis_index,
    axis_indices,
    broadcast_shapes,
    common_dtype,
    dtype_of,
    lift,
    operand,
    shape_of,
    spread,
    supported,
)
from autodiff.numpy.reductions import refuse_out
from autodiff.numpy.registry import implements
from autodiff.ops import structure
from autodiff.ops.logic import convert


def _value(a: Any) -> Value:
    return lift(operand(a))


def _shape_argument(shape: Any) -> Shape:
    """A shape as NumPy takes it: an integer or a sequence of them."""
    if isinstance(shape, Value):
        raise TypeError("a shape must be known while tracing: it cannot be a tensor")
    if isinstance(shape, (list, tuple, np.ndarray)) and np.ndim(shape):
        return tuple([operator.index(n) for n in shape])
    return (operator.index(shape),)


def to_shape(x: Value, shape: Shape) -> Value:
    return x if x.aval.shape == shape else structure.reshape(x, shape=shape)


def permuted(x: Value, axes: Shape) -> Value:
    return x if axes == tuple(range(x.ndim)) else structure.transpose(x, axes=axes)


# ---- one array, other shapes ---------------------------------------------------------------------------------------


@implements(np.reshape, views=True)
def reshape(a: Any, /, shape: Any = None, order: Any = "C", *, copy: Any = None) -> Value:
    x = _value(a)
    if shape is None:
        raise TypeError("reshape() missing 1 required positional argument: 'shape'")
    new = _shape_argument(shape)
    unknown = [i for i, n in enumerate(new) if n < 0]
    known = 1
    for n in new:
        known *= n if n >= 0 else 1
    if len(unknown) > 1 or any(new[i] != -1 for i in unknown):
        raise ValueError(f"can only specify one unknown dimension, as -1: {new}")
    if unknown:
        if known == 0 or x.size % known:
            raise ValueError(f"cannot reshape array of size {x.size} into shape {new}")
        new = tuple([x.size // known if n < 0 else n for n in new])
    elif known != x.size:
        raise ValueError(f"cannot reshape array of size {x.size} into shape {new}")
    if order not in ("C", "F", "A"):
        raise ValueError(f"order must be 'C', 'F' or 'A', not {order!r}")
    if order == "F":
        x = permuted(x, tuple(reversed(range(x.ndim))))
        return permuted(to_shape(x, new[::-1]), tuple(reversed(range(len(new)))))
    return to_shape(x, new)


@implements(np.ravel, views=True)
def ravel(a: Any, order: Any = "C") -> Value:
    return reshape(a, -1, "C" if order == "K" else order) if _value(a).size else to_shape(_value(a), (0,))


@implements(np.transpose, np.permute_dims, views=True)
def transpose(a: Any, axes: Any = None) -> Value:
    x = _value(a)
    if axes is None:
        return permuted(x, tuple(reversed(range(x.ndim))))
    order = _shape_argument(axes) if not (isinstance(axes, (list, tuple)) and not axes) else ()
    if len(order) != x.ndim:
        raise ValueError(f"axes {order} don't match array of dimension {x.ndim}")
    order = tuple([axis_index(i, x.ndim) for i in order])
    if len(set(order)) < len(order):
        raise ValueError(f"repeated axis in transpose: {order}")
    return permuted(x, order)


@implements(np.matrix_transpose, views=True)
def matrix_transpose(x: Any, /) -> Value:
    if _value(x).ndim < 2:
        raise ValueError(f"Input array must be at least 2-dimensional, but it is {_value(x).ndim}")
    return swapaxes(x, -1, -2)


@implements(np.swapaxes, views=True)
def swapaxes(a: Any, axis1: Any, axis2: Any) -> Value:
    x = _value(a)
    i, j = axis_index(axis1, x.ndim, "axis1:"), axis_index(axis2, x.ndim, "axis2:")
    order = list(range(x.ndim))
    order[i], order[j] = order[j], order[i]
    return permuted(x, tuple(order))


def _axes_argument(axes: Any, ndim: int, what: str) -> Shape:
    """Axes in the order given; ValueError if one is named twice."""
    axes = axes if isinstance(axes, (tuple, list)) else (axes,)
    result = tuple([axis_index(i, ndim, what) for i in axes])
    if len(set(result)) < len(result):
        raise ValueError(f"repeated axis in `{what}` argument" if what != "axis" else "repeated axis")
    return result


@implements(np.moveaxis, views=True)
def moveaxis(a: Any, source: Any, destination: Any) -> Value:
    x = _value(a)
    source = _axes_argument(source, x.ndim, "source")
    destination = _axes_argument(destination, x.ndim, "destination")
    if len(source) != len(destination):
        raise ValueError("`source` and `destination` arguments must have the same number of elements")
    order = [i for i in range(x.ndim) if i not in source]
    for to, origin in sorted(zip(destination, source, strict=True)):
        order.insert(to, origin)
    return permuted(x, tuple(order))


@implements(np.squeeze, views=True)
def squeeze(a: Any, axis: Any = None) -> Value:
    x = _value(a)
    if axis is None:
        axes = tuple([i for i, n in enumerate(x.shape) if n == 1])
    else:
        axes = axis_indices(axis, x.ndim) if x.ndim or axis not in (0, -1) else ()
        for i in axes:
            if x.shape[i] != 1:
                raise ValueError(
                    f"cannot select an axis to squeeze out which has size not equal to one: axis {i} of {x.shape}"
                )
    return to_shape(x, tuple([n for i, n in enumerate(x.shape) if i not in axes]))


@implements(np.expand_dims, views=True)
def expand_dims(a: Any, axis: Any) -> Value:
    x = _value(a)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    ndim = x.ndim + len(axes)
    axes = _axes_argument(axes, ndim, "axis")
    sizes = iter(x.shape)
    return to_shape(x, tuple([1 if i in axes else next(sizes) for i in range(ndim)]))


@implements(np.broadcast_to, views=True)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Value:
    x = _value(array)
    new = _shape_argument(shape) if not (isinstance(shape, (tuple, list)) and not shape) else ()
    if any(n < 0 for n in new):
        raise ValueError("all elements of broadcast shape must be non-negative")
    fits = len(new) >= x.ndim and all(n in (1, m) for n, m in zip(x.shape[::-1], new[::-1], strict=False))
    if not fits:
        raise ValueError(f"an array of shape {x.shape} could not be broadcast to shape {new}")
    return spread(x, new)


@implements(np.broadcast_arrays, views=True)
def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Value, ...]:
    values = [_value(a) for a in args]
    shape = broadcast_shapes([x.shape for x in values])
    return tuple([spread(x, shape) for x in values])


def _at_least(a: Any, ndim: int) -> Value:
    x = _value(a)
    if x.ndim >= ndim:
        return x
    if ndim == 3:
        return to_shape(x, {0: (1, 1, 1), 1: (1, *x.shape, 1), 2: (*x.shape, 1)}[x.ndim])
    return to_shape(x, (1,) * (ndim - x.ndim) + x.shape)


def _at_least_all(arrays: tuple[Any, ...], ndim: int) -> Any:
    results = tuple([_at_least(a, ndim) for a in arrays])
    return results[0] if len(results) == 1 else results


@implements(np.atleast_1d, views=True)
def atleast_1d(*arys: Any) -> Any:
    return _at_least_all(arys, 1)


@implements(np.atleast_2d, views=True)
def atleast_2d(*arys: Any) -> Any:
    return _at_least_all(arys, 2)


@implements(np.atleast_3d, views=True)
def atleast_3d(*arys: Any) -> Any:
    return _at_least_all(arys, 3)


# ---- several arrays, one -------------------------------------------------------------------------------------------


def sequence(arrays: Any, name: str) -> list[Operand]:
    """The operands of a joining function: a sequence of arrays, or an array's parts along its first axis."""
    if isinstance(arrays, Value):
        if arrays.ndim == 0:
            raise TypeError(f"np.{name} takes a sequence of arrays, not a 0-d tensor")
        return [take_part(arrays, 0, i, 1, drop=True) for i in range(arrays.shape[0])]
    if not isinstance(arrays, (list, tuple, np.ndarray)):
        raise TypeError(f"np.{name} takes a list or tuple of arrays, not {type(arrays).__name__}")
    return [joined(a) for a in arrays]


def joined(a: Any) -> Operand:
    """An operand, where a nested list of tensors is one: as NumPy reads nested lists."""
    if isinstance(a, (list, tuple)) and any(isinstance(x, (Value, list, tuple)) for x in a):
        return stack(a)
    x = operand(a)
    return x if isinstance(x, (Value, np.ndarray)) else np.asarray(x)


def _joint_dtype(operands: Sequence[Operand], dtype: Any, casting: str) -> Dtype:
    strong = [x if not (isinstance(x, Value) and x.aval.weak) else convert(x, x.dtype) for x in operands]
    if dtype is None:
        return common_dtype(strong)
    wanted = supported(dtype, "the argument dtype= is")
    for x in operands:
        if not np.can_cast(dtype_of(x), wanted, cast(Any, casting)):
            raise TypeError(f"Cannot cast from {dtype_of(x).name} to {wanted.name} according to the rule '{casting}'")
    return wanted


@implements(np.concatenate)
def concatenate(
    arrays: Any, /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Value:
    refuse_out(out)
    operands = sequence(arrays, "concatenate")
    if not operands:
        raise ValueError("need at least one array to concatenate")
    result = _joint_dtype(operands, dtype, casting)
    values = [lift(x, result) for x in operands]
    if axis is None:
        values, axis = [to_shape(x, (x.size,)) for x in values], 0
    ndim = values[0].ndim
    if ndim == 0:
        raise ValueError("zero-dimensional arrays cannot be concatenated: np.stack joins them")
    axis = axis_index(axis, ndim)
    for i, x in enumerate(values):
        if x.ndim != ndim:
            raise ValueError(
                "all the input array dimensions except for the concatenation axis must match exactly, but the array "
                f"at index 0 has {ndim} dimension(s) and the array at index {i} has {x.ndim} dimension(s)"
            )
        if x.shape[:axis] + x.shape[axis + 1 :] != values[0].shape[:axis] + values[0].shape[axis + 1 :]:
            raise ValueError(
                "all the input array dimensions except for the concatenation axis must match exactly: the array at "
                f"index 0 has shape {values[0].shape} and the array at index {i} has shape {x.shape}"
            )
    return values[0] if len(values) == 1 else structure.concatenate(*values, axis=axis)


@implements(np.stack)
def stack(arrays: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> Value:
    refuse_out(out)
    operands = sequence(arrays, "stack")
    if not operands:
        raise ValueError("need at least one array to stack")
    shapes = [shape_of(x) for x in operands]
    if len(set(shapes)) > 1:
        raise ValueError(f"all input arrays must have the same shape, not {', '.join(map(str, shapes))}")
    axis = axis_index(axis, len(shapes[0]) + 1)
    result = _joint_dtype(operands, dtype, casting)
    new = (*shapes[0][:axis], 1, *shapes[0][axis:])
    return concatenate([to_shape(lift(x, result), new) for x in operands], axis)


@implements(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Value:
    values = [_at_least(x, 1) for x in sequence(tup, "hstack")]
    axis = 0 if values and values[0].ndim == 1 else 1
    return concatenate(values, axis, dtype=dtype, casting=casting)


@implements(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Value:
    return concatenate([_at_least(x, 2) for x in sequence(tup, "vstack")], 0, dtype=dtype, casting=casting)


@implements(np.dstack)
def dstack(tup: Any) -> Value:
    return concatenate([_at_least(x, 3) for x in sequence(tup, "dstack")], 2)


@implements(np.column_stack)
def column_stack(tup: Any) -> Value:
    values = [_value(x) for x in sequence(tup, "column_stack")]
    return concatenate([x if x.ndim >= 2 else to_shape(x, (x.size, 1)) for x in values], 1)


@implements(np.append)
def append(arr: Any, values: Any, axis: Any = None) -> Value:
    if axis is None:
        return concatenate([ravel(joined(arr)), ravel(joined(values))], 0)
    return concatenate([arr, values], axis)


# ---- one array, several --------------------------------------------------------------------------------------------


def take_part(x: Value, axis: int, start: int, size: int, step: int = 1, *, drop: bool = False) -> Value:
    """Elements start, start + step, ... along an axis; `drop` drops the axis, which is then of size 1."""
    starts = tuple([start if i == axis and size else 0 for i in range(x.ndim)])
    steps = tuple([step if i == axis else 1 for i in range(x.ndim)])
    shape = tuple([size if i == axis else n for i, n in enumerate(x.shape)])
    part = x if shape == x.shape and step == 1 else structure.slice(x, starts=starts, steps=steps, shape=shape)
    return to_shape(part, shape[:axis] + shape[axis + 1 :]) if drop else part


@implements(np.array_split, views=True)
def array_split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> list[Value]:
    x = _value(ary)
    axis = axis_index(axis, x.ndim)
    n = x.shape[axis]
    if isinstance(indices_or_sections, (list, tuple, np.ndarray)) and np.ndim(indices_or_sections):
        ends = [operator.index(i) for i in indices_or_sections]
        bounds = [0, *ends, n]
    else:
        sections = operator.index(indices_or_sections)
        if sections <= 0:
            raise ValueError("number sections must be larger than 0.")
        small, more = divmod(n, sections)
        bounds = [0]
        for i in range(sections):
            bounds.append(bounds[-1] + small + (i < more))
    parts = []
    for first, last in pairwise(bounds):
        start, stop, _ = slice(first, last).indices(n)
        parts.append(take_part(x, axis, start, max(stop - start, 0)))
    return parts


@implements(np.split, views=True)
def split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> list[Value]:
    x = _value(ary)
    if not (isinstance(indices_or_sections, (list, tuple, np.ndarray)) and np.ndim(indices_or_sections)):
        n = x.shape[axis_index(axis, x.ndim)]
        sections = operator.index(indices_or_sections)
        if sections <= 0 or n % sections:
            raise ValueError(f"array split does not result in an equal division: {n} into {sections}")
    return array_split(x, indices_or_sections, axis)


@implements(np.hsplit, views=True)
def hsplit(ary: Any, indices_or_sections: Any) -> list[Value]:
    x = _value(ary)
    if x.ndim == 0:
        raise ValueError("hsplit only works on arrays of 1 or more dimensions")
    return split(x, indices_or_sections, 1 if x.ndim > 1 else 0)


@implements(np.vsplit, views=True)
def vsplit(ary: Any, indices_or_sections: Any) -> list[Value]:
    if _value(ary).ndim < 2:
        raise ValueError("vsplit only works on arrays of 2 or more dimensions")
    return split(ary, indices_or_sections, 0)


@implements(np.dsplit, views=True)
def dsplit(ary: Any, indices_or_sections: Any) -> list[Value]:
    if _value(ary).ndim < 3:
        raise ValueError("dsplit only works on arrays of 3 or more dimensions")
    return split(ary, indices_or_sections, 2)


@implements(getattr(np, "unstack", None), views=True)  # NumPy 2.1
def unstack(x: Any, /, *, axis: Any = 0) -> tuple[Value, ...]:
    value = _value(x)
    if value.ndim == 0:
        raise ValueError("Input array must be at least 1-d.")
    axis = axis_index(axis, value.ndim)
    return tuple([take_part(value, axis, i, 1, drop=True) for i in range(value.shape[axis])])


# ---- repeating and turning -----------------------------------------------------------------------------------------


@implements(np.flip, views=True)
def flip(m: Any, axis: Any = None) -> Value:
    x = _value(m)
    axes = axis_indices(axis, x.ndim)
    if not x.size or not axes:
        return x
    starts = tuple([n - 1 if i in axes else 0 for i, n in enumerate(x.shape)])
    steps = tuple([-1 if i in axes else 1 for i in range(x.ndim)])
    return structure.slice(x, starts=starts, steps=steps, shape=x.shape)


@implements(np.flipud, views=True)
def flipud(m: Any) -> Value:
    if _value(m).ndim < 1:
        raise ValueError("Input must be >= 1-d.")
    return flip(m, 0)


@implements(np.fliplr, views=True)
def fliplr(m: Any) -> Value:
    if _value(m).ndim < 2:
        raise ValueError("Input must be >= 2-d.")
    return flip(m, 1)


@implements(np.rot90, views=True)
def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Value:
    x = _value(m)
    axes = tuple(axes)
    if len(axes) != 2:
        raise ValueError("len(axes) must be 2.")
    i, j = (axis_index(axis, x.ndim) for axis in axes)
    if i == j:
        raise ValueError("Axes must be different.")
    k %= 4
    if k == 2:
        return flip(x, (i, j))
    if k == 1:
        return swapaxes(flip(x, j), i, j)
    return flip(swapaxes(x, i, j), j) if k == 3 else x


@implements(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Value:
    x = _value(a)
    if axis is None:
        return to_shape(roll(to_shape(x, (x.size,)), shift, 0), x.shape)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    for by, i in np.broadcast(shift, axes):
        i = axis_index(i, x.ndim)
        n = x.shape[i]
        by = operator.index(by) % n if n else 0
        if by:
            x = concatenate([take_part(x, i, n - by, by), take_part(x, i, 0, n - by)], i)
    return x


@implements(np.tile)
def tile(A: Any, reps: Any) -> Value:  # noqa: N803
    x = _value(A)
    times = _shape_argument(reps) if not (isinstance(reps, (tuple, list)) and not reps) else ()
    if any(n < 0 for n in times):
        raise ValueError("negative dimensions are not allowed")
    ndim = max(len(times), x.ndim)
    times = (1,) * (ndim - len(times)) + times
    sizes = (1,) * (ndim - x.ndim) + x.shape
    between = tuple([n for pair in zip(times, sizes, strict=True) for n in pair])
    x = to_shape(x, tuple([n for size in sizes for n in (1, size)]))
    return to_shape(spread(x, between), tuple([r * n for r, n in zip(times, sizes, strict=True)]))


@implements(np.repeat)
def repeat(a: Any, repeats: Any, axis: Any = None) -> Value:
    x = _value(a)
    if axis is None:
        x, axis = to_shape(x, (x.size,)), 0
    axis = axis_index(axis, x.ndim)
    n = x.shape[axis]
    counts = np.asarray(repeats)
    if counts.dtype.kind not in "iub":
        raise TypeError(f"Cannot cast array data from {counts.dtype} to int64 according to the rule 'safe'")
    if counts.ndim > 1:
        raise ValueError("object too deep for desired array")
    if (counts < 0).any():
        raise ValueError("repeats may not contain negative values.")
    if counts.size == 1:
        times = int(counts.reshape(()))
        new = (*x.shape[: axis + 1], times, *x.shape[axis + 1 :])
        spread_out = structure.broadcast(x, shape=new, axes=tuple([i + (i > axis) for i in range(x.ndim)]))
        return to_shape(spread_out, (*x.shape[:axis], n * times, *x.shape[axis + 1 :]))
    if counts.size != n:
        raise ValueError(f"operands could not be broadcast together with shape ({n},) ({counts.size},)")
    from autodiff.numpy.indexing import take

    return take(x, np.repeat(np.arange(n), counts), axis)


@implements(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Value:
    x = _value(array)
    if mode != "constant":
        raise TypeError(f"np.pad is supported with mode='constant' only, not {mode!r}")
    fill = options.pop("constant_values", 0)
    if options:
        raise ValueError(f"unsupported keyword arguments for mode 'constant': {set(options)}")
    if isinstance(fill, Value) or np.ndim(fill) or isinstance(pad_width, dict):
        raise TypeError("np.pad is supported with one number for constant_values= and widths as numbers or pairs only")
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2))
    if widths.dtype.kind not in "iu":
        raise TypeError("`pad_width` must be of integral type.")
    if (widths < 0).any():
        raise ValueError("index can't contain negative values")
    before = tuple([int(first) for first, _ in widths])
    shape = tuple([int(first) + n + int(last) for (first, last), n in zip(widths, x.shape, strict=True)])
    if shape == x.shape:
        return x
    padded = structure.pad(x, starts=before, steps=(1,) * x.ndim, shape=shape)
    if fill == 0:
        return padded
    from autodiff.ops.logic import select

    inside = structure.pad(ir.full(True, x.shape, ir.BOOL), starts=before, steps=(1,) * x.ndim, shape=shape)
    return select(inside, padded, ir.full(fill, shape, x.dtype))


@implements(np.diff)
def diff(a: Any, n: int = 1, axis: Any = -1, prepend: Any = None, append: Any = None) -> Value:
    x = _value(a)
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    if n == 0:
        return x
    if x.ndim == 0:
        raise ValueError("diff requires input that is at least one dimensional")
    axis = axis_index(axis, x.ndim)
    ends = []
    for end in (prepend, append):
        if end is None or end is np._NoValue:
            continue
        value = _value(end)
        kept = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        ends.append((end is append, value if value.ndim else spread(value, kept)))
    if ends:
        x = concatenate([*[v for last, v in ends if not last], x, *[v for last, v in ends if last]], axis)
    from autodiff.numpy.elementwise import apply2

    ufunc = np.not_equal if x.dtype == ir.BOOL else np.subtract
    for _ in range(n):
        size = max(x.shape[axis] - 1, 0)
        x = apply2(ufunc, take_part(x, axis, min(1, x.shape[axis]), size), take_part(x, axis, 0, size))
    return x
