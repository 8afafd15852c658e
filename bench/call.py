"""What does a call cost, beside the same work in NumPy by hand; and what does the import?

    python bench/call.py [--rounds 200] [--imports 10]

Small functions, of which most of the time is the call: compiled, bound to its arrays, and how much of that is the plan
itself (bound, less a bound plan of no steps).  Then results of several megabytes, whose memory is used again, and the
import in fresh processes over NumPy's own.  Rivals take turns, and the shortest of many turns counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import timeit
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported
os.environ.setdefault("AUTODIFF_NUM_THREADS", "1")

import numpy as np

import autodiff as ad

TURN = 200e-6
"""Seconds that each rival runs before the next one's turn."""


class Case(NamedTuple):
    name: str
    function: Callable[..., Any]
    by_hand: Callable[..., Any]  # the same in NumPy
    argument: Any


def rosenbrock(x: Any) -> Any:
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def rosenbrock_by_hand(x: Any) -> Any:
    bend, rest = x[1:] - x[:-1] ** 2, 1.0 - x[:-1]
    gradient = np.zeros_like(x)
    gradient[:-1] = -400.0 * x[:-1] * bend - 2.0 * rest
    gradient[1:] += 200.0 * bend
    return np.sum(100.0 * bend**2 + rest**2), gradient


def decay(params: dict[str, Any]) -> dict[str, Any]:
    return {name: 0.9 * x for name, x in params.items()}


def cases() -> list[Case]:
    params = {f"layer{i}": np.linspace(0, 1, 5 + i) for i in range(6)}
    return [
        Case("Rosenbrock n = 10, value and gradient", ad.value_and_grad(rosenbrock), rosenbrock_by_hand,
             np.linspace(0.5, 1.5, 10)),
        Case("x sin x of a number, value and derivative", ad.value_and_grad(lambda x: x * np.sin(x)),
             lambda x: (x * np.sin(x), np.sin(x) + x * np.cos(x)), 1.5),
        Case("six small arrays in a dict, times 0.9", decay, decay, params),
        Case("three copies of an array of 10", lambda x: (x, x, x), lambda x: (x.copy(), x.copy(), x.copy()),
             np.linspace(0, 1, 10)),
        Case("nothing of an array of 10", lambda x: (), lambda x: (), np.linspace(0, 1, 10)),
    ]  # fmt: skip


def shortest(rivals: Sequence[tuple[Any, ...]], rounds: int) -> list[float]:
    """Seconds that each rival, a function and its arguments, takes in its best turn."""
    timers = []
    for function, *arguments in rivals:
        names = {f"x{i}": x for i, x in enumerate(arguments)}
        timer = timeit.Timer(f"f({', '.join(names)})", globals={"f": function, **names})
        timer.timeit(5)
        timers.append((timer, max(1, int(TURN / timer.timeit(1)))))
    best = [float("inf")] * len(rivals)
    for _ in range(rounds):
        for i, (timer, repeats) in enumerate(timers):
            best[i] = min(best[i], timer.timeit(repeats) / repeats)
    return best


def small_calls(rounds: int) -> None:
    empty = np.zeros(1)
    nothing = ad.compile(lambda x: ()).lower(empty).bind(empty)
    print(f"{'nanoseconds a call':<42} {'NumPy':>8} {'compiled':>9} {'bound':>7} {'plan':>7} {'compiled : NumPy':>17}")
    for case in cases():
        compiled = ad.compile(case.function)
        bound = compiled.lower(case.argument).bind(case.argument)
        rivals = [(case.by_hand, case.argument), (compiled, case.argument), (bound,), (nothing,)]
        by_hand, call, run, floor = [1e9 * seconds for seconds in shortest(rivals, rounds)]
        figures = f"{by_hand:>8.0f} {call:>9.0f} {run:>7.0f} {max(run - floor, 0):>7.0f} {call / by_hand:>17.3f}"
        print(f"{case.name:<42} {figures}")


class Keeper:
    """Calls a function and keeps its result until the next one is there, as loops do."""

    def __init__(self, function: Callable[[Any], Any]):
        self.function = function

    def __call__(self, x: Any) -> None:
        self.result = self.function(x)


def large_results(rounds: int) -> None:
    print(f"\n{'microseconds for x + 1':<42} {'NumPy':>8} {'compiled':>9} {'bound':>7} {'compiled : NumPy':>25}")
    for megabytes in (1, 8, 64):
        x = np.zeros(megabytes << 17)
        compiled = ad.compile(lambda x: x + 1.0)
        bound = compiled.lower(x).bind(x)
        rivals = [(Keeper(lambda x: x + 1.0), x), (Keeper(compiled), x), (bound,)]
        by_hand, call, run = [1e6 * seconds for seconds in shortest(rivals, max(3, rounds // 10))]
        print(f"{f'{megabytes} MB':<42} {by_hand:>8.0f} {call:>9.0f} {run:>7.0f} {call / by_hand:>25.3f}")


def imports(processes: int) -> None:
    program = (
        "import time; a = time.perf_counter(); import numpy; b = time.perf_counter(); import autodiff; "
        "c = time.perf_counter(); print(b - a, c - b)"
    )
    times = []
    for _ in range(processes + 1):  # the first one may have to compile Python files
        result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        times.append([1e3 * float(seconds) for seconds in result.stdout.split()])
    own, ours = (min(column) for column in zip(*times[1:], strict=True))
    print(f"\nimport: {ours:.1f} ms over NumPy's own {own:.1f} ms")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="turns of each rival")
    parser.add_argument("--imports", type=int, default=10, help="processes that import")
    options = parser.parse_args(arguments)
    small_calls(options.rounds)
    large_results(options.rounds)
    imports(options.imports)


if __name__ == "__main__":
    main()
