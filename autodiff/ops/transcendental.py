"""Exponentials, logarithms, circular, hyperbolic and error functions, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.ir import Array, Op, Value
from autodiff.ops.arithmetic import sqrt
from autodiff.ops.base import elementwise


def _element_by_element(function: Callable[[float], float]) -> Callable[[Any], Array]:
    """Python's function as one of arrays; NumPy has no error functions."""

    def oracle(x: Any) -> Array:
        x = np.asarray(x)
        return np.array([function(v) for v in x.ravel().tolist()], x.dtype).reshape(x.shape)

    return oracle


def _slope_of_erf(x: Value) -> Value:
    return 2 / math.sqrt(math.pi) * exp(-(x * x))


def _over_square(x: Value, a: Value, b: Value) -> Value:
    """Divide by a^2 + b^2, whose squares might overflow or underflow."""
    h = hypot(a, b)
    return x / h / h


def _sigmoid(x: Any) -> Any:
    """NumPy has none."""
    small = np.exp(-np.fabs(x))
    return np.where(x < 0, small, np.ones_like(small)) / (1 + small)


def _function(name: str, oracle: Callable[..., Any], jvp: Any, arity: int = 1) -> Op:
    return elementwise(name, oracle, jvp=jvp, arity=arity, domain="floating")


exp = _function("exp", np.exp, lambda t, y, x: t * y)
exp2 = _function("exp2", np.exp2, lambda t, y, x: t * (y * math.log(2)))
expm1 = _function("expm1", np.expm1, lambda t, y, x: t * (y + 1))
log = _function("log", np.log, lambda t, y, x: t / x)
log2 = _function("log2", np.log2, lambda t, y, x: t / (x * math.log(2)))
log10 = _function("log10", np.log10, lambda t, y, x: t / (x * math.log(10)))
log1p = _function("log1p", np.log1p, lambda t, y, x: t / (x + 1))

sin: Op = _function("sin", np.sin, lambda t, y, x: t * cos(x))
cos: Op = _function("cos", np.cos, lambda t, y, x: t * -sin(x))
tan = _function("tan", np.tan, lambda t, y, x: t * (1 + y * y))
arcsin = _function("arcsin", np.arcsin, lambda t, y, x: t / sqrt((1 - x) * (1 + x)))
arccos = _function("arccos", np.arccos, lambda t, y, x: -t / sqrt((1 - x) * (1 + x)))
arctan = _function("arctan", np.arctan, lambda t, y, x: t / (1 + x * x))
arctan2 = _function(
    "arctan2",
    np.arctan2,
    (lambda t, y, a, b: t * _over_square(b, a, b), lambda t, y, a, b: t * -_over_square(a, a, b)),
    arity=2,
)

sinh: Op = _function("sinh", np.sinh, lambda t, y, x: t * cosh(x))
cosh: Op = _function("cosh", np.cosh, lambda t, y, x: t * sinh(x))
tanh = _function("tanh", np.tanh, lambda t, y, x: t * (1 - y * y))
arcsinh = _function("arcsinh", np.arcsinh, lambda t, y, x: t / hypot(x, x.full_like(1)))
arccosh = _function("arccosh", np.arccosh, lambda t, y, x: t / (sqrt(x - 1) * sqrt(x + 1)))
arctanh = _function("arctanh", np.arctanh, lambda t, y, x: t / ((1 - x) * (1 + x)))
sigmoid: Op = _function("sigmoid", _sigmoid, lambda t, y, x: t * (y * sigmoid(-x)))  # 1 - y would cancel

cbrt = _function("cbrt", np.cbrt, lambda t, y, x: t / (3 * (y * y)))
hypot: Op = _function(
    "hypot", np.hypot, (lambda t, y, a, b: t * (a / y), lambda t, y, a, b: t * (b / y)), arity=2
)

erf = _function("erf", _element_by_element(math.erf), lambda t, y, x: t * _slope_of_erf(x))
erfc = _function("erfc", _element_by_element(math.erfc), lambda t, y, x: t * -_slope_of_erf(x))
