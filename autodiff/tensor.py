"""`Tensor`: what users hold in place of an array while a graph grows.

It wraps one value of the graph and answers NumPy's protocols with the implementations in `autodiff.numpy`.  Outside
`compile` it is lazy: asking for its value runs what is needed, once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np

from autodiff import ir
from autodiff.errors import ConversionError, placed, user_line
from autodiff.explain import explained
from autodiff.history import Made, leaf_of, owners
from autodiff.ir import Line, Value
from autodiff.lazy import unwrapped
from autodiff.misuse import conversion_error
from autodiff.numpy import creation, indexing, products, reductions, selection, shapes  # noqa: F401
from autodiff.numpy.elementwise import apply1, apply2
from autodiff.numpy.promotion import supported
from autodiff.numpy.registry import IMPLEMENTATIONS, unsupported
from autodiff.operators import GUFUNCS, OPERANDS, call_ufunc, define, define_operators, in_place
from autodiff.ops.logic import convert
from autodiff.storage import Storage, Stored, index_of, owned, same_index, share


class Tensor(Stored):
    """An array in a graph: what it is computed from is known, its value only when asked for.

    Args:
        value: a number, an array or nested lists of numbers; it is copied.
        trainable: whether `backward` accumulates a gradient here.

    Raises:
        TypeError: for dtypes other than bool, uint8, int32, int64, float32, float64.

    >>> x = Tensor(3.0)
    >>> y = 2 * x + 10
    >>> float(y.value), float(y.grad(x))
    (16.0, 2.0)
    """

    __slots__ = ()

    __hash__ = None  # type: ignore[assignment]  # as arrays: == compares elements

    def __init__(self, value: Any, trainable: bool = True):
        line = ir.current().line = user_line(2)
        try:
            self._value = leaf_of(value)
        except ConversionError:
            raise
        except TypeError as error:
            raise TypeError(placed(line, f"Tensor({type(value).__name__}): {error}")) from None
        self._storage = self._part_of = None
        self._made = Made(bool(trainable), self._value.node.serial)
        owners[self._value] = weakref.ref(self)

    @staticmethod
    def _of(value: Value) -> Tensor:
        """A tensor of a value of the graph."""
        tensor = _new(Tensor)
        tensor._value = value
        tensor._storage = tensor._part_of = tensor._made = None
        return tensor

    # ---- as a container --------------------------------------------------------------------------------------------

    def __contains__(self, item: Any) -> bool:
        return bool((self == item).any())

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))  # one by one, so that each may be written to

    def __copy__(self) -> Tensor:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self.copy() if self._made is None else Tensor(self.value, self.trainable)

    def __reduce__(self) -> Any:
        return Tensor, (self.value, self.trainable)

    # ---- NumPy's protocols -----------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        line = ir.current().line = user_line(2)
        try:
            if method == "__call__" and not options:
                if len(inputs) == 1:
                    return _result(apply1(ufunc, self._value))
                x, y = inputs if len(inputs) == 2 else (None, None)
                if type(x) is Tensor and type(y) is Tensor and ufunc not in GUFUNCS:
                    return _result(apply2(ufunc, x._value, y._value))
            return _result(call_ufunc(ufunc, method, inputs, options))
        except Exception as error:
            name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
            raise explained(error, f"np.{name}", inputs, line) from None

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if not all(issubclass(t, (Tensor, np.ndarray)) for t in types):
            return NotImplemented
        line = ir.current().line = user_line(2)
        module = function.__module__.removeprefix("numpy").lstrip(".")
        name = f"{module}.{function.__name__}" if module else function.__name__
        implementation = IMPLEMENTATIONS.get(function)
        try:
            if function is np.copyto:  # np.full and np.full_like come here too
                raise conversion_error("copying", _first(args)._value.aval, "would lose what it is computed from")
            if implementation is None:
                raise unsupported(name)
            return _call(implementation.function, args, kwargs, implementation.views)
        except Exception as error:
            raise explained(error, f"np.{name}", args, line) from None

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(np.ndarray, name):
            raise AttributeError(
                placed(user_line(2), f"Tensor has no {name!r}, which ndarray has: {unsupported(name)}")
            )
        raise AttributeError(f"'Tensor' object has no attribute {name!r}")

    # ---- parts -----------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Tensor:
        line = ir.current().line = user_line(2)
        try:
            value, view = indexing.getitem(self._value, index_of(index))
        except Exception as error:
            raise explained(error, "indexing", (self, index), line) from None
        result = _result(value)
        if view and value.aval.shape:
            share(self, result)
            result._part_of = (self, index)
        return result

    def __setitem__(self, index: Any, value: Any) -> None:
        line = ir.current().line = user_line(2)
        try:
            part = value._part_of if isinstance(value, Tensor) else None
            if part is not None and part[0] is self and same_index(part[1], index):
                return  # x[i] += v has written through the view x[i] already
            self._write(indexing.set_item(self._value, index_of(index), unwrapped(value)), value, "x[...] = v")
        except Exception as error:
            raise explained(error, "assignment", (self, index, value), line) from None

    @property
    def at(self) -> At:
        """Parts of this tensor, to make new ones with: `x.at[index].set(v)` and `x.at[index].add(v)`."""
        return At(self)

    # ---- arithmetic ------------------------------------------------------------------------------------------------

    def __matmul__(self, other: Any) -> Any:
        line = ir.current().line = user_line(2)
        return _matmul(self, other, line)

    def __rmatmul__(self, other: Any) -> Any:
        line = ir.current().line = user_line(2)
        return _matmul(other, self, line)

    def __imatmul__(self, other: Any) -> Any:
        line = ir.current().line = user_line(2)
        result = _matmul(self, other, line)
        return result if result is NotImplemented else in_place(self, result._value, other, np.matmul, line)

    def __divmod__(self, other: Any) -> Any:
        raise TypeError(placed(user_line(2), str(unsupported("divmod"))))

    def __round__(self, digits: int | None = None) -> Any:
        raise TypeError(placed(user_line(2), str(unsupported("round"))))

    # ---- ndarray's methods -----------------------------------------------------------------------------------------

    @property
    def T(self) -> Tensor:  # noqa: N802
        """The axes reversed."""
        return _method(self, "T", shapes.transpose, (), {}, views=True)

    @property
    def mT(self) -> Tensor:  # noqa: N802
        """The last two axes swapped."""
        return _method(self, "mT", shapes.matrix_transpose, (), {}, views=True)

    @property
    def real(self) -> Tensor:
        """This tensor: there are no complex ones."""
        return self

    def reshape(self, *shape: Any, order: Any = "C", copy: Any = None) -> Tensor:
        """`np.reshape`; the shape as one tuple or as several integers."""
        new = shape[0] if len(shape) == 1 else shape
        return _method(self, "reshape", shapes.reshape, (new, order), {}, views=True)

    def transpose(self, *axes: Any) -> Tensor:
        """`np.transpose`; the axes as one tuple or as several integers."""
        order = None if not axes else axes[0] if len(axes) == 1 else axes
        return _method(self, "transpose", shapes.transpose, (order,), {}, views=True)

    def flatten(self, order: Any = "C") -> Tensor:
        """A copy with one axis."""
        return _method(self, "flatten", shapes.ravel, (order,), {})

    def copy(self, order: Any = "C") -> Tensor:
        """The same value in memory of its own; derivatives pass."""
        return _method(self, "copy", creation.copy, (), {})

    def astype(
        self, dtype: Any, order: Any = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
    ) -> Tensor:
        """The elements in another dtype, converted as NumPy does."""
        line = ir.current().line = user_line(2)
        try:
            new = supported(dtype, "the argument dtype is")
            if not np.can_cast(self.dtype, new, cast(Any, casting)):
                raise TypeError(
                    f"Cannot cast array data from {self.dtype!r} to {new!r} according to the rule '{casting}'"
                )
            if not copy and new == self.dtype:
                return self
            return _result(convert(self._value, new))
        except Exception as error:
            raise explained(error, "x.astype", (self,), line) from None

    def fill(self, value: Any) -> None:
        """`x[...] = value`."""
        self[...] = value


_new = object.__new__


class At:
    """Parts of a tensor, see `Tensor.at`."""

    __slots__ = ("_index", "_tensor")

    def __init__(self, tensor: Tensor, index: Any = ...):
        self._tensor = tensor
        self._index = index

    def __getitem__(self, index: Any) -> At:
        return At(self._tensor, index)

    def set(self, values: Any) -> Tensor:
        """A tensor with these elements replaced by `values`, converted to its dtype, and broadcast.

        Of positions that are named twice the last one wins.

        >>> Tensor([1.0, 2.0, 3.0]).at[1:].set(0).value.tolist()
        [1.0, 0.0, 0.0]
        """
        return self._new("set", indexing.set_item, values)

    def add(self, values: Any) -> Tensor:
        """A tensor with `values` added to these elements; to those that are named twice, twice.

        >>> Tensor([1.0, 2.0]).at[np.array([0, 0])].add(1).value.tolist()
        [3.0, 2.0]
        """
        return self._new("add", indexing.add_item, values)

    def _new(self, name: str, function: Callable[..., Value], values: Any) -> Tensor:
        line = ir.current().line = user_line(3)
        try:
            return _result(function(self._tensor._value, index_of(self._index), unwrapped(values)))
        except Exception as error:
            raise explained(error, f"x.at[...].{name}", (self._tensor, self._index, values), line) from None


# ---- making tensors ------------------------------------------------------------------------------------------------


def _result(value: Value) -> Tensor:
    """A tensor of what an operation made, which may be its operand itself, but in memory of its own."""
    tensor = _new(Tensor)
    tensor._value = value
    tensor._part_of = tensor._made = None
    tensor._storage = None if owned(value) else Storage(tensor, owned=True)
    return tensor


def _wrapped(result: Any, base: Tensor | None) -> Any:
    """A result with tensors for values; `base` is what they are views of."""
    if isinstance(result, Value):
        tensor = _result(result)
        if base is not None:
            share(base, tensor)
        return tensor
    if isinstance(result, (list, tuple)):
        return type(result)([_wrapped(x, base) for x in result])
    return result


def _first(args: Any) -> Tensor:
    """The first tensor among arguments."""
    return next(x for x in args if isinstance(x, Tensor))


def _call(function: Callable[..., Any], args: Any, kwargs: Any, views: bool) -> Any:
    result = function(*[unwrapped(x) for x in args], **{k: unwrapped(x) for k, x in kwargs.items()})
    return _wrapped(result, args[0] if views and args and isinstance(args[0], Tensor) else None)


def _method(
    self: Tensor, name: str, function: Callable[..., Any], args: Any, kwargs: Any, views: bool = False
) -> Tensor:
    line = ir.current().line = user_line(3)
    try:
        return cast(Tensor, _call(function, (self, *args), kwargs, views))
    except Exception as error:
        raise explained(error, f"x.{name}", (self, *args), line) from None


def _matmul(a: Any, b: Any, line: Line | None) -> Any:
    if not all(isinstance(x, (Tensor, *OPERANDS)) for x in (a, b)):
        return NotImplemented
    try:
        return _result(products.matmul(unwrapped(a), unwrapped(b)))
    except Exception as error:
        raise explained(error, "np.matmul", (a, b), line) from None


define_operators(Tensor, _result)


# ---- methods that are functions -------------------------------------------------------------------------------------

_METHODS = {
    name: IMPLEMENTATIONS[getattr(np, name)]
    for name in (
        "sum", "mean", "var", "std", "max", "min", "argmax", "argmin", "any", "all", "ravel", "swapaxes", "squeeze",
        "take", "repeat", "clip", "dot", "diagonal", "trace",
    )
}  # fmt: skip


def _as_method(name: str) -> Callable[..., Any]:
    function, views = _METHODS[name]

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        return _method(self, name, function, args, kwargs, views)

    method.__doc__ = f"`np.{name}` of this tensor."
    return method


for _name in _METHODS:
    define(Tensor, _name, _as_method(_name))
