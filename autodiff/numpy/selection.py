"""Choosing between values element by element."""

# ruff: noqa: D103 - NumPy documents its functions

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff import ir
from autodiff.ir import BOOL, FLOAT64, Value, is_float
from autodiff.numpy.elementwise import apply
from autodiff.numpy.promotion import (
    broadcast_shapes,
    broadcast_together,
    common_dtype,
    dtype_of,
    lift,
    lift_to,
    operand,
    shape_of,
)
from autodiff.numpy.reductions import all_, refuse_out
from autodiff.numpy.registry import implements
from autodiff.numpy.shapes import joined
from autodiff.ops import arithmetic, logic
from autodiff.ops.logic import convert, select

NO_VALUE: Any = np._NoValue


@implements(np.where)
def where(condition: Any, x: Any = None, y: Any = None, /) -> Value:
    if x is None or y is None:
        raise TypeError(
            "np.where of a condition alone has a result whose shape depends on the data, which is not supported: give "
            "np.where(condition, x, y)"
        )
    chosen, other = joined_number(x), joined_number(y)
    mask = convert(lift(joined_number(condition)), BOOL)
    dtype = common_dtype([chosen, other])
    shape = broadcast_shapes([mask.shape, shape_of(chosen), shape_of(other)])
    return select(lift_to(mask, BOOL, shape), lift_to(chosen, dtype, shape), lift_to(other, dtype, shape))


def joined_number(x: Any) -> Any:
    """An operand that may be a nested list with tensors in it."""
    return joined(x) if isinstance(x, (list, tuple)) else operand(x)


@implements(np.clip)
def clip(
    a: Any,
    a_min: Any = NO_VALUE,
    a_max: Any = NO_VALUE,
    out: Any = None,
    *,
    min: Any = NO_VALUE,  # noqa: A002
    max: Any = NO_VALUE,  # noqa: A002
    dtype: Any = None,
) -> Value:
    refuse_out(out)
    low = min if a_min is NO_VALUE else a_min
    high = max if a_max is NO_VALUE else a_max
    x = operand(a)
    low = None if low is NO_VALUE or low is None else operand(low)
    high = None if high is NO_VALUE or high is None else operand(high)
    kind = dtype_of(x)
    if kind.kind in "iu":  # a Python integer beyond the dtype is no bound
        low = None if type(low) is int and low <= np.iinfo(kind).min else low
        high = None if type(high) is int and high >= np.iinfo(kind).max else high
    if dtype is not None:
        x = convert(lift(x), dtype)
    if low is None and high is None:
        return apply(np.positive, (x,))
    present = [b for b in (x, low, high) if b is not None]
    values = broadcast_together(present)
    value = values[0]
    bounds = iter(values[1:])
    # what lies on a bound passes, so that the derivative there is the one inside
    lower = next(bounds) if low is not None else None
    upper = next(bounds) if high is not None else None
    if value.dtype == BOOL:
        value = value if lower is None else logic.logical_or(value, lower)
        return value if upper is None else logic.logical_and(value, upper)
    if lower is not None:
        value = _passing(logic.gt(lower, value), lower, value, arithmetic.maximum)
    if upper is not None:
        value = _passing(logic.lt(upper, value), upper, value, arithmetic.minimum)
    return value


def _passing(beyond: Value, bound: Value, x: Value, choose: Any) -> Value:
    if bound.dtype.kind != "f":
        return choose(bound, x)  # type: ignore[no-any-return]
    return select(logic.logical_or(beyond, logic.ne(bound, bound)), bound, x)


@implements(np.select)
def select_(condlist: Any, choicelist: Any, default: Any = 0) -> Value:
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    if not len(condlist):
        raise ValueError("select with an empty condition list is not possible")
    choices = [joined_number(c) for c in choicelist]
    rest = joined_number(default)
    dtype = common_dtype([*choices, rest])
    result: Any = lift(rest, dtype)
    for condition, choice in zip(condlist[::-1], choices[::-1], strict=True):
        mask = lift(joined_number(condition))
        if mask.dtype != BOOL:
            raise TypeError(f"invalid entry in condlist: should be boolean, not {mask.dtype.name}")
        result = where(mask, lift(choice, dtype), result)
    return result  # type: ignore[no-any-return]


@implements(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Value:
    y = operand(b)
    if isinstance(y, int):
        y = float(y)
    elif not isinstance(y, float) and not is_float(y.dtype):
        y = lift(y, FLOAT64)  # as NumPy does, so that differences of integers do not wrap
    x, y = broadcast_together([operand(a), y])
    near = apply(
        np.less_equal, (arithmetic.abs(x - y), apply(np.add, (atol, apply(np.multiply, (rtol, arithmetic.abs(y))))))
    )
    finite = logic.logical_and(apply(np.isfinite, (y,)), near)
    close = logic.logical_or(finite, logic.eq(x, y))
    if equal_nan:
        close = logic.logical_or(close, logic.logical_and(logic.ne(x, x), logic.ne(y, y)))
    return close


@implements(np.allclose)
def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Value:
    return all_(isclose(a, b, rtol, atol, equal_nan))


@implements(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Value:
    x, y = operand(a1), operand(a2)
    if shape_of(x) != shape_of(y):
        return ir.full(False, (), BOOL)
    x, y = broadcast_together([x, y])
    same = apply(np.equal, (x, y))
    if equal_nan:
        same = logic.logical_or(same, logic.logical_and(apply(np.isnan, (x,)), apply(np.isnan, (y,))))
    return all_(same)


@implements(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Value:
    value = lift(operand(x))
    if value.dtype.kind != "f":
        return value
    limits = np.finfo(value.dtype)
    result = where(logic.ne(value, value), lift(operand(nan), value.dtype), value)
    result = where(
        apply(np.equal, (value, np.inf)), lift(operand(limits.max if posinf is None else posinf), value.dtype), result
    )
    return where(
        apply(np.equal, (value, -np.inf)), lift(operand(limits.min if neginf is None else neginf), value.dtype), result
    )
