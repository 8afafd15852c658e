"""What failed, for users: the error of a call with what was called, with what, and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff.errors import ConversionError, placed
from autodiff.ir import Line
from autodiff.lazy import Lazy

_PLAIN = (TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError, NotImplementedError)


def explained(error: Exception, name: str, operands: Sequence[Any], line: Line | None) -> Exception:
    """The same kind of error, which says what was called, with what, and where."""
    if isinstance(error, ConversionError):
        return error
    what = ", ".join(_described(x) for x in operands)
    message = placed(line, f"{name}({what}): {error}")
    if isinstance(error, np.exceptions.AxisError):
        return np.exceptions.AxisError(message)
    for kind in _PLAIN:
        if isinstance(error, kind):
            return kind(message)
    error.add_note(message)
    return error


def _described(x: Any, depth: int = 0) -> str:
    if isinstance(x, Lazy):
        return str(x._value.aval)
    if isinstance(x, (np.ndarray, np.generic)):
        return f"{x.dtype.name}[{','.join(map(str, x.shape))}]"
    if type(x) in (list, tuple) and depth < 2:
        inside = [_described(item, depth + 1) for item in x[:5]] + ["..."] * (len(x) > 5)
        return f"[{', '.join(inside)}]"
    text = repr(x)
    return text if len(text) <= 40 else f"{type(x).__name__}"
