"""`Tensor`: what users hold in place of an array while a graph grows.

It wraps one value of the graph and answers NumPy's protocols with the implementations in `autodiff.numpy`.  Outside
`compile` it is lazy: asking for its value runs what is needed, once.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np

from autodiff import ir, state
from autodiff.errors import ConversionError, placed, user_line
from autodiff.ir import Array, Dtype, Line, Shape, Value
from autodiff.misuse import conversion_error
from autodiff.numpy import creation, indexing, products, reductions, selection, shapes  # noqa: F401
from autodiff.numpy.elementwise import LOOPS, apply, apply1, apply2, apply_number
from autodiff.numpy.promotion import leaf, lift, operand, supported
from autodiff.numpy.registry import IMPLEMENTATIONS, known, unsupported
from autodiff.ops.logic import convert
from autodiff.transforms import pullback

GUFUNCS: dict[np.ufunc, Callable[..., Value]] = {np.matmul: products.matmul, np.vecdot: products.vecdot}
"""Ufuncs that do not work element by element."""
known.update(ufunc.__name__ for ufunc in GUFUNCS)

_NUMBERS = (int, float, complex, np.generic)
_OPERANDS = (*_NUMBERS, np.ndarray, list, tuple)

_owners: weakref.WeakKeyDictionary[Value, weakref.ref[Tensor]] = weakref.WeakKeyDictionary()
"""Whose version a leaf is, of the tensors that users made."""


class Storage:
    """Tensors that share memory in NumPy: an array and views of it.  `owned`: whether it may be written to."""

    __slots__ = ("_limit", "_tensors", "owned")

    def __init__(self, tensor: Tensor, owned: bool):
        self.owned = owned
        self._tensors = [weakref.ref(tensor)]
        self._limit = 16

    def add(self, tensor: Tensor) -> None:
        """Count one more tensor in."""
        self._tensors.append(weakref.ref(tensor))
        if len(self._tensors) > self._limit:
            self._tensors = [ref for ref in self._tensors if ref() is not None]
            self._limit = 2 * len(self._tensors) + 16

    def live(self) -> list[Tensor]:
        """Those still in use."""
        return [t for ref in self._tensors if (t := ref()) is not None]


class _Made:
    """What only tensors have that users made by calling `Tensor`."""

    __slots__ = ("gradient", "id", "trainable")

    def __init__(self, trainable: bool, identity: int):
        self.trainable = trainable
        self.id = identity
        self.gradient: Array | None = None


class Tensor:
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

    __slots__ = ("__weakref__", "_made", "_part_of", "_storage", "_value")

    _value: Value
    _storage: Storage | None  # None: shares memory with no other tensor, and owns it unless its value is an argument
    _part_of: tuple[Tensor, Any] | None  # the tensor that this is an index of, and the index
    _made: _Made | None

    __hash__ = None  # type: ignore[assignment]  # as arrays: == compares elements

    def __init__(self, value: Any, trainable: bool = True):
        line = ir.current().line = user_line(2)
        try:
            self._value = _leaf_of(value)
        except ConversionError:
            raise
        except TypeError as error:
            raise TypeError(placed(line, f"Tensor({type(value).__name__}): {error}")) from None
        self._storage = self._part_of = None
        self._made = _Made(bool(trainable), self._value.node.serial)
        _owners[self._value] = weakref.ref(self)

    @staticmethod
    def _of(value: Value) -> Tensor:
        """A tensor of a value of the graph."""
        tensor = _new(Tensor)
        tensor._value = value
        tensor._storage = tensor._part_of = tensor._made = None
        return tensor

    # ---- what is known without the value ---------------------------------------------------------------------------

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

    # ---- the first library's ---------------------------------------------------------------------------------------

    @property
    def value(self) -> Any:
        """The value, as a new NumPy array, or as a NumPy scalar where the shape is ().

        Carries no derivative.  Assigning starts a new version: expressions made before keep the old one.

        Raises:
            TypeError: inside `compile`, where there is no value yet.

        >>> w = Tensor([1.0, 2.0])
        >>> total = (w * w).sum()
        >>> w.value = [5.0, 5.0]
        >>> float(total.value), float((w * w).sum().value)
        (5.0, 50.0)
        """
        return self._data(".value").copy()[()]

    @value.setter
    def value(self, value: Any) -> None:
        line = ir.current().line = user_line(2)
        made = self._made
        if made is None:
            raise AttributeError(
                placed(
                    line,
                    f"a tensor that was computed, {self._value.aval}, has no other value: assign to the .value of one "
                    "made by Tensor(...)",
                )
            )
        self._value = new = _leaf_of(value)
        _owners[new] = weakref.ref(self)
        if made.gradient is not None and made.gradient.shape != new.shape:
            made.gradient = None

    @property
    def trainable(self) -> bool:
        """Whether `backward` accumulates a gradient here: of tensors made by `Tensor(value)`."""
        return self._made is not None and self._made.trainable

    @trainable.setter
    def trainable(self, flag: bool) -> None:
        if self._made is None:
            raise AttributeError("only tensors made by Tensor(...) can be trainable")
        self._made.trainable = bool(flag)

    @property
    def id(self) -> int:
        """A number no other tensor has."""
        return self._value.node.serial if self._made is None else self._made.id

    @property
    def gradient(self) -> Any:
        """What `backward` has accumulated, in the value's shape; zeros at first.  Assign zeros to start anew.

        >>> w = Tensor([1.0, 2.0])
        >>> (w * w).sum().backward()
        >>> w.gradient.tolist()
        [2.0, 4.0]
        """
        made = self._made
        if made is None or made.gradient is None:
            return np.zeros(self.shape, _gradient_dtype(self.dtype))[()]
        return made.gradient[()]

    @gradient.setter
    def gradient(self, gradient: Any) -> None:
        if self._made is None:
            raise AttributeError("only tensors made by Tensor(...) accumulate a gradient: use y.grad(x) for others")
        new = np.broadcast_to(np.asarray(gradient, _gradient_dtype(self.dtype)), self.shape)
        self._made.gradient = new.copy()

    @property
    def dependencies(self) -> tuple[Tensor, ...]:
        """The tensors this one was computed from; numbers and arrays among them are non-trainable tensors."""
        return tuple([_owner(_before_spread(x)) for x in self._value.node.inputs])

    def depends_on(self, target: Tensor) -> bool:
        """Whether `target` is this tensor or among what it was computed from."""
        return bool(_versions(self._value, target))

    def grad(self, target: Tensor) -> Any:
        """The derivative of this tensor (of the sum of its elements) with respect to `target`, as a NumPy value.

        Zero where it does not depend on it.  Has the target's shape.

        Raises:
            TypeError: inside `compile`, or where a dtype is not floating.
            ValueError: if this tensor was computed from an earlier value of `target`, of another shape.

        >>> x, y = Tensor([1.0, 2.0]), Tensor(3.0)
        >>> (x * y).grad(y), (x * y).grad(x).tolist()
        (np.float64(3.0), [3.0, 3.0])
        """
        line = ir.current().line = user_line(2)
        if not isinstance(target, Tensor):
            raise TypeError(placed(line, f"grad takes a Tensor, not {type(target).__name__}"))
        for tensor, what in ((self, "of"), (target, "with respect to")):
            if not ir.is_float(tensor.dtype):
                raise TypeError(
                    placed(
                        line, f"a derivative {what} {tensor._value.aval} is not defined: convert it with .astype(float)"
                    )
                )
        versions = _versions(self._value, target)
        for x in versions:
            _expect_shape(x, target, line)
        total = np.zeros(target.shape, target.dtype)
        for gradient in self._gradients(versions, ".grad()"):
            total = total + gradient
        return total[()]

    def backward(self) -> None:
        """Add the derivative of this tensor (of the sum of its elements) to the `gradient` of each trainable tensor.

        Raises:
            TypeError: inside `compile`, or if this tensor's dtype is not floating.
            ValueError: if it was computed from an earlier value of a trainable tensor, of another shape.
        """
        line = ir.current().line = user_line(2)
        if not ir.is_float(self.dtype):
            raise TypeError(
                placed(line, f"a derivative of {self._value.aval} is not defined: convert it with .astype(float)")
            )
        leaves = [(x, owner) for x in _leaves(self._value) if (owner := _made_by(x)) is not None and owner.trainable]
        for x, owner in leaves:
            _expect_shape(x, owner, line)
        for (_, owner), gradient in zip(leaves, self._gradients([x for x, _ in leaves], ".backward()"), strict=True):
            made = owner._made
            assert made is not None
            made.gradient = gradient if made.gradient is None else made.gradient + gradient

    def _gradients(self, targets: Sequence[Value], asked: str) -> list[Array]:
        """Derivatives with respect to values, as arrays of our own."""
        y = self._value
        if state.compiling():
            raise conversion_error(asked, y.aval, "has no value inside compile", known=False)
        if state.depends_on_active(y):
            raise conversion_error(asked, y.aval, "would silently lose the derivative that is being taken")
        cotangents = pullback([y], targets, [y.full_like(1)])
        known = [ct for ct in cotangents if ct is not None]
        values = iter(_evaluate(known))
        return [
            np.zeros(x.shape, _gradient_dtype(x.dtype)) if ct is None else next(values).copy()
            for x, ct in zip(targets, cotangents, strict=True)
        ]

    # ---- asking for the value --------------------------------------------------------------------------------------

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
        return _evaluate([self._value])[0]

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
            return _ufunc(ufunc, method, inputs, options)
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
            value, view = indexing.getitem(self._value, _index(index))
        except Exception as error:
            raise explained(error, "indexing", (self, index), line) from None
        result = _result(value)
        if view and value.aval.shape:
            _share(self, result)
            result._part_of = (self, index)
        return result

    def __setitem__(self, index: Any, value: Any) -> None:
        line = ir.current().line = user_line(2)
        try:
            part = value._part_of if isinstance(value, Tensor) else None
            if part is not None and part[0] is self and _same_index(part[1], index):
                return  # x[i] += v has written through the view x[i] already
            self._write(indexing.set_item(self._value, _index(index), _unwrapped(value)), value, "x[...] = v")
        except Exception as error:
            raise explained(error, "assignment", (self, index, value), line) from None

    def _write(self, new: Value, operand: Any, what: str) -> None:
        """Take a new value in place, as far as nobody else can see that this is not done in memory."""
        chain = [self]
        while (part := chain[-1]._part_of) is not None:
            chain.append(part[0])
        if not (_owned(self._value) if self._storage is None else self._storage.owned):
            whose = "a tensor made by Tensor(...): assign to its .value," if chain[-1]._made else "an argument:"
            raise TypeError(
                f"{what} would change {whose} work on a copy, x = x.copy(), or make a new one, x = x.at[...].set(v)"
            )
        others = [t for t in self._storage.live() if not any(t is c for c in chain)] if self._storage else []
        stale = None
        for t in others:
            if t is operand and t._part_of is not None and any(t._part_of[0] is c for c in chain):
                stale = t
                continue
            raise TypeError(
                f"{what}: another tensor that is still in use, {t._value.aval}, is a view of the same memory and would "
                "change with it: take it as a copy, y = x[...].copy(), or make a new one with x = x.at[...].set(v)"
            )
        self._value = new
        for inner, outer in pairwise(chain):
            assert inner._part_of is not None
            outer._value = indexing.set_item(outer._value, _index(inner._part_of[1]), inner._value)
        if stale is not None and stale._part_of is not None:
            base, index = stale._part_of
            stale._value = indexing.getitem(base._value, _index(index))[0]

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
        return result if result is NotImplemented else _in_place(self, result._value, other, np.matmul, line)

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
            return _result(function(self._tensor._value, _index(self._index), _unwrapped(values)))
        except Exception as error:
            raise explained(error, f"x.at[...].{name}", (self._tensor, self._index, values), line) from None


# ---- making tensors ------------------------------------------------------------------------------------------------


def _leaf_of(value: Any) -> Value:
    """A new leaf with a copy of the user's data; inside `compile` a constant."""
    if isinstance(value, Tensor):
        value = value._detached("Tensor()")
    array = np.array(value)
    array = array.astype(supported(array.dtype, "the value has"), copy=False)
    if ir.current().interns:
        return ir.constant(array)
    array.flags.writeable = False
    return leaf(array)


