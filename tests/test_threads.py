"""Compiled functions are called from many threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np

import autodiff as ad

THREADS = 8
CALLS = 1000


def test_one_function_from_eight_threads() -> None:
    def loss(w: Any, x: Any) -> Any:
        return np.mean(np.tanh(x @ w) ** 2)

    step = ad.compile(ad.value_and_grad(loss))
    random = np.random.default_rng(0)
    w = random.standard_normal((20, 10))
    inputs = [random.standard_normal((30, 20)) for _ in range(THREADS)]
    expected = [ad.compile(ad.value_and_grad(loss))(w, x) for x in inputs]
    together = Barrier(THREADS, timeout=60)

    def work(i: int) -> int:
        together.wait()
        right = 0
        for _ in range(CALLS):
            value, gradient = step(w, inputs[i])
            right += value == expected[i][0] and np.array_equal(gradient, expected[i][1])
        return right

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, range(THREADS))) == [CALLS] * THREADS


def test_results_are_each_threads_own() -> None:
    """More signatures at once than generated code knows, while functions are being compiled."""
    double = ad.compile(lambda x: {"twice": x + x, "sum": np.sum(x)})
    together = Barrier(THREADS, timeout=60)

    def work(i: int) -> list[tuple[np.ndarray[Any, Any], Any]]:
        together.wait()
        return [(x := np.full(1 + (i + j) % 6, float(i * j)), double(x)) for j in range(200)]

    with ThreadPoolExecutor(THREADS) as pool:
        for results in pool.map(work, range(THREADS)):
            for x, result in results:
                np.testing.assert_array_equal(result["twice"], 2 * x)
                assert result["sum"] == x.sum()


def test_a_function_is_compiled_once_whoever_calls_first() -> None:
    traces = []

    @ad.compile
    def f(x: Any) -> Any:
        traces.append(x.shape)
        return np.sin(x)

    together = Barrier(THREADS, timeout=60)

    def work(i: int) -> Any:
        together.wait()
        return f(np.ones(3))

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(work, range(THREADS)))
    np.testing.assert_allclose(results, np.sin(np.ones((THREADS, 3))))
    assert traces == [(3,)]


def test_tracing_in_one_thread_is_nothing_to_another() -> None:
    """Derivatives and traces that are under way belong to their thread."""
    inside, done = Barrier(2, timeout=60), Barrier(2, timeout=60)

    def slow(x: Any) -> Any:
        inside.wait()
        done.wait()
        return x * x

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(ad.compile(ad.grad(slow)), 3.0)
        inside.wait()
        assert ad.grad(lambda x: x**3)(2.0) == 12.0
        assert float(ad.Tensor(2.0) * 3) == 6.0
        done.wait()
        assert other.result() == 6.0
