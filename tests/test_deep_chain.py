"""A chain of 100,000 operations traces, differentiates, compiles and runs: nothing recurses, all is linear."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import autodiff as ad

DT, DRAG = 1e-3, 1e-3


def pendulum(start: Any, steps: int) -> Any:
    """Ten operations a step."""
    angle, speed = start, 0.0 * start
    for _ in range(steps):
        speed = speed - DT * (np.sin(angle) + DRAG * speed / (1 + speed * speed))
        angle = angle + DT * speed
    return angle


def pendulum_and_derivative(start: float, steps: int) -> tuple[float, float]:
    """The same by hand, with dual numbers."""
    angle, speed, angle_dot, speed_dot = start, 0.0, 1.0, 0.0
    for _ in range(steps):
        force = math.sin(angle) + DRAG * speed / (1 + speed * speed)
        slope = DRAG * (1 - speed * speed) / (1 + speed * speed) ** 2
        force_dot = math.cos(angle) * angle_dot + slope * speed_dot
        speed, speed_dot = speed - DT * force, speed_dot - DT * force_dot
        angle, angle_dot = angle + DT * speed, angle_dot + DT * speed_dot
    return angle, angle_dot


@pytest.mark.parametrize("steps", [1, 10, 10_000])
def test_reverse_mode(steps: int) -> None:
    executable = ad.compile(ad.value_and_grad(lambda start: pendulum(start, steps))).lower(np.float64(1.0))
    assert executable.graph is not None
    assert len(executable.graph.nodes) >= 10 * steps
    np.testing.assert_allclose(executable(np.float64(1.0)), pendulum_and_derivative(1.0, steps), rtol=1e-9)
    np.testing.assert_allclose(executable(np.float64(2.0)), pendulum_and_derivative(2.0, steps), rtol=1e-9)


def test_forward_mode() -> None:
    def pushed(start: Any) -> Any:
        return ad.jvp(lambda x: pendulum(x, 2000), (start,), (np.float64(1.0),))

    np.testing.assert_allclose(ad.compile(pushed)(np.float64(1.0)), pendulum_and_derivative(1.0, 2000), rtol=1e-9)


def test_lazy_tensors() -> None:
    """The first library's API stands on the same floors."""
    start = ad.Tensor(1.0)
    end = pendulum(start, 2000)
    value, derivative = pendulum_and_derivative(1.0, 2000)
    np.testing.assert_allclose(end.value, value, rtol=1e-9)
    np.testing.assert_allclose(end.grad(start), derivative, rtol=1e-9)


def test_a_wide_graph() -> None:
    """Many uses of one value: as many contributions to its cotangent."""
    f = ad.compile(ad.grad(lambda x: sum(np.sin(x * float(k)) for k in range(1, 2001))))
    expected = sum(k * math.cos(0.3 * k) for k in range(1, 2001))
    np.testing.assert_allclose(f(np.float64(0.3)), expected, rtol=1e-9)


@pytest.mark.parametrize("operations", [200, 400, 600, 800, 1000, 1200, 1600])
@pytest.mark.parametrize("shape", [(), (5,), (2000,)])
def test_no_length_needs_more_registers_than_there_are(operations: int, shape: tuple[int, ...]) -> None:
    def f(x: Any) -> Any:
        for i in range(operations):
            x = [np.sin, lambda x: x * 1.01, lambda x: x + 0.1, lambda x: x / (1 + x * x)][i % 4](x)
        return np.sum(x)

    x = np.full(shape, 0.3)
    _, derivative = ad.jvp(f, (x,), (np.ones(shape),))
    np.testing.assert_allclose(np.sum(ad.compile(ad.grad(f))(x)), derivative, rtol=1e-9)
