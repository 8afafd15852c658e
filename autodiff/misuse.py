"""What to write instead, where a tensor is asked for a number or an array that it must not give.

NumPy and Python ask by `float()`, `__array__`, `__index__` and the like, whatever the user wrote: the calling
instruction and its source tell what that was.
"""

from __future__ import annotations

import dis
import linecache
import re
from types import FrameType

import numpy as np

from autodiff.errors import ConversionError, placed, user_frame
from autodiff.ir import Aval, Line

_DETACH = "x.value or ad.stop_gradient(x) take the number on purpose, without a derivative"

_CALLS = (
    (r"(np|numpy)\.(array|asarray|asanyarray|ascontiguousarray)", "np.stack([...]) or np.concatenate; "
     "a tensor by itself is an array already"),
    (r"(np|numpy)\.(full_like|full)", "np.broadcast_to(x, shape), or autodiff.numpy.{name}"),
    (r"(np|numpy)\.random\.\w+|\w*(rng|random|generator)\w*\.\w+", "a draw of standard numbers that the tensor then "
     "scales and shifts, as in mean + std * rng.standard_normal(shape)"),
    (r"(np|numpy)\.(zeros|ones|empty|arange|linspace|eye)", "a number known before tracing: a size must not depend on "
     "data (static_argnums, or x.shape)"),
    (r"range|slice|len", "a number known before tracing (static_argnums, or x.shape), or np.where and masks"),
    (r"float|int|complex|bool|round", "the tensor itself, which takes part in arithmetic as it is"),
)  # fmt: skip


def _source(frame: FrameType) -> tuple[str, str]:
    """The instruction a frame is at, and the source it was compiled from."""
    code, at = frame.f_code, frame.f_lasti // 2
    operation = dis.opname[code.co_code[frame.f_lasti]]
    first, last, start, end = next((p for i, p in enumerate(code.co_positions()) if i == at), (None,) * 4)
    if first is None:
        return operation, linecache.getline(code.co_filename, frame.f_lineno).strip()
    lines = [linecache.getline(code.co_filename, i).encode() for i in range(first, (last or first) + 1)]
    if end is not None:
        lines[-1] = lines[-1][:end]
    if start is not None:
        lines[0] = lines[0][start:]
    return operation, b"".join(lines).decode(errors="replace").strip()


def _instead(operation: str, source: str) -> str | None:
    if operation in ("STORE_SUBSCR", "STORE_SLICE"):
        return "x = x.at[i].set(t), where x is a tensor such as np.zeros_like(t), or np.where, np.stack"
    if operation in ("BINARY_SUBSCR", "BINARY_SLICE", "BINARY_OP") and source.endswith("]"):
        return "np.take(arr, t, axis=0)"
    called = re.match(r"([\w.]+)\s*\(", source)
    if not called:
        return None
    name = called[1]
    if name.startswith("math."):
        function = {"pow": "power", "fabs": "abs"}.get(name[5:], name[5:])
        return f"np.{function}(x)" if hasattr(np, function) else None
    for pattern, replacement in _CALLS:
        if re.fullmatch(pattern, name):
            return replacement.format(name=name.rpartition(".")[2])
    return None


def conversion_error(asked: str, aval: Aval, why: str) -> ConversionError:
    """The error for a tensor that was asked for `asked`, such as `float()`, and must not answer."""
    frame = user_frame(2)
    if frame is None:
        return ConversionError(f"{asked} of a tensor, {aval}: {why}")
    operation, source = _source(frame)
    short = source if len(source) <= 80 and "\n" not in source else ""
    instead = _instead(operation, source)
    if operation in ("STORE_SUBSCR", "STORE_SLICE") and short:
        short += " = ..."
    where = f"{short}: " if short else ""
    advice = f"use {instead}; {_DETACH}" if instead else f"use NumPy's functions on the tensor; {_DETACH}"
    line = Line(frame.f_code.co_filename, frame.f_lineno)
    return ConversionError(placed(line, f"{where}{asked} of a tensor, {aval}, {why}: {advice}"))
