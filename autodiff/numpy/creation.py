"""New arrays like given ones, copies, and what can be asked of an array without its values."""

# ruff: noqa: D103 - NumPy documents its functions

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff import ir
from autodiff.ir import Shape, Value
from autodiff.numpy.promotion import lift, operand, supported
from autodiff.numpy.registry import implements
from autodiff.numpy.shapes import _shape_argument, broadcast_to
from autodiff.ops.logic import convert


def _like(prototype: Any, dtype: Any, shape: Any) -> tuple[Shape, np.dtype[Any]]:
    x = lift(operand(prototype))
    new = x.shape if shape is None else () if isinstance(shape, (tuple, list)) and not shape else _shape_argument(shape)
    return new, x.dtype if dtype is None else supported(dtype, "the argument dtype= is")


@implements(np.zeros_like)
def zeros_like(
    a: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Value:
    return ir.full(0, *_like(a, dtype, shape))


@implements(np.empty_like)
def empty_like(
    prototype: Any, /, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Value:
    return ir.full(0, *_like(prototype, dtype, shape))


@implements(np.ones_like)
def ones_like(
    a: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Value:
    return ir.full(1, *_like(a, dtype, shape))


@implements(np.full_like)
def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: Any = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Value:
    new, result = _like(a, dtype, shape)
    return broadcast_to(lift(operand(fill_value), result), new)


@implements(np.copy)
def copy(a: Any, order: Any = "K", subok: bool = False) -> Value:
    return lift(operand(a))


@implements(getattr(np, "astype", None))  # NumPy 2.1
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Value:
    return convert(lift(operand(x)), supported(dtype, "the argument dtype is"))


@implements(np.real, views=True)
def real(val: Any) -> Value:
    return lift(operand(val))


@implements(np.shape)
def shape(a: Any) -> Shape:
    return lift(operand(a)).shape


@implements(np.ndim)
def ndim(a: Any) -> int:
    return lift(operand(a)).ndim


@implements(np.size)
def size(a: Any, axis: Any = None) -> int:
    x = lift(operand(a))
    return x.size if axis is None else int(np.size(np.empty(x.shape, bool), axis))


@implements(np.iscomplexobj)
def iscomplexobj(x: Any) -> bool:
    return False


@implements(np.isrealobj)
def isrealobj(x: Any) -> bool:
    return True


@implements(np.result_type)
def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    from autodiff.numpy.promotion import kind_of

    known = []
    for x in arrays_and_dtypes:
        kind = kind_of(x) if isinstance(x, Value) else x
        known.append(kind(0) if isinstance(x, Value) and isinstance(kind, type) else kind)
    return np.result_type(*known)
