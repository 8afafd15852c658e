"""Prices of options and their five derivatives: vector maths."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np

from comparison import adapters
from comparison.row import Goal, Row, Solution
from comparison.trees import Array

BY = range(5)  # all arguments


def prices(spot: Any, strike: Any, years: Any, rate: Any, volatility: Any, *, np: Any, erf: Any) -> Any:
    """Of European call options."""
    deviation = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate + volatility**2 / 2) * years) / deviation
    d2 = d1 - deviation
    return spot * normal_cdf(d1, erf) - strike * np.exp(-rate * years) * normal_cdf(d2, erf)


def normal_cdf(x: Any, erf: Any) -> Any:
    return 0.5 * (1 + erf(x * 0.5**0.5))


def total_and_prices(*market: Any, np: Any, erf: Any) -> Any:
    """The gradient of the total has each option's derivatives."""
    each = prices(*market, np=np, erf=erf)
    return np.sum(each), each


def by_hand(spot: Array, strike: Array, years: Array, rate: Array, volatility: Array) -> Any:
    from scipy.special import erf

    root = np.sqrt(years)
    deviation = volatility * root
    d1 = (np.log(spot / strike) + (rate + 0.5 * volatility * volatility) * years) / deviation
    discounted = strike * np.exp(-rate * years)
    cdf1, cdf2 = normal_cdf(d1, erf), normal_cdf(d1 - deviation, erf)
    owed = discounted * cdf2
    vega = spot * root * np.exp(-0.5 * d1 * d1) * (2 * np.pi) ** -0.5
    each = spot * cdf1 - owed
    by_years = 0.5 * vega * volatility / years + rate * owed
    return each.sum(), each, cdf1, -owed / strike, by_years, years * owed, vega


class BlackScholes(Row):
    name = "black-scholes"
    run_goal = Goal(1.0, 0.7, "torch.compile")

    def __init__(self, n: int = 1_000_000) -> None:
        self.n = n
        self.title = f"Black-Scholes prices and 5 gradients, {n:,} options, f64"

    def tiny(self) -> BlackScholes:
        return BlackScholes(100)

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        ranges = [(80, 120), (80, 120), (0.1, 2), (0.01, 0.05), (0.1, 0.5)]
        return tuple([rng.uniform(low, high, self.n) for low, high in ranges])

    def numpy(self) -> Solution:
        return by_hand

    def autodiff(self) -> Solution:
        from scipy.special import erf

        import autodiff as ad

        return ad.compile(ad.value_and_grad(partial(total_and_prices, np=np, erf=erf), BY, has_aux=True))

    def autograd(self) -> Solution:
        import autograd
        import autograd.numpy
        import autograd.scipy.special

        of_all = partial(prices, np=autograd.numpy, erf=autograd.scipy.special.erf)

        def run(*market: Array) -> Any:
            pull, each = autograd.make_vjp(lambda market: of_all(*market))(market)
            return each.sum(), each, pull(np.ones_like(each))

        return run

    def jax(self) -> Solution:
        import jax

        function = partial(total_and_prices, np=jax.numpy, erf=jax.scipy.special.erf)
        return adapters.jax(jax.value_and_grad(function, tuple(BY), has_aux=True))

    def torch(self) -> Solution:
        import torch

        return adapters.torch(partial(total_and_prices, np=torch, erf=torch.erf), BY)

    def torch_compile(self) -> Solution:
        import torch

        return adapters.torch_compile(partial(total_and_prices, np=torch, erf=torch.erf), BY, has_aux=True)

    def pytensor(self) -> Solution:
        return self.by_pytensor(c=False)

    def pytensor_c(self) -> Solution:
        return self.by_pytensor(c=True)

    def by_pytensor(self, c: bool) -> Solution:
        import pytensor.tensor as pt

        return adapters.pytensor(partial(total_and_prices, np=pt, erf=pt.erf), BY, self.arguments, c=c)

    def casadi(self) -> Solution:
        return self.by_casadi(c=False)

    def casadi_c(self) -> Solution:
        return self.by_casadi(c=True)

    def by_casadi(self, c: bool) -> Solution:
        import casadi

        def loss(*market: Any) -> Any:
            each = prices(*market, np=casadi, erf=casadi.erf)
            return casadi.sum(each), each

        return adapters.casadi("MX", loss, BY, self.arguments, c=c)
