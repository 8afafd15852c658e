"""Operators: Python's and NumPy's forms of calling a ufunc, on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from autodiff import ir
from autodiff.errors import user_line
from autodiff.explain import explained
from autodiff.ir import Line, Value
from autodiff.lazy import Lazy, unwrapped
from autodiff.numpy import products, reductions, shapes
from autodiff.numpy.elementwise import apply, apply1, apply2, apply_number, loops_of
from autodiff.numpy.promotion import lift, operand, supported
from autodiff.numpy.registry import known
from autodiff.ops.logic import convert
from autodiff.storage import Stored

GUFUNCS: dict[np.ufunc, Callable[..., Value]] = {np.matmul: products.matmul, np.vecdot: products.vecdot}
"""Ufuncs that do not work element by element."""
known.update(ufunc.__name__ for ufunc in GUFUNCS)

_NUMBERS = (int, float, complex, np.generic)
OPERANDS = (*_NUMBERS, np.ndarray, list, tuple)
"""What operators take beside tensors."""

Wrap = Callable[[Value], Any]
S = TypeVar("S", bound=Stored)


def call_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Value:
    """`ufunc.method(*inputs, **options)` in all its forms."""
    if any(out is not None for out in options.pop("out", ())):
        raise TypeError(
            "out= would write into an array that is not traced: use the result, as in x = np.function(...), and "
            "arr = arr + t in place of arr += t"
        )
    if method == "at":
        raise TypeError("ufunc.at writes into an array that is not traced: use x = x.at[index].add(v) of a tensor x")
    values = [unwrapped(x) for x in inputs]
    if method == "reduce":
        return reductions.reduce(ufunc, *values, **options)
    if method == "outer":
        a, b = (lift(operand(x)) for x in values)
        values = [shapes.to_shape(a, a.shape + (1,) * b.ndim), b]
    elif method != "__call__":
        raise TypeError(f"ufunc.{method} is not supported on tensors; ufunc.reduce and ufunc.outer are")
    if options.pop("where", True) is not True:
        raise TypeError("where= leaves elements undefined: use np.where(mask, np.function(x), otherwise)")
    casting = options.pop("casting", "same_kind")
    for harmless in ("order", "subok"):
        options.pop(harmless, None)
    if ufunc in GUFUNCS:
        if options.keys() - ({"axis"} if ufunc is np.vecdot else set()):
            raise TypeError(f"np.{ufunc.__name__} is not supported with {', '.join(f'{k}=' for k in options)}")
        return GUFUNCS[ufunc](*values, **options)
    dtype = options.pop("dtype", None)
    if options or casting != "same_kind":
        names = ", ".join(f"{k}=" for k in options) or "casting="
        raise TypeError(f"ufuncs are not supported with {names}: convert with .astype first")
    loops_of(ufunc)  # that it has none is to be said before anything else
    dtype = None if dtype is None else supported(dtype, "the argument dtype= is")
    return apply(ufunc, [operand(x) for x in values], dtype)


def _with_operand(ufunc: np.ufunc, tensor: Lazy, other: Any, reflected: bool) -> Value | None:
    """An operator of a tensor and what is none; None where it is no operand at all."""
    x = tensor._value
    if type(other) in (float, int, bool):
        result = apply_number(ufunc, x, other, reflected)
        weak = x.aval.weak and ir.is_float(result.dtype)
        return convert(result, result.dtype, weak=True) if weak else result
    if not isinstance(other, OPERANDS):
        return None
    y = operand(unwrapped(other))
    return apply(ufunc, (y, x) if reflected else (x, y))


def _binary(ufunc: np.ufunc, cls: type[Stored], wrap: Wrap) -> Callable[[Stored, Any], Any]:
    name = f"np.{ufunc.__name__}"

    def method(self: Stored, other: Any) -> Any:
        line = ir.current().line = user_line(2)
        try:
            if type(other) is cls:
                x, y = self._value, other._value
                value = apply2(ufunc, x, y)
                if x.aval.weak and y.aval.weak and ir.is_float(value.dtype):
                    value = convert(value, value.dtype, weak=True)  # Python floats make Python floats
                return wrap(value)
            made = _with_operand(ufunc, self, other, reflected=False)
            return NotImplemented if made is None else wrap(made)
        except Exception as error:
            raise explained(error, name, (self, other), line) from None

    return method


def _reflected(ufunc: np.ufunc, wrap: Wrap) -> Callable[[Stored, Any], Any]:
    name = f"np.{ufunc.__name__}"

    def method(self: Stored, other: Any) -> Any:
        line = ir.current().line = user_line(2)
        try:
            value = _with_operand(ufunc, self, other, reflected=True)
        except Exception as error:
            raise explained(error, name, (other, self), line) from None
        return NotImplemented if value is None else wrap(value)

    return method


def _unary(ufunc: np.ufunc, wrap: Wrap) -> Callable[[Stored], Any]:
    name = f"np.{ufunc.__name__}"

    def method(self: Stored) -> Any:
        line = ir.current().line = user_line(2)
        try:
            x = self._value
            value = apply1(ufunc, x)
            if x.aval.weak:
                value = convert(value, value.dtype, weak=True)
            return wrap(value)
        except Exception as error:
            raise explained(error, name, (self,), line) from None

    return method


def _augmented(ufunc: np.ufunc) -> Callable[[Stored, Any], Any]:
    def method(self: Stored, other: Any) -> Any:
        if not self._value.aval.shape:
            return NotImplemented  # NumPy's scalars are not changed either: x += y is x = x + y
        line = ir.current().line = user_line(2)
        try:
            if isinstance(other, Lazy):
                value: Value | None = apply2(ufunc, self._value, other._value)
            else:
                value = _with_operand(ufunc, self, other, reflected=False)
        except Exception as error:
            raise explained(error, f"in-place np.{ufunc.__name__}", (self, other), line) from None
        return NotImplemented if value is None else in_place(self, value, other, ufunc, line)

    return method


def in_place(self: S, value: Value, other: Any, ufunc: np.ufunc, line: Line | None) -> S:
    """The tensor with the result of an operator written into it."""
    try:
        if value.shape != self.shape:
            raise ValueError(
                f"non-broadcastable output operand with shape {self.shape} doesn't match the broadcast shape "
                f"{value.shape}: write x = x + v"
            )
        if not np.can_cast(value.dtype, self.dtype, "same_kind"):
            raise TypeError(
                f"Cannot cast ufunc '{ufunc.__name__}' output from {value.dtype!r} to {self.dtype!r} with casting rule "
                "'same_kind': write x = x + v, or convert x first"
            )
        self._write(convert(value, self.dtype), other, "an in-place operator")
    except Exception as error:
        raise explained(error, f"in-place np.{ufunc.__name__}", (self, other), line) from None
    return self


_BINARY: dict[str, np.ufunc] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.divide,
    "pow": np.power,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
_COMPARISONS: dict[str, np.ufunc] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_UNARY: dict[str, np.ufunc] = {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}


def define(cls: type[Stored], name: str, method: Callable[..., Any]) -> None:
    """Make a function a method."""
    method.__name__ = name
    method.__qualname__ = f"{cls.__name__}.{name}"
    setattr(cls, name, method)


def define_operators(cls: type[Stored], wrap: Wrap) -> None:
    """Give a class of tensors its operators; `wrap` makes a tensor of what an operation made."""
    for name, ufunc in _BINARY.items():
        define(cls, f"__{name}__", _binary(ufunc, cls, wrap))
        define(cls, f"__r{name}__", _reflected(ufunc, wrap))
        define(cls, f"__i{name}__", _augmented(ufunc))
    for name, ufunc in _COMPARISONS.items():
        define(cls, f"__{name}__", _binary(ufunc, cls, wrap))
    for name, ufunc in _UNARY.items():
        define(cls, f"__{name}__", _unary(ufunc, wrap))
