"""What the native library calls back: host steps, and the poll that makes Ctrl-C work."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from autodiff._native import ffi
from autodiff.ir import Array, Aval, Dtype, Shape
from autodiff.passes.steps import HostFunction


class _Pending(threading.local):
    exception: BaseException | None = None


_pending = _Pending()


def pending() -> BaseException | None:
    """What a callback raised in this thread since it was last asked for."""
    exception, _pending.exception = _pending.exception, None
    return exception


def _remember(kind: Any, exception: BaseException, traceback: Any) -> None:
    """Keep what a callback raised until the native call has returned."""
    _pending.exception = exception


@ffi.def_extern(error=1, onerror=_remember)  # type: ignore[untyped-decorator]
def _poll(context: Any) -> int:
    return 0  # being here is enough: Python runs signal handlers, and what they raise goes to _remember


def _memory(pointer: Any, shape: Shape, dtype: Dtype) -> Array:
    size = Aval(shape, dtype).size
    if not size:
        return np.empty(shape, dtype)
    return np.frombuffer(ffi.buffer(pointer, size * dtype.itemsize), dtype).reshape(shape)


@ffi.def_extern(error=1, onerror=_remember)  # type: ignore[untyped-decorator]
def _host(context: Any, number: int, inputs: Any, outputs: Any) -> int:
    host: HostFunction = ffi.from_handle(context)[number]
    name = getattr(host.function, "__qualname__", host.function)
    arrays = [_memory(inputs[i], *aval).copy() for i, aval in enumerate(host.inputs)]
    results = host.function(*arrays)
    if len(results) != len(host.outputs):
        raise TypeError(f"the host step {name} returned {len(results)} results instead of {len(host.outputs)}")
    for i, (result, (shape, dtype)) in enumerate(zip(results, host.outputs, strict=True)):
        array = np.asarray(result)
        if array.shape != shape or array.dtype != dtype:
            got, want = Aval(array.shape, array.dtype), Aval(shape, dtype)
            raise TypeError(f"the host step {name} returned {got} as result {i} instead of {want}")
        _memory(outputs[i], shape, dtype)[...] = array
    return 0
