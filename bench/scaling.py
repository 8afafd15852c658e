"""How do compile time, run time and memory grow, with the graph and with the arrays?

    python bench/scaling.py [--nodes 100 1000000] [--sizes 1 10000000] [--out results]

The graphs are those of value and gradient of a pendulum with drag, simulated step by step (bench/compile_time.py),
once with a number for its angle and once with 100 of them: deep, nothing folds, and what the gradient needs of each
step has to be kept.  For the arrays it is a function that needs its argument three times, as mean and standard
deviation have to be known before the rest: a few nodes whatever the size.

Each point is measured in a fresh process; times are of the processor, of which one thread uses all.  *Arena* is the
memory for values between the steps of a plan, *live* the largest number of bytes of such values that are needed at one
time: what the arena cannot be smaller than, with the steps in this order.  *Peak* is by how much the process has grown,
from before it compiled until after it ran.  With --out: scaling.json, scaling.md and, with matplotlib, scaling.png.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import autodiff as ad
from comparison.limits import one_pass
from comparison.peers import settings
from comparison.report import duration
from comparison.trees import Array
from comparison.worker import batches
from compile_time import OPERATIONS_PER_STEP, pendulum

NODES_PER_STEP = 2.4 * OPERATIONS_PER_STEP
"""About: what differentiating and simplifying make of a step."""

SECONDS = 0.5
"""To run each point."""


class Point(NamedTuple):
    """What was measured at one number of nodes and size of arrays."""

    nodes: int
    size: int
    compile: float  # seconds of processor time to trace, differentiate, optimise and make the plan
    run: float  # seconds of processor time, the median
    arena: int  # bytes, as all that follow
    live: int
    peak: int
    plan: int
    bound: float | None = None  # seconds of processor time to read the arguments and write the results once, in C


def standardised(x: Any) -> Any:
    z = (x - np.mean(x)) / (1 + np.std(x))
    return np.mean(z / (1 + z * z))


def measure_graph(nodes: int, size: int) -> Point:
    """A graph of about so many nodes, of arrays of `size` numbers; size 1 is a scalar."""
    steps = max(1, round(nodes / NODES_PER_STEP))
    start = np.float64(1.0) if size == 1 else np.linspace(0.1, 1.0, size)
    return measure(lambda angle: np.sum(pendulum(angle, steps)), start)


def measure_array(size: int) -> Point:
    x = np.random.default_rng(0).standard_normal(size)
    call = one_pass([x], [x, np.zeros(())])
    return measure(standardised, x)._replace(bound=run_time(call, x))


def measure(function: Callable[[Any], Any], x: Any) -> Point:
    ad.compile(ad.value_and_grad(lambda x: np.sum(np.sin(x))))(np.ones(3))  # what a process does once is no part of it
    before = peak_memory()
    began = time.process_time()
    executable = ad.compile(ad.value_and_grad(function)).lower(x)
    seconds = time.process_time() - began
    run = run_time(executable, x)
    plan = executable.plan
    assert executable.graph is not None
    grown = peak_memory() - before
    nodes, memory = len(executable.graph.nodes), [plan.arena_size, plan.live_bytes, grown, len(plan.data)]
    return Point(nodes, np.size(x), seconds, run, *memory)


def run_time(call: Callable[[Any], Any], x: Any) -> float:
    call(x)  # asks for memory, which it then keeps
    return statistics.median(batches(call, [x], SECONDS, time.process_time))


def peak_memory() -> int:
    """The most bytes that this process had in memory so far."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


# ---- reports ----


def powers_of_ten(least: int, most: int) -> list[int]:
    return [10**k for k in range(20) if least <= 10**k <= most]


