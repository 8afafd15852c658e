"""NumPy's universal functions, as compositions of elementwise primitives.

A *loop* is a function on values of one shape, in the dtypes that NumPy's own type resolution chose.
"""

# ruff: noqa: D103 - NumPy documents its functions

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from autodiff import ir
from autodiff.ir import BOOL, Dtype, Value, is_float
from autodiff.numpy.promotion import (
    NAMES,
    Kind,
    Operand,
    broadcast_shapes,
    kind_of,
    lift_to,
    shape_of,
)
from autodiff.numpy.registry import known, unsupported
from autodiff.ops import arithmetic, gamma, logic, transcendental
from autodiff.ops.logic import convert, select

Loop = Callable[..., Value]

LOOPS: dict[np.ufunc, tuple[Loop, Loop | None]] = {}
"""Loops of each ufunc: for numbers, and for bool where that differs (None: NumPy's resolution avoids bool)."""



def softplus(x: Value) -> Value:
    """log(1 + e^x).

    Either branch is the whole function, so that derivatives are right at 0 too, which those of |x| would not be.
    """
    positive, zero = x > 0, x.full_like(0)
    rest = transcendental.log1p(transcendental.exp(select(positive, -x, x)))
    return select(positive, x, zero) + rest


SCIPY: dict[str, Loop] = {
    "erf": transcendental.erf,
    "erfc": transcendental.erfc,
    "expit": transcendental.sigmoid,
    "log_expit": lambda x: -softplus(-x),
    "softplus": softplus,
    "gammaln": gamma.lgamma,
    "digamma": gamma.digamma,
    "psi": gamma.digamma,
}
"""Loops of the ufuncs of scipy.special, by name: it is not imported here, but may come with a call."""


def loop(*ufuncs: np.ufunc, on_bool: Loop | None = None) -> Callable[[Loop], Loop]:
    """Declare the function below to be the loop of `ufuncs`."""

    def declare(function: Loop) -> Loop:
        for ufunc in ufuncs:
            known.add(ufunc.__name__)
            LOOPS[ufunc] = (function, on_bool or function)
        return function

    return declare


def loops_of(ufunc: np.ufunc) -> tuple[Loop, Loop | None]:
    """The loops of NumPy's or SciPy's ufunc; TypeError if it has none."""
    if ufunc in LOOPS:
        return LOOPS[ufunc]
    name = ufunc.__name__
    if name in SCIPY and getattr(sys.modules.get("scipy.special"), name, None) is ufunc:
        return SCIPY[name], None
    raise unsupported(name)


def _not(mask: Value) -> Value:
    return logic.logical_not(mask)


def _truth(function: Loop) -> Loop:
    """A loop on truth values: what is not zero is true."""
    return lambda *xs: function(*[convert(x, BOOL) for x in xs])


def _negated(compare: Loop) -> Loop:
    return lambda a, b: _not(compare(a, b))


# Comparisons order False before True, as numbers do: a < b is not a and b.
loop(np.add, on_bool=logic.logical_or)(arithmetic.add)
loop(np.subtract)(arithmetic.sub)
loop(np.multiply, on_bool=logic.logical_and)(arithmetic.mul)
loop(np.divide)(arithmetic.div)
loop(np.negative)(arithmetic.neg)
loop(np.maximum, on_bool=logic.logical_or)(arithmetic.maximum)
loop(np.minimum, on_bool=logic.logical_and)(arithmetic.minimum)
loop(np.absolute, on_bool=lambda x: x)(arithmetic.abs)
loop(np.fabs)(arithmetic.abs)
loop(np.sign)(arithmetic.sign)
loop(np.sqrt)(arithmetic.sqrt)
loop(np.power, np.float_power)(arithmetic.pow)
for _ufunc, _function in (
    (np.exp, transcendental.exp),
    (np.exp2, transcendental.exp2),
    (np.expm1, transcendental.expm1),
    (np.log, transcendental.log),
    (np.log2, transcendental.log2),
    (np.log10, transcendental.log10),
    (np.log1p, transcendental.log1p),
    (np.sin, transcendental.sin),
    (np.cos, transcendental.cos),
    (np.tan, transcendental.tan),
    (np.arcsin, transcendental.arcsin),
    (np.arccos, transcendental.arccos),
    (np.arctan, transcendental.arctan),
    (np.arctan2, transcendental.arctan2),
    (np.sinh, transcendental.sinh),
    (np.cosh, transcendental.cosh),
    (np.tanh, transcendental.tanh),
    (np.arcsinh, transcendental.arcsinh),
    (np.arccosh, transcendental.arccosh),
    (np.arctanh, transcendental.arctanh),
    (np.cbrt, transcendental.cbrt),
    (np.hypot, transcendental.hypot),
):
    loop(_ufunc)(_function)