def _result(value: Value) -> Tensor:
    """A tensor of what an operation made, which may be its operand itself, but in memory of its own."""
    tensor = _new(Tensor)
    tensor._value = value
    tensor._part_of = tensor._made = None
    tensor._storage = None if _owned(value) else Storage(tensor, owned=True)
    return tensor


_IDENTITY = ir.OPS["identity"]


def _owned(value: Value) -> bool:
    """Whether a value was computed: it is no argument, nor what stands for one while a derivative is taken."""
    op = value.node.op
    return op is not ir.argument_op and op is not _IDENTITY


def _share(base: Tensor, view: Tensor) -> None:
    """Note that `view` shares its memory with `base`."""
    storage = base._storage
    if storage is None:
        storage = base._storage = Storage(base, _owned(base._value))
    view._storage = storage
    storage.add(view)


def _wrapped(result: Any, base: Tensor | None) -> Any:
    """A result with tensors for values; `base` is what they are views of."""
    if isinstance(result, Value):
        tensor = _result(result)
        if base is not None:
            _share(base, tensor)
        return tensor
    if isinstance(result, (list, tuple)):
        return type(result)([_wrapped(x, base) for x in result])
    return result


def _unwrapped(x: Any) -> Any:
    """An argument with values for tensors."""
    if isinstance(x, Tensor):
        return x._value
    if type(x) is list or type(x) is tuple:
        return type(x)([_unwrapped(item) for item in x])
    return x


