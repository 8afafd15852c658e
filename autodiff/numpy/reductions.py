"""Sums, extremes and moments over axes."""

# ruff: noqa: D103 - NumPy documents its functions

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff import ir
from autodiff.ir import BOOL, FLOAT64, INT64, Dtype, Op, Shape, Value, is_float
from autodiff.numpy.elementwise import apply, apply2
from autodiff.numpy.promotion import axis_index, axis_indices, lift, lift_to, operand, spread, supported
from autodiff.numpy.registry import implements
from autodiff.ops import arithmetic, logic, reduction, structure
from autodiff.ops.logic import convert, select

NO_VALUE: Any = np._NoValue  # NumPy's own mark of an argument that was not given


def refuse_out(out: Any) -> None:
    if out is not None:
        raise TypeError("out= is not supported on tensors: use the result, as in x = np.function(...)")


def _flag(keepdims: Any) -> bool:
    return False if keepdims is NO_VALUE else bool(keepdims)


def _restore(y: Value, shape: Shape, axes: Shape, keepdims: Any) -> Value:
    """Give a result its reduced axes back, with size 1, where that is asked for."""
    if not _flag(keepdims):
        return y
    return structure.reshape(y, shape=tuple([1 if i in axes else n for i, n in enumerate(shape)]))


def _mask(where: Any, shape: Shape) -> Value | None:
    """The argument `where` as a value, None where it chooses everything."""
    if where is NO_VALUE or where is True:
        return None
    where = operand(where)
    mask = lift(where)
    if mask.dtype != BOOL:
        raise TypeError(f"where= must be of dtype bool, not {mask.dtype.name}: compare, as in where=x > 0")
    if np.broadcast_shapes(mask.shape, shape) != shape:
        raise ValueError(f"where= of shape {mask.shape} does not broadcast to the operand's shape {shape}")
    return spread(mask, shape)


def _sum_dtype(dtype: Dtype) -> Dtype:
    """NumPy sums small integers in the platform's integer, keeping their sign."""
    if dtype.kind == "u":
        raise TypeError(f"a sum of {dtype.name} has dtype uint64, which is not supported: give dtype=np.int64")
    return INT64 if dtype.kind in "bi" else dtype


def _axes(axis: Any, ndim: int) -> Shape:
    """The axes of a reduction, where NumPy takes no bool for an integer."""
    for i in axis if isinstance(axis, tuple) else (axis,):
        if isinstance(i, (bool, np.bool_)):
            raise TypeError(f"an axis is an integer, not {i}: for keepdims write keepdims={i}")
    return axis_indices(axis, ndim)


def _reduced(axis: Any, ndim: int) -> Shape:
    """The axes of a ufunc's reduction, which NumPy lets reduce a single number over an axis 0 that it has not."""
    single = isinstance(axis, (int, np.integer)) and not isinstance(axis, bool)
    return () if ndim == 0 and single and axis in (0, -1) else _axes(axis, ndim)


def _add_up(x: Value, axes: Shape) -> Value:
    return reduction.reduce_sum(x, axes=axes) if axes else x


@implements(np.sum)
def sum(  # noqa: A001
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = NO_VALUE,
    initial: Any = NO_VALUE,
    where: Any = NO_VALUE,
) -> Value:
    refuse_out(out)
    x = lift(operand(a))
    axes = _reduced(axis, x.ndim)
    x = convert(x, _sum_dtype(x.dtype) if dtype is None else supported(dtype, "the argument dtype= is"))
    mask = _mask(where, x.shape)
    if x.dtype == BOOL:
        y = _extreme(reduction.reduce_max, x, axes, False, mask)
    else:
        y = _add_up(x if mask is None else select(mask, x, x.full_like(0)), axes)
    if initial is not NO_VALUE:
        y = apply2(np.add, y, lift_to(operand(initial), y.dtype, y.shape))
    return _restore(y, x.shape, axes, keepdims)


def _extreme(op: Op, x: Value, axes: Shape, least: Any, mask: Value | None) -> Value:
    """A maximum or minimum that is `least` where there is no element; None raises for that."""
    if mask is not None:
        x = select(mask, x, x.full_like(least))
    if not axes:
        return x
    if least is not None and any(x.shape[i] == 0 for i in axes):
        return ir.full(least, tuple(n for i, n in enumerate(x.shape) if i not in axes), x.dtype)
    return op(x, axes=axes)


def _largest(dtype: Dtype, sign: int) -> Any:
    """The largest number of a dtype, or the least for a negative sign."""
    if dtype == BOOL:
        return sign > 0
    if is_float(dtype):
        return sign * np.inf
    return np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min


