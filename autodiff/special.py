"""Special functions that NumPy lacks, of tensors and of arrays: for programs that do not have SciPy.

`scipy.special.erf` of a tensor is the same as `erf` here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from autodiff import ir
from autodiff.errors import user_line
from autodiff.executable import Executable, compile_graph
from autodiff.explain import explained
from autodiff.ir import FLOAT32, FLOAT64, Aval, Op
from autodiff.lazy import unwrapped
from autodiff.numpy.promotion import kind_of, lift, operand
from autodiff.ops import transcendental
from autodiff.tensor import Tensor


def erf(x: Any) -> Any:
    """The error function, 2/sqrt(pi) times the integral of exp(-t*t) for t from 0 to x.

    Args:
        x: a tensor, for which the result is a tensor; or an array or a number, for which it is one of NumPy's.

    >>> round(float(erf(0.5)), 12)
    0.520499877813
    """
    return _apply(transcendental.erf, x)


def erfc(x: Any) -> Any:
    """1 - erf(x), without the cancellation where erf(x) is near 1.

    Args:
        x: as for `erf`.

    >>> round(float(erfc(2.0)), 12)
    0.004677734981
    """
    return _apply(transcendental.erfc, x)


def _apply(op: Op, x: Any) -> Any:
    line = ir.current().line = user_line(3)
    try:
        value = operand(unwrapped(x))
        dtype = FLOAT32 if kind_of(value) == FLOAT32 else FLOAT64
        if isinstance(value, ir.Value):
            return Tensor._of(op(lift(value, dtype)))
        array = np.asarray(value, dtype)
    except Exception as error:
        raise explained(error, f"special.{op.name}", (x,), line) from None
    (result,) = _executable(op, Aval(array.shape, dtype)).run_flat([array])
    return result if array.ndim else result[()]


@lru_cache(maxsize=128)
def _executable(op: Op, aval: Aval) -> Executable:
    with ir.building(ir.Builder(intern=True)):
        x = ir.argument(aval)
        return compile_graph(ir.Graph((x,), (op(x),)))
