"""Exponentials, logarithms, circular and error functions, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.ir import Array, Op, Value
from autodiff.ops.base import elementwise


def _element_by_element(function: Callable[[float], float]) -> Callable[[Any], Array]:
    """Python's function as one of arrays; NumPy has no error functions."""

    def oracle(x: Any) -> Array:
        x = np.asarray(x)
        return np.array([function(v) for v in x.ravel().tolist()], x.dtype).reshape(x.shape)

    return oracle


def _slope_of_erf(x: Value) -> Value:
    return 2 / math.sqrt(math.pi) * exp(-(x * x))


exp = elementwise("exp", np.exp, jvp=lambda t, y, x: t * y, domain="floating")
expm1 = elementwise("expm1", np.expm1, jvp=lambda t, y, x: t * (y + 1), domain="floating")
log = elementwise("log", np.log, jvp=lambda t, y, x: t / x, domain="floating")
log1p = elementwise("log1p", np.log1p, jvp=lambda t, y, x: t / (x + 1), domain="floating")
sin: Op = elementwise("sin", np.sin, jvp=lambda t, y, x: t * cos(x), domain="floating")
cos: Op = elementwise("cos", np.cos, jvp=lambda t, y, x: t * -sin(x), domain="floating")
tanh = elementwise("tanh", np.tanh, jvp=lambda t, y, x: t * (1 - y * y), domain="floating")
erf = elementwise(
    "erf", _element_by_element(math.erf), jvp=lambda t, y, x: t * _slope_of_erf(x), domain="floating"
)
erfc = elementwise(
    "erfc", _element_by_element(math.erfc), jvp=lambda t, y, x: t * -_slope_of_erf(x), domain="floating"
)
