"""How many threads a call uses: one pool for all executables, made when the first of them wants it."""

from __future__ import annotations

import os
import threading
from typing import Any

from autodiff._native import ffi, lib

MOST = 1024

_lock = threading.Lock()
_pool: Any = None
_wanted: int | None = None
"""What was asked for before there was a pool."""


def _default() -> int:
    """AUTODIFF_NUM_THREADS, or else as many as there are processors that the process may run on."""
    text = os.environ.get("AUTODIFF_NUM_THREADS", "").strip()
    if not text:
        return min(int(lib.ad_processors()), MOST)
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise ValueError(f"AUTODIFF_NUM_THREADS is {text!r}, not a number from 1 to {MOST}")
    return int(text)


def get_num_threads() -> int:
    """How many threads at most work on a call; large steps alone use more than one."""
    with _lock:
        if _pool is not None:
            return int(lib.ad_pool_size(_pool))
        return _wanted or _default()


def set_num_threads(n: int) -> None:
    """Have calls use at most `n` threads, from their next step on.

    Results are the same bits for any number.  At first it is what the environment variable AUTODIFF_NUM_THREADS says,
    or else how many processors the process may run on.
    """
    global _wanted
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"the number of threads is an int, not {type(n).__name__}")
    n = n.__index__()
    if not 1 <= n <= MOST:
        raise ValueError(f"the number of threads is from 1 to {MOST}, not {n}")
    with _lock:
        _wanted = n
        if _pool is not None:
            lib.ad_pool_resize(_pool, n)


def pool() -> Any:
    """The pool, an `ad_pool *`."""
    global _pool
    with _lock:
        if _pool is None:
            made = lib.ad_pool_create(_wanted or _default())
            if made == ffi.NULL:
                raise MemoryError("no memory for a pool of threads")
            _pool = made
        return _pool