def _max_or_min(name: str, op: Op, sign: int, a: Any, axis: Any, keepdims: Any, initial: Any, where: Any) -> Value:
    x = lift(operand(a))
    axes = _reduced(axis, x.ndim)
    mask = _mask(where, x.shape)
    if initial is NO_VALUE:
        if mask is not None:
            raise ValueError(
                f"reduction operation '{name}' does not have an identity, so to use a where mask one has to specify "
                "'initial'"
            )
        if any(x.shape[i] == 0 for i in axes):
            raise ValueError(f"zero-size array to reduction operation {name} which has no identity: give initial=")
        y = _extreme(op, x, axes, None, None)
    else:
        y = _extreme(op, x, axes, _largest(x.dtype, -sign), mask)
        y = apply2(np.maximum if sign > 0 else np.minimum, y, lift_to(operand(initial), y.dtype, y.shape))
    return _restore(y, x.shape, axes, keepdims)


@implements(np.max, np.amax)
def max(  # noqa: A001
    a: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = NO_VALUE,
    initial: Any = NO_VALUE,
    where: Any = NO_VALUE,
) -> Value:
    refuse_out(out)
    return _max_or_min("maximum", reduction.reduce_max, 1, a, axis, keepdims, initial, where)


@implements(np.min, np.amin)
def min(  # noqa: A001
    a: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = NO_VALUE,
    initial: Any = NO_VALUE,
    where: Any = NO_VALUE,
) -> Value:
    refuse_out(out)
    return _max_or_min("minimum", reduction.reduce_min, -1, a, axis, keepdims, initial, where)


@implements(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO_VALUE) -> Value:
    refuse_out(out)
    x = lift(operand(a))
    if x.dtype == BOOL:
        raise TypeError("np.ptp is not defined for bool: convert with .astype(int)")
    return max(x, axis, keepdims=keepdims) - min(x, axis, keepdims=keepdims)


@implements(np.any)
def any_(a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO_VALUE, *, where: Any = NO_VALUE) -> Value:
    refuse_out(out)
    x = convert(lift(operand(a)), BOOL)
    axes = _reduced(axis, x.ndim)
    y = _extreme(reduction.reduce_max, x, axes, False, _mask(where, x.shape))
    return _restore(y, x.shape, axes, keepdims)


@implements(np.all)
def all_(a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO_VALUE, *, where: Any = NO_VALUE) -> Value:
    refuse_out(out)
    x = convert(lift(operand(a)), BOOL)
    axes = _reduced(axis, x.ndim)
    y = _extreme(reduction.reduce_min, x, axes, True, _mask(where, x.shape))
    return _restore(y, x.shape, axes, keepdims)


@implements(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Value:
    return sum(convert(lift(operand(a)), BOOL), axis, keepdims=keepdims)


# ---- positions -----------------------------------------------------------------------------------------------------


def _position(op: Op, a: Any, axis: Any, out: Any, keepdims: Any) -> Value:
    refuse_out(out)
    x = lift(operand(a))
    shape = x.shape
    if axis is None:
        axes = tuple(range(x.ndim))
        x, axis = structure.reshape(x, shape=(x.size,)), 0
    else:
        if x.ndim == 0:  # NumPy takes axis 0 or -1 of a single number
            axis_index(axis, 1)
            return ir.full(0, (), INT64)
        axis = axis_index(axis, x.ndim)
        axes = (axis,)
    if x.shape[axis] == 0:
        raise ValueError("attempt to get argmax or argmin of an empty sequence")
    return _restore(op(x, axis=axis), shape, axes, keepdims)


@implements(np.argmax)
def argmax(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = NO_VALUE) -> Value:
    return _position(reduction.argmax, a, axis, out, keepdims)


@implements(np.argmin)
def argmin(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = NO_VALUE) -> Value:
    return _position(reduction.argmin, a, axis, out, keepdims)


# ---- moments -------------------------------------------------------------------------------------------------------


def _mean_dtype(x: Value, dtype: Any) -> Dtype:
    if dtype is None:
        return x.dtype if is_float(x.dtype) else FLOAT64
    return supported(dtype, "the argument dtype= is")


def _count(shape: Shape, axes: Shape, mask: Value | None, dtype: Dtype) -> Value:
    """How many elements each result is made of, with the reduced axes kept."""
    kept = tuple([1 if i in axes else n for i, n in enumerate(shape)])
    if mask is not None:
        return structure.reshape(_add_up(convert(mask, dtype), axes), shape=kept)
    n = 1
    for i in axes:
        n *= shape[i]
    return ir.full(n, kept, dtype)


def _mean(x: Value, axes: Shape, mask: Value | None) -> Value:
    """The mean with the reduced axes kept."""
    count = _count(x.shape, axes, mask, x.dtype)
    total = _add_up(x if mask is None else select(mask, x, x.full_like(0)), axes)
    return structure.reshape(total, shape=count.shape) / count


def _dropped(y: Value, axes: Shape, keepdims: Any) -> Value:
    if _flag(keepdims) or not axes:
        return y
    return structure.reshape(y, shape=tuple([n for i, n in enumerate(y.shape) if i not in axes]))


@implements(np.mean)
def mean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = NO_VALUE,
    *,
    where: Any = NO_VALUE,
) -> Value:
    refuse_out(out)
    x = lift(operand(a))
    axes = _axes(axis, x.ndim)
    result = _mean_dtype(x, dtype)
    x = convert(x, result if is_float(result) else _sum_dtype(result))
    if not is_float(x.dtype):
        x = convert(x, FLOAT64)
    return convert(_dropped(_mean(x, axes, _mask(where, x.shape)), axes, keepdims), result)


