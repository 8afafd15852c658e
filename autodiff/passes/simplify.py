"""Rewrites that never change a bit of any result (but for the sign and payload of NaN).

Not here, because they are not exact: x + 0 (for -0), x - x and x * 0 (for inf and NaN), (a + b) + c, x * c / c.
"""

from __future__ import annotations

from math import copysign
from typing import Any

import numpy as np

from autodiff import ir
from autodiff.ir import OPS, Dtype, Graph, Op, Shape, Value, literal, number_of
from autodiff.ops.contraction import dot_general, free_axes
from autodiff.passes.canonical import RULES as CANONICAL
from autodiff.passes.rewrite import Emit, Rule, Rules, rewrite


def _is(x: Value, number: float) -> bool:
    """Whether every element of `x` is this number, of this sign of zero."""
    known = number_of(x)
    return known is not None and known == number and (number != 0 or copysign(1, known) == copysign(1, number))


# ---- arithmetic ----------------------------------------------------------------------------------------------------


def _add_negated(emit: Emit, a: Value, b: Value) -> Value | None:  # a + -b = a - b, -a + b = b - a
    if b.node.op is OPS["neg"]:
        return emit(OPS["sub"], a, b.node.inputs[0])
    return emit(OPS["sub"], b, a.node.inputs[0]) if a.node.op is OPS["neg"] else None


def _sub_negated(emit: Emit, a: Value, b: Value) -> Value | None:  # a - -b = a + b
    return emit(OPS["add"], a, b.node.inputs[0]) if b.node.op is OPS["neg"] else None


def _minus_twice(emit: Emit, a: Value, b: Value) -> Value | None:  # -x - x = x * -2, as in what a square transposes to
    twice = a.node.op is OPS["neg"] and a.node.inputs[0] is b and ir.is_float(b.aval.dtype)
    return emit(OPS["mul"], b, _splat(emit, np.array(-2, b.aval.dtype), b.aval.shape)) if twice else None


def _double_inverse(op: Op) -> Rule:  # op(op(x)) = x
    return lambda emit, x: x.node.inputs[0] if x.node.op is op else None


def _mul_literal(emit: Emit, a: Value, b: Value) -> Value | None:
    for x, factor in ((a, number_of(b)), (b, number_of(a))):
        if factor == 1:
            return x
        if factor == -1 and x.aval.dtype.kind != "u":
            return emit(OPS["neg"], x)
    return None


def _div_literal(emit: Emit, a: Value, b: Value) -> Value | None:
    if _is(b, 1):
        return a
    return emit(OPS["neg"], a) if _is(b, -1) else None


def _add_literal(emit: Emit, a: Value, b: Value) -> Value | None:
    nothing = -0.0 if ir.is_float(a.aval.dtype) else 0
    return a if _is(b, nothing) else b if _is(a, nothing) else None


def _sub_literal(emit: Emit, a: Value, b: Value) -> Value | None:
    if _is(b, 0):
        return a
    return emit(OPS["neg"], b) if _is(a, -0.0 if ir.is_float(a.aval.dtype) else 0) else None


def _scale_literal(emit: Emit, x: Value, k: Value) -> Value | None:
    return _splat(emit, np.zeros((), x.aval.dtype), x.aval.shape) if number_of(x) == 0 else None


def _select(emit: Emit, mask: Value, a: Value, b: Value) -> Value | None:
    known = literal(mask)
    if known is not None:
        return a if known else b
    if mask.node.op is OPS["logical_not"]:
        return emit(OPS["select"], mask.node.inputs[0], b, a)
    return a if a is b else None


def _logic_literal(neutral: bool, absorbing: bool | None) -> Rule:
    def rule(emit: Emit, a: Value, b: Value) -> Value | None:
        for x, other in ((a, b), (b, a)):
            known = literal(other)
            if known is not None and known == neutral:
                return x
            if known is not None and known == absorbing:
                return other
        return None

    return rule


# fmt: off
EXACT = ("add", "sub", "mul", "div", "neg", "sqrt", "abs", "scale", "eq", "ne", "lt", "le",
         "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not", "select")
# fmt: on
"""What NumPy computes to the same bits as the kernels, signs of zero included."""


