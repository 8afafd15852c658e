"""A process that solves one row with one peer, so that peers do not disturb each other and can be given up.

It is told what to do by the process that compares, so that rounds of the peers take turns.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import signal
import tempfile
import textwrap
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple
from unittest import mock

from comparison.peers import BOUND, Peer, settings
from comparison.row import Row
from comparison.trees import relative_error

BATCH = 2e-3
"""Seconds: faster calls are timed several at a time."""


class First(NamedTuple):
    seconds: float  # to make the solution and call it once
    error: float | None  # of the results, relative to the reference


class Failure(NamedTuple):
    reason: str


class Worker:
    """The process, as seen by the one that compares."""

    def __init__(self, row: Row, peer: Peer, threads: int) -> None:
        self.peer = peer
        self.scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, row, peer, threads), daemon=True)
        with mock.patch.dict(os.environ, settings(self.scratch.name, threads), clear=True):
            self.process.start()
        theirs.close()

    def answer(self, timeout: float) -> Any:
        """What the process says next; if it fails, says nothing in time or is gone, that is a Failure."""
        try:
            if self.connection.poll(timeout):
                return self.connection.recv()
            return Failure(f"> {timeout:g} s")
        except EOFError:
            return Failure("the process died")

    def ask(self, question: float, timeout: float) -> Any:
        try:
            self.connection.send(question)
        except BrokenPipeError:
            return Failure("the process died")
        return self.answer(timeout)

    def stop(self) -> None:
        """End the process, and the compilers that it has started."""
        self.connection.close()
        if self.process.pid is not None and self.process.is_alive():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()
        self.scratch.cleanup()


def _serve(connection: Connection, row: Row, peer: Peer, threads: int) -> None:
    os.setsid()  # a group of its own, to be ended as one
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        _solve(connection, row, peer, threads)
    except (EOFError, KeyboardInterrupt):
        pass  # nobody asks any more
    except Exception as error:
        connection.send(Failure(_said(error)))


def _solve(connection: Connection, row: Row, peer: Peer, threads: int) -> None:
    importlib.import_module(peer.module)
    if peer.module == "torch":
        importlib.import_module("torch").set_num_threads(threads)
    if row.first_goal:  # what is done once in a process is no part of the time to first gradient
        tiny = row.tiny()
        getattr(tiny, peer.method)()(*tiny.arguments)
    arguments = row.arguments
    connection.send("ready")
    connection.recv()
    start = time.perf_counter()
    solution = getattr(row, peer.method)()
    results = solution(*arguments)
    seconds = time.perf_counter() - start
    error = None if peer == BOUND else relative_error(results, row.reference())
    del results
    connection.send(First(seconds, error))
    while True:
        connection.send(batches(solution, arguments, connection.recv()))


def batches(
    solution: Callable[..., Any], arguments: Any, budget: float, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Seconds a call, of as many batches of calls as fit in the budget, and one at least."""
    start = clock()
    solution(*arguments)  # brings to the caches what others have displaced
    once = clock() - start
    if once > budget:
        return [once]
    number = max(1, int(BATCH / once))
    times = []
    end = start + budget
    while True:
        begin = clock()
        for _ in range(number):
            result = solution(*arguments)
        now = clock()
        times.append((now - begin) / number)
        del result
        if now + number * once > end:
            return times


def _said(error: Exception) -> str:
    lines = traceback.format_exception_only(error)[-1].strip().splitlines()
    return textwrap.shorten(re.sub(r" \[[^\]]*:\d+\]", "", lines[0]), 120)  # not in which line of these files
