"""Sample applications of every primitive, from which `test_primitives.py` makes its tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import autodiff.ops  # noqa: F401  (declares the primitives)
from autodiff import ir
from autodiff.ir import DTYPES, FLOAT64, Array, Aval, Dtype, Op, Value

# fmt: off
NAMES = [
    "argument", "constant", "full", "iota", "add", "sub", "mul", "div", "neg", "pow", "sqrt", "abs", "sign",
    "maximum", "minimum", "scale", "exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf", "erfc", "exp2",
    "log2", "log10", "tan", "sinh", "cosh", "arcsin", "arccos", "arctan", "arctan2", "arcsinh", "arccosh",
    "arctanh", "cbrt", "hypot", "sigmoid", "lgamma", "digamma", "trigamma", "eq", "ne", "lt", "le", "gt", "ge",
    "logical_and", "logical_or", "logical_xor", "logical_not", "select", "convert", "stop_gradient", "identity",
    "broadcast", "reshape", "transpose", "slice", "pad", "concatenate", "reduce_sum", "reduce_max", "reduce_min",
    "argmax", "argmin", "gather", "scatter_add", "scatter_set", "dot_general", "host",
]
# fmt: on
"""Every primitive, so that none can quietly vanish, nor one appear without samples."""

LEAVES = {"argument", "constant", "full", "iota"}
NOT_DIFFERENTIABLE = {
    *LEAVES,
    *("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not"),  # bool results
    *("argmax", "argmin"),  # positions
    "host",  # any Python function at all
}
DIFFERENTIABLE = [name for name in NAMES if name not in NOT_DIFFERENTIABLE]

SHAPES: list[tuple[int, ...]] = [(), (0,), (1,), (7,), (3, 5), (2, 3, 4), (0, 3), (40, 10), (1030,)]


@dataclass
class Sample:
    """An op, example operands and its params."""

    op: Op
    arrays: tuple[Array, ...]
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def avals(self) -> tuple[Aval, ...]:
        return tuple(Aval(x.shape, x.dtype) for x in self.arrays)

    def oracle(self, *arrays: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.op.oracle(*arrays, **self.params))

    def apply(self, *values: Value) -> Value:
        return self.op(*values, **self.params)

    def __str__(self) -> str:
        params = ",".join(f"{k}={v}" for k, v in self.params.items())
        return f"{self.op.name}({' '.join(map(str, self.avals))}{' ' if params else ''}{params})"


def random(rng: np.random.Generator, shape: tuple[int, ...], dtype: Dtype = FLOAT64) -> Array:
    """Numbers of both signs, away from 0 and from each other where derivatives have kinks."""
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if dtype.kind == "u":
        return rng.integers(0, 256, shape).astype(dtype)
    if dtype.kind == "i":
        return rng.integers(-1000, 1000, shape).astype(dtype)
    size = int(np.prod(shape))
    grid = (rng.permutation(size) + rng.uniform(0.2, 0.8, size)) / max(size, 1)
    return (np.sign(grid - 0.5) * (0.1 + 2 * np.abs(grid - 0.5))).reshape(shape).astype(dtype)


def elementwise_arity(op: Op) -> int:
    return {"select": 3}.get(op.name, op.arity or 1)


def accepts(op: Op, *dtypes: Dtype) -> bool:
    try:
        op.infer(*[Aval((), dtype) for dtype in dtypes])
    except TypeError:
        return False
    return True


def elementwise_samples(op: Op, rng: np.random.Generator) -> Iterator[Sample]:
    for shape in SHAPES:
        for dtype in DTYPES:
            if op.name == "select":
                mask = random(rng, shape, ir.BOOL)
                yield Sample(op, (mask, random(rng, shape, dtype), random(rng, shape, dtype)))
            elif op.name == "convert":
                for target in DTYPES:
                    x = random(rng, shape, dtype)
                    x = np.abs(x) if target.kind == "u" else x  # a negative float to uint8 has no meaning in C
                    yield Sample(op, (x,), {"dtype": target, "weak": False})
            elif accepts(op, *[dtype] * elementwise_arity(op)):
                arrays = [random(rng, shape, dtype) for _ in range(elementwise_arity(op))]
                yield Sample(op, tuple(in_domain(op.name, arrays)))


def in_domain(name: str, arrays: list[Array]) -> list[Array]:
    """Operands where the function is defined and smooth."""
    if name in ("sqrt", "log", "log2", "log10"):
        return [np.abs(arrays[0])]
    if name in ("arccosh", "lgamma", "digamma", "trigamma"):
        return [np.abs(arrays[0]) + arrays[0].dtype.type(2.2)]  # beyond the zeros, where the oracles lose their bits
    if name in ("arcsin", "arccos", "arctanh"):
        return [arrays[0] / arrays[0].dtype.type(1.5)]
    if name == "log1p":
        return [np.abs(arrays[0]) - arrays[0].dtype.type(0.5)]
    if name == "pow":
        if arrays[0].dtype.kind in "iu":
            return [arrays[0], np.abs(arrays[1]) % 9]
        return [np.abs(arrays[0]), arrays[1]]
    return arrays


def structural_samples(op: Op, rng: np.random.Generator) -> Iterator[Sample]:
    """Operands and params of the primitives that are not elementwise, in every dtype they take."""
    for dtype in DTYPES:
        for shapes, params in STRUCTURAL.get(op.name, []):
            try:
                op.infer(*[Aval(shape, dtype) for shape in shapes], **params)
            except TypeError:
                continue
            yield Sample(op, tuple(random(rng, shape, dtype) for shape in shapes), params)
        for table, index_shape, n_indices in INDEXED if op.name in ("gather", "scatter_add", "scatter_set") else []:
            indices = tuple(rng.integers(-n, n, index_shape) for n in table[:n_indices])
            rows = index_shape + table[n_indices:]
            if op.name == "gather":
                yield Sample(op, (random(rng, table, dtype), *indices))
            elif op.name == "scatter_set":
                yield Sample(op, (random(rng, table, dtype), random(rng, rows, dtype), *indices))
            elif dtype != ir.BOOL:
                yield Sample(op, (random(rng, rows, dtype), *indices), {"shape": table})


INDEXED: list[tuple[tuple[int, ...], tuple[int, ...], int]] = [
    ((5,), (3,), 1),
    ((5,), (), 1),
    ((5, 4), (7,), 1),
    ((5, 4), (2, 3), 2),
    ((3, 4, 5), (6,), 2),
    ((300, 20), (100,), 1),
    ((4, 3), (0,), 1),
]


def _lattice(starts: tuple[int, ...], steps: tuple[int, ...], shape: tuple[int, ...]) -> dict[str, Any]:
    return {"starts": starts, "steps": steps, "shape": shape}


_REDUCTIONS: list[tuple[list[tuple[int, ...]], dict[str, Any]]] = [
    ([(7,)], {"axes": (0,)}),
    ([(3, 5)], {"axes": (0,)}),
    ([(3, 5)], {"axes": (1,)}),
    ([(3, 5)], {"axes": (0, 1)}),
    ([(3, 5)], {"axes": ()}),
    ([(2, 3, 4)], {"axes": (1,)}),
    ([(2, 3, 4)], {"axes": (0, 2)}),
    ([(0, 3)], {"axes": (1,)}),
    ([(0, 3)], {"axes": (0,)}),
    ([(3000,)], {"axes": (0,)}),
    ([(300, 10)], {"axes": (0,)}),
    ([(300, 10)], {"axes": (1,)}),
    ([(20, 700)], {"axes": (1,)}),
    ([(20, 700)], {"axes": (0,)}),
]
_SELECTIONS = [(shapes, params) for shapes, params in _REDUCTIONS if (shapes, params) != ([(0, 3)], {"axes": (0,)})]
_POSITIONS: list[tuple[list[tuple[int, ...]], dict[str, Any]]] = [
    ([(7,)], {"axis": 0}),
    ([(3, 5)], {"axis": 0}),
    ([(3, 5)], {"axis": 1}),
    ([(2, 3, 4)], {"axis": 1}),
    ([(300, 10)], {"axis": 1}),
]
STRUCTURAL: dict[str, list[tuple[list[tuple[int, ...]], dict[str, Any]]]] = {
    "broadcast": [
        ([()], {"shape": (3, 4), "axes": ()}),
        ([(4,)], {"shape": (3, 4), "axes": (1,)}),
        ([(3,)], {"shape": (3, 4), "axes": (0,)}),
        ([(3, 4)], {"shape": (2, 3, 5, 4), "axes": (1, 3)}),
        ([(3,)], {"shape": (0, 3), "axes": (1,)}),
    ],
    "reshape": [
        ([(3, 4)], {"shape": (2, 6)}),
        ([(3, 4)], {"shape": (12,)}),
        ([()], {"shape": (1, 1)}),
        ([(0, 3)], {"shape": (3, 0, 2)}),
    ],
    "transpose": [
        ([(3, 4)], {"axes": (1, 0)}),
        ([(2, 3, 4)], {"axes": (2, 0, 1)}),
        ([(65, 70)], {"axes": (1, 0)}),
        ([()], {"axes": ()}),
    ],
    "slice": [
        ([(7,)], _lattice((1,), (2,), (3,))),
        ([(7,)], _lattice((6,), (-3,), (3,))),
        ([(4, 5)], _lattice((0, 4), (3, -1), (2, 5))),
        ([(4, 5)], _lattice((0, 0), (1, 1), (0, 5))),
    ],
    "pad": [
        ([(3,)], _lattice((1,), (2,), (7,))),
        ([(3,)], _lattice((6,), (-3,), (7,))),
        ([(2, 5)], _lattice((0, 4), (3, -1), (4, 5))),
        ([(0, 5)], _lattice((0, 0), (1, 1), (4, 5))),
    ],
    "concatenate": [
        ([(3,), (4,), (0,)], {"axis": 0}),
        ([(2, 3), (2, 1)], {"axis": 1}),
        ([(2, 3, 2), (2, 1, 2), (2, 2, 2)], {"axis": 1}),
    ],
    "reduce_sum": _REDUCTIONS,
    "reduce_max": _SELECTIONS,
    "reduce_min": _SELECTIONS,
    "argmax": _POSITIONS,
    "argmin": _POSITIONS,
    "dot_general": [
        ([(3, 4), (4, 5)], {"contract": ((1,), (0,)), "batch": ((), ())}),
        ([(4, 3), (5, 4)], {"contract": ((0,), (1,)), "batch": ((), ())}),
        ([(4,), (4,)], {"contract": ((0,), (0,)), "batch": ((), ())}),
        ([(4,), (5,)], {"contract": ((), ()), "batch": ((), ())}),
        ([(3, 4), (4,)], {"contract": ((1,), (0,)), "batch": ((), ())}),
        ([(2, 3, 4), (2, 4, 5)], {"contract": ((2,), (1,)), "batch": ((0,), (0,))}),
        ([(3, 2, 4), (4, 5, 2)], {"contract": ((2,), (0,)), "batch": ((1,), (2,))}),
        ([(2, 3, 4), (4, 5, 3)], {"contract": ((1, 2), (2, 0)), "batch": ((), ())}),
        ([(3, 0), (0, 5)], {"contract": ((1,), (0,)), "batch": ((), ())}),
        ([(2, 3), (2, 3)], {"contract": ((), ()), "batch": ((0, 1), (0, 1))}),
        ([(70, 130), (130, 33)], {"contract": ((1,), (0,)), "batch": ((), ())}),
    ],
}


def samples(name: str, seed: int = 0) -> list[Sample]:
    """Applications of the primitive to random operands, over dtypes and shapes."""
    op, rng = ir.OPS[name], np.random.default_rng(seed)
    if name in LEAVES or name == "host":
        return []
    return list(elementwise_samples(op, rng) if op.elementwise else structural_samples(op, rng))


def leaf_samples() -> list[Sample]:
    made = []
    for dtype in DTYPES:
        value = np.array([[0, 1, 3], [1, 0, 1]]).astype(dtype)
        made.append(Sample(ir.constant_op, (), {"value": ir.Literal(value)}))
        made.append(Sample(ir.full_op, (), {"value": ir.Literal(value[0, 1]), "shape": (2, 0, 3)}))
        made.append(Sample(ir.full_op, (), {"value": ir.Literal(value[0, 1]), "shape": (2, 3)}))
        if dtype != ir.BOOL:
            made.append(Sample(ir.iota_op, (), {"size": 100, "dtype": dtype}))
    return made


NOT_FINITE = [np.inf, -np.inf, np.nan]
SPECIAL = {
    "f": [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, -3.0, 2.5, 1e-3, 1e-30, -1e30, 100.0, -700.0, *NOT_FINITE],
    "i": [0, 1, -1, 2, 3, -7, 100],
    "u": [0, 1, 2, 3, 127, 128, 255],
    "b": [False, True],
}


def special_samples(name: str) -> list[Sample]:
    """Every pair of awkward values, in every dtype the elementwise primitive takes."""
    op = ir.OPS[name]
    made = []
    for dtype in DTYPES:
        values: list[Any] = list(SPECIAL[dtype.kind])
        if dtype.kind in "fi":
            info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
            values += [info.min, info.max]
        if dtype.kind == "f":
            finfo = np.finfo(dtype)
            values += [finfo.tiny, finfo.smallest_subnormal, -finfo.smallest_subnormal]
        x = np.array(values, dtype)
        if name == "select":
            mask = np.arange(x.size) % 2 == 0
            made.append(Sample(op, (mask, x, x[::-1].copy())))
        elif name == "convert":
            for target in DTYPES:
                fits = x
                if dtype.kind == "f" and target.kind in "iu":  # what C leaves open is no promise
                    limits = np.iinfo(target)
                    fits = x[(x > limits.min) & (x < limits.max)]
                made.append(Sample(op, (fits,), {"dtype": target, "weak": False}))
        elif accepts(op, *[dtype] * elementwise_arity(op)):
            if elementwise_arity(op) == 1:
                made.append(Sample(op, (x,)))
            else:
                a, b = (np.ascontiguousarray(z.ravel()) for z in np.meshgrid(x, x))
                if name == "pow" and dtype.kind in "iu":
                    b = (b.astype(np.int64) & 15).astype(dtype)
                made.append(Sample(op, (a, b)))
    return made