def _index(index: Any) -> Any:
    """An index with values for tensors; outside `compile` masks have their data."""
    if isinstance(index, Tensor):
        if index.dtype == ir.BOOL and not state.compiling():
            return index._data("a mask")
        return index._value
    if type(index) is list or type(index) is tuple:
        return type(index)([_index(item) for item in index])
    return index


def _same_index(a: Any, b: Any) -> bool:
    a, b = (i if isinstance(i, tuple) else (i,) for i in (a, b))
    return len(a) == len(b) and all(
        x is y or (type(x) is type(y) and isinstance(x, (int, slice)) and x == y) for x, y in zip(a, b, strict=True)
    )


def _first(args: Any) -> Tensor:
    """The first tensor among arguments."""
    return next(x for x in args if isinstance(x, Tensor))


def _call(function: Callable[..., Any], args: Any, kwargs: Any, views: bool) -> Any:
    result = function(*[_unwrapped(x) for x in args], **{k: _unwrapped(x) for k, x in kwargs.items()})
    return _wrapped(result, args[0] if views and args and isinstance(args[0], Tensor) else None)


def _method(
    self: Tensor, name: str, function: Callable[..., Any], args: Any, kwargs: Any, views: bool = False
) -> Tensor:
    line = ir.current().line = user_line(3)
    try:
        return cast(Tensor, _call(function, (self, *args), kwargs, views))
    except Exception as error:
        raise explained(error, f"x.{name}", (self, *args), line) from None


