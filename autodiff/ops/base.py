"""How a primitive is declared: short forms for rules that many primitives share.

*A derivative is a linear map.*  A primitive says how a tangent is pushed through it; reverse mode transposes the
result.  Most rules are one line an argument, `(t, y, *xs, **params) -> tangent of y`, where `t` is the tangent of that
argument, `y` the primitive's own result and `xs` its operands.  Contributions of several arguments add.  A transpose is
one line an argument too: `(ct, *xs, **params) -> cotangent of that argument`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain, count, repeat
from typing import Any, Final

from autodiff import ir
from autodiff.ir import Aval, Node, Op, Tangents, Value

Rule = Callable[..., Value]


class _Marker:
    def __init__(self, meaning: str):
        self.meaning = meaning

    def __repr__(self) -> str:
        return self.meaning


LINEAR: Final = _Marker("LINEAR")
"""The primitive is linear in this argument with the others held: its tangent goes where the argument is."""

ZERO: Final = _Marker("ZERO")
"""The derivative is zero wherever it is defined."""

ArgumentRule = Rule | _Marker


def _per_argument(rules: Any) -> tuple[Any, ...]:
    return rules if isinstance(rules, tuple) else (rules,)


def argumentwise_jvp(rules: tuple[ArgumentRule, ...]) -> ir.JvpRule:
    """Tangents pushed through one argument at a time, and added.  The last rule serves all further arguments."""

    def jvp(node: Node, tangents: Tangents) -> Tangents:
        total: Value | None = None
        xs, params = node.inputs, node.params
        for t, rule, i in zip(tangents, chain(rules, repeat(rules[-1])), count()):
            if t is None or rule is ZERO:
                continue
            if rule is LINEAR:
                term = node.op(*xs[:i], t, *xs[i + 1 :], **params)
            else:
                assert not isinstance(rule, _Marker)
                term = rule(t, node, *xs, **params)
            total = term if total is None else total + term
        return [total]

    return jvp


def joint_jvp(first: int, last: int | None = None) -> ir.JvpRule:
    """For a primitive that is linear in the arguments [first, last) together: absent tangents become zeros."""

    def jvp(node: Node, tangents: Tangents) -> Tangents:
        linear = slice(first, last)
        if all(t is None for t in tangents[linear]):
            return [None]
        operands: list[Value] = list(node.inputs)
        operands[linear] = [
            ir.zeros(x.aval) if t is None else t for x, t in zip(node.inputs[linear], tangents[linear], strict=True)
        ]
        return [node.op(*operands, **node.params)]

    return jvp


def argumentwise_transpose(rules: tuple[Rule | None, ...]) -> ir.TransposeRule:
    """Cotangents of the linear arguments, each by its own rule."""
    def transpose(node: Node, cotangents: Tangents, linear: Sequence[bool]) -> Tangents:
        (ct,) = cotangents
        results: list[Value | None] = [None] * len(linear)
        for i, flag in enumerate(linear):
            if flag:
                rule = rules[i] if i < len(rules) else None
                if rule is None:
                    raise ir.GraphError(f"{node.op.name} is not linear in argument {i}")
                results[i] = rule(ct, *node.inputs, **node.params)
        return results

    return transpose


def with_batch_axis(x: Value, size: int, batched: bool) -> Value:
    """`x` with a leading axis of `size`, repeated along it where it has none yet."""
    if batched:
        return x
    number = ir.literal(x)
    if number is not None:
        return ir.full(number, (size, *x.shape), x.dtype)
    return ir.OPS["broadcast"](x, shape=(size, *x.shape), axes=tuple(range(1, x.ndim + 1)))


def _batch_elementwise(node: Node, size: int, inputs: Sequence[Value], batched: Sequence[bool]) -> Sequence[Value]:
    return node.op.emit(*[with_batch_axis(x, size, b) for x, b in zip(inputs, batched, strict=True)], **node.params)


DOMAINS = {
    "number": "uif",
    "floating": "f",
    "integer": "ui",
    "compare": "uif",
    "logic": "b",
}
"""Kinds of dtype that an elementwise op of a domain (csrc/opcodes.def) takes."""


_aval = lru_cache(maxsize=1024)(Aval)  # one for all ops: who looks at many nodes need only compare identities


def _infer_elementwise(name: str, arity: int, domain: str) -> ir.InferRule:
    dtypes = {dtype for dtype in ir.DTYPES if dtype.kind in DOMAINS[domain]}

    @lru_cache(maxsize=1024)
    def infer(*avals: Aval) -> Aval:
        if len(avals) != arity:
            raise TypeError(f"{name} takes {arity} operands, not {len(avals)}")
        first = avals[0]
        for aval in avals:
            if aval is not first and aval[:2] != first[:2]:
                raise TypeError(f"{name} takes operands of one shape and dtype, not {', '.join(map(str, avals))}")
        if first.dtype not in dtypes:
            raise TypeError(f"{name} is not defined for {first.dtype.name}")
        return _aval(first.shape, ir.BOOL if domain == "compare" else first.dtype)

    return infer


def elementwise(
    name: str,
    oracle: Callable[..., Any],
    *,
    jvp: ArgumentRule | tuple[ArgumentRule, ...],
    transpose: Rule | tuple[Rule | None, ...] | None = None,
    masked_transpose: Rule | tuple[Rule | None, ...] | None = None,
    arity: int = 1,
    domain: str = "number",
    selects: bool = False,
) -> Op:
    """Declare a primitive that works on each element by itself; csrc/opcodes.def has its opcode under the same name."""
    return ir.register(
        Op(
            name,
            _infer_elementwise(name, arity, domain),
            oracle,
            argumentwise_jvp(_per_argument(jvp)),
            argumentwise_transpose(_per_argument(transpose)) if transpose else None,
            _batch_elementwise,
            argumentwise_transpose(_per_argument(masked_transpose)) if masked_transpose else None,
            arity=arity,
            elementwise=True,
            selects=selects,
        )
    )


def primitive(
    name: str,
    oracle: Callable[..., Any],
    *,
    infer: ir.InferRule,
    jvp: ArgumentRule | tuple[ArgumentRule, ...] = ZERO,
    jvp_rule: ir.JvpRule | None = None,
    transpose: Rule | tuple[Rule | None, ...] | None = None,
    transpose_rule: ir.TransposeRule | None = None,
    batch: ir.BatchRule = _batch_elementwise,
    elementwise: bool = False,
    selects: bool = False,
    interned: bool = True,
) -> Op:
    """Declare any other primitive.  The `_rule` forms are whole rules where one line an argument does not do."""
    if transpose is not None:
        transpose_rule = argumentwise_transpose(_per_argument(transpose))
    return ir.register(
        Op(
            name,
            infer,
            oracle,
            jvp_rule or argumentwise_jvp(_per_argument(jvp)),
            transpose_rule,
            batch,
            elementwise=elementwise,
            selects=selects,
            interned=interned,
        )
    )
