"""Results as JSON and as Markdown."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from comparison.compare import Figures, Result
from comparison.peers import BOUND, OURS, Peer
from comparison.row import Goal


def about(peers: Sequence[Peer], missing: Sequence[Peer], threads: int) -> dict[str, str]:
    """What was compared, where and when."""
    import autodiff as ad

    executable = ad.compile(lambda x: x + 1).lower(1.0)
    packages = dict.fromkeys((peer.package, peer.version) for peer in peers if peer != BOUND)
    found = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {platform.system()} {platform.machine()}",
        "threads": f"{threads} each, all processes on as many cores",
        "instruction set": f"{executable.isa} (this library's kernels)",
        "Python": platform.python_version(),
        "packages": ", ".join(f"{package} {version}" for package, version in packages),
        "compiler": _compiler(),
        "load before the run": f"{os.getloadavg()[0]:.1f} processes ready to run",
        "command": " ".join(["python", *sys.argv]),
    }
    if missing:
        found["not installed"] = ", ".join(dict.fromkeys(peer.package for peer in missing))
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.machine()


def _compiler() -> str:
    found = shutil.which("gcc") or shutil.which("cc")
    if not found:
        return "none"
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def to_json(results: Sequence[Result], described: Mapping[str, Any]) -> str:
    rows = [
        {
            "row": result.name,
            "title": result.title,
            "peers": {
                figures.peer: {
                    "first_gradient_s": figures.first,
                    "run_median_s": figures.run,
                    "run_min_s": min(figures.runs, default=None),
                    "samples": len(figures.runs),
                    "relative_error": figures.error,
                    "note": figures.note,
                }
                for figures in result.figures.values()
            },
        }
        for result in results
    ]
    return json.dumps({"about": dict(described), "rows": rows}, indent=1, ensure_ascii=False) + "\n"


# ---- tables ----


def to_markdown(results: Sequence[Result], peers: Sequence[Peer], described: Mapping[str, str]) -> str:
    return "\n".join(_markdown(results, [peer.title for peer in peers], described)) + "\n"


def _markdown(results: Sequence[Result], titles: Sequence[str], described: Mapping[str, str]) -> Iterator[str]:
    yield "# Beside the peers"
    yield ""
    yield "Written by `bench/peers.py`; [what it means](../performance.md).  Value and gradient, NumPy arrays in"
    yield "and out, medians of rounds in which the peers take turns; in brackets the multiple of"
    yield "autodiff's time."
    yield ""
    yield from (f"- {name}: {text}" for name, text in described.items())
    yield ""
    yield from _table(["work", *titles])
    for line in lines(results):
        ours = line.seconds.get(OURS.title)
        cells = [_cell(line, title, ours) for title in titles]
        yield f"| {line.title} | " + " | ".join(cells) + " |"
    yield ""
    yield "## Goals"
    yield ""
    yield from _table(["work", "autodiff", "best peer", "to reach", "aim", "now", "reached"])
    for line in lines(results):
        yield f"| {line.title} | " + " | ".join(_goal_cells(line)) + " |"
    yield ""
    yield "## Agreement"
    yield ""
    yield "The largest difference to a computation in double precision, relative to the largest number of each result."
    yield ""
    solvers = [title for title in titles if title != BOUND.title]
    yield from _table(["work", *solvers])
    for result in results:
        errors = [result.figures[title].error if title in result.figures else None for title in solvers]
        if any(error is not None for error in errors):
            cells = ["-" if error is None else f"{error:.0e}" for error in errors]
            yield f"| {result.title} | " + " | ".join(cells) + " |"
    notes = [
        f"- {result.title}, {figures.peer}: {figures.note}"
        for result in results
        for figures in result.figures.values()
        if figures.note and figures.peer != BOUND.title
    ]
    if notes:
        yield ""
        yield "## Not measured"
        yield ""
        yield from notes


class Line:
    """One time of each peer: a row has one line, or two if the time to first gradient is of interest."""

    def __init__(self, result: Result, what: str, goal: Goal, seconds: Mapping[str, float | None]) -> None:
        self.title = result.title + what
        self.goal = goal
        self.figures: Mapping[str, Figures] = result.figures
        self.seconds = {title: s for title, s in seconds.items() if s is not None}

    def best(self) -> tuple[str, float] | None:
        """The fastest peer."""
        rivals = {title: s for title, s in self.seconds.items() if title not in (OURS.title, BOUND.title)}
        return min(rivals.items(), key=lambda item: item[1]) if rivals else None

    def now(self) -> float | None:
        """What the goal is about: seconds, or a multiple of the rival's."""
        ours = self.seconds.get(OURS.title)
        if ours is None or not self.goal.rival:
            return ours
        best = self.best()
        rival = best[1] if best and self.goal.rival == "best peer" else self.seconds.get(self.goal.rival)
        return ours / rival if rival else None


def lines(results: Sequence[Result]) -> list[Line]:
    found = []
    for result in results:
        if result.first_goal:
            firsts = {title: figures.first for title, figures in result.figures.items() if title != BOUND.title}
            found.append(Line(result, ": time to first gradient", result.first_goal, firsts))
        runs = {title: figures.run for title, figures in result.figures.items()}
        found.append(Line(result, ": run" if result.first_goal else "", result.run_goal, runs))
    return found


def _table(columns: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|---|" + "--:|" * (len(columns) - 1)]


def _cell(line: Line, title: str, ours: float | None) -> str:
    seconds = line.seconds.get(title)
    if seconds is None:
        note = line.figures[title].note if title in line.figures else ""
        return note if note.startswith(">") else "-"
    return duration(seconds) if title == OURS.title or not ours else f"{duration(seconds)} ({times(seconds / ours)}x)"


def _goal_cells(line: Line) -> list[str]:
    ours, best, now, goal = line.seconds.get(OURS.title), line.best(), line.now(), line.goal

    def show(number: float) -> str:
        return f"{times(number)}x {goal.rival}" if goal.rival else duration(number)

    return [
        duration(ours) if ours is not None else "-",
        f"{best[0]}, {duration(best[1])}" if best else "-",
        f"≤ {show(goal.reach)}",
        show(goal.aim),
        "-" if now is None else show(now),
        "-" if now is None else "aim" if now <= goal.aim else "yes" if now <= goal.reach else "**no**",
    ]


def times(ratio: float) -> str:
    """Two digits, or all before the point."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if seconds >= size or unit == "ns":
            number = seconds / size
            return f"{number:.{max(0, 2 - len(str(int(number))) + 1)}f} {unit}"
    raise AssertionError
