"""Special functions that NumPy lacks, of tensors and of arrays: for programs that do not have SciPy.

`scipy.special.erf` of a tensor is the same as `erf` here, and so with the others.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from autodiff import ir
from autodiff.errors import user_line
from autodiff.executable import Executable, compile_graph
from autodiff.explain import explained
from autodiff.ir import FLOAT32, FLOAT64, Aval
from autodiff.lazy import unwrapped
from autodiff.numpy.elementwise import SCIPY
from autodiff.numpy.promotion import kind_of, lift, operand
from autodiff.tensor import Tensor


def erf(x: Any) -> Any:
    """The error function, 2/sqrt(pi) times the integral of exp(-t*t) for t from 0 to x.

    Args:
        x: a tensor, for which the result is a tensor; or an array or a number, for which it is one of NumPy's.

    >>> round(float(erf(0.5)), 12)
    0.520499877813
    """
    return _apply("erf", x)


def erfc(x: Any) -> Any:
    """1 - erf(x), without the cancellation where erf(x) is near 1.

    Args:
        x: as for `erf`.

    >>> round(float(erfc(2.0)), 12)
    0.004677734981
    """
    return _apply("erfc", x)


def expit(x: Any) -> Any:
    """The sigmoid function, 1 / (1 + exp(-x)), accurate also where that overflows.

    Args:
        x: as for `erf`.

    >>> float(expit(0.0))
    0.5
    """
    return _apply("expit", x)


def log_expit(x: Any) -> Any:
    """The logarithm of `expit`, accurate where that is near 0 or 1.

    Args:
        x: as for `erf`.

    >>> float(log_expit(-800.0))
    -800.0
    """
    return _apply("log_expit", x)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), accurate where x is large or exp(x) is small.

    Args:
        x: as for `erf`.

    >>> float(softplus(800.0))
    800.0
    """
    return _apply("softplus", x)


def gammaln(x: Any) -> Any:
    """The logarithm of the gamma function's absolute value.

    Args:
        x: as for `erf`.

    >>> round(float(gammaln(5.0)), 12)
    3.178053830348
    """
    return _apply("gammaln", x)


def digamma(x: Any) -> Any:
    """The derivative of `gammaln`.

    Args:
        x: as for `erf`.

    >>> round(float(digamma(1.0)), 12)
    -0.577215664902
    """
    return _apply("digamma", x)


def _apply(name: str, x: Any) -> Any:
    line = ir.current().line = user_line(3)
    try:
        value = operand(unwrapped(x))
        dtype = FLOAT32 if kind_of(value) == FLOAT32 else FLOAT64
        if isinstance(value, ir.Value):
            return Tensor._of(SCIPY[name](lift(value, dtype)))
        array = np.asarray(value, dtype)
    except Exception as error:
        raise explained(error, f"special.{name}", (x,), line) from None
    (result,) = _executable(name, Aval(array.shape, array.dtype)).run_flat([array])
    return result if array.ndim else result[()]


@lru_cache(maxsize=128)
def _executable(name: str, aval: Aval) -> Executable:
    with ir.building(ir.Builder(intern=True)):
        x = ir.argument(aval)
        return compile_graph(ir.Graph((x,), (SCIPY[name](x),)))
