"""How long importing takes beyond NumPy's own import, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from comparison.compare import Figures, Result
from comparison.peers import Peer, settings
from comparison.row import Goal

NAME = "import"
TITLE = "import, over NumPy's own"
GOAL = Goal(25e-3, 15e-3)
ROUNDS = 5
CODE = "import numpy, time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
MODULES = {
    "autodiff": "autodiff",
    "autograd": "autograd, autograd.numpy",
    "jax": "jax.numpy",
    "torch": "torch",
    "pytensor": "pytensor.tensor",
    "casadi": "casadi",
}


def measure(peers: Sequence[Peer], say: Callable[[str], Any]) -> Result:
    able = [peer for peer in peers if peer.method in MODULES]
    figures = {peer.title: Figures(peer.title) for peer in able}
    with tempfile.TemporaryDirectory() as scratch:
        for i in range(ROUNDS + 1):  # the first fills the disk's cache
            say(f"round {i} of {ROUNDS}")
            for peer in able:
                command = [sys.executable, "-c", CODE.format(MODULES[peer.method])]
                done = subprocess.run(command, env=settings(scratch), check=True, capture_output=True, text=True)
                if i:
                    figures[peer.title].runs.append(float(done.stdout))
    return Result(NAME, TITLE, GOAL, None, figures)
