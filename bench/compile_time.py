"""How long until the first gradient of a long chain of operations?  It must grow with the chain, and no faster.

    python bench/compile_time.py [--sizes 1000 10000 100000] [--repeat 3]

The chain is a pendulum with drag, simulated step by step: ten operations a step, none of which can be folded, each
needing the one before.  Printed is the time from calling `compile(value_and_grad(f))(x)` for the first time to its
result, in microseconds per operation, and how it is spent.  It is processor time: all of it is one thread's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import autodiff as ad

OPERATIONS_PER_STEP = 10


def pendulum(start: Any, steps: int, dt: float = 1e-3, drag: float = 1e-3) -> Any:
    """The angle after `steps` steps (a scalar), let go at the angle `start`."""
    angle, speed = start, 0.0 * start
    for _ in range(steps):
        speed = speed - dt * (np.sin(angle) + drag * speed / (1 + speed * speed))
        angle = angle + dt * speed
    return angle


def chain(operations: int) -> Callable[[Any], Any]:
    """A function of one number that takes this many operations, give or take a few."""
    return lambda start: pendulum(start, operations // OPERATIONS_PER_STEP)


class Times(NamedTuple):
    """Seconds of processor time."""

    value: float  # to trace and compile the function alone
    gradient: float  # to trace, differentiate and compile its value and gradient
    first_run: float
    run: float

    @property
    def first_gradient(self) -> float:
        return self.gradient + self.first_run


def measure(operations: int) -> Times:
    start = np.float64(1.0)
    began = time.process_time()
    ad.compile(chain(operations)).lower(start)
    value = time.process_time()
    executable = ad.compile(ad.value_and_grad(chain(operations))).lower(start)
    gradient = time.process_time()
    executable(start)
    first_run = time.process_time()
    executable(start)
    run = time.process_time()
    return Times(value - began, gradient - value, first_run - gradient, run - first_run)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], help="operations in the chain")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each; their median is printed")
    options = parser.parse_args(arguments)

    measure(1000)  # what is done once a process is no part of it
    print(f"{'operations':>10} | microseconds per operation, median of {options.repeat}")
    print(f"{'':>10} | {'first gradient':>14} {'compile f':>10} {'compile grad':>12} {'run':>6}")
    per_operation = []
    for n in options.sizes:
        times = [measure(n) for _ in range(options.repeat)]
        median = Times(*[statistics.median(column) for column in zip(*times, strict=True)])
        first = statistics.median(t.first_gradient for t in times)
        per_operation.append(first / n)
        figures = [f"{1e6 * seconds / n:.3g}" for seconds in (first, median.value, median.gradient, median.run)]
        print(f"{n:>10} | {figures[0]:>14} {figures[1]:>10} {figures[2]:>12} {figures[3]:>6}", flush=True)
    if len(per_operation) > 1:
        ratio = per_operation[-1] / per_operation[0]
        print(f"per operation, {options.sizes[-1]:,} : {options.sizes[0]:,} operations = {ratio:.2f}")


if __name__ == "__main__":
    main()
