"""Automatic differentiation that compiles NumPy functions into single calls of C kernels.

>>> import numpy as np
>>> import autodiff as ad
>>> def loss(w, x, y):
...     return np.mean((np.tanh(x @ w) - y) ** 2)
>>> step = ad.compile(ad.value_and_grad(loss))
>>> value, gradient = step(np.zeros(2), np.eye(2), np.ones(2))
>>> value, gradient.tolist()
(np.float64(1.0), [-1.0, -1.0])
"""

import importlib
from typing import TYPE_CHECKING, Any

from autodiff import numpy
from autodiff.api import compile, grad, jvp, stop_gradient, value_and_grad, vjp  # noqa: A004
from autodiff.compiled import load
from autodiff.tensor import Tensor

if TYPE_CHECKING:
    from autodiff import optim, special, testing
    from autodiff.testing import check_grads
    from autodiff.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "Tensor",
    "check_grads",
    "compile",
    "get_num_threads",
    "grad",
    "jvp",
    "load",
    "numpy",
    "optim",
    "set_num_threads",
    "special",
    "stop_gradient",
    "testing",
    "value_and_grad",
    "vjp",
]

_LATER = {"check_grads": "testing", "get_num_threads": "threads", "set_num_threads": "threads"}


def __getattr__(name: str) -> Any:
    """What is imported when it is first asked for."""
    if name in _LATER:
        return getattr(importlib.import_module(f"autodiff.{_LATER[name]}"), name)
    if name in ("optim", "special", "testing"):
        return importlib.import_module(f"autodiff.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
