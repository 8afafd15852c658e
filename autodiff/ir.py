"""The graph: what every other floor builds, reads and rewrites.

A `Node` applies an `Op` to values and has one or more results; a `Value` is one of them.  Nodes are immutable and made
only by a `Builder`, so a node always comes after what it depends on: sorting reachable nodes by their serial number is
a topological sort, and no walk recurses.  A `Graph` names the inputs and outputs of a part of that network.
"""

from __future__ import annotations

import gc
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

Dtype = np.dtype[Any]
Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

BOOL, UINT8, INT32, INT64, FLOAT32, FLOAT64 = map(np.dtype, ("bool", "uint8", "int32", "int64", "float32", "float64"))
DTYPES = (BOOL, UINT8, INT32, INT64, FLOAT32, FLOAT64)


class Line(NamedTuple):
    """Where in the user's source an operation was written."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Aval(NamedTuple):
    """An abstract value: all that is known of an array before it exists.

    `weak` marks what came from Python numbers, which do not take part in NumPy's type promotion (NEP 50).
    """

    shape: Shape
    dtype: Dtype
    weak: bool = False

    @property
    def size(self) -> int:
        """The number of elements."""
        n = 1
        for d in self.shape:
            n *= d
        return n

    def __str__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]{'*' if self.weak else ''}"


def is_float(dtype: Dtype) -> bool:
    """Whether numbers of this dtype have derivatives."""
    return dtype.kind == "f"


class Literal:
    """A constant array as a hashable parameter: equal only in dtype, shape and bits (0.0 is not -0.0)."""

    __slots__ = ("_hash", "_key", "array", "number")

    def __init__(self, array: Array):
        array = np.array(array, order="C")  # a copy: what the user does to theirs later is not ours
        array.flags.writeable = False
        self.array = array
        self._key = (array.dtype.str, array.shape, array.tobytes())
        self._hash = hash(self._key)
        self.number: bool | int | float | None = None if array.ndim else array.item()

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key == other._key

    def __repr__(self) -> str:
        return str(self.array.item()) if self.array.size == 1 else f"<{self.array.nbytes} bytes>"


Tangents = Sequence["Value | None"]
InferRule = Callable[..., Aval | tuple[Aval, ...]]
JvpRule = Callable[["Node", Tangents], Tangents]
TransposeRule = Callable[["Node", Tangents, Sequence[bool]], Tangents]
BatchRule = Callable[["Node", int, Sequence["Value"], Sequence[bool]], Sequence["Value"]]


class Op:
    """A primitive.  `ops/` declares them; see `ops/base.py` for the short forms its rules are written in.

    Calling an op emits a node in the current builder: `op(*values, **params)`.  Numbers among the operands take the
    aval of the first value.
    """

    def __init__(
        self,
        name: str,
        infer: InferRule,
        oracle: Callable[..., Any],
        jvp: JvpRule,
        transpose: TransposeRule | None,
        batch: BatchRule,
        masked_transpose: TransposeRule | None = None,
        arity: int | None = None,
        elementwise: bool = False,
        selects: bool = False,
        interned: bool = True,
    ):
        self.name = name
        self.infer = infer  # (*input avals, **params) -> the result's aval, or a tuple of them
        self.oracle = oracle  # the same function on NumPy arrays, with the same params
        self.jvp = jvp  # (node, its inputs' tangents) -> its outputs' tangents; None is a tangent of zero
        self.transpose = transpose  # (node, its outputs' cotangents, which inputs are linear) -> cotangents
        self.batch = batch  # (node, size, inputs, which have a leading batch axis) -> outputs with a leading batch axis
        self.masked_transpose = masked_transpose  # the transpose for cotangents that a selection may have zeroed
        self.arity = arity  # how many operands; None where that varies
        self.elementwise = elementwise
        self.selects = selects  # its transpose puts zeros into cotangents
        self.interned = interned

    def __call__(self, *operands: Any, **params: Any) -> Value:
        """Apply a primitive of one result."""
        node = _current.builder.emit(self, as_values(operands), params)
        if node.results is not None:
            raise TypeError(f"{self.name} has {len(node.results)} results: use {self.name}.emit")
        return node

    def emit(self, *operands: Any, **params: Any) -> tuple[Value, ...]:
        """Apply a primitive; all its results."""
        return _current.builder.emit(self, as_values(operands), params).outputs

    def __repr__(self) -> str:
        return self.name


OPS: dict[str, Op] = {}
"""Every primitive by name, in order of declaration."""


def register(op: Op) -> Op:
    """Add a primitive to the registry."""
    if op.name in OPS:
        raise ValueError(f"primitive {op.name!r} is declared twice")
    OPS[op.name] = op
    return op


class Value:
    """One result of a node; of a node with a single result, the node itself.

    `data` is its NumPy value where that is known while the graph is built: that of a leaf outside `compile`, or one
    that has been computed.  It is no part of what the graph means.
    """

    __slots__ = ("__weakref__", "aval", "data")

    aval: Aval
    data: Array | None

    @property
    def node(self) -> Node:
        """What makes this value."""
        raise NotImplementedError

    @property
    def index(self) -> int:
        """Which of its node's results this is."""
        raise NotImplementedError

    @property
    def shape(self) -> Shape:
        """Its lengths along each axis."""
        return self.aval.shape

    @property
    def dtype(self) -> Dtype:
        """The dtype of its elements."""
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.aval.size

    def full_like(self, number: Any) -> Value:
        """`number` in every element, with this value's shape and dtype."""
        return full(number, self.shape, self.dtype)

    # What derivative rules are written with.  `==` stays identity: use the op `eq`.
    def __add__(self, other: Any) -> Value:
        return OPS["add"](self, other)

    def __radd__(self, other: Any) -> Value:
        return OPS["add"](other, self)

    def __sub__(self, other: Any) -> Value:
        return OPS["sub"](self, other)

    def __rsub__(self, other: Any) -> Value:
        return OPS["sub"](other, self)

    def __mul__(self, other: Any) -> Value:
        return OPS["mul"](self, other)

    def __rmul__(self, other: Any) -> Value:
        return OPS["mul"](other, self)

    def __truediv__(self, other: Any) -> Value:
        return OPS["div"](self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return OPS["div"](other, self)

    def __neg__(self) -> Value:
        return OPS["neg"](self)

    def __lt__(self, other: Any) -> Value:
        return OPS["lt"](self, other)

    def __gt__(self, other: Any) -> Value:
        return OPS["gt"](self, other)

    def __le__(self, other: Any) -> Value:
        return OPS["le"](self, other)

    def __ge__(self, other: Any) -> Value:
        return OPS["ge"](self, other)

    def __repr__(self) -> str:
        return f"Value({self.node.op.name}#{self.node.serial}: {self.aval})"


class Node(Value):
    """An op applied to values.  `line`, the user's source line, rides along and is no part of its identity.

    Being its own single result, a node is in no reference cycle: a network is freed as soon as nobody needs it.
    """

    __slots__ = ("inputs", "line", "op", "params", "results", "serial")

    def __init__(
        self,
        op: Op,
        inputs: tuple[Value, ...],
        params: Mapping[str, Any],
        avals: Aval | tuple[Aval, ...],
        line: Line | None,
        serial: int,
    ):
        self.op = op
        self.inputs = inputs
        self.params = params
        self.line = line
        self.serial = serial
        self.data = None
        if isinstance(avals, Aval):
            self.aval = avals
            self.results: tuple[Result, ...] | None = None
        else:
            self.results = tuple([Result(self, i, aval) for i, aval in enumerate(avals)])

    def with_inputs(self, inputs: tuple[Value, ...]) -> Node:
        """A new node like this one, but of other inputs, whose avals are those of its own."""
        avals = self.aval if self.results is None else tuple([y.aval for y in self.results])
        return Node(self.op, inputs, self.params, avals, self.line, next(_serials))

    @property
    def node(self) -> Node:
        """Itself."""
        return self

    @property
    def index(self) -> int:
        """It is the first of one."""
        return 0

    @property
    def outputs(self) -> tuple[Value, ...]:
        """All results."""
        return (self,) if self.results is None else self.results


class Result(Value):
    """One of several results of a node."""

    __slots__ = ("_index", "_node")

    def __init__(self, node: Node, index: int, aval: Aval):
        self._node = node
        self._index = index
        self.aval = aval
        self.data = None

    @property
    def node(self) -> Node:
        """What makes this value."""
        return self._node

    @property
    def index(self) -> int:
        """Which of its node's results this is."""
        return self._index


NO_PARAMS: Mapping[str, Any] = {}
"""One for all nodes without: most have none."""

_serials = itertools.count()
_aval_of = attrgetter("aval")

serial = attrgetter("serial")
"""Sorting nodes by this is a topological sort."""


class Builder:
    """Makes nodes.  With `intern`, equal nodes are made once: building a graph eliminates common subexpressions.

    `line` is given to every node made while it is set.
    """

    __slots__ = ("_table", "line")

    def __init__(self, *, intern: bool):
        self._table: dict[Any, Node] | None = {} if intern else None
        self.line: Line | None = None

    @property
    def interns(self) -> bool:
        """Whether equal nodes are made once."""
        return self._table is not None

    def emit(self, op: Op, inputs: tuple[Value, ...], params: Mapping[str, Any]) -> Node:
        """A node of this op, or the equal one that was made before."""
        table = self._table
        if table is None or not op.interned:
            return Node(op, inputs, params, op.infer(*map(_aval_of, inputs), **params), self.line, next(_serials))
        key = (op, inputs, *params.values()) if params else (op, inputs)
        node = table.get(key)
        if node is None:
            known = map(_aval_of, inputs)
            avals = op.infer(*known, **params) if params else op.infer(*known)
            node = table[key] = Node(op, inputs, params or NO_PARAMS, avals, self.line, next(_serials))
        return node

    def adopt(self, node: Node, inputs: tuple[Value, ...]) -> Node:
        """What this builder knows as equal to a node made elsewhere, if that had these inputs of the same avals.

        From now on that is `node` itself if those are its own, else a new one, unless there is one already.
        """
        table, op, params = self._table, node.op, node.params
        if table is None or not op.interned:
            return node if inputs is node.inputs else node.with_inputs(inputs)
        key = (op, inputs, *params.values()) if params else (op, inputs)
        known = table.get(key)
        if known is None:
            known = table[key] = node if inputs is node.inputs else node.with_inputs(inputs)
        return known


class _Current(threading.local):
    def __init__(self) -> None:
        self.builder = Builder(intern=False)  # outside `compile`, tensors keep their identity


_current = _Current()


def current() -> Builder:
    """This thread's builder."""
    return _current.builder


@contextmanager
def building(builder: Builder) -> Iterator[Builder]:
    """Make `builder` this thread's builder."""
    outer = _current.builder
    _current.builder = builder
    try:
        yield builder
    finally:
        _current.builder = outer


@contextmanager
def collection_paused() -> Iterator[None]:
    """Make many nodes without the cyclic garbage collector, which would look at all of them again and again.

    They are in no reference cycle, so there is nothing for it to find; it doubles the cost of a node.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def transforming() -> Iterator[Builder]:
    """The current builder, whose line a transform may set to that of the node it works on."""
    builder = _current.builder
    outer = builder.line
    try:
        with collection_paused():
            yield builder
    finally:
        builder.line = outer


def as_values(operands: tuple[Any, ...]) -> tuple[Value, ...]:
    """Operands of an op, numbers among them spread to the aval of the first value."""
    for x in operands:
        if not isinstance(x, Value):
            break
    else:
        return operands
    like = next(x for x in operands if isinstance(x, Value))
    return tuple([x if isinstance(x, Value) else like.full_like(x) for x in operands])


# ---- leaves --------------------------------------------------------------------------------------------------------


def _no_tangent(node: Node, tangents: Tangents) -> Tangents:
    return [None] * len(node.outputs)


def _never_batched(node: Node, size: int, inputs: Sequence[Value], batched: Sequence[bool]) -> Sequence[Value]:
    raise AssertionError(f"{node.op.name} has no inputs that could be batched")


def _leaf(name: str, infer: InferRule, oracle: Callable[..., Any], interned: bool = True) -> Op:
    return register(Op(name, infer, oracle, _no_tangent, None, _never_batched, interned=interned))


def _argument_oracle(**params: Any) -> Array:
    raise AssertionError("an argument has no value of its own")


argument_op = _leaf("argument", lambda aval: aval, _argument_oracle, interned=False)
constant_op = _leaf("constant", lambda value: Aval(value.array.shape, value.array.dtype), lambda value: value.array)
full_op = _leaf(
    "full",
    lambda value, shape: Aval(shape, value.array.dtype),
    lambda value, shape: np.full(shape, value.array, value.array.dtype),
)
iota_op = _leaf("iota", lambda size, dtype: Aval((size,), dtype), lambda size, dtype: np.arange(size, dtype=dtype))


def argument(aval: Aval) -> Value:
    """A new input; two are never the same."""
    return argument_op(aval=aval)


def constant(array: Array) -> Value:
    """A value known while the graph is built.  One that is the same in every element becomes `full`."""
    array = np.asarray(array)
    if array.ndim == 0:
        return full_op(value=Literal(array), shape=())
    return constant_op(value=Literal(array))


@lru_cache(maxsize=1024, typed=True)
def _number(number: float, negative_zero: bool, dtype: Dtype) -> Literal:
    return Literal(np.array(number, dtype))


def full(number: Any, shape: Shape, dtype: Dtype) -> Value:
    """One number in every element."""
    if type(number) is float or type(number) is int:  # what derivative rules are full of
        value = _number(number, number == 0 and math.copysign(1, number) < 0, dtype)
    else:
        value = Literal(np.array(number, dtype))
    return _current.builder.emit(full_op, (), {"value": value, "shape": shape})


def zeros(aval: Aval) -> Value:
    """Zeros of that shape and dtype."""
    return full(0, aval.shape, aval.dtype)


def iota(size: int, dtype: Dtype = INT64) -> Value:
    """0, 1, ... size - 1."""
    return iota_op(size=size, dtype=dtype)


def literal(value: Value) -> Array | None:
    """The number in every element of a `full` value as a 0-d array; None for any other value."""
    node = value.node
    return node.params["value"].array if node.op is full_op else None


def number_of(value: Value) -> bool | int | float | None:
    """The same as Python's number, which is exact."""
    node = value.node
    return node.params["value"].number if node.op is full_op else None


# ---- graphs --------------------------------------------------------------------------------------------------------


def toposort(outputs: Iterable[Value], inputs: Iterable[Value] = ()) -> list[Node]:
    """The nodes that `outputs` need, each after those it depends on; does not look behind `inputs`."""
    seen = {x.node for x in inputs}
    found: list[Node] = []
    stack = list(outputs)
    while stack:
        node = stack.pop().node
        if node not in seen:
            seen.add(node)
            found.append(node)
            stack.extend(node.inputs)
    found.sort(key=serial)
    return found


class Graph:
    """A function: `outputs` in terms of `inputs`, which are results of `argument` nodes."""

    def __init__(self, inputs: tuple[Value, ...], outputs: tuple[Value, ...], name: str = "graph"):
        self.inputs = inputs
        self.outputs = outputs
        self.name = name

    @cached_property
    def nodes(self) -> list[Node]:
        """Topologically sorted, without the inputs' own."""
        return toposort(self.outputs, self.inputs)

    @cached_property
    def free(self) -> list[Value]:
        """Arguments the outputs need that are not among the inputs: what the function captured."""
        return [node.outputs[0] for node in self.nodes if node.op is argument_op]

    def __str__(self) -> str:
        return render(self)


def rebuild(graph: Graph, emit: Callable[[Node, tuple[Value, ...]], Sequence[Value]] | None = None) -> Graph:
    """The graph made anew in the current builder; `emit` says what becomes of a node, given its new inputs."""
    env: dict[Value, Value] = {x: argument(x.aval) for x in graph.inputs}
    with transforming() as builder:
        for node in graph.nodes:
            builder.line = node.line
            inputs = tuple([env[x] for x in node.inputs])
            outputs = emit(node, inputs) if emit else builder.emit(node.op, inputs, node.params).outputs
            env.update(zip(node.outputs, outputs, strict=True))
    return Graph(tuple([env[x] for x in graph.inputs]), tuple([env[x] for x in graph.outputs]), graph.name)


class GraphError(AssertionError):
    """A graph that breaks the rules: a bug of the library, not of its user."""


def verify(graph: Graph) -> None:
    """Check that every node's results are what its op says they are, and that nothing is used before it is made."""
    known: set[Value] = set(graph.inputs)
    for x in graph.inputs:
        if x.node.op is not argument_op:
            raise GraphError(f"input {x} is not an argument")
    for node in graph.nodes:
        if node.op is argument_op:
            raise GraphError(f"{node.outputs[0]} is captured: it is not among the graph's inputs")
        for x in node.inputs:
            if x not in known:
                raise GraphError(f"{node} uses {x} before it is made")
        avals = node.op.infer(*[x.aval for x in node.inputs], **node.params)
        avals = (avals,) if isinstance(avals, Aval) else avals
        if tuple(x.aval for x in node.outputs) != avals:
            raise GraphError(f"{node} has results {[str(x.aval) for x in node.outputs]}, not {list(map(str, avals))}")
        known.update(node.outputs)
    for x in graph.outputs:
        if x not in known:
            raise GraphError(f"output {x} is never made")


def _render_param(value: Any) -> str:
    if isinstance(value, np.dtype):
        return value.name
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    return repr(value)


def render(graph: Graph) -> str:
    """One line a node: its result, aval, op, operands, params and the user's source line."""
    names: dict[Value, str] = {}
    for x in graph.inputs:
        names[x] = f"%{len(names)}"
    rows: list[tuple[str, str]] = []
    head = ", ".join(f"{names[x]}: {x.aval}" for x in graph.inputs)
    for node in graph.nodes:
        for x in node.outputs:
            names[x] = f"%{len(names)}"
        results = ", ".join(f"{names[x]}: {x.aval}" for x in node.outputs)
        operands = [names[x] for x in node.inputs]
        operands += [f"{k}={_render_param(v)}" for k, v in node.params.items()]
        rows.append((f"  {results} = {node.op.name}({', '.join(operands)})", str(node.line or "")))
    width = min(max((len(left) for left, _ in rows), default=0), 88)
    body = [f"{left:<{width}}  # {line}" if line else left for left, line in rows]
    tail = ", ".join(names[x] for x in graph.outputs)
    return "\n".join([f"{graph.name}({head}):", *body, f"  return {tail}"])
