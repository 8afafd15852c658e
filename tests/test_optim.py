"""Optimisers against their definitions, inside and outside `compile`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.pytree import flatten, map_leaves

OPTIMISERS = {
    "sgd": ad.optim.sgd(0.1),
    "momentum": ad.optim.sgd(0.05, momentum=0.9),
    "adam": ad.optim.adam(0.05),
}


def start(dtype: Any = np.float64) -> Any:
    return {"w": [np.array([1.0, -2.0], dtype), np.array(3.0, dtype)], "b": (np.zeros((2, 2), dtype), None)}


def gradient(params: Any, i: int) -> Any:
    return map_leaves(lambda p: np.asarray(2 * p + np.sin(i), p.dtype), params)


def reference(name: str, params: Any, steps: int) -> list[Any]:
    """Textbook updates of each leaf by itself, in the parameters' own precision."""
    ps = [np.array(p) for p in flatten(params)[0]]
    vs, ms = [np.zeros_like(p) for p in ps], [np.zeros_like(p) for p in ps]
    for i in range(steps):
        for k, p in enumerate(ps):
            g = np.asarray(2 * p + np.sin(i), p.dtype)
            if name == "sgd":
                ps[k] = p - 0.1 * g
            elif name == "momentum":
                vs[k] = 0.9 * vs[k] + g
                ps[k] = p - 0.05 * vs[k]
            else:
                ms[k] = 0.9 * ms[k] + (1 - 0.9) * g
                vs[k] = 0.999 * vs[k] + (1 - 0.999) * g * g
                mean, square = ms[k] / (1 - 0.9 ** (i + 1)), vs[k] / (1 - 0.999 ** (i + 1))
                ps[k] = p - 0.05 * mean / (np.sqrt(square) + 1e-8)
    return ps


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("how", ["numpy", "compiled", "donated"])
def test_updates(name: str, dtype: Any, how: str) -> None:
    optimiser = OPTIMISERS[name]

    def step(params: Any, state: Any, g: Any) -> Any:
        return optimiser.update(g, state, params)

    run = {"numpy": step, "compiled": ad.compile(step), "donated": ad.compile(step, donate_argnums=(0, 1))}[how]
    params, state = start(dtype), optimiser.init(start(dtype))
    for i in range(10):
        before = flatten((params, state))[0]
        params, state = run(params, state, gradient(params, i))
        if how == "donated":
            after = flatten((params, state))[0]
            assert all(x is y for x, y in zip(before, after, strict=True) if isinstance(x, np.ndarray))
    for got, want in zip(flatten(params)[0], reference(name, start(dtype), 10), strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=1e-5 if dtype is np.float32 else 1e-12)
    if name == "adam":
        assert state.step == 10
        assert state.step.dtype == np.int64
        assert {x.dtype for x in flatten((state.mean, state.square))[0]} == {np.dtype(dtype)}


@pytest.mark.parametrize("make", [ad.optim.sgd, ad.optim.adam, lambda rate: ad.optim.sgd(0.1, momentum=rate)])
def test_rates_may_change_from_call_to_call(make: Any) -> None:
    traces = []

    @ad.compile
    def step(params: Any, state: Any, rate: Any) -> Any:
        traces.append(1)
        return make(rate).update(params, state, params)

    params = {"w": np.ones(3, np.float32)}
    state = make(0.5).init(params)
    for rate in (0.5, 0.25, 0.125):
        want, _ = make(rate).update(params, state, params)
        got, _ = step(params, state, rate)
        assert got["w"].dtype == np.float32
        np.testing.assert_allclose(got["w"], want["w"], rtol=1e-6)
    step(params, state, np.float64(0.5))
    assert len(traces) == 2  # a NumPy scalar is of another kind than a Python float


def test_a_whole_step_learns() -> None:
    random = np.random.default_rng(0)
    x, true = random.standard_normal((50, 3)), np.array([1.0, -2.0, 0.5])
    y = x @ true

    def loss(params: Any) -> Any:
        return np.mean((x @ params["w"] + params["b"] - y) ** 2)

    for optimiser in OPTIMISERS.values():

        @ad.compile(donate_argnums=(0, 1))
        def step(params: Any, state: Any, optimiser: Any = optimiser) -> Any:
            value, g = ad.value_and_grad(loss)(params)
            return (*optimiser.update(g, state, params), value)

        params = {"w": np.zeros(3), "b": np.zeros(())}
        state = optimiser.init(params)
        for _ in range(500):
            params, state, value = step(params, state)
        assert value < 1e-6
        np.testing.assert_allclose(params["w"], true, atol=1e-3)


def test_derivatives_through_an_update() -> None:
    """A step is differentiable like anything else: here by the learning rate."""

    def after(rate: Any) -> Any:
        params, _ = ad.optim.sgd(rate).update({"w": np.ones(2)}, (), {"w": np.array([3.0, 4.0])})
        return np.sum(params["w"] ** 2)

    assert ad.grad(after)(0.5) == pytest.approx(-2 * (2.5 + 3.5))
