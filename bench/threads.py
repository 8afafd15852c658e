"""How much do two threads help, and do they ever hurt?

    python bench/threads.py [--threads 2] [--seconds 4]

Each piece of work is run on one thread and on several, in turn; what is told is the best time of each, as others may
use the machine too, and their ratio.  Small work has to be as fast as ever.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

import autodiff as ad
from comparison.rows.black_scholes import BlackScholes
from comparison.rows.cross_entropy import CrossEntropy
from comparison.rows.layer_norm import LayerNorm


def elementwise(n: int) -> Any:
    x = np.random.default_rng(0).standard_normal(n)
    return ad.compile(lambda x: np.tanh(x) * x + 1).lower(x).bind(x)


def total(n: int) -> Any:
    x = np.random.default_rng(0).standard_normal(n)
    return ad.compile(np.sum).lower(x).bind(x)


def product(m: int, n: int, k: int, dtype: str = "f4") -> Any:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    return ad.compile(np.matmul).lower(a, b).bind(a, b)


def training(sizes: tuple[int, ...], batch: int) -> Any:
    """A step of gradient descent of a classifier with tanh layers, f32."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape).astype("f4") * np.float32(shape[0] ** -0.5) for shape in pairwise(sizes)]
    x, y = rng.standard_normal((batch, sizes[0])).astype("f4"), np.eye(batch, sizes[-1], dtype="f4")

    def loss(weights: Any, x: Any, y: Any) -> Any:
        for w in weights[:-1]:
            x = np.tanh(x @ w)
        z = x @ weights[-1]
        z = z - np.max(z, axis=1, keepdims=True)
        return np.mean(np.log(np.sum(np.exp(z), axis=1)) - np.sum(z * y, axis=1))

    def step(weights: Any, x: Any, y: Any) -> Any:
        value, gradients = ad.value_and_grad(loss)(weights, x, y)
        return value, [w - 0.01 * g for w, g in zip(weights, gradients, strict=True)]

    return ad.compile(step).lower(weights, x, y).bind(weights, x, y)


def row(problem: Any) -> Any:
    """One of bench/peers.py's."""
    step, arguments = problem.autodiff(), problem.arguments
    step(*arguments)
    return lambda: step(*arguments)


WORK: dict[str, Callable[[], Callable[[], Any]]] = {
    "Black-Scholes and 5 gradients, 1e6": lambda: row(BlackScholes()),
    "MLP 784-256-128-10, batch 128, step": lambda: training((784, 256, 128, 10), 128),
    "MLP 1024-2048-2048-10, batch 256, step": lambda: training((1024, 2048, 2048, 10), 256),
    "softmax cross entropy, 4096x512": lambda: row(CrossEntropy()),
    "layer norm, 4096x512": lambda: row(LayerNorm()),
    "matmul f32 64": lambda: product(64, 64, 64),
    "matmul f32 128": lambda: product(128, 128, 128),
    "matmul f32 256": lambda: product(256, 256, 256),
    "matmul f32 512": lambda: product(512, 512, 512),
    "matmul f32 256x2048x1024": lambda: product(256, 2048, 1024),
    "matmul f32 1024": lambda: product(1024, 1024, 1024),
    "matrix times vector f32 4096": lambda: product(4096, 1, 4096),
    **{f"tanh(x) * x + 1, {n:,}": partial(elementwise, n) for n in (10**3, 10**4, 3 * 10**4, 10**5, 10**6)},
    **{f"sum, {n:,}": partial(total, n) for n in (10**4, 10**5, 10**6, 10**7)},
}


def measure(run: Callable[[], Any], threads: int, seconds: float) -> tuple[float, float]:
    """The best seconds of a run on one thread, and on so many."""
    best = {1: float("inf"), threads: float("inf")}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for n in best:
            ad.set_num_threads(n)
            until = time.perf_counter() + 0.02
            while True:
                start = time.perf_counter()
                run()
                stop = time.perf_counter()
                best[n] = min(best[n], stop - start)
                if stop > until:
                    break
    return best[1], best[threads]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each piece of work")
    parser.add_argument("--only", default="", help="work whose name has this in it")
    options = parser.parse_args()
    print(f"{'':40}{'1 thread':>12}{f'{options.threads} threads':>12}{'faster':>9}")
    for name, make in WORK.items():
        if options.only in name:
            one, several = measure(make(), options.threads, options.seconds)
            print(f"{name:40}{one * 1e6:9.1f} us{several * 1e6:9.1f} us{one / several:8.2f}x", flush=True)


if __name__ == "__main__":
    main()
