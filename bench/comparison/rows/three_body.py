"""Three bodies under gravity, simulated with Python's numbers: some thirty thousand scalar operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from comparison import adapters
from comparison.row import Goal, Solution, ValueAndGradient
from comparison.trees import Array

DT = 0.02
FIGURE_EIGHT = [0.97000436, -0.24308753, -0.97000436, 0.24308753, 0.0, 0.0]  # positions of bodies of mass 1
SPEEDS = [0.466203685, 0.43236573, 0.466203685, 0.43236573, -0.93240737, -0.86473146]


def accelerations(positions: Sequence[Any]) -> list[Any]:
    """Of three bodies in the plane: x and y of each, in turn."""
    total: list[Any] = [0.0] * 6
    for i in range(0, 6, 2):
        for j in range(0, i, 2):
            dx, dy = positions[i] - positions[j], positions[i + 1] - positions[j + 1]
            pull = (dx * dx + dy * dy) ** -1.5
            fx, fy = dx * pull, dy * pull
            total[i], total[i + 1] = total[i] - fx, total[i + 1] - fy
            total[j], total[j + 1] = total[j] + fx, total[j + 1] + fy
    return total


def derivative(state: Sequence[Any]) -> list[Any]:
    return [*state[6:], *accelerations(state[:6])]


def runge_kutta(state: Sequence[Any], dt: float) -> list[Any]:
    """One step."""
    k1 = derivative(state)
    k2 = derivative([y + dt / 2 * k for y, k in zip(state, k1, strict=True)])
    k3 = derivative([y + dt / 2 * k for y, k in zip(state, k2, strict=True)])
    k4 = derivative([y + dt * k for y, k in zip(state, k3, strict=True)])
    return [y + dt / 6 * (a + 2 * (b + c) + d) for y, a, b, c, d in zip(state, k1, k2, k3, k4, strict=True)]


def simulate(start: Any, steps: int) -> Any:
    """The distance of the state after some steps from the origin, squared."""
    state = [start[i] for i in range(12)]
    for _ in range(steps):
        state = runge_kutta(state, DT)
    return sum([y * y for y in state])


# ---- by hand, with arrays: states are (2, 3, 2), positions and velocities of three bodies; see `accelerations`

PAIRS = np.array([[-1.0, 1, 0], [-1, 0, 1], [0, -1, 1]])  # a row subtracts the position of one body from another's


def slopes(state: Array) -> Array:
    apart = PAIRS @ state[0]
    forces = apart * np.sum(apart * apart, axis=1, keepdims=True) ** -1.5
    return np.stack([state[1], -PAIRS.T @ forces])


def slopes_transposed(state: Array, slopes_bar: Array) -> Array:
    """How the state matters if its slopes matter by `slopes_bar`."""
    apart, forces_bar = PAIRS @ state[0], -PAIRS @ slopes_bar[1]
    squares = np.sum(apart * apart, axis=1, keepdims=True)
    along = np.sum(apart * forces_bar, axis=1, keepdims=True)
    apart_bar = squares**-1.5 * (forces_bar - 3 * along / squares * apart)
    return np.stack([PAIRS.T @ apart_bar, slopes_bar[0]])


def by_hand(start: Array, steps: int) -> tuple[Any, Array]:
    state, stages = start.reshape(2, 3, 2), []
    for _ in range(steps):
        points, k = [state], [slopes(state)]
        for dt in (DT / 2, DT / 2, DT):
            points.append(state + dt * k[-1])
            k.append(slopes(points[-1]))
        stages.append(points)
        state = state + DT / 6 * (k[0] + 2 * (k[1] + k[2]) + k[3])
    value, bar = np.sum(state * state), 2 * state
    for points in reversed(stages):
        k_bar = [DT / 6 * weight * bar for weight in (1, 2, 2, 1)]
        for i, dt in ((3, DT), (2, DT / 2), (1, DT / 2)):
            point_bar = slopes_transposed(points[i], k_bar[i])
            bar = bar + point_bar
            k_bar[i - 1] = k_bar[i - 1] + dt * point_bar
        bar = bar + slopes_transposed(points[0], k_bar[0])
    return value, bar.reshape(12)


class ThreeBody(ValueAndGradient):
    name = "three-body"
    first_goal = Goal(1.0, 0.5)
    run_goal = Goal(60e-6, 25e-6)

    def __init__(self, steps: int = 50) -> None:
        self.steps = steps
        self.title = f"planar 3-body problem, RK4, {steps} steps of scalars, f64"

    def tiny(self) -> ThreeBody:
        return ThreeBody(2)

    def loss(self, start: Any) -> Any:
        return simulate(start, self.steps)

    def loss_of(self, peer: str, namespace: Any) -> Callable[..., Any]:
        return self.loss  # arithmetic alone

    @cached_property
    def arguments(self) -> tuple[Array]:
        return (np.array(FIGURE_EIGHT + SPEEDS),)

    def numpy(self) -> Solution:
        return lambda start: by_hand(start, self.steps)

    def casadi(self) -> Solution:
        return adapters.casadi("SX", self.loss, [0], self.arguments, c=False)

    def casadi_c(self) -> Solution:
        return adapters.casadi("SX", self.loss, [0], self.arguments, c=True)
