"""Which transforms this thread is inside of: what a value may be asked for depends on it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

from autodiff import ir
from autodiff.errors import ConversionError
from autodiff.ir import Value


class Transform(NamedTuple):
    """`compile`, which has no values yet, or `derivative`, which must see every use of its inputs."""

    kind: Literal["compile", "derivative"]
    inputs: tuple[Value, ...]


class _State(threading.local):
    def __init__(self) -> None:
        self.stack: list[Transform] = []


_state = _State()


def active() -> Sequence[Transform]:
    """The transforms this thread is inside of, outermost first."""
    return _state.stack


@contextmanager
def within(kind: Literal["compile", "derivative"], inputs: Sequence[Value] = ()) -> Iterator[None]:
    """Be inside a transform of `inputs`.

    NumPy reports `arr[i] = t` as a sequence in place of a number, caused by the tensor's own error, which says more.
    """
    _state.stack.append(Transform(kind, tuple(inputs)))
    try:
        yield
    except ValueError as error:
        if isinstance(error.__cause__, ConversionError):
            raise error.__cause__ from None
        raise
    finally:
        _state.stack.pop()


def compiling() -> bool:
    """Whether values cannot be known here, because `compile` is looking for what computes them."""
    return any(transform.kind == "compile" for transform in _state.stack)


def depends_on_active(value: Value) -> bool:
    """Whether a derivative is being taken of `value`: a path of floating values leads to it from one's inputs."""
    stop = {x for transform in _state.stack if transform.kind == "derivative" for x in transform.inputs}
    if not stop:
        return False
    first = min(x.node.serial for x in stop)
    seen: set[Value] = set()
    stack = [value]
    while stack:
        x = stack.pop()
        if x in seen or not ir.is_float(x.dtype):
            continue
        if x in stop:
            return True
        seen.add(x)
        if x.node.serial > first and x.node.op.name != "stop_gradient":
            stack.extend(x.node.inputs)
    return False