def _fold(op: Op) -> Rule:
    """An op whose operands are all literals is one, too."""

    def rule(emit: Emit, *operands: Value) -> Value | None:
        if any(x.node.op is not ir.full_op for x in operands):
            return None
        with np.errstate(all="ignore"):
            result = np.asarray(op.oracle(*map(literal, operands)))
        return _splat(emit, result, operands[0].aval.shape)

    return rule


def _splat(emit: Emit, number: Any, shape: Shape) -> Value:
    return emit(ir.full_op, value=ir.Literal(np.asarray(number)), shape=shape)


def _fold_convert(emit: Emit, x: Value, dtype: Dtype, weak: bool) -> Value | None:
    number = literal(x)
    assert number is not None
    if ir.is_float(number.dtype) and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not limits.min < number < limits.max:
            return None
    with np.errstate(all="ignore"):
        return _splat(emit, number.astype(dtype), x.aval.shape)


def _fold_extreme(emit: Emit, x: Value, axes: Shape) -> Value | None:
    return _splat(emit, literal(x), tuple([d for i, d in enumerate(x.aval.shape) if i not in axes]))


def _no_conversion(emit: Emit, x: Value, dtype: Dtype, weak: bool) -> Value | None:
    return x if x.aval.dtype == dtype else None


def _not_of_comparison(emit: Emit, x: Value) -> Value | None:
    # not of <, <=, > or >= is no comparison: NaN
    opposite = {OPS["eq"]: "ne", OPS["ne"]: "eq"}.get(x.node.op)
    return emit(OPS[opposite], *x.node.inputs) if opposite else None


# ---- arrangement ---------------------------------------------------------------------------------------------------


def _itself(emit: Emit, x: Value) -> Value:
    return x


def _broadcast(emit: Emit, x: Value, shape: Shape, axes: Shape) -> Value | None:
    if shape == x.aval.shape:
        return x
    if x.node.op is OPS["broadcast"]:
        inner = x.node.params["axes"]
        return emit(OPS["broadcast"], x.node.inputs[0], shape=shape, axes=tuple([axes[i] for i in inner]))
    return None


def _reshape(emit: Emit, x: Value, shape: Shape) -> Value | None:
    if shape == x.aval.shape:
        return x
    return emit(OPS["reshape"], x.node.inputs[0], shape=shape) if x.node.op is OPS["reshape"] else None


def _transpose(emit: Emit, x: Value, axes: Shape) -> Value | None:
    if axes == tuple(range(len(axes))):
        return x
    if x.node.op is OPS["transpose"]:
        inner = x.node.params["axes"]
        return emit(OPS["transpose"], x.node.inputs[0], axes=tuple([inner[i] for i in axes]))
    return None


def _transpose_of_product(emit: Emit, x: Value, axes: Shape) -> Value | None:
    """The product of b and a, when the free axes of a and of b change places.

    Made even if the product itself is needed as well, which then is computed twice: derivative rules, which make nearly
    all of these, need the transposed one alone.
    """
    if x.node.op is not dot_general:
        return None
    (a, b), contract, batch = x.node.inputs, x.node.params["contract"], x.node.params["batch"]
    n_batch, n_left = len(batch[0]), len(free_axes(a.ndim, contract[0], batch[0]))
    if axes != (*range(n_batch), *range(n_batch + n_left, x.ndim), *range(n_batch, n_batch + n_left)):
        return None
    return emit(dot_general, b, a, contract=contract[::-1], batch=batch[::-1])


def _slice(emit: Emit, x: Value, starts: Shape, steps: Shape, shape: Shape) -> Value | None:
    if shape == x.aval.shape and all(s == 0 for s in starts):  # then all steps that lead anywhere are 1
        return x
    if x.node.op is OPS["slice"] and 0 not in shape:
        inner = x.node.params
        return emit(
            OPS["slice"],
            x.node.inputs[0],
            starts=tuple([a + s * b for a, s, b in zip(inner["starts"], inner["steps"], starts, strict=True)]),
            steps=tuple([s * t for s, t in zip(inner["steps"], steps, strict=True)]),
            shape=shape,
        )
    return None


