"""Arithmetic on numbers, element by element."""

from __future__ import annotations

import numpy as np

from autodiff.ir import Array, Op, Value
from autodiff.ops.base import LINEAR, ZERO, elementwise
from autodiff.ops.logic import eq, select


def _scale_oracle(x: Array, k: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.where(x == 0, np.zeros_like(x), x * k)


def _share(t: Value, y: Value, winner: Value, other: Value) -> Value:
    """A tangent through the larger (or smaller) of two: all of it, or half on a tie."""
    return select(eq(winner, other), t * 0.5, select(eq(winner, y), t, t.full_like(0)))


def _pow_in_base(t: Value, y: Value, x: Value, p: Value) -> Value:
    # p = 0 would multiply 0 by an infinite power of 0
    return t * select(eq(p, p.full_like(0)), p.full_like(0), p * pow(x, p - 1))


def _pow_in_exponent(t: Value, y: Value, x: Value, p: Value) -> Value:
    from autodiff.ops.transcendental import log

    zero = x.full_like(0)
    return t * (y * log(select(eq(x, zero), select(p >= zero, x.full_like(1), zero), x)))


add = elementwise("add", np.add, arity=2, jvp=(lambda t, y, a, b: t,) * 2, transpose=(lambda ct, a, b: ct,) * 2)
neg = elementwise("neg", np.negative, jvp=LINEAR, transpose=lambda ct, x: -ct)
sub = elementwise(
    "sub",
    np.subtract,
    arity=2,
    jvp=(lambda t, y, a, b: t, lambda t, y, a, b: -t),
    transpose=(lambda ct, a, b: ct, lambda ct, a, b: -ct),
)

# scale(x, k) = x * k, but 0 where x is 0, whatever k: what a cotangent that a selection has masked is multiplied with.
scale: Op = elementwise(
    "scale",
    _scale_oracle,
    arity=2,
    jvp=(LINEAR, LINEAR),
    transpose=(lambda ct, x, k: scale(ct, k), lambda ct, x, k: scale(x, ct)),
    domain="floating",
    selects=True,  # the zeros of x reach the cotangent of k
)
# The tangent or cotangent comes first in both arguments' rules, so that the two terms of x * x are one node.
mul = elementwise(
    "mul",
    np.multiply,
    arity=2,
    jvp=(lambda t, z, x, y: t * y, lambda t, z, x, y: t * x),
    transpose=(lambda ct, x, y: ct * y, lambda ct, x, y: ct * x),
    masked_transpose=(lambda ct, x, y: scale(ct, y), lambda ct, x, y: scale(ct, x)),
)
div = elementwise(
    "div",
    np.divide,
    arity=2,
    jvp=(LINEAR, lambda t, q, x, y: -t * q / y),  # transposed, ct / y serves both arguments, and the sign comes last
    transpose=(lambda ct, x, y: ct / y, None),
    masked_transpose=(lambda ct, x, y: scale(ct, 1 / y), None),
    domain="floating",
)

pow = elementwise("pow", np.power, arity=2, jvp=(_pow_in_base, _pow_in_exponent))
sqrt = elementwise("sqrt", np.sqrt, jvp=lambda t, y, x: t * (0.5 / y), domain="floating")
sign = elementwise("sign", np.sign, jvp=ZERO)
abs = elementwise("abs", np.abs, jvp=lambda t, y, x: t * sign(x))
maximum = elementwise(
    "maximum",
    np.maximum,
    arity=2,
    jvp=(lambda t, y, a, b: _share(t, y, a, b), lambda t, y, a, b: _share(t, y, b, a)),
)
minimum = elementwise(
    "minimum",
    np.minimum,
    arity=2,
    jvp=(lambda t, y, a, b: _share(t, y, a, b), lambda t, y, a, b: _share(t, y, b, a)),
)