# ---- operators -----------------------------------------------------------------------------------------------------


def _ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """`ufunc.method(*inputs, **options)` in all its forms."""
    if any(out is not None for out in options.pop("out", ())):
        raise TypeError(
            "out= would write into an array that is not traced: use the result, as in x = np.function(...), and "
            "arr = arr + t in place of arr += t"
        )
    if method == "at":
        raise TypeError("ufunc.at writes into an array that is not traced: use x = x.at[index].add(v) of a tensor x")
    values = [_unwrapped(x) for x in inputs]
    if method == "reduce":
        return _result(reductions.reduce(ufunc, *values, **options))
    if method == "outer":
        a, b = (lift(operand(x)) for x in values)
        values = [shapes.to_shape(a, a.shape + (1,) * b.ndim), b]
    elif method != "__call__":
        raise TypeError(f"ufunc.{method} is not supported on tensors; ufunc.reduce and ufunc.outer are")
    if options.pop("where", True) is not True:
        raise TypeError("where= leaves elements undefined: use np.where(mask, np.function(x), otherwise)")
    casting = options.pop("casting", "same_kind")
    for harmless in ("order", "subok"):
        options.pop(harmless, None)
    if ufunc in GUFUNCS:
        if options.keys() - ({"axis"} if ufunc is np.vecdot else set()):
            raise TypeError(f"np.{ufunc.__name__} is not supported with {', '.join(f'{k}=' for k in options)}")
        return _result(GUFUNCS[ufunc](*values, **options))
    dtype = options.pop("dtype", None)
    if options or casting != "same_kind":
        names = ", ".join(f"{k}=" for k in options) or "casting="
        raise TypeError(f"ufuncs are not supported with {names}: convert with .astype first")
    if ufunc not in LOOPS:
        raise unsupported(ufunc.__name__)
    dtype = None if dtype is None else supported(dtype, "the argument dtype= is")
    return _result(apply(ufunc, [operand(x) for x in values], dtype))


