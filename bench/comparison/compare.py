"""One row, solved by all peers in turn: figures to be reported."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from comparison.peers import Peer
from comparison.row import Goal, Row
from comparison.worker import Failure, Worker

ROUNDS = 8
START = 120.0
"""Seconds that a peer may take to be imported and warmed up."""


@dataclass
class Figures:
    """What was measured of one peer in one row."""

    peer: str
    first: float | None = None  # seconds to the first gradient
    runs: list[float] = field(default_factory=list)  # seconds a call
    error: float | None = None
    note: str = ""  # why there are no figures

    @property
    def run(self) -> float | None:
        return statistics.median(self.runs) if self.runs else None


@dataclass
class Result:
    """What was measured in one row."""

    name: str
    title: str
    run_goal: Goal
    first_goal: Goal | None
    figures: dict[str, Figures]  # by the peer's title


def compare(
    row: Row, peers: Sequence[Peer], seconds: float, timeout: float, threads: int, say: Callable[[str], Any]
) -> Result:
    """Each peer runs for `seconds`, in rounds with the others; one that has no result after `timeout` is given up."""
    figures = {peer.title: Figures(peer.title) for peer in peers}
    result = Result(row.name, row.title, row.run_goal, row.first_goal, figures)
    able = [peer for peer in peers if hasattr(row, peer.method)]
    for peer in peers:
        if peer not in able:
            figures[peer.title].note = "cannot express it"
    workers = [Worker(row, peer, threads) for peer in able]
    try:
        live = [worker for worker in workers if _answered(worker.answer(START), figures[worker.peer.title])]
        for worker in live[:]:
            say(worker.peer.title)
            mine = figures[worker.peer.title]
            first = worker.ask(0.0, timeout)
            if _answered(first, mine):
                mine.first, mine.error = first
            else:
                live.remove(worker)
                worker.stop()
        spent = dict.fromkeys(live, 0.0)
        for i in range(ROUNDS):
            say(f"round {i + 1} of {ROUNDS}")
            for worker in live[:]:
                mine = figures[worker.peer.title]
                if spent[worker] > seconds and len(mine.runs) >= 3:
                    continue  # slow ones have had their time
                start = time.perf_counter()
                answer = worker.ask(seconds / ROUNDS, timeout)
                spent[worker] += time.perf_counter() - start
                if _answered(answer, mine):
                    mine.runs += answer
                else:
                    live.remove(worker)
    finally:
        for worker in workers:
            worker.stop()
    return result


def _answered(answer: Any, figures: Figures) -> bool:
    if isinstance(answer, Failure):
        figures.note = answer.reason
        return False
    return True
