"""A Hessian-vector product: forward mode over reverse mode, matrix-vector products and a softmax."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np

from comparison import adapters
from comparison.row import Goal, Row, Solution
from comparison.trees import Array


def log_sum_exp(x: Any, a: Any, np: Any = np) -> Any:
    z = a @ x
    largest = np.max(z)
    return largest + np.log(np.sum(np.exp(z - largest))) + x @ x / 2


def by_hand(x: Array, v: Array, a: Array) -> Array:
    z = a @ x
    p = np.exp(z - z.max())
    p /= p.sum()
    changed = a @ v
    product: Array = (p * (changed - p @ changed)) @ a
    product += v
    return product


class HessianVector(Row):
    name = "hvp"
    run_goal = Goal(0.6, 0.35, "NumPy by hand")

    def __init__(self, m: int = 200, n: int = 100) -> None:
        self.m, self.n = m, n
        self.title = f"Hessian-vector product of logsumexp(A x) + x·x/2, A {m}x{n}, f64"

    def tiny(self) -> HessianVector:
        return HessianVector(7, 5)

    @cached_property
    def arguments(self) -> tuple[Array, Array, Array]:
        rng = np.random.default_rng(0)
        return rng.standard_normal(self.n), rng.standard_normal(self.n), rng.standard_normal((self.m, self.n))

    def numpy(self) -> Solution:
        return by_hand

    def autodiff(self) -> Solution:
        import autodiff as ad

        def product(x: Any, v: Any, a: Any) -> Any:
            return ad.jvp(lambda x: ad.grad(log_sum_exp)(x, a), (x,), (v,))[1]

        return ad.compile(product)

    def autograd(self) -> Solution:
        import autograd.numpy
        from autograd.differential_operators import hessian_vector_product

        product = hessian_vector_product(partial(log_sum_exp, np=autograd.numpy))
        return lambda x, v, a: product(x, a, v)

    def jax(self) -> Solution:
        import jax

        loss = partial(log_sum_exp, np=jax.numpy)
        return adapters.jax(lambda x, v, a: jax.jvp(lambda x: jax.grad(loss)(x, a), (x,), (v,))[1])

    def torch(self) -> Solution:
        import torch

        def product(x: Any, v: Any, a: Any) -> Any:
            (gradient,) = torch.autograd.grad(log_sum_exp(x.requires_grad_(), a, torch), x, create_graph=True)
            return torch.autograd.grad(gradient, x, v)

        return adapters.torch_function(product)

    def torch_compile(self) -> Solution:
        import torch
        from torch.func import grad, jvp

        loss = partial(log_sum_exp, np=torch)
        compiled = torch.compile(lambda x, v, a: jvp(lambda x: grad(loss)(x, a), (x,), (v,))[1])
        return adapters.torch_function(compiled)

    def pytensor(self) -> Solution:
        return self.by_pytensor(c=False)

    def pytensor_c(self) -> Solution:
        return self.by_pytensor(c=True)

    def by_pytensor(self, c: bool) -> Solution:
        import pytensor
        import pytensor.tensor as pt

        x, v, a = symbols = adapters.pytensor_symbols(self.arguments)
        product = pytensor.grad(pytensor.grad(log_sum_exp(x, a, pt), x) @ v, x)
        return adapters.pytensor_function(symbols, [product], c=c)

    def casadi(self) -> Solution:
        return self.by_casadi(c=False)

    def casadi_c(self) -> Solution:
        return self.by_casadi(c=True)

    def by_casadi(self, c: bool) -> Solution:
        import casadi

        symbols, (x, v, a) = adapters.casadi_symbols("MX", self.arguments)
        value = casadi.logsumexp(a @ x) + casadi.dot(x, x) / 2
        product = casadi.jtimes(casadi.gradient(value, x), x, v)
        return adapters.casadi_function(symbols, [product], [(self.n,)], c=c)
