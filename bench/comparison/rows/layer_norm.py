"""Layer normalisation and the squared distance to a target: statistics of rows, sums over columns."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from comparison.row import Goal, Solution, ValueAndGradient
from comparison.trees import Array

EPSILON = 1e-5


def layer_norm(x: Any, gain: Any, bias: Any, np: Any = np) -> Any:
    mean = np.mean(x, axis=-1, keepdims=True)
    variance = np.var(x, axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + EPSILON) * gain + bias


def distance(x: Any, gain: Any, bias: Any, target: Any, np: Any = np) -> Any:
    return np.mean((layer_norm(x, gain, bias, np) - target) ** 2)


def by_hand(x: Array, gain: Array, bias: Array, target: Array) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    inverse = 1 / np.sqrt(variance + x.dtype.type(EPSILON))
    normed = centred * inverse
    error = normed * gain
    error += bias
    error -= target
    value = np.mean(error * error)
    error *= x.dtype.type(2 / x.size)
    by_gain, by_bias = np.sum(error * normed, axis=0), np.sum(error, axis=0)
    error *= gain
    slope = np.mean(error * normed, axis=-1, keepdims=True)
    by_x = (error - error.mean(axis=-1, keepdims=True) - normed * slope) * inverse
    return value, by_x, by_gain, by_bias


class LayerNorm(ValueAndGradient):
    name = "layer-norm"
    run_goal = Goal(0.7, 0.5, "best peer")
    loss = staticmethod(distance)
    argnums = (0, 1, 2)

    def __init__(self, n: int = 4096, features: int = 512) -> None:
        self.n, self.features = n, features
        self.title = f"layer norm, {n} x {features}, f32"

    def tiny(self) -> LayerNorm:
        return LayerNorm(6, 5)

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        shapes = [(self.n, self.features), (self.features,), (self.features,), (self.n, self.features)]
        return tuple([rng.standard_normal(shape, np.float32) for shape in shapes])

    def loss_of(self, peer: str, namespace: Any) -> Callable[..., Any]:
        if peer == "torch":
            functional = namespace.nn.functional
            return lambda x, gain, bias, target: functional.mse_loss(
                functional.layer_norm(x, x.shape[-1:], gain, bias, EPSILON), target
            )
        return super().loss_of(peer, namespace)

    def numpy(self) -> Solution:
        return by_hand
