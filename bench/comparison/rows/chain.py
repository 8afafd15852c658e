"""A long chain of elementwise operations on few numbers: how long until the first gradient, and what a step costs."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from comparison import adapters
from comparison.row import Goal, Solution, ValueAndGradient
from comparison.trees import Array

RATE = 1e-3


def chain(x: Any, steps: int, np: Any = np) -> Any:
    """Five operations a step."""
    for _ in range(steps):
        x = x + RATE * (np.sin(x) - 0.3 * x)
    return np.sum(x)


def by_hand(x: Array, steps: int) -> tuple[Any, Array]:
    gradient = np.ones_like(x)  # of elementwise steps: the product of their derivatives
    for _ in range(steps):
        gradient *= 1 + RATE * (np.cos(x) - 0.3)
        x = x + RATE * (np.sin(x) - 0.3 * x)
    return x.sum(), gradient


class Chain(ValueAndGradient):
    name = "chain"
    first_goal = Goal(0.5, 0.1)
    run_goal = Goal(3e-3, 1.5e-3)

    def __init__(self, operations: int = 5000, n: int = 100) -> None:
        self.steps, self.n = operations // 5, n
        self.title = f"chain of {operations:,} elementwise operations on {n} numbers, f64"

    def tiny(self) -> Chain:
        return Chain(20, 5)

    def loss(self, x: Any, np: Any = np) -> Any:
        return chain(x, self.steps, np)

    @cached_property
    def arguments(self) -> tuple[Array]:
        return (np.random.default_rng(0).uniform(-2, 2, self.n),)

    def numpy(self) -> Solution:
        return lambda x: by_hand(x, self.steps)

    def casadi(self) -> Solution:
        return self.by_casadi(c=False)

    def casadi_c(self) -> Solution:
        return self.by_casadi(c=True)

    def by_casadi(self, c: bool) -> Solution:
        import casadi

        return adapters.casadi("MX", lambda x: self.loss(x, casadi), [0], self.arguments, c=c)