def markdown(graphs: Sequence[Point], arrays: Sequence[Point]) -> Iterator[str]:
    yield "# Scaling"
    yield ""
    yield "Written by `bench/scaling.py`, which says what is measured; one thread, medians of processor time."
    yield ""
    yield f"- date: {time.strftime('%Y-%m-%d')}"
    yield f"- load: {os.getloadavg()[0]:.1f} processes ready to run on {os.cpu_count()} cores"
    yield f"- command: {' '.join(['python', *sys.argv])}"
    for size in dict.fromkeys(point.size for point in graphs):
        yield ""
        yield f"## Graphs {'of scalars' if size == 1 else f'of arrays of {size} numbers'}"
        yield ""
        yield "| nodes | compile | per node | run | per node | arena | live | arena / live | plan | peak |"
        yield "|" + "--:|" * 10
        for p in graphs:
            if p.size == size:
                times = [p.compile, p.compile / p.nodes, p.run, p.run / p.nodes]
                yield f"| {p.nodes:,} | " + " | ".join([*map(duration, times), *memory_cells(p), amount(p.peak)]) + " |"
    yield ""
    yield "## Arrays"
    yield ""
    yield "The bound is one C loop that reads the argument and writes the gradient."
    yield ""
    yield "| numbers | compile | run | per number | bound | arena | live | arena / live | plan | peak |"
    yield "|" + "--:|" * 10
    for p in arrays:
        times = [p.compile, p.run, p.run / p.size, p.bound or 0.0]
        yield f"| {p.size:,} | " + " | ".join([*map(duration, times), *memory_cells(p), amount(p.peak)]) + " |"


def memory_cells(p: Point) -> list[str]:
    ratio = f"{p.arena / p.live:.2f}" if p.live else "1"
    return [amount(p.arena), amount(p.live), ratio, amount(p.plan)]


def amount(size: float) -> str:
    """Three digits and a unit."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def plot(graphs: Sequence[Point], arrays: Sequence[Point], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    (time_by_nodes, memory_by_nodes), (time_by_size, memory_by_size) = axes
    for size, style in zip(dict.fromkeys(p.size for p in graphs), ("-", "--"), strict=False):
        points = [p for p in graphs if p.size == size]
        nodes, of = [p.nodes for p in points], "scalars" if size == 1 else f"{size} numbers"
        time_by_nodes.plot(nodes, [p.compile for p in points], "o" + style, color="C0", label=f"compile, {of}")
        time_by_nodes.plot(nodes, [p.run for p in points], "o" + style, color="C1", label=f"run, {of}")
        for name, colour in (("peak", "C2"), ("plan", "C4"), ("arena", "C0"), ("live", "C1")):
            amounts = [getattr(p, name) or np.nan for p in points]
            memory_by_nodes.plot(nodes, amounts, "o" + style, color=colour, label=f"{name}, {of}")
    sizes = [p.size for p in arrays]
    time_by_size.plot(sizes, [p.compile for p in arrays], "o-", color="C0", label="compile")
    time_by_size.plot(sizes, [p.run for p in arrays], "o-", color="C1", label="run")
    time_by_size.plot(sizes, [p.bound for p in arrays], "k:", label="one pass in C")
    for name, colour in (("peak", "C2"), ("arena", "C0"), ("live", "C1")):
        memory_by_size.plot(sizes, [getattr(p, name) or np.nan for p in arrays], "o-", color=colour, label=name)
    memory_by_size.plot(sizes, [16 * n for n in sizes], "k:", label="argument and gradient")
    for panel, x, y in (
        (time_by_nodes, "graph nodes", "seconds"),
        (memory_by_nodes, "graph nodes", "bytes"),
        (time_by_size, "numbers in the array", "seconds"),
        (memory_by_size, "numbers in the array", "bytes"),
    ):
        panel.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs=2, default=[100, 10**6], help="least and most, in powers of ten")
    parser.add_argument("--sizes", type=int, nargs=2, default=[1, 10**7], help="of arrays, likewise")
    parser.add_argument("--out", type=Path, help="directory for JSON, Markdown and a plot")
    options = parser.parse_args(arguments)

    with (
        tempfile.TemporaryDirectory() as scratch,
        mock.patch.dict(os.environ, settings(scratch), clear=True),
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as fresh,
    ):
        graphs = [
            fresh.submit(measure_graph, nodes, size).result()
            for size in (1, 100)
            for nodes in powers_of_ten(*options.nodes)
        ]
        arrays = [fresh.submit(measure_array, size).result() for size in powers_of_ten(*options.sizes)]
    text = "\n".join(markdown(graphs, arrays)) + "\n"
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "scaling.md").write_text(text)
        points: dict[str, list[dict[str, Array]]] = {
            "graphs": [p._asdict() for p in graphs],
            "arrays": [p._asdict() for p in arrays],
        }
        (options.out / "scaling.json").write_text(json.dumps(points, indent=1) + "\n")
        if importlib.util.find_spec("matplotlib"):
            plot(graphs, arrays, options.out / "scaling.png")
        else:
            print("no plot: matplotlib is not installed", file=sys.stderr)


if __name__ == "__main__":
    main()
