"""What tensors were computed from, and derivatives by it: the API of the first library.

A tensor that a user made stands for versions: each value it was given is a leaf of its own.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Self, cast

import numpy as np

from autodiff import ir, state
from autodiff.errors import placed, user_line
from autodiff.ir import Array, Dtype, Line, Value
from autodiff.lazy import Lazy, evaluated
from autodiff.misuse import conversion_error
from autodiff.numpy.promotion import leaf, supported
from autodiff.transforms import pullback

owners: weakref.WeakKeyDictionary[Value, weakref.ref[Tracked]] = weakref.WeakKeyDictionary()
"""Whose version a leaf is, of the tensors that users made."""


class Made:
    """What only tensors have that users made by calling `Tensor`."""

    __slots__ = ("gradient", "id", "trainable")

    def __init__(self, trainable: bool, identity: int):
        self.trainable = trainable
        self.id = identity
        self.gradient: Array | None = None


class Tracked(Lazy):
    """A value that knows what it was computed from: `Tensor` is made of it."""

    __slots__ = ("_made",)

    _made: Made | None

    @staticmethod
    def _of(value: Value) -> Any:
        """A tensor of a value of the graph; `Tensor` knows how."""
        raise NotImplementedError

    @property
    def value(self) -> Any:
        """The value, as a new NumPy array, or as a NumPy scalar where the shape is ().

        Carries no derivative.  Assigning starts a new version: expressions made before keep the old one.

        Raises:
            TypeError: inside `compile`, where there is no value yet.

        >>> from autodiff import Tensor
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
        self._value = new = leaf_of(value)
        owners[new] = weakref.ref(self)
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

        >>> from autodiff import Tensor
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
    def dependencies(self) -> tuple[Self, ...]:
        """The tensors this one was computed from; numbers and arrays among them are non-trainable tensors."""
        return tuple([self._owner(_before_spread(x)) for x in self._value.node.inputs])

    def depends_on(self, target: Tracked) -> bool:
        """Whether `target` is this tensor or among what it was computed from."""
        return bool(_versions(self._value, target))

    def grad(self, target: Tracked) -> Any:
        """The derivative of this tensor (of the sum of its elements) with respect to `target`, as a NumPy value.

        Zero where it does not depend on it.  Has the target's shape.

        Raises:
            TypeError: inside `compile`, or where a dtype is not floating.
            ValueError: if this tensor was computed from an earlier value of `target`, of another shape.

        >>> from autodiff import Tensor
        >>> x, y = Tensor([1.0, 2.0]), Tensor(3.0)
        >>> (x * y).grad(y), (x * y).grad(x).tolist()
        (np.float64(3.0), [3.0, 3.0])
        """
        line = ir.current().line = user_line(2)
        if not isinstance(target, Tracked):
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
        values = iter(evaluated(known))
        return [
            np.zeros(x.shape, _gradient_dtype(x.dtype)) if ct is None else next(values).copy()
            for x, ct in zip(targets, cotangents, strict=True)
        ]

    def _owner(self, x: Value) -> Self:
        owner = _made_by(x)
        return cast(Self, self._of(x) if owner is None else owner)


def leaf_of(value: Any) -> Value:
    """A new leaf with a copy of the user's data; inside `compile` a constant."""
    if isinstance(value, Lazy):
        value = value._detached("Tensor()")
    array = np.array(value)
    array = array.astype(supported(array.dtype, "the value has"), copy=False)
    if ir.current().interns:
        return ir.constant(array)
    array.flags.writeable = False
    return leaf(array)


def _gradient_dtype(dtype: Dtype) -> Dtype:
    return dtype if ir.is_float(dtype) else ir.FLOAT64


def _made_by(x: Value) -> Tracked | None:
    """The user's tensor that a leaf is a version of."""
    ref = owners.get(x)
    return None if ref is None else ref()


def _before_spread(x: Value) -> Value:
    """What an operator was given, where that was repeated to fit the other operand."""
    while x.node.op.name == "broadcast":
        x = x.node.inputs[0]
        if x.node.op.name == "reshape":
            x = x.node.inputs[0]
    return x


def _leaves(y: Value) -> list[Value]:
    return [node.outputs[0] for node in ir.toposort([y]) if node.op is ir.argument_op]


def _versions(y: Value, target: Tracked) -> list[Value]:
    """The values of `target`, of all its versions, that `y` depends on."""
    if target._made is None:
        nodes = ir.toposort([y])
        return [target._value] if target._value.node in set(nodes) else []
    return [x for x in _leaves(y) if _made_by(x) is target]


def _expect_shape(version: Value, tensor: Tracked, line: Line | None) -> None:
    """A derivative by a version of a tensor belongs to the tensor only if they are of one shape."""
    if version.shape != tensor.shape:
        raise ValueError(
            placed(
                line,
                f"a derivative with respect to {tensor._value.aval} of what was computed from an earlier value of it, "
                f"{version.aval}: take it before assigning a .value of another shape, or make a new Tensor",
            )
        )
