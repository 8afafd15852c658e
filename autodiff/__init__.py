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

from autodiff import numpy, optim, special, testing
from autodiff.api import compile, grad, jvp, stop_gradient, value_and_grad, vjp  # noqa: A004
from autodiff.compiled import load
from autodiff.tensor import Tensor
from autodiff.testing import check_grads

__version__ = "0.1.0"

__all__ = [
    "Tensor",
    "check_grads",
    "compile",
    "grad",
    "jvp",
    "load",
    "numpy",
    "optim",
    "special",
    "stop_gradient",
    "testing",
    "value_and_grad",
    "vjp",
]
