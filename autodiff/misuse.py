"""What to write instead, where a tensor is asked for a number or an array that it must not give.

NumPy and Python ask by `float()`, `__array__`, `__index__` and the like, whatever the user wrote: the calling
instruction and its source tell what that was.
"""

from __future__ import annotations

import dis
import linecache
import re
from types import FrameType

from autodiff.errors import ConversionError, placed, user_frame
from autodiff.ir import Aval, Line
from autodiff.numpy.registry import known

_DETACH = "; x.value or ad.stop_gradient(x) take the number on purpose, without a derivative"

_CALLS = (
    (r"(np|numpy)\.(array|asarray|asanyarray|ascontiguousarray)", "np.stack([...]) or np.concatenate; "
     "a tensor by itself is an array already"),
    (r"(np|numpy)\.(full_like|full)", "np.broadcast_to(x, shape), or autodiff.numpy.{name}"),
    (r"(np|numpy)\.random\.\w+|\w*(rng|random|generator)\w*\.\w+", "a draw of standard numbers that the tensor then "
     "scales and shifts, as in mean + std * rng.standard_normal(shape)"),
    (r"(np|numpy)\.(zeros|ones|empty|arange|linspace|eye)", "a number known before tracing: a size must not depend on "
     "data (static_argnums, or x.shape)"),
    (r"(np|numpy)\.copyto|\w+\.(fill|put)", "x = x.at[i].set(t), of a tensor x such as np.zeros_like(t)"),
    (r"bool|all|any", "np.where(condition, a, b) in place of if"),
    (r"min|max|sorted", "np.minimum, np.maximum, np.min or np.max"),
    (r"range|slice|len", "a number known before tracing (static_argnums, or x.shape), or np.where and masks"),
    (r"float|int|complex|round|(np|numpy)\.(float|int)\d+", "the tensor itself, which takes part in arithmetic"),
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


def _instead(operation: str, source: str, asked: str) -> str | None:
    if operation in ("STORE_SUBSCR", "STORE_SLICE"):
        return "x = x.at[i].set(t), where x is a tensor such as np.zeros_like(t), or np.where, np.stack"
    if operation in ("BINARY_SUBSCR", "BINARY_SLICE", "BINARY_OP") and source.endswith("]"):
        return "autodiff.numpy.take(arr, t, axis=0)"
    called = re.match(r"([\w.]+)\s*\(", source)
    if not called:
        return "np.where(condition, a, b) in place of if, while, and, or, not" if asked == "bool()" else None
    name = called[1]
    if name.startswith("math."):
        function = {"pow": "power", "fabs": "abs"}.get(name[5:], name[5:])
        return f"np.{function}(x)" if function in known else None
    for pattern, replacement in _CALLS:
        if re.fullmatch(pattern, name):
            return replacement.format(name=name.rpartition(".")[2])
    return None


def conversion_error(asked: str, aval: Aval, why: str, known: bool = True) -> ConversionError:
    """The error for a tensor that was asked for `asked`, such as `float()`, and must not answer.

    `known` says whether there is a value that could be taken without the derivative.
    """
    frame = user_frame(2)
    if frame is None:
        return ConversionError(f"{asked} of a tensor, {aval}: {why}")
    operation, source = _source(frame)
    short = source if len(source) <= 80 and "\n" not in source else ""
    instead = _instead(operation, source, asked)
    if operation in ("STORE_SUBSCR", "STORE_SLICE") and short:
        short += " = ..."
    where = f"{short}: " if short else ""
    advice = f"use {instead or 'NumPy functions on the tensor'}{_DETACH if known else ''}"
    line = Line(frame.f_code.co_filename, frame.f_lineno)
    return ConversionError(placed(line, f"{where}{asked} of a tensor, {aval}, {why}: {advice}"))
