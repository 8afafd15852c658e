"""The logarithm of the gamma function and its derivatives, element by element.

The third derivative of log gamma, which trigamma's rule needs, is a series of arithmetic, so its own derivatives are
there without another primitive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff.ir import Array, Op, Value
from autodiff.ops.base import elementwise
from autodiff.ops.logic import lt, select
from autodiff.ops.transcendental import tan

BERNOULLI = [1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510]
"""The Bernoulli numbers B2, B4, ... of Stirling's series."""

STEPS = 12
"""The series is used this far from 0, and what lies between is summed."""


def _oracle(
    series: Callable[[Array], Array],
    step: Callable[[Array], Array],
    reflected: Callable[[Array, Array, Array], Array],
    limits: Sequence[float],
) -> Callable[[Any], Array]:
    """A function by its series for large numbers and its steps between f(y) and f(y + 1), in NumPy's widest type.

    Below 1/2 by reflection: of f(1 - x) and pi (x - n), n whole.  `limits` at infinity, -infinity, 0 and -0, and, if
    not NaN, at the negative whole numbers.
    """

    def oracle(x: Any) -> Array:
        np.fabs(x)  # a TypeError for complex numbers
        x = np.asarray(x)
        with np.errstate(all="ignore"):
            wide = x.astype(np.longdouble)
            below = wide < 0.5
            y = np.where(below, 1 - wide, wide)
            value = series(y + STEPS)
            for k in range(STEPS):
                value = value - step(y + k)
            angle = np.longdouble(np.pi) * (wide - np.round(wide)) + (wide - np.round(wide)) * _PI_REST
            value = np.where(below, reflected(value, np.sin(angle), np.cos(angle)), value)
            at_infinity, at_minus_infinity, at_zero, at_minus_zero, at_poles = limits
            value = np.where((wide < 0) & (wide == np.round(wide)), at_poles, value)
            value = np.where(wide == 0, np.where(np.signbit(wide), at_minus_zero, at_zero), value)
            value = np.where(np.isinf(wide), np.where(wide < 0, at_minus_infinity, at_infinity), value)
            return np.asarray(value).astype(x.dtype)

    return oracle


_PI = np.longdouble("3.14159265358979323846264338327950288")
_PI_REST = _PI - np.longdouble(np.pi)


def _lgamma_series(y: Array) -> Array:
    terms = [b / (2 * k * (2 * k - 1)) * y ** (1 - 2 * k) for k, b in enumerate(BERNOULLI, 1)]
    half = np.log(2 * _PI) / 2
    return sum(reversed(terms), (y - 0.5) * np.log(y) - y + half)


def _digamma_series(y: Array) -> Array:
    terms = [-b / (2 * k) * y ** (-2 * k) for k, b in enumerate(BERNOULLI, 1)]
    return sum(reversed(terms), np.log(y) - 0.5 / y)


def _trigamma_series(y: Array) -> Array:
    terms = [b * y ** (-2 * k - 1) for k, b in enumerate(BERNOULLI, 1)]
    return sum(reversed(terms), 1 / y + 0.5 / (y * y))


def _lgamma_oracle(x: Any) -> Array:
    y = _oracle(
        _lgamma_series,
        np.log,
        lambda y, sine, cosine: np.log(_PI / np.abs(sine)) - y,
        (math.inf, math.inf, math.inf, math.inf, math.inf),
    )(x)
    return np.where((np.asarray(x) == 1) | (np.asarray(x) == 2), np.zeros_like(y), y)


def _tetragamma(x: Value) -> Value:
    """The derivative of trigamma; below 1/2 by reflection."""
    half = x.full_like(0.5)
    y = select(lt(x, half), 1 - x, x)
    total: Value | None = None
    for k in range(STEPS):
        inverse = 1 / (y + k)
        cube = inverse * inverse * inverse
        total = cube if total is None else total + cube
    assert total is not None
    w = 1 / (y + STEPS)
    square = w * w
    series = square.full_like(0)
    for k, b in reversed(list(enumerate(BERNOULLI, 1))):
        series = (series + (2 * k + 1) * b) * square
    value = -2 * total - square * (1 + w + series)
    tangent = tan(x * math.pi)
    return select(lt(x, half), value - 2 * math.pi**3 * (1 + tangent * tangent) / (tangent * tangent * tangent), value)


lgamma: Op = elementwise("lgamma", _lgamma_oracle, jvp=lambda t, y, x: t * digamma(x), domain="floating")
digamma: Op = elementwise(
    "digamma",
    _oracle(
        _digamma_series,
        lambda y: 1 / y,
        lambda y, sine, cosine: y - _PI * cosine / sine,
        (math.inf, math.nan, -math.inf, math.inf, math.nan),
    ),
    jvp=lambda t, y, x: t * trigamma(x),
    domain="floating",
)
trigamma: Op = elementwise(
    "trigamma",
    _oracle(
        _trigamma_series,
        lambda y: -1 / (y * y),
        lambda y, sine, cosine: (_PI / sine) ** 2 - y,
        (0.0, math.inf, math.inf, math.inf, math.inf),
    ),
    jvp=lambda t, y, x: t * _tetragamma(x),
    domain="floating",
)
