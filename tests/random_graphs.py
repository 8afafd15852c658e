"""Random graphs, for tests of what has to hold of every graph."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

import autodiff.ops  # noqa: F401  (declares the primitives)
from autodiff import ir
from autodiff.ir import BOOL, DTYPES, FLOAT32, FLOAT64, INT64, OPS, UINT8, Array, Aval, Dtype, Graph, Shape, Value

SHAPES: list[Shape] = [
    (),
    (1,),
    (5,),
    (3, 4),
    (4, 3),
    (3, 1),
    (1, 4),
    (2, 3, 4),
    (0, 3),
    (40, 33),
    (33,),
    (700,),
    (3, 600),
    (2, 1030),
]


class Case(NamedTuple):
    """A graph, arrays for its inputs, and which of its outputs should be NumPy's to the bit."""

    graph: Graph
    arrays: list[Array]
    exact: list[bool]


class _Maker:
    """Grows a network of values; knows which are computed by exact operations only."""

    def __init__(self, rng: random.Random, moves: Sequence[str]):
        self.rng = rng
        self.moves = moves
        self.values: list[Value] = []
        self.rough: set[Value] = set()

    def pick(self, wanted: Callable[[Value], bool] = lambda x: True) -> Value | None:
        known = [x for x in self.values if wanted(x)]
        # mostly what is new, so that the graph gets deep
        return known[-1 - min(int(self.rng.expovariate(0.25)), len(known) - 1)] if known else None

    def like(self, x: Value, rough_allowed: bool = True) -> Value:
        """A value of the same shape and dtype."""
        same = self.pick(lambda y: y.aval[:2] == x.aval[:2] and (rough_allowed or y not in self.rough))
        if same is None or self.rng.random() < 0.2:
            return self.number(x.shape, x.dtype)
        return same

    def number(self, shape: Shape, dtype: Dtype) -> Value:
        choices = (
            [False, True] if dtype == BOOL else [0, 1, 2, 3] if dtype.kind in "iu" else [0.0, -0.0, 1.0, -1.0, 0.5, 3.0]
        )
        return ir.full(self.rng.choice(choices), shape, dtype)

    def add(self, y: Value, *xs: Value, rough: bool = False) -> None:
        self.values.append(y)
        if rough or any(x in self.rough for x in xs):
            self.rough.add(y)

    def grow(self) -> None:
        rng = self.rng
        getattr(self, rng.choice(self.moves))()

    # ---- one way to grow each ----

    def binary(self) -> None:
        x = self.pick(lambda v: v.dtype != BOOL)
        if x is None:
            return
        name = self.rng.choice(["add", "sub", "mul", "maximum", "minimum"])
        y = self.like(x, rough_allowed=True)
        if self.rng.random() < 0.5:
            x, y = y, x
        self.add(OPS[name](x, y), x, y)

    def unary(self) -> None:
        x = self.pick(lambda v: v.dtype != BOOL)
        if x is not None:
            self.add(OPS[self.rng.choice(["neg", "abs"])](x), x)

    def floating(self) -> None:
        x = self.pick(lambda v: ir.is_float(v.dtype))
        if x is None:
            return
        name = self.rng.choice(["tanh", "sin", "cos", "scale", "half", "root", "exp"])
        if name == "half":
            self.add(OPS["div"](x, 2.0), x)
        elif name == "scale":
            k = self.like(x)
            if x not in self.rough:  # whether it is 0 has to be sure
                self.add(OPS["scale"](x, k), x, k)
        elif name == "root":
            self.add(OPS["sqrt"](OPS["abs"](x) + 1.0), x, rough=x in self.rough)
        elif name == "exp":
            self.add(OPS["exp"](OPS["tanh"](x)), x, rough=True)
        else:
            self.add(OPS[name](x), x, rough=True)

    def compare(self) -> None:
        x = self.pick(lambda v: v.dtype != BOOL and v not in self.rough)
        if x is not None:
            y = self.like(x, rough_allowed=False)
            self.add(OPS[self.rng.choice(["eq", "ne", "lt", "le", "gt", "ge"])](x, y), x, y)

    def logic(self) -> None:
        x = self.pick(lambda v: v.dtype == BOOL)
        if x is not None:
            name = self.rng.choice(["logical_and", "logical_or", "logical_xor", "logical_not"])
            y = self.like(x)
            self.add(OPS[name](x) if name == "logical_not" else OPS[name](x, y), x, y)

    def select(self) -> None:
        mask = self.pick(lambda v: v.dtype == BOOL)
        if mask is None:
            return
        a = self.pick(lambda v: v.shape == mask.shape)
        if a is not None:
            b = self.like(a)
            self.add(OPS["select"](mask, a, b), a, b)

    def convert(self) -> None:
        x = self.pick(lambda v: v not in self.rough)
        if x is None:
            return
        dtype = self.rng.choice(DTYPES)
        if x.dtype.kind == "f" and dtype.kind in "iu":  # others have no meaning in C
            limit = OPS["minimum"](OPS["maximum"](x, 0.0), 100.0)
            x = OPS["select"](OPS["eq"](x, x), limit, x.full_like(0))
        self.add(OPS["convert"](x, dtype=dtype, weak=False), x)

    def same(self) -> None:
        x = self.pick()
        if x is not None:
            self.add(OPS[self.rng.choice(["identity", "stop_gradient"])](x), x)

    def broadcast(self) -> None:
        x = self.pick(lambda v: v.ndim < 3 and v.size < 1000)
        if x is None:
            return
        shape, axes = list(x.shape), list(range(x.ndim))
        at = self.rng.randint(0, x.ndim)
        shape.insert(at, self.rng.choice([1, 3, 4]))
        axes = [i + (i >= at) for i in axes]
        self.add(OPS["broadcast"](x, shape=tuple(shape), axes=tuple(axes)), x)

    def reshape(self) -> None:
        x = self.pick()
        if x is None:
            return
        choices: list[Shape] = [(x.size,), (1, *x.shape), (*x.shape, 1), x.shape[::-1]]
        if x.size % 2 == 0 and x.size:
            choices += [(2, x.size // 2), (x.size // 2, 2)]
        self.add(OPS["reshape"](x, shape=self.rng.choice(choices)), x)

    def transpose(self) -> None:
        x = self.pick()
        if x is not None:
            axes = list(range(x.ndim))
            self.rng.shuffle(axes)
            self.add(OPS["transpose"](x, axes=tuple(axes)), x)

    def slice(self) -> None:
        x = self.pick()
        if x is None:
            return
        starts, steps, shape = [], [], []
        for n in x.shape:
            start = self.rng.randrange(n) if n else 0
            step = self.rng.choice([1, 1, 2, -1, -2])
            reach = (n - 1 - start if step > 0 else start) // abs(step) + 1
            steps.append(step)
            starts.append(start)
            shape.append(self.rng.randint(0, reach) if self.rng.random() < 0.1 and n else min(reach, n))
        params = {"starts": tuple(starts), "steps": tuple(steps), "shape": tuple(shape)}
        self.add(OPS["slice"](x, **params), x)

    def pad(self) -> None:
        x = self.pick(lambda v: v.size < 1000)
        if x is None:
            return
        starts, steps, shape = [], [], []
        for n in x.shape:
            step, before, after = self.rng.choice([1, 1, 1, -1, 2]), *self.rng.choice([(0, 0), (1, 1), (0, 1), (3, 0)])
            reach = max(n - 1, 0) * abs(step)
            steps.append(step)
            starts.append(before + (reach if step < 0 else 0))
            shape.append(before + reach + 1 + after)
        self.add(OPS["pad"](x, starts=tuple(starts), steps=tuple(steps), shape=tuple(shape)), x)

    def concatenate(self) -> None:
        x = self.pick(lambda v: v.size < 1000)
        if x is None:
            return
        parts = [x, *[self.like(x) for _ in range(self.rng.randint(1, 3))]]
        self.rng.shuffle(parts)
        axis = self.rng.randint(0, x.ndim)
        if axis < x.ndim and self.rng.random() < 0.5:
            self.add(OPS["concatenate"](*parts, axis=axis), *parts)
        else:  # as np.stack does
            shape = (*x.shape[:axis], 1, *x.shape[axis:])
            rows = [OPS["reshape"](part, shape=shape) for part in parts]
            self.add(OPS["concatenate"](*rows, axis=axis), *parts)

    def reduce(self) -> None:
        x = self.pick(lambda v: v.ndim > 0)
        if x is None:
            return
        axes = tuple(i for i in range(x.ndim) if self.rng.random() < 0.6)
        name = self.rng.choice(["reduce_sum", "reduce_sum", "reduce_max", "reduce_min"])
        if name == "reduce_sum" and x.dtype != BOOL:
            self.add(OPS[name](x, axes=axes), x, rough=ir.is_float(x.dtype))
        elif name != "reduce_sum" and all(x.shape[i] for i in axes):
            self.add(OPS[name](x, axes=axes), x)

    def rows(self) -> None:
        """A reduction along rows, spread over them again: x - max(x), x / sum(x) ..."""
        x = self.pick(lambda v: v.ndim > 0 and v.size > 0 and v.dtype not in (BOOL, UINT8))
        if x is None:
            return
        n = self.rng.randrange(x.ndim)
        name = self.rng.choice(["reduce_sum", "reduce_max", "reduce_min"])
        number = OPS[name](x, axes=tuple(range(n, x.ndim)))
        rough = name == "reduce_sum" and ir.is_float(x.dtype)
        self.add(number, x, rough=rough)
        if ir.is_float(x.dtype) and self.rng.random() < 0.5:
            number = OPS["abs"](number) + 1.0
        spread = OPS["broadcast"](number, shape=x.shape, axes=tuple(range(n)))
        if self.rng.random() < 0.3 and not rough and x not in self.rough:
            mask, other = OPS[self.rng.choice(["eq", "lt"])](x, spread), self.like(x)
            self.add(mask, x)
            self.add(OPS["select"](mask, spread, other), other)
        elif ir.is_float(x.dtype) and number.node.op is OPS["add"]:
            self.add(OPS["div"](x, spread), x, rough=rough)
        else:
            self.add(OPS[self.rng.choice(["sub", "add", "mul"])](x, spread), x, rough=rough)

    def labels(self) -> None:
        """One element of each row, or a row with one."""
        x = self.pick(lambda v: v.ndim == 2 and v.size > 0 and v.dtype != BOOL)
        if x is None:
            return
        n, length = x.shape
        count = ir.constant(np.arange(n)) if self.rng.random() < 0.5 else ir.iota(n, INT64)
        index = ir.constant(np.array([self.rng.randrange(-length, length) for _ in range(n)], np.int64))
        picked = OPS["gather"](x, count, index)
        self.add(picked, x)
        if self.rng.random() < 0.5:
            number = self.like(picked)
            self.add(OPS["scatter_add"](number, count, index, shape=x.shape), number)

    def position(self) -> None:
        x = self.pick(lambda v: v.ndim > 0 and v.size > 0 and v not in self.rough)
        if x is not None:
            self.add(OPS[self.rng.choice(["argmax", "argmin"])](x, axis=self.rng.randrange(x.ndim)), x)

    def gather(self) -> None:
        x = self.pick(lambda v: v.ndim > 0 and v.size > 0)
        if x is None:
            return
        index = self.index(x.shape[0])
        self.add(OPS["gather"](x, index), x)

    def index(self, n: int) -> Value:
        array = np.array([self.rng.randrange(-n, n) for _ in range(self.rng.choice([1, 3, 6]))], np.int64)
        return ir.constant(array)

    def scatter(self) -> None:
        x = self.pick(lambda v: v.ndim > 0 and v.size > 0 and v.dtype != BOOL)
        if x is None:
            return
        index = self.index(x.shape[0])
        rows = OPS["gather"](x, index)
        if self.rng.random() < 0.5:
            self.add(OPS["scatter_set"](self.like(x), rows, index), x, rough=True)
        else:
            self.add(OPS["scatter_add"](rows, index, shape=x.shape), x, rough=ir.is_float(x.dtype))

    def product(self) -> None:
        x = self.pick(lambda v: ir.is_float(v.dtype) and v.ndim > 0)
        if x is None:
            return
        i = self.rng.randrange(x.ndim)
        y = self.pick(lambda v: v.dtype == x.dtype and x.shape[i] in v.shape)
        if y is None:
            return
        j = y.shape.index(x.shape[i])
        batch: tuple[Shape, Shape] = ((), ())
        others = [
            (a, b) for a in range(x.ndim) for b in range(y.ndim) if a != i and b != j and x.shape[a] == y.shape[b]
        ]
        if others and self.rng.random() < 0.5:
            a, b = self.rng.choice(others)
            batch = ((a,), (b,))
        contract: tuple[Shape, Shape] = ((i,), (j,)) if self.rng.random() < 0.9 else ((), ())
        free = x.size // max(x.shape[i], 1) * y.size
        if free < 20000:
            self.add(OPS["dot_general"](x, y, contract=contract, batch=batch), x, y, rough=True)

    def host(self) -> None:
        x = self.pick()
        if x is not None:
            a, b = OPS["host"].emit(x, function=_twice, results=(Aval(x.shape, x.dtype),) * 2)
            self.add(a, x)
            self.add(b, x)

    def iota(self) -> None:
        self.add(ir.iota(self.rng.choice([5, 33, 700]), self.rng.choice([INT64, FLOAT64, FLOAT32])))


def _twice(x: Array) -> tuple[Array, Array]:
    return x, x[...]


MOVES = [
    *["binary"] * 6, *["unary"] * 2, *["floating"] * 6, *["compare"] * 3, *["logic"] * 2, *["select"] * 3,
    *["convert"] * 2, *["broadcast"] * 2, "same", "reshape", "reshape", "transpose", "transpose", "slice", "slice",
    "pad", "pad", "concatenate", "concatenate", *["reduce"] * 4, *["rows"] * 4, "labels",
    "labels", "position", "gather", "scatter", *["product"] * 3,
    "host", "iota",
]  # fmt: skip
ELEMENTWISE = [
    *["binary"] * 6, *["unary"] * 2, *["floating"] * 6, *["compare"] * 2, "logic", *["select"] * 2, "convert", "same"
]  # fmt: skip


def random_array(rng: random.Random, shape: Shape, dtype: Dtype) -> Array:
    generator = np.random.default_rng(rng.randrange(1 << 30))
    if dtype == BOOL:
        return generator.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        return generator.integers(0 if dtype.kind == "u" else -50, 50, shape).astype(dtype)
    x = generator.uniform(-2, 2, shape).astype(dtype)
    if rng.random() < 0.3:
        x = np.where(generator.random(shape) < 0.2, x.dtype.type(rng.choice([0.0, -0.0, 1.0])), x)
    return x


def random_case(
    rng: random.Random, size: int, shapes: Sequence[Shape] = SHAPES, moves: Sequence[str] = MOVES
) -> Case:
    """A graph of about `size` nodes."""
    maker = _Maker(rng, moves)
    with ir.building(ir.Builder(intern=rng.random() < 0.5)):
        avals = []
        for _ in range(rng.randint(1, 4)):
            dtype = rng.choice([FLOAT64, FLOAT64, FLOAT32, FLOAT32, *DTYPES])
            avals += [Aval(rng.choice(shapes), dtype)] * rng.randint(1, 3)
        inputs = [ir.argument(aval) for aval in avals]
        maker.values += inputs
        for _ in range(size):
            maker.grow()
        outputs = [rng.choice(maker.values) for _ in range(rng.randint(1, 8))] + maker.values[-2:]
    graph = Graph(tuple(inputs), tuple(outputs))
    arrays = [random_array(rng, aval.shape, aval.dtype) for aval in avals]
    return Case(graph, arrays, [y not in maker.rough for y in outputs])


def rounding(graph: Graph, arrays: list[Array]) -> list[Array]:
    """How far the outputs move when every float on the way to them moves by some units in its last place."""
    rng = np.random.default_rng(0)
    exact, *shaken = [_shaken(graph, arrays, rng, size) for size in (0, 8, 8, 8)]
    with np.errstate(all="ignore"):
        moves = [
            np.nanmax([np.abs(y.astype(FLOAT64) - z.astype(FLOAT64)) for z in others], axis=0, initial=0)
            for y, *others in zip(exact, *shaken, strict=True)
        ]
    return [np.where(np.isfinite(move), move, np.inf) for move in moves]


def _shaken(graph: Graph, arrays: list[Array], rng: np.random.Generator, size: float) -> list[Array]:
    env: dict[Value, Array] = dict(zip(graph.inputs, arrays, strict=True))
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            result = node.op.oracle(*[env[x] for x in node.inputs], **node.params)
            for y, array in zip(node.outputs, (result,) if node.results is None else result, strict=True):
                env[y] = np.asarray(array, y.dtype)
                if ir.is_float(y.dtype) and node.op.name in ROUNDED:
                    unit = np.finfo(y.dtype).eps * size
                    env[y] = (env[y] * (1 + rng.uniform(-unit, unit, y.shape))).astype(y.dtype)
    return [env[y] for y in graph.outputs]


ROUNDED = {"exp", "tanh", "sin", "cos", "reduce_sum", "dot_general", "scatter_add"}
"""What NumPy and the kernels round differently."""


def same_bits(a: Array, b: Array) -> bool:
    """Equal, signs of zero included; any NaN is equal to any other."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    equal = (a == b) & (np.signbit(a) == np.signbit(b)) | (a != a) & (b != b) if a.dtype.kind == "f" else a == b
    return bool(np.all(equal))
