"""Optimisers: pure functions over trees of parameters, so that a whole training step compiles into one plan.

    >>> import numpy as np
    >>> import autodiff as ad
    >>> def loss(params):
    ...     return np.sum((params["w"] - 3) ** 2)
    >>> optimiser = ad.optim.sgd(0.1, momentum=0.5)
    >>> @ad.compile
    ... def step(params, state):
    ...     return optimiser.update(ad.grad(loss)(params), state, params)
    >>> params = {"w": np.zeros(2)}
    >>> state = optimiser.init(params)
    >>> for _ in range(100):
    ...     params, state = step(params, state)
    >>> params["w"].round(6)
    array([3., 3.])

`init(params)` makes the state, `update(gradient, state, params)` returns new parameters and a new state; nothing is
changed in place, unless the arguments of a compiled step are donated.  Every array keeps its shape and dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from autodiff.pytree import map_leaves

Tree = Any


class Optimizer(NamedTuple):
    """A pair of functions."""

    init: Callable[[Tree], Any]
    """params -> state"""
    update: Callable[[Tree, Any, Tree], tuple[Tree, Any]]
    """(gradient, state, params) -> (new params, new state); the gradient has the params' structure and shapes."""


class SgdState(NamedTuple):
    """State of `sgd` with momentum."""

    velocity: Tree


class AdamState(NamedTuple):
    """State of `adam`."""

    step: Any  # how many updates there were: int64
    mean: Tree  # of the gradient, decaying
    square: Tree  # mean of its square, decaying


def _floating(x: Any) -> Any:
    """A parameter's dtype.

    Raises:
        TypeError: if it is not floating.
    """
    dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
    if dtype.kind != "f":
        raise TypeError(f"an optimiser updates floating-point parameters, not {dtype.name}: keep others out of params")
    return dtype


def _cast(number: Any, dtype: Any) -> Any:
    """A Python number as it is; a traced or NumPy one in `dtype`, so that it does not widen what it meets."""
    return number.astype(dtype) if hasattr(number, "astype") else number


def _zeros(params: Tree) -> Tree:
    return map_leaves(lambda x: np.zeros(np.shape(x), _floating(x)), params)


def sgd(learning_rate: Any, momentum: Any = None) -> Optimizer:
    """Gradient descent: `v = momentum * v + g`, `p = p - learning_rate * v`; without momentum `v` is the gradient.

    Args:
        learning_rate: a number, or a floating scalar (array or tensor), so that a schedule needs no new plan.
        momentum: None, a number or a floating scalar.
    """

    def init(params: Tree) -> Any:
        return () if momentum is None else SgdState(_zeros(params))

    def update(gradient: Tree, state: Any, params: Tree) -> tuple[Tree, Any]:
        velocity = gradient
        if momentum is not None:
            velocity = map_leaves(
                lambda p, v, g: _cast(momentum, _floating(p)) * v + g, params, state.velocity, gradient
            )
            state = SgdState(velocity)
        return map_leaves(lambda p, v: p - _cast(learning_rate, _floating(p)) * v, params, velocity), state

    return Optimizer(init, update)


def adam(learning_rate: Any = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Optimizer:
    """Adam (Kingma and Ba, 2015), with its corrections for the first steps.

    Args:
        learning_rate: a number, or a floating scalar (array or tensor), so that a schedule needs no new plan.
        b1: how slowly the mean of the gradient follows it, in [0, 1).
        b2: the same for the mean of its square.
        eps: added to the square root that the step is divided by.
    """

    def init(params: Tree) -> AdamState:
        return AdamState(np.int64(0), _zeros(params), _zeros(params))

    def update(gradient: Tree, state: AdamState, params: Tree) -> tuple[Tree, AdamState]:
        step = state.step + 1
        mean_sum = 1 - b1**step  # float64: what the decaying weights of all steps so far add up to
        square_sum = 1 - b2**step
        mean = map_leaves(lambda m, g: b1 * m + (1 - b1) * g, state.mean, gradient)
        square = map_leaves(lambda s, g: b2 * s + (1 - b2) * (g * g), state.square, gradient)

        def move(p: Any, m: Any, s: Any) -> Any:
            dtype = _floating(p)
            rate, root = _cast(learning_rate / mean_sum, dtype), _cast(1 / np.sqrt(square_sum), dtype)
            return p - rate * m / (np.sqrt(s) * root + eps)

        return map_leaves(move, params, mean, square), AdamState(step, mean, square)

    return Optimizer(init, update)
