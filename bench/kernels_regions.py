"""Whole regions of the tile VM beside loops written by hand that do the same arithmetic (yardsticks.inc)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
from measure import ROOT, Array, Prepared, Timer, new_like, plans

SIZES = {"L1": 1 << 9, "L2": 1 << 13, "L3": 1 << 17, "DRAM": 1 << 22}
"""Elements of a space; regions have three to nine arrays of float64."""
SMALL = (1, 10, 100)


def rosenbrock(x: Array, y: Array) -> Any:
    return np.sum(100 * (y - x**2) ** 2 + (1 - x) ** 2)


def black_scholes(spot: Array, strike: Array, time: Array, rate: Array, volatility: Array) -> Any:
    spread = volatility * np.sqrt(time)
    d = (np.log(spot / strike) + (rate + volatility * volatility / 2) * time) / spread
    first, second = (0.5 * (1 + np.tanh(x * 0.8)) for x in (d, d - spread))
    return np.sum(spot * first - strike * np.exp(-rate * time) * second)


def adam(w: Array, m: Array, v: Array, g: Array) -> Any:
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return w - 0.01 * m / (np.sqrt(v) + 1e-8), m, v


def gelu(x: Array) -> Any:
    return np.sum(0.5 * x * (1 + np.tanh(0.8 * (x + 0.044 * x**3))))


def tanh_backward(y: Array, ct: Array) -> Any:
    return ct * (1 - y * y)


def softmax(x: Array, m: Array, y: Array) -> Any:
    d = x - m
    e = np.exp(d)
    return e, e.sum(1), (d * y).sum(1)


def vectors(n: int, count: int) -> list[Array]:
    return [np.random.default_rng(k).random(n) + 0.5 for k in range(count)]


def rows(n: int) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.random((n // 512, length), dtype=np.float32) for length in (512, 1, 512)]


REGIONS: dict[str, tuple[Callable[..., Any], Callable[[int], list[Array]]]] = {
    "rosenbrock": (ad.value_and_grad(rosenbrock, argnums=(0, 1)), lambda n: vectors(n, 2)),
    "black_scholes": (ad.value_and_grad(black_scholes, argnums=(0, 1, 2, 3, 4)), lambda n: vectors(n, 5)),
    "adam": (adam, lambda n: vectors(n, 4)),
    "gelu": (ad.value_and_grad(gelu), lambda n: vectors(n, 1)),
    "tanh_backward": (tanh_backward, lambda n: vectors(n, 2)),
    "softmax": (softmax, rows),
}
DECLARATIONS = "".join(
    f"static double time_{name}({kind} *const *, {kind} *const *, long, long);"
    for name in REGIONS
    for kind in ("float" if name == "softmax" else "double",)
)
INCLUDES = [str(ROOT / "csrc" / "kernels.h"), "math.h", "arith.inc", "vmath.inc", "yardsticks.inc"]


def flat(results: Any) -> list[Array]:
    return [x for part in results for x in flat(part)] if isinstance(results, tuple) else [np.asarray(results)]


class Region:
    """A compiled function's plan and its yardstick, on the same inputs."""

    def __init__(self, probes: Any, name: str, n: int, repeat: int) -> None:
        function, make = REGIONS[name]
        inputs = []
        for array in make(n):
            inputs.append(new_like(array))
            inputs[-1][...] = array
        compiled = ad.compile(function)
        executable = compiled.lower(*inputs)
        results = flat(compiled(*inputs))
        self.mine, self.yardstick = ([new_like(x) for x in results] for _ in range(2))
        kind = "double *" if results[0].dtype == np.float64 else "float *"
        cast, new, lib = probes.ffi.cast, probes.ffi.new, probes.lib

        def pointers(arrays: list[Array]) -> Any:
            return new(f"{kind}[]", [cast(kind, a.ctypes.data) for a in arrays])

        def call(superops: bool) -> Callable[[], object]:
            with plans.tiles_selected(superops):
                run = Prepared(executable.plan.data, inputs, self.mine)
            arguments = [cast("void *", run.address(part)) for part in ("run", "plan", "args")]
            return lambda keep=run: lib.repeat(*arguments, repeat)  # type: ignore[misc]

        hand = [pointers(inputs), pointers(self.yardstick), n, repeat]
        self.calls = [lambda: getattr(lib, f"time_{name}")(*hand), call(True), call(False)]

    def check(self) -> None:
        for mine, hand in zip(self.mine, self.yardstick, strict=True):
            np.testing.assert_allclose(mine, hand, rtol=1e-9 if mine.dtype == np.float64 else 1e-3)


def bench(probes: Any, timer: Timer) -> None:
    print("\nRegions: ns per element of a loop by hand; times as long here, (without superinstructions)")
    print(f"{'':16}{''.join(f'{level:>22}' for level in SIZES)}")
    for name in REGIONS:
        cells = []
        for n in SIZES.values():
            repeat = max(1, 20_000 // n)
            region = Region(probes, name, n, repeat)
            hand, ours, plain = timer.rivals(region.calls)
            region.check()
            cells.append(f"{1e9 * hand / repeat / n:8.2f}{ours / hand:6.2f} ({plain / hand:4.2f})")
        print(f"{name:16}{''.join(cells)}", flush=True)
    print("\nSmall spaces: ns a run of the plan (without superinstructions)")
    print(f"{'':16}{''.join(f'{n:>14}' for n in SMALL)}")
    for name in REGIONS:
        if name == "softmax":
            continue
        cells = []
        for n in SMALL:
            _, ours, plain = timer.rivals(Region(probes, name, n, 1000).calls)
            cells.append(f"{1e6 * ours:7.0f} ({1e6 * plain:4.0f})")
        print(f"{name:16}{''.join(cells)}", flush=True)