def _with_operand(ufunc: np.ufunc, tensor: Tensor, other: Any, reflected: bool) -> Value | None:
    """An operator of a tensor and what is none; None where it is no operand at all."""
    x = tensor._value
    if type(other) in (float, int, bool):
        result = apply_number(ufunc, x, other, reflected)
        weak = x.aval.weak and ir.is_float(result.dtype)
        return convert(result, result.dtype, weak=True) if weak else result
    if not isinstance(other, _OPERANDS):
        return None
    y = operand(_unwrapped(other))
    return apply(ufunc, (y, x) if reflected else (x, y))


def _binary(ufunc: np.ufunc) -> Callable[[Tensor, Any], Any]:
    name = f"np.{ufunc.__name__}"

    def method(self: Tensor, other: Any) -> Any:
        line = ir.current().line = user_line(2)
        try:
            if type(other) is Tensor:
                x, y = self._value, other._value
                value = apply2(ufunc, x, y)
                if x.aval.weak and y.aval.weak and ir.is_float(value.dtype):
                    value = convert(value, value.dtype, weak=True)  # Python floats make Python floats
                return _result(value)
            result = _with_operand(ufunc, self, other, reflected=False)
            return NotImplemented if result is None else _result(result)
        except Exception as error:
            raise explained(error, name, (self, other), line) from None

    return method


def _reflected(ufunc: np.ufunc) -> Callable[[Tensor, Any], Any]:
    name = f"np.{ufunc.__name__}"

    def method(self: Tensor, other: Any) -> Any:
        line = ir.current().line = user_line(2)
        try:
            value = _with_operand(ufunc, self, other, reflected=True)
        except Exception as error:
            raise explained(error, name, (other, self), line) from None
        return NotImplemented if value is None else _result(value)

    return method


def _unary(ufunc: np.ufunc) -> Callable[[Tensor], Tensor]:
    name = f"np.{ufunc.__name__}"

    def method(self: Tensor) -> Tensor:
        line = ir.current().line = user_line(2)
        try:
            x = self._value
            value = apply1(ufunc, x)
            if x.aval.weak:
                value = convert(value, value.dtype, weak=True)
            return _result(value)
        except Exception as error:
            raise explained(error, name, (self,), line) from None

    return method


def _augmented(ufunc: np.ufunc) -> Callable[[Tensor, Any], Any]:
    def method(self: Tensor, other: Any) -> Any:
        if not self._value.aval.shape:
            return NotImplemented  # NumPy's scalars are not changed either: x += y is x = x + y
        line = ir.current().line = user_line(2)
        try:
            if isinstance(other, Tensor):
                value: Value | None = apply2(ufunc, self._value, other._value)
            else:
                value = _with_operand(ufunc, self, other, reflected=False)
        except Exception as error:
            raise explained(error, f"in-place np.{ufunc.__name__}", (self, other), line) from None
        return NotImplemented if value is None else _in_place(self, value, other, ufunc, line)

    return method


def _in_place(self: Tensor, value: Value, other: Any, ufunc: np.ufunc, line: Line | None) -> Tensor:
    """The tensor with the result of an operator written into it."""
    try:
        if value.shape != self.shape:
            raise ValueError(
                f"non-broadcastable output operand with shape {self.shape} doesn't match the broadcast shape "
                f"{value.shape}: write x = x + v"
            )
        if not np.can_cast(value.dtype, self.dtype, "same_kind"):
            raise TypeError(
                f"Cannot cast ufunc '{ufunc.__name__}' output from {value.dtype!r} to {self.dtype!r} with casting rule "
                "'same_kind': write x = x + v, or convert x first"
            )
        self._write(convert(value, self.dtype), other, "an in-place operator")
    except Exception as error:
        raise explained(error, f"in-place np.{ufunc.__name__}", (self, other), line) from None
    return self