def _slice_of_pad(emit: Emit, x: Value, starts: Shape, steps: Shape, shape: Shape) -> Value | None:
    """A slice of nothing but what was padded, or of nothing but zeros."""
    if x.node.op is not OPS["pad"] or 0 in shape or any(step != 1 for step in x.node.params["steps"]):
        return None
    (inner,), before = x.node.inputs, x.node.params["starts"]
    starts = tuple([a - b for a, b in zip(starts, before, strict=True)])
    ends = [sorted((a, a + (n - 1) * step)) for a, step, n in zip(starts, steps, shape, strict=True)]
    if any(high < 0 or low >= d for (low, high), d in zip(ends, inner.aval.shape, strict=True)):
        return _splat(emit, np.zeros((), x.aval.dtype), shape)
    if all(low >= 0 and high < d for (low, high), d in zip(ends, inner.aval.shape, strict=True)):
        return emit(OPS["slice"], inner, starts=starts, steps=steps, shape=shape)
    return None


def _pad(emit: Emit, x: Value, starts: Shape, steps: Shape, shape: Shape) -> Value | None:
    return x if shape == x.aval.shape and all(s == 0 for s in starts) else None


def _concatenate(emit: Emit, *xs: Value, axis: int) -> Value | None:
    full = [x for x in xs if x.aval.shape[axis]] or list(xs[:1])
    if len(full) == 1:
        return full[0]
    return emit(OPS["concatenate"], *full, axis=axis) if len(full) < len(xs) else None


def _splat_as(emit: Emit, x: Value, *, shape: Shape, **_: Any) -> Value | None:
    return _splat(emit, literal(x), shape)


def _splat_transposed(emit: Emit, x: Value, axes: Shape) -> Value | None:
    return _splat(emit, literal(x), tuple([x.aval.shape[i] for i in axes]))


RULES: dict[Op, tuple[Rule, ...]] = {
    OPS["identity"]: (_itself,),
    OPS["stop_gradient"]: (_itself,),
    OPS["convert"]: (_no_conversion,),
    OPS["add"]: (_add_negated,),
    OPS["sub"]: (_sub_negated, _minus_twice),
    OPS["neg"]: (_double_inverse(OPS["neg"]),),
    OPS["logical_not"]: (_double_inverse(OPS["logical_not"]), _not_of_comparison),
    OPS["select"]: (_select,),
    OPS["broadcast"]: (_broadcast,),
    OPS["reshape"]: (_reshape,),
    OPS["transpose"]: (_transpose, _transpose_of_product),
    OPS["slice"]: (_slice, _slice_of_pad),
    OPS["pad"]: (_pad,),
    OPS["concatenate"]: (_concatenate,),
}
"""Rewrites of any node."""

LITERAL_RULES: dict[Op, tuple[Rule, ...]] = {
    OPS["mul"]: (_mul_literal,),
    OPS["div"]: (_div_literal,),
    OPS["add"]: (_add_literal,),
    OPS["sub"]: (_sub_literal,),
    OPS["scale"]: (_scale_literal,),
    OPS["logical_and"]: (_logic_literal(True, False),),
    OPS["logical_or"]: (_logic_literal(False, True),),
    OPS["logical_xor"]: (_logic_literal(False, None),),
    OPS["convert"]: (_fold_convert,),
    OPS["broadcast"]: (_splat_as,),
    OPS["reshape"]: (_splat_as,),
    OPS["slice"]: (_splat_as,),
    OPS["transpose"]: (_splat_transposed,),
    OPS["reduce_max"]: (_fold_extreme,),
    OPS["reduce_min"]: (_fold_extreme,),
}
"""Rewrites of nodes that have a literal among their operands."""

for _name in EXACT:
    LITERAL_RULES[OPS[_name]] = (_fold(OPS[_name]), *LITERAL_RULES.get(OPS[_name], ()))

_ALL: Rules = {op: RULES.get(op, ()) + tuple(CANONICAL.get(op, ())) for op in {**RULES, **CANONICAL}}


def simplify(graph: Graph) -> Graph:
    """The same results from fewer or cheaper nodes; canonical, as its replacements have to be."""
    return rewrite(graph, _ALL, LITERAL_RULES)
