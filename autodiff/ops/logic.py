"""Comparisons, logic, selection and changes of dtype, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from autodiff import ir
from autodiff.ir import Array, Aval, Dtype, Node, Tangents, Value
from autodiff.ops.base import LINEAR, ZERO, elementwise, joint_jvp, primitive

eq = elementwise("eq", np.equal, arity=2, jvp=ZERO, domain="compare")
ne = elementwise("ne", np.not_equal, arity=2, jvp=ZERO, domain="compare")
lt = elementwise("lt", np.less, arity=2, jvp=ZERO, domain="compare")
le = elementwise("le", np.less_equal, arity=2, jvp=ZERO, domain="compare")
gt = elementwise("gt", np.greater, arity=2, jvp=ZERO, domain="compare")
ge = elementwise("ge", np.greater_equal, arity=2, jvp=ZERO, domain="compare")

logical_and = elementwise("logical_and", np.logical_and, arity=2, jvp=ZERO, domain="logic")
logical_or = elementwise("logical_or", np.logical_or, arity=2, jvp=ZERO, domain="logic")
logical_xor = elementwise("logical_xor", np.logical_xor, arity=2, jvp=ZERO, domain="logic")
logical_not = elementwise("logical_not", np.logical_not, jvp=ZERO, domain="logic")


@lru_cache(maxsize=1024)
def _infer_select(mask: Aval, a: Aval, b: Aval) -> Aval:
    if mask.dtype != ir.BOOL or a.dtype != b.dtype or not mask.shape == a.shape == b.shape:
        raise TypeError(f"select takes a bool and two operands of one dtype, all of one shape, not {mask}, {a}, {b}")
    return Aval(a.shape, a.dtype)


def _transpose_select(node: Node, cotangents: Tangents, linear: Sequence[bool]) -> Tangents:
    (ct,) = cotangents
    assert ct is not None
    mask, zero = node.inputs[0], ct.full_like(0)
    return [None, select(mask, ct, zero) if linear[1] else None, select(mask, zero, ct) if linear[2] else None]


# select(mask, a, b): a where mask, else b; what is not chosen contributes nothing, not even NaN
select = primitive(
    "select",
    np.where,
    infer=_infer_select,
    jvp_rule=joint_jvp(1),
    transpose_rule=_transpose_select,
    elementwise=True,
    selects=True,
)


def _infer_convert(x: Aval, dtype: Dtype, weak: bool) -> Aval:
    return Aval(x.shape, dtype, weak)


def _convert_oracle(x: Array, dtype: Dtype, weak: bool) -> Array:
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def _convert_jvp(node: Node, tangents: Tangents) -> Tangents:
    (t,) = tangents
    return [None if t is None or not ir.is_float(node.params["dtype"]) else convert_op(t, **node.params)]


convert_op = primitive(
    "convert",
    _convert_oracle,
    infer=_infer_convert,
    jvp_rule=_convert_jvp,
    transpose=lambda ct, x, dtype, weak: convert(ct, x.dtype),
    elementwise=True,
)


def convert(x: Value, dtype: Any, weak: bool = False) -> Value:
    """`x` in another dtype, as NumPy's `astype` does it; `x` itself where that changes nothing."""
    dtype = np.dtype(dtype)
    if x.dtype == dtype and x.aval.weak == weak:
        return x
    return convert_op(x, dtype=dtype, weak=weak)


def _infer_same(x: Aval) -> Aval:
    return x


# The value of x with a derivative of zero.
stop_gradient = primitive("stop_gradient", lambda x: x, infer=_infer_same, jvp=ZERO, elementwise=True)

# The value of x under a name of its own: what a derivative is taken with respect to.
identity = primitive(
    "identity",
    lambda x: x,
    infer=_infer_same,
    jvp=LINEAR,
    transpose=lambda ct, x: ct,
    elementwise=True,
    interned=False,
)
