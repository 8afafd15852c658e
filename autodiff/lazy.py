"""Values that are computed when they are asked for: what tensors know of their value, and how it leaves the graph."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff import ir, state
from autodiff.errors import ConversionError
from autodiff.ir import Array, Dtype, Shape, Value
from autodiff.misuse import conversion_error


class Lazy:
    """A value of a graph, with all that can be asked of it: `Tensor` is made of it."""

    __slots__ = ("__weakref__", "_value")

    _value: Value

    # ---- what is known without the value -----------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """The size of each axis."""
        return self._value.aval.shape

    @property
    def dtype(self) -> Dtype:
        """The NumPy dtype of the elements."""
        return self._value.aval.dtype

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self._value.aval.shape)

    @property
    def size(self) -> int:
        """How many elements there are."""
        return self._value.aval.size

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self._value.aval.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize

    def __len__(self) -> int:
        if not self._value.aval.shape:
            raise TypeError("len() of unsized object")
        return self._value.aval.shape[0]

    # ---- asking for the value ----------------------------------------------------------------------------------------

    def _data(self, asked: str) -> Array:
        """The value, computed if need be; not to be changed or handed out."""
        data = self._value.data
        if data is not None:
            return data
        number = ir.literal(self._value)
        if number is not None:
            return np.broadcast_to(number, self.shape)
        if state.compiling():
            raise conversion_error(asked, self._value.aval, "has no value inside compile", known=False)
        return evaluated([self._value])[0]

    def _detached(self, asked: str) -> Array:
        """The value, for those who would lose its derivative without knowing."""
        known = self._value.data is not None or not state.compiling()
        if known and state.depends_on_active(self._value):
            raise conversion_error(asked, self._value.aval, "would silently lose the derivative that is being taken")
        return self._data(asked)

    def __bool__(self) -> bool:
        return bool(self._data("bool()"))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.shape:
            raise TypeError("only integer scalar arrays can be converted to a scalar index")
        return operator.index(self._data("__index__()").item())

    def __int__(self) -> int:
        return int(self._detached("int()"))

    def __float__(self) -> float:
        return float(self._detached("float()"))

    def __complex__(self) -> complex:
        return complex(self._detached("complex()"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a tensor has no memory of its own to share: copy=False is not possible")
        return np.array(self._detached("__array__()"), dtype)

    def item(self, *index: Any) -> Any:
        """One element as a Python number; see `float()`."""
        return self._detached(".item()").item(*index)

    def tolist(self) -> Any:
        """Nested lists of Python numbers; see `float()`."""
        return self._detached(".tolist()").tolist()

    def __repr__(self) -> str:
        data = self._shown("repr()")
        if data is None:
            return f"Tensor({self._value.aval}, traced)"
        return f"Tensor{repr(data).removeprefix('array')}" if self.shape else f"Tensor({data.item()!r})"

    def __str__(self) -> str:
        data = self._shown("str()")
        return repr(self) if data is None else str(data[()])

    def _shown(self, asked: str) -> Array | None:
        """The value where there is one: people also look at tensors inside `compile`, and at those that left it."""
        try:
            return self._data(asked)
        except (ConversionError, ValueError):
            return None

    def __format__(self, spec: str) -> str:
        return format(self._data("format()")[()], spec) if spec else str(self)


def evaluated(values: Sequence[Value]) -> list[Array]:
    """Their arrays, computed if need be; not to be changed or handed out."""
    from autodiff.evaluate import evaluate

    arrays: list[Array] = evaluate(values)
    return arrays


def unwrapped(x: Any) -> Any:
    """An argument with values for tensors."""
    if isinstance(x, Lazy):
        return x._value
    if type(x) is list or type(x) is tuple:
        return type(x)([unwrapped(item) for item in x])
    return x
