"""Tells whether a function draws from NumPy's global generator while it is traced.

The numbers would be frozen into the plan.  The generator has no hook, so its state is compared.  Another thread may
have drawn in the meantime: before anybody is blamed the function is traced again, with the generator locked to other
threads, line by line, which also finds the line that draws.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import Any

import numpy as np

from autodiff.errors import is_user_code
from autodiff.ir import Line


def fingerprint() -> tuple[Any, ...]:
    """The state of the global generator, as something to compare; nothing before NumPy has made it."""
    if "numpy.random" not in sys.modules:
        return ()
    state = np.random.get_state(legacy=False)  # noqa: NPY002
    assert isinstance(state, dict)
    inner = {k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in state["state"].items()}
    return state["bit_generator"], inner, state.get("has_gauss"), state.get("gauss")


def _only_this_thread() -> AbstractContextManager[Any]:
    """Keeps other threads from drawing; nothing in versions of NumPy whose lock this thread could not take twice."""
    lock: Any = np.random.get_bit_generator().lock  # type: ignore[attr-defined]
    return lock if isinstance(lock, type(threading.RLock())) else nullcontext()


def drawing_line(function: Callable[[], Any]) -> tuple[bool, Line | None]:
    """Whether a call of the function changes the generator's state, and the user's line that does."""
    known: tuple[Any, ...] = ()
    here: Line | None = None
    found: Line | None = None

    def watch(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal known, here, found
        if not is_user_code(frame.f_code.co_filename):
            return None
        now = fingerprint()
        if now != known:
            known, found = now, found or here
        user: FrameType | None = frame.f_back if event == "return" else frame
        while user is not None and not is_user_code(user.f_code.co_filename):
            user = user.f_back
        here = Line(user.f_code.co_filename, user.f_lineno) if user else None
        return watch

    tracer = sys.gettrace()
    with _only_this_thread():
        before = known = fingerprint()
        sys.settrace(watch)
        try:
            function()
        finally:
            sys.settrace(tracer)
        return fingerprint() != before, found
