"""What users are told: where in their source something went wrong, and of what kind it was."""

from __future__ import annotations

import os
import sys
from types import FrameType

import numpy as np

from autodiff.ir import Line


class ConversionError(TypeError):
    """A tensor was asked for a number or an array where that would be wrong: while tracing, or losing a derivative."""


_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_MACHINERY = (_HERE, os.path.dirname(os.path.abspath(np.__file__)) + os.sep)
_APPLICATIONS = {_HERE + name for name in ("__main__.py", "train_digits.py")}

_is_machinery: dict[str, bool] = {}
_lines: dict[tuple[str, int], Line] = {}


def _inspect(file: str) -> bool:
    path = os.path.abspath(file)
    found = _is_machinery[file] = path.startswith(_MACHINERY) and path not in _APPLICATIONS
    return found


def user_frame(depth: int = 1) -> FrameType | None:
    """The innermost frame outside this package and NumPy; `depth` frames are known to be inside."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        file = frame.f_code.co_filename
        inside = _is_machinery.get(file)
        if inside is None:
            inside = _inspect(file)
        if not inside:
            return frame
        frame = frame.f_back
    return None


def user_line(depth: int = 1) -> Line | None:
    """The user's source line that is being executed."""
    frame = user_frame(depth + 1)
    if frame is None:
        return None
    key = (frame.f_code.co_filename, frame.f_lineno)
    line = _lines.get(key)
    if line is None:
        if len(_lines) > 100_000:
            _lines.clear()
        line = _lines[key] = Line(*key)
    return line


def is_user_code(file: str) -> bool:
    """Whether a source file is neither this package's nor NumPy's."""
    inside = _is_machinery.get(file)
    return not (_inspect(file) if inside is None else inside)


def stack_level(depth: int = 1) -> int:
    """What `warnings.warn` takes for the user's frame."""
    level, frame, user = 1, sys._getframe(depth), user_frame(depth + 1)
    while frame is not user and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level


def placed(line: Line | None, text: str) -> str:
    """A message that ends with a place in the user's source."""
    return f"{text} [{line}]" if line else text
