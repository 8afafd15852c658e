"""Rosenbrock's function: the call at ten numbers, memory at a million."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from comparison import adapters
from comparison.row import Goal, Solution, ValueAndGradient
from comparison.trees import Array


def rosenbrock(x: Any, np: Any = np) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def by_hand(x: Array) -> tuple[Any, Array]:
    bend, miss = x[1:] - x[:-1] ** 2, 1 - x[:-1]
    gradient = np.zeros_like(x)
    gradient[:-1] = -400 * x[:-1] * bend - 2 * miss
    gradient[1:] += 200 * bend
    return np.sum(100 * bend**2 + miss**2), gradient


class Rosenbrock(ValueAndGradient):
    loss = staticmethod(rosenbrock)

    def __init__(self, n: int, run_goal: Goal) -> None:
        self.n, self.run_goal = n, run_goal
        self.name = f"rosenbrock-{n:.0e}".replace("e+0", "e") if n > 1000 else f"rosenbrock-{n}"
        self.title = f"Rosenbrock, n = {n:,}, f64"

    def tiny(self) -> Rosenbrock:
        return Rosenbrock(min(self.n, 50), self.run_goal)

    @cached_property
    def arguments(self) -> tuple[Array]:
        return (np.random.default_rng(0).uniform(-1.5, 1.5, self.n),)

    def numpy(self) -> Solution:
        return by_hand

    def casadi(self) -> Solution:
        return self.by_casadi(c=False)

    def casadi_c(self) -> Solution:
        return self.by_casadi(c=True)

    def by_casadi(self, c: bool) -> Solution:
        def loss(x: Any) -> Any:
            import casadi

            return casadi.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

        return adapters.casadi("SX" if self.n <= 1000 else "MX", loss, [0], self.arguments, c=c)
