"""A deep and narrow network: 400 small arrays in, 400 small gradients out, and as many small products between."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from comparison import adapters
from comparison.row import Goal, Solution, ValueAndGradient
from comparison.trees import Array


def mean_square(layers: Any, h: Any, np: Any = np) -> Any:
    """Of the network's last layer."""
    for weights, bias in layers:
        h = np.tanh(weights @ h + bias)
    return np.mean(h * h)


def by_hand(layers: Any, h: Array) -> Any:
    entered = []
    for weights, bias in layers:
        entered.append(h)
        h = np.tanh(weights @ h + bias)
    value, left = h @ h / h.size, h
    h_bar = 2 / h.size * h
    gradients = []
    for (weights, _), h in zip(reversed(layers), reversed(entered), strict=True):
        z_bar = h_bar * (1 - left * left)
        gradients.append((np.multiply.outer(z_bar, h), z_bar))
        h_bar = z_bar @ weights
        left = h
    return value, gradients[::-1]


class MLP(ValueAndGradient):
    name = "mlp"
    first_goal = Goal(0.1, 0.03)
    run_goal = Goal(1e-3, 0.4e-3)
    loss = staticmethod(mean_square)

    def __init__(self, depth: int = 200, width: int = 16) -> None:
        self.depth, self.width = depth, width
        self.title = f"{depth}-layer tanh MLP, width {width}, f64"

    def tiny(self) -> MLP:
        return MLP(3, 4)

    @cached_property
    def arguments(self) -> tuple[list[tuple[Array, Array]], Array]:
        rng = np.random.default_rng(0)
        scale = 1.5 / self.width**0.5
        layers = [
            (scale * rng.standard_normal((self.width, self.width)), 0.1 * rng.standard_normal(self.width))
            for _ in range(self.depth)
        ]
        return layers, rng.standard_normal(self.width)

    def numpy(self) -> Solution:
        return by_hand

    def casadi(self) -> Solution:
        return self.by_casadi(c=False)

    def casadi_c(self) -> Solution:
        return self.by_casadi(c=True)

    def by_casadi(self, c: bool) -> Solution:
        import casadi

        def loss(layers: Any, h: Any) -> Any:
            for weights, bias in layers:
                h = casadi.tanh(weights @ h + bias)
            return casadi.dot(h, h) / self.width

        return adapters.casadi("MX", loss, [0], self.arguments, c=c)
