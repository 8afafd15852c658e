"""How long until the first gradient, and what takes that long?  It must grow with the graph, and no faster.

    python bench/compile_time.py [--sizes 1000 10000 100000] [--repeat 5]

Measured is the time from calling `compile(value_and_grad(f))(x)` for the first time to its result.  It is processor
time: all of it is one thread's.  The first table says how much each stage takes, in microseconds per *graph node* (of
the graph that is lowered to a plan), of problems of bench/comparison and of a pendulum with drag, simulated step by
step: ten operations a step, none of which can be folded, each needing the one before.  The second table is about longer
and longer pendulums.
"""

from __future__ import annotations

import argparse
import pkgutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import autodiff as ad
from comparison.rows.chain import Chain
from comparison.rows.mlp import MLP
from comparison.rows.three_body import ThreeBody

OPERATIONS_PER_STEP = 10

STAGES = {
    "trace": "compiled.trace",
    "tangents": "transforms.reverse.pushforward",
    "transpose": "transforms.reverse.transpose",
    "simplify": "executable.optimise",
    "views": "passes.schedule.Places",
    "fuse": "passes.schedule.regions",
    "rows": "passes.schedule.row_regions",
    "order": "passes.schedule.in_order",
    "steps": "executable.schedule",
    "memory": "passes.memory.assign",
    "lower": "executable.lower",
    "load": "executable.Executable",
}
"""What does each stage, by the name that its callers know."""

REST = "run and rest"


def pendulum(start: Any, steps: int, dt: float = 1e-3, drag: float = 1e-3) -> Any:
    """The angle after `steps` steps (a scalar), let go at the angle `start`."""
    angle, speed = start, 0.0 * start
    for _ in range(steps):
        speed = speed - dt * (np.sin(angle) + drag * speed / (1 + speed * speed))
        angle = angle + dt * speed
    return angle


class Clock:
    """Charges processor time to the stage that is going on: of those that have begun, the last."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((*STAGES, REST), 0.0)
        self.stage, self.since = REST, time.process_time()

    def switch(self, stage: str) -> str:
        """Begin a stage; the one before."""
        now, before = time.process_time(), self.stage
        self.seconds[before] += now - self.since
        self.stage, self.since = stage, now
        return before

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            before = self.switch(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch(before)

        return wrapper


class Times(NamedTuple):
    """Seconds of processor time until the first gradient, by stage, and how many nodes the graph has."""

    stages: dict[str, float]
    nodes: int

    @property
    def total(self) -> float:
        return sum(self.stages.values())


def measure(function: Callable[..., Any], arguments: Sequence[Any]) -> Times:
    with ExitStack() as patches:
        clock = Clock()
        for stage, name in STAGES.items():
            path = f"autodiff.{name}"
            patches.enter_context(mock.patch(path, clock.timed(stage, pkgutil.resolve_name(path))))
        clock.switch(REST)
        clock.seconds[REST] = 0.0  # what went before
        compiled = ad.compile(ad.value_and_grad(function))
        compiled(*arguments)
        clock.switch(REST)
    graph = compiled.lower(*arguments).graph
    assert graph is not None
    return Times(clock.seconds, len(graph.nodes))


def chain(operations: int) -> Callable[[Any], Any]:
    """A function of one number that takes this many operations, give or take a few."""
    return lambda start: pendulum(start, operations // OPERATIONS_PER_STEP)


def best(repeat: int, function: Callable[..., Any], arguments: Sequence[Any]) -> Times:
    """The shortest times of each stage."""
    times = [measure(function, arguments) for _ in range(repeat)]
    return Times({stage: min(t.stages[stage] for t in times) for stage in times[0].stages}, times[0].nodes)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], help="operations of pendulums")
    parser.add_argument("--repeat", type=int, default=5, help="measurements of each; the shortest times are printed")
    options = parser.parse_args(arguments)

    start = np.float64(1.0)
    problems: dict[str, tuple[Callable[..., Any], Sequence[Any]]]
    problems = {row.name: (row.loss, row.arguments) for row in (Chain(), MLP(), ThreeBody())}
    problems["pendulum"] = (chain(options.sizes[0]), (start,))
    for row in (Chain().tiny(), MLP().tiny(), ThreeBody().tiny()):
        measure(row.loss, row.arguments)  # what is done once a process is no part of it
    found = {name: best(options.repeat, *problem) for name, problem in problems.items()}
    print(f"Microseconds of processor time per graph node, the best of {options.repeat}\n")
    print(f"| {'stage':12} | " + " | ".join(f"{name:>10}" for name in found) + " |")
    print(f"|{'-' * 14}|" + f"{'-' * 11}:|" * len(found))
    for stage in (*STAGES, REST):
        shares = [1e6 * times.stages[stage] / times.nodes for times in found.values()]
        print(f"| {stage:12} | " + " | ".join(f"{x:10.2f}" for x in shares) + " |")
    per_node = [1e6 * times.total / times.nodes for times in found.values()]
    print(f"| {'all':12} | " + " | ".join(f"{x:10.2f}" for x in per_node) + " |")
    print(f"| {'nodes':12} | " + " | ".join(f"{times.nodes:10,}" for times in found.values()) + " |")
    print(f"| {'all, in ms':12} | " + " | ".join(f"{1e3 * times.total:10.1f}" for times in found.values()) + " |")

    print("\nPendulums\n")
    print("| operations |      nodes | first gradient | per node |")
    print("|-----------:|-----------:|---------------:|---------:|")
    per_node = []
    for n in options.sizes:
        times = best(options.repeat, chain(n), (start,))
        per_node.append(1e6 * times.total / times.nodes)
        print(f"| {n:10,} | {times.nodes:10,} | {times.total:12.3f} s | {per_node[-1]:5.2f} us |", flush=True)
    if len(per_node) > 1:
        ratio = per_node[-1] / per_node[0]
        print(f"\nPer node, {options.sizes[-1]:,} : {options.sizes[0]:,} operations = {ratio:.2f}")


if __name__ == "__main__":
    main()
