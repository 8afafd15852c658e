"""What operands are and become: NumPy's promotion (NEP 50) and broadcasting, on values.

An *operand* is a value of the graph or what NumPy takes in its place: an array, a NumPy scalar, a Python number.
Outside `compile` numbers and arrays become leaves that carry their data, so that a loop's graphs differ in data only;
inside they become constants.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from autodiff import ir
from autodiff.ir import Array, Aval, Dtype, Shape, Value
from autodiff.ops.logic import convert
from autodiff.ops.structure import broadcast, reshape

Operand = Value | Array | bool | int | float
Kind = Dtype | type[int] | type[float]
"""What promotion looks at: a dtype, or `int` or `float` for what is weak."""

NAMES = ", ".join(dtype.name for dtype in ir.DTYPES)


def supported(wanted: Any, what: str) -> Dtype:
    """A dtype as one this library has; TypeError, of `what`, for any other."""
    dtype: Dtype = np.dtype(wanted)
    if not dtype.isnative:
        dtype = dtype.newbyteorder("=")
    if dtype not in ir.DTYPES:
        hint = ": build arrays of tensors with np.stack or np.concatenate" if dtype == np.dtype(object) else ""
        raise TypeError(f"{what} dtype {dtype.name}, which is not supported; use one of {NAMES}{hint}")
    return dtype


def operand(x: Any) -> Operand:
    """`x` as an operand; TypeError for what is none."""
    if isinstance(x, Value) or type(x) in (float, int, bool):
        return x  # type: ignore[no-any-return]
    if isinstance(x, (np.ndarray, np.generic)):
        array = np.asarray(x)
    elif isinstance(x, (list, tuple)):
        if any(isinstance(leaf, Value) for leaf in leaves(x)):
            raise TypeError("a list of tensors is no array: join them with np.stack or np.concatenate")
        array = np.asarray(x)
    elif isinstance(x, float):
        return float(x)
    elif isinstance(x, int):
        return int(x)
    elif hasattr(x, "__array__") or hasattr(x, "__array_interface__") or hasattr(x, "__buffer__"):
        array = np.asarray(x)
    else:
        what = "is not supported" if isinstance(x, complex) else "is no number and no array"
        raise TypeError(f"an operand of type {type(x).__name__} {what}; supported are arrays of {NAMES}")
    dtype = supported(array.dtype, "an operand has")
    return array if array.dtype == dtype else array.astype(dtype)


def leaves(x: Any) -> Iterable[Any]:
    """What lists and tuples hold, however deep."""
    stack = [x]
    while stack:
        item = stack.pop()
        if isinstance(item, (list, tuple)):
            stack.extend(item)
        else:
            yield item


def shape_of(x: Operand) -> Shape:
    """The shape of an operand."""
    return x.aval.shape if isinstance(x, Value) else x.shape if isinstance(x, np.ndarray) else ()


def kind_of(x: Operand) -> Kind:
    """What promotion looks at in an operand."""
    if isinstance(x, Value):
        aval = x.aval
        if aval.weak:
            return float if aval.dtype.kind == "f" else int
        return aval.dtype
    if isinstance(x, np.ndarray):
        dtype: Dtype = x.dtype
        return dtype
    if isinstance(x, bool):
        return ir.BOOL
    kind: Kind = int if isinstance(x, int) else float
    return kind


@lru_cache(maxsize=4096)
def _promoted(kinds: tuple[Kind, ...]) -> Dtype:
    known = [kind if isinstance(kind, np.dtype) else kind(0) for kind in kinds]
    return supported(np.result_type(*known), "the operands' common dtype is")


def common_dtype(operands: Sequence[Operand]) -> Dtype:
    """The dtype NumPy would join the operands in."""
    return _promoted(tuple([kind_of(x) for x in operands]))


def dtype_of(x: Operand) -> Dtype:
    """The dtype of `np.asarray(x)`."""
    return x.dtype if isinstance(x, (Value, np.ndarray)) else np.dtype(type(x))


def leaf(array: Array, weak: bool = False) -> Value:
    """A value with known data, that later runs take as an input.  The array must not change any more."""
    value = ir.argument(Aval(array.shape, array.dtype, weak))
    value.data = array
    return value


def lift(x: Operand, dtype: Dtype | None = None) -> Value:
    """`x` as a value of that dtype (its own if None), not weak."""
    if isinstance(x, Value):
        aval = x.aval
        if not aval.weak and (dtype is None or dtype is aval.dtype):
            return x
        return convert(x, aval.dtype if dtype is None else dtype)
    if dtype is None:
        dtype = dtype_of(x)
    if not isinstance(x, np.ndarray):
        if ir.current().interns:
            return ir.full(x, (), dtype)
        array = np.array(x, dtype)
    else:
        if ir.current().interns:
            return ir.constant(x if x.dtype == dtype else x.astype(dtype))
        array = np.array(x, dtype, order="C")  # a copy: what the user does to theirs later is not ours
    array.flags.writeable = False
    return leaf(array)


def spread(x: Value, shape: Shape) -> Value:
    """`x` repeated to a shape it broadcasts to."""
    old = x.aval.shape
    if old == shape:
        return x
    number = ir.literal(x)
    if number is not None:
        return ir.full_op(value=x.node.params["value"], shape=shape)
    offset = len(shape) - len(old)
    axes = tuple([i + offset for i, n in enumerate(old) if n == shape[i + offset]])
    if len(axes) < len(old):
        x = reshape(x, shape=tuple([shape[i] for i in axes]))
    return x if x.aval.shape == shape else broadcast(x, shape=shape, axes=axes)


def lift_to(x: Operand, dtype: Dtype, shape: Shape) -> Value:
    """`x` as a value of that dtype and shape."""
    if isinstance(x, (Value, np.ndarray)):
        return spread(lift(x, dtype), shape)
    if ir.current().interns:
        return ir.full(x, shape, dtype)
    array = np.array(x, dtype)
    array.flags.writeable = False
    value = leaf(array)
    return broadcast(value, shape=shape, axes=()) if shape else value


def broadcast_shapes(shapes: Sequence[Shape]) -> Shape:
    """The shape that all of `shapes` broadcast to; ValueError if there is none."""
    first = shapes[0]
    for shape in shapes:
        if shape != first:
            break
    else:
        return first
    ndim = max(map(len, shapes))
    result = [1] * ndim
    for shape in shapes:
        for i, n in enumerate(shape, ndim - len(shape)):
            if n != 1 and n != result[i]:
                if result[i] != 1:
                    raise ValueError(
                        f"operands could not be broadcast together with shapes {' '.join(map(str, shapes))}: "
                        "sizes must be equal or 1, counted from the last axis; add axes with x[:, None] or reshape"
                    )
                result[i] = n
    return tuple(result)


def broadcast_together(operands: Sequence[Operand], dtype: Dtype | None = None) -> list[Value]:
    """The operands as values of their common shape and dtype."""
    dtype = common_dtype(operands) if dtype is None else dtype
    shape = broadcast_shapes([shape_of(x) for x in operands])
    return [lift_to(x, dtype, shape) for x in operands]


def axis_index(axis: Any, ndim: int, what: str = "axis") -> int:
    """An axis as 0 <= i < ndim; AxisError if there is none."""
    i = operator.index(axis)
    if not -ndim <= i < ndim:
        raise np.exceptions.AxisError(f"{what} {i} is out of bounds for array of dimension {ndim}")
    return i + ndim if i < 0 else i


def axis_indices(axis: Any, ndim: int) -> Shape:
    """One axis, a tuple of them or None for all, ascending; ValueError if one is named twice."""
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, tuple):
        return (axis_index(axis, ndim),)
    axes = sorted(axis_index(i, ndim) for i in axis)
    if len(set(axes)) < len(axes):
        raise ValueError("duplicate value in 'axis'")
    return tuple(axes)
