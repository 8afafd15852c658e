"""Tells whether a function draws from NumPy's global generator while it is traced.

The numbers would be frozen into the plan.  The generator has no hook, so its state is compared.  Another thread may
have drawn in the meantime: before anybody is blamed the function is traced again, with the other threads kept waiting,
line by line, which also finds the line that draws.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

from autodiff.errors import is_user_code
from autodiff.ir import Line

_LONG = 1e3
"""Seconds that a thread may run before it makes way for another."""


def fingerprint() -> tuple[Any, ...]:
    """The state of the global generator, as something to compare."""
    state = np.random.get_state(legacy=False)  # noqa: NPY002
    assert isinstance(state, dict)
    inner = {k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in state["state"].items()}
    return state["bit_generator"], inner, state.get("has_gauss"), state.get("gauss")


def drawing_line(function: Callable[[], Any]) -> tuple[bool, Line | None]:
    """Whether a call of the function changes the generator's state, and the user's line that does."""
    before = known = fingerprint()
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

    tracer, interval = sys.gettrace(), sys.getswitchinterval()
    sys.setswitchinterval(_LONG)
    sys.settrace(watch)
    try:
        function()
    finally:
        sys.settrace(tracer)
        sys.setswitchinterval(interval)
    return fingerprint() != before, found