def _matmul(a: Any, b: Any, line: Line | None) -> Any:
    if not all(isinstance(x, (Tensor, *_OPERANDS)) for x in (a, b)):
        return NotImplemented
    try:
        return _result(products.matmul(_unwrapped(a), _unwrapped(b)))
    except Exception as error:
        raise explained(error, "np.matmul", (a, b), line) from None


_BINARY: dict[str, np.ufunc] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.divide,
    "pow": np.power,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
_COMPARISONS: dict[str, np.ufunc] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_UNARY: dict[str, np.ufunc] = {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}


def _define(name: str, method: Callable[..., Any]) -> None:
    method.__name__ = name
    method.__qualname__ = f"Tensor.{name}"
    setattr(Tensor, name, method)


for _name, _f in _BINARY.items():
    _define(f"__{_name}__", _binary(_f))
    _define(f"__r{_name}__", _reflected(_f))
    _define(f"__i{_name}__", _augmented(_f))
for _name, _f in _COMPARISONS.items():
    _define(f"__{_name}__", _binary(_f))
for _name, _f in _UNARY.items():
    _define(f"__{_name}__", _unary(_f))


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
    _define(_name, _as_method(_name))


# ---- what leaves belong to -----------------------------------------------------------------------------------------


def _evaluate(values: Sequence[Value]) -> list[Array]:
    from autodiff.executable import evaluate

    arrays: list[Array] = evaluate(values)
    return arrays


def _gradient_dtype(dtype: Dtype) -> Dtype:
    return dtype if ir.is_float(dtype) else ir.FLOAT64


def _made_by(x: Value) -> Tensor | None:
    """The user's tensor that a leaf is a version of."""
    ref = _owners.get(x)
    return None if ref is None else ref()


def _owner(x: Value) -> Tensor:
    owner = _made_by(x)
    return Tensor._of(x) if owner is None else owner


def _before_spread(x: Value) -> Value:
    """What an operator was given, where that was repeated to fit the other operand."""
    while x.node.op.name == "broadcast":
        x = x.node.inputs[0]
        if x.node.op.name == "reshape":
            x = x.node.inputs[0]
    return x


def _leaves(y: Value) -> list[Value]:
    return [node.outputs[0] for node in ir.toposort([y]) if node.op is ir.argument_op]


def _versions(y: Value, target: Tensor) -> list[Value]:
    """The values of `target`, of all its versions, that `y` depends on."""
    if target._made is None:
        nodes = ir.toposort([y])
        return [target._value] if target._value.node in set(nodes) else []
    return [x for x in _leaves(y) if _made_by(x) is target]


def _expect_shape(version: Value, tensor: Tensor, line: Line | None) -> None:
    """A derivative by a version of a tensor belongs to the tensor only if they are of one shape."""
    if version.shape != tensor.shape:
        raise ValueError(
            placed(
                line,
                f"a derivative with respect to {tensor._value.aval} of what was computed from an earlier value of it, "
                f"{version.aval}: take it before assigning a .value of another shape, or make a new Tensor",
            )
        )


# ---- messages ------------------------------------------------------------------------------------------------------

_PLAIN = (TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError, NotImplementedError)


def explained(error: Exception, name: str, operands: Sequence[Any], line: Line | None) -> Exception:
    """The same kind of error, which says what was called, with what, and where."""
    if isinstance(error, ConversionError):
        return error
    what = ", ".join(_described(x) for x in operands)
    message = placed(line, f"{name}({what}): {error}")
    if isinstance(error, np.exceptions.AxisError):
        return np.exceptions.AxisError(message)
    for kind in _PLAIN:
        if isinstance(error, kind):
            return kind(message)
    error.add_note(message)
    return error


def _described(x: Any, depth: int = 0) -> str:
    if isinstance(x, Tensor):
        return str(x._value.aval)
    if isinstance(x, (np.ndarray, np.generic)):
        return f"{x.dtype.name}[{','.join(map(str, x.shape))}]"
    if type(x) in (list, tuple) and depth < 2:
        inside = [_described(item, depth + 1) for item in x[:5]] + ["..."] * (len(x) > 5)
        return f"[{', '.join(inside)}]"
    text = repr(x)
    return text if len(text) <= 40 else f"{type(x).__name__}"