loop(np.equal, on_bool=_negated(logic.logical_xor))(logic.eq)
loop(np.not_equal, on_bool=logic.logical_xor)(logic.ne)
loop(np.less, on_bool=lambda a, b: logic.logical_and(_not(a), b))(logic.lt)
loop(np.less_equal, on_bool=lambda a, b: logic.logical_or(_not(a), b))(logic.le)
loop(np.greater, on_bool=lambda a, b: logic.logical_and(a, _not(b)))(logic.gt)
loop(np.greater_equal, on_bool=lambda a, b: logic.logical_or(a, _not(b)))(logic.ge)
loop(np.logical_and)(_truth(logic.logical_and))
loop(np.logical_or)(_truth(logic.logical_or))
loop(np.logical_xor)(_truth(logic.logical_xor))
loop(np.logical_not)(_truth(logic.logical_not))


def _bool_only(name: str) -> Loop:
    def refuse(*xs: Value) -> Value:
        raise TypeError(f"np.{name} is supported on bool only, not on {xs[0].dtype.name}")

    return refuse


loop(np.bitwise_and, on_bool=logic.logical_and)(_bool_only("bitwise_and"))
loop(np.bitwise_or, on_bool=logic.logical_or)(_bool_only("bitwise_or"))
loop(np.bitwise_xor, on_bool=logic.logical_xor)(_bool_only("bitwise_xor"))
loop(np.invert, on_bool=logic.logical_not)(_bool_only("invert"))


@loop(np.positive, np.conjugate)
def _same(x: Value) -> Value:
    return x


@loop(np.square, on_bool=lambda x: x)
def square(x: Value) -> Value:
    return x * x


@loop(np.reciprocal)
def reciprocal(x: Value) -> Value:
    if not is_float(x.dtype):
        raise TypeError(f"np.reciprocal is supported on floats only, not on {x.dtype.name}: write 1 / x")
    return 1 / x


@loop(np.degrees, np.rad2deg)
def degrees(x: Value) -> Value:
    return x * (180 / math.pi)


@loop(np.radians, np.deg2rad)
def radians(x: Value) -> Value:
    return x * (math.pi / 180)


@loop(np.logaddexp)
def logaddexp(a: Value, b: Value) -> Value:
    first = a > b  # by branches as in softplus
    same_infinity = logic.logical_and(logic.eq(a, b), logic.eq(arithmetic.abs(a), a.full_like(math.inf)))
    distance = select(same_infinity, a.full_like(0), select(first, b - a, a - b))
    return select(first, a, b) + transcendental.log1p(transcendental.exp(distance))


@loop(np.fmax)
def fmax(a: Value, b: Value) -> Value:
    return _without_nan(arithmetic.maximum, a, b)


@loop(np.fmin)
def fmin(a: Value, b: Value) -> Value:
    return _without_nan(arithmetic.minimum, a, b)


def _without_nan(choose: Loop, a: Value, b: Value) -> Value:
    if not is_float(a.dtype):
        return choose(a, b)
    return select(isnan(a), b, select(isnan(b), a, choose(a, b)))


LOOPS[np.fmax] = (fmax, logic.logical_or)
LOOPS[np.fmin] = (fmin, logic.logical_and)


def _number_of(x: Value, test: Callable[[Value], Value], otherwise: bool) -> Value:
    return test(x) if is_float(x.dtype) else ir.full(otherwise, x.shape, BOOL)


@loop(np.isnan)
def isnan(x: Value) -> Value:
    return _number_of(x, lambda x: logic.ne(x, x), False)


@loop(np.isinf)
def isinf(x: Value) -> Value:
    return _number_of(x, lambda x: logic.eq(arithmetic.abs(x), math.inf), False)


@loop(np.isfinite)
def isfinite(x: Value) -> Value:
    return _number_of(x, lambda x: logic.lt(arithmetic.abs(x), math.inf), True)


@loop(np.heaviside)
def heaviside(x: Value, at_zero: Value) -> Value:
    step = select(logic.lt(x, 0), x.full_like(0), select(logic.gt(x, 0), x.full_like(1), at_zero))
    return select(isnan(x), x, step)


COMPARISONS: dict[np.ufunc, tuple[bool, bool]] = {
    np.equal: (False, False),
    np.not_equal: (True, True),
    np.less: (True, False),
    np.less_equal: (True, False),
    np.greater: (False, True),
    np.greater_equal: (False, True),
}
"""Whether x OP n holds where n is greater, and where n is less, than any number of x's dtype."""


# ---- application ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def resolve(ufunc: np.ufunc, kinds: tuple[Kind, ...], dtype: Dtype | None = None) -> tuple[Loop, tuple[Dtype, ...]]:
    """The loop of a ufunc for operands of those kinds, and the dtypes it wants them in.  TypeError if it has none."""
    on_number, on_bool = loops_of(ufunc)
    wanted: dict[str, Any] = {} if dtype is None else {"signature": (*[None] * ufunc.nin, dtype)}
    dtypes = ufunc.resolve_dtypes((*kinds, *[None] * ufunc.nout), **wanted)
    for d in dtypes:
        if d not in ir.DTYPES:
            of = ", ".join(kind.name if isinstance(kind, np.dtype) else f"Python {kind.__name__}" for kind in kinds)
            raise TypeError(
                f"np.{ufunc.__name__} of {of} works in dtype {d.name}, which is not supported; "
                f"convert with .astype to one of {NAMES} first"
            )
    function = on_bool if on_bool is not None and dtypes[0] == BOOL else on_number
    return function, dtypes[: ufunc.nin]