def _variance(
    a: Any, axis: Any, dtype: Any, out: Any, ddof: Any, keepdims: Any, where: Any, mean: Any, correction: Any
) -> Value:
    refuse_out(out)
    if correction is not NO_VALUE:
        if ddof != 0:
            raise ValueError("ddof and correction can't be provided simultaneously.")
        ddof = correction
    x = lift(operand(a))
    axes = _axes(axis, x.ndim)
    result = _mean_dtype(x, dtype)
    if not is_float(result):
        raise TypeError(f"a variance of dtype {result.name} is not supported: give a floating dtype=")
    x = convert(x, result)
    mask = _mask(where, x.shape)
    centre = _mean(x, axes, mask) if mean is NO_VALUE else _given_mean(mean, x, axes)
    d = x - spread(centre, x.shape)
    squares = d * d
    total = _add_up(squares if mask is None else select(mask, squares, squares.full_like(0)), axes)
    count = _count(x.shape, axes, mask, x.dtype)
    freedom = (
        arithmetic.maximum(count - ddof, 0)
        if ir.literal(count) is None
        else count.full_like(np.maximum(ir.literal(count) - ddof, 0))
    )
    return _dropped(structure.reshape(total, shape=count.shape) / freedom, axes, keepdims)


def _given_mean(mean: Any, x: Value, axes: Shape) -> Value:
    """A mean that the user computed, which must have kept its reduced axes."""
    kept = tuple([1 if i in axes else n for i, n in enumerate(x.shape)])
    return lift_to(operand(mean), x.dtype, kept)


@implements(np.var)
def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = NO_VALUE,
    *,
    where: Any = NO_VALUE,
    mean: Any = NO_VALUE,
    correction: Any = NO_VALUE,
) -> Value:
    return _variance(a, axis, dtype, out, ddof, keepdims, where, mean, correction)


@implements(np.std)
def std(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = NO_VALUE,
    *,
    where: Any = NO_VALUE,
    mean: Any = NO_VALUE,
    correction: Any = NO_VALUE,
) -> Value:
    return arithmetic.sqrt(_variance(a, axis, dtype, out, ddof, keepdims, where, mean, correction))


@implements(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = NO_VALUE) -> Any:
    x = lift(operand(a))
    axes = _axes(axis, x.ndim)
    if weights is None:
        y = mean(x, axis, keepdims=keepdims)
        count = _count(x.shape, axes, None, y.dtype)
        total = spread(_dropped(count, axes, keepdims), y.shape)
    else:
        w = lift(operand(weights))
        if w.shape != x.shape:
            if len(axes) != 1 or w.shape != (x.shape[axes[0]],):
                raise TypeError(f"weights of shape {w.shape} fit neither the shape {x.shape} nor the axis {axis}")
            w = structure.broadcast(w, shape=x.shape, axes=axes)
        total = sum(w, axis, keepdims=keepdims)
        y = apply(np.divide, (sum(apply(np.multiply, (x, w)), axis, keepdims=keepdims), total))
        total = convert(total, y.dtype)
    return (y, total) if returned else y


REDUCTIONS: dict[np.ufunc, Any] = {
    np.add: sum,
    np.maximum: max,
    np.minimum: min,
    np.logical_or: any_,
    np.logical_and: all_,
    np.bitwise_or: any_,
    np.bitwise_and: all_,
}
"""What `ufunc.reduce` is, of a ufunc."""


def reduce(
    ufunc: np.ufunc,
    array: Any,
    axis: Any = 0,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = NO_VALUE,
    where: Any = NO_VALUE,
) -> Value:
    """`ufunc.reduce` with NumPy's arguments."""
    function = REDUCTIONS.get(ufunc)
    if function is None:
        known = ", ".join(f"np.{u.__name__}.reduce" for u in REDUCTIONS)
        raise TypeError(f"np.{ufunc.__name__}.reduce is not supported on tensors; these are: {known}")
    options: dict[str, Any] = {"keepdims": keepdims}
    if initial is not NO_VALUE:
        options["initial"] = initial
    if where is not NO_VALUE:
        options["where"] = where
    if ufunc is np.add:
        options["dtype"] = dtype
    elif dtype is not None:
        array = convert(lift(operand(array)), supported(dtype, "the argument dtype= is"))
    if ufunc in (np.bitwise_or, np.bitwise_and) and lift(operand(array)).dtype != BOOL:
        raise TypeError(f"np.{ufunc.__name__}.reduce is supported on bool only")
    if "initial" in options and function in (any_, all_):
        y = function(array, axis, out=out, **{k: v for k, v in options.items() if k != "initial"})
        join = logic.logical_or if function is any_ else logic.logical_and
        return join(y, ir.full(bool(options["initial"]), y.shape, BOOL))
    return function(array, axis, out=out, **options)  # type: ignore[no-any-return]