_equal_avals: dict[tuple[np.ufunc, Dtype], Loop] = {}
"""Loops for operands that all have one dtype, which is the loop's too."""


def apply(ufunc: np.ufunc, operands: Sequence[Operand], dtype: Dtype | None = None) -> Value:
    """`ufunc` of operands, in its loop for `dtype` if that is given."""
    function, dtypes = resolve(ufunc, tuple([kind_of(x) for x in operands]), dtype)
    if ufunc is np.power:
        power = _power_by_number(operands, dtypes[0])
        if power is not None:
            return power
    shape = broadcast_shapes([shape_of(x) for x in operands])
    try:
        values = [lift_to(x, d, shape) for x, d in zip(operands, dtypes, strict=True)]
    except OverflowError:
        if ufunc not in COMPARISONS:
            raise
        return _compare_with_huge(ufunc, operands)
    return function(*values)


def apply2(ufunc: np.ufunc, x: Value, y: Value) -> Value:
    """`ufunc` of two values: the most frequent case, kept short."""
    aval = x.aval
    if aval == y.aval and not aval.weak:
        function = _equal_avals.get((ufunc, aval.dtype))
        if function is None:
            function, dtypes = resolve(ufunc, (aval.dtype, aval.dtype))
            if dtypes != (aval.dtype, aval.dtype):
                return apply(ufunc, (x, y))
            _equal_avals[ufunc, aval.dtype] = function
        return function(x, y)
    return apply(ufunc, (x, y))


_with_number: dict[tuple[np.ufunc, Dtype, type, bool], Loop | None] = {}
"""Loops for an operand of one dtype, which is the loop's too, and a Python number."""


def apply_number(ufunc: np.ufunc, x: Value, number: float, reflected: bool) -> Value:
    """`ufunc` of a value and a Python number (of the number and the value, if `reflected`)."""
    aval = x.aval
    if not aval.weak:
        key = (ufunc, aval.dtype, type(number), reflected)
        if key not in _with_number:
            kinds = (aval.dtype, kind_of(number))
            function, dtypes = resolve(ufunc, kinds[::-1] if reflected else kinds)
            same = dtypes == (aval.dtype, aval.dtype) and (ufunc is not np.power or reflected)
            _with_number[key] = function if same else None
        loop = _with_number[key]
        if loop is not None:
            try:
                other = lift_to(number, aval.dtype, aval.shape)
            except OverflowError:
                return apply(ufunc, (number, x) if reflected else (x, number))
            return loop(other, x) if reflected else loop(x, other)
    return apply(ufunc, (number, x) if reflected else (x, number))


def apply1(ufunc: np.ufunc, x: Value) -> Value:
    """`ufunc` of one value."""
    aval = x.aval
    if not aval.weak:
        function = _equal_avals.get((ufunc, aval.dtype))
        if function is not None:
            return function(x)
        function, dtypes = resolve(ufunc, (aval.dtype,))
        if dtypes == (aval.dtype,):
            _equal_avals[ufunc, aval.dtype] = function
    return apply(ufunc, (x,))


def _compare_with_huge(ufunc: np.ufunc, operands: Sequence[Operand]) -> Value:
    """A comparison with a Python integer that the other operand's dtype cannot hold."""
    x, n = operands
    greater, less = COMPARISONS[ufunc]
    if not isinstance(n, int):
        x, n = n, x
        if ufunc not in (np.equal, np.not_equal):
            greater, less = less, greater
    assert isinstance(n, int)
    return ir.full(greater if n > 0 else less, shape_of(x), BOOL)


# ---- powers with a known exponent ----------------------------------------------------------------------------------


def _cube(x: Value) -> Value:
    return x * x * x


def _one(x: Value) -> Value:
    return x.full_like(1)


POWERS: dict[float, Loop] = {0: _one, 0.5: arithmetic.sqrt, 1: _same, 2: square, 3: _cube, -1: lambda x: 1 / x}


def _power_by_number(operands: Sequence[Operand], dtype: Dtype) -> Value | None:
    """X ** n where n is a number and not a value, if that needs no `pow`."""
    x, n = operands
    if isinstance(n, Value) or shape_of(n) != () or not isinstance(x, Value):
        return None
    number = n.item() if isinstance(n, np.ndarray) else n
    if not is_float(dtype) and np.array(number, dtype) < 0:
        if not x.size:
            return None
        raise ValueError("Integers to negative integer powers are not allowed: convert the base with .astype(float)")
    power = POWERS.get(number)
    return None if power is None else power(convert(x, dtype))
