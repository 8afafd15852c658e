"""Masked branches contribute exactly zero: gradients where a formula that is not chosen is infinite or undefined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autodiff as ad

Function = Callable[[Any], Any]


def root(x: Any) -> Any:
    return np.sum(np.where(x > 0, np.sqrt(x), 0))


def sinc(x: Any) -> Any:
    return np.sum(np.where(x != 0, np.sin(x) / x, 1))


def direction(x: Any) -> Any:
    r = np.sqrt(np.sum(x * x))
    return np.sum(np.where(r > 0, x / r, 0))


def norm(x: Any) -> Any:
    r2 = np.sum(x * x)
    return np.where(r2 > 0, np.sqrt(r2), 0)


def bounded_exp(x: Any) -> Any:
    return np.sum(np.where(x < 700, np.exp(x), 0))


def power(x: Any) -> Any:
    return np.sum(np.where(x > 0, x**0.3, 0))


def logarithm(x: Any) -> Any:
    return np.sum(np.where(x > 0, x * np.log(x), 0))


def picked(x: Any) -> Any:
    return np.sum(np.sqrt(x)[1:] * 2)  # a slice selects too


def gathered(x: Any) -> Any:
    return np.sum((1 / x)[np.array([1, 1])])


CASES: list[tuple[Function, list[float], list[float]]] = [
    (root, [0.0], [0.0]),
    (root, [-1.0, 0.0, 4.0], [0.0, 0.0, 0.25]),
    (sinc, [0.0], [0.0]),
    (sinc, [0.0, np.pi / 2], [0.0, -((2 / np.pi) ** 2)]),
    (direction, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    (norm, [0.0, 0.0], [0.0, 0.0]),
    (norm, [3.0, 4.0], [0.6, 0.8]),
    (bounded_exp, [1000.0], [0.0]),
    (bounded_exp, [1000.0, 1.0], [0.0, np.e]),
    (power, [0.0, 1.0], [0.0, 0.3]),
    (logarithm, [0.0, 1.0], [0.0, 1.0]),
    (picked, [0.0, 1.0], [0.0, 1.0]),
    (gathered, [0.0, 2.0], [0.0, -0.5]),
]
IDS = [f"{f.__name__}{x}" for f, x, _ in CASES]

GRADIENTS: dict[str, Callable[[Function], Function]] = {
    "grad": ad.grad,
    "compile(grad)": lambda f: ad.compile(ad.grad(f)),
    "grad(compile)": lambda f: ad.grad(ad.compile(f)),
    "vjp": lambda f: lambda x: ad.vjp(f, x)[1](1.0)[0],
    "Tensor": lambda f: lambda x: (lambda t: f(t).grad(t))(ad.Tensor(x)),
}


@pytest.mark.parametrize(("f", "x", "want"), CASES, ids=IDS)
@pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS.keys())
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradient(
    gradient: Callable[[Function], Function], f: Function, x: list[float], want: list[float], dtype: Any
) -> None:
    got = gradient(f)(np.array(x, dtype))
    np.testing.assert_allclose(got, np.array(want, dtype), rtol=1e-6 if dtype is np.float32 else 1e-14, atol=0)
    assert got.dtype == dtype


@pytest.mark.parametrize(("f", "x", "want"), CASES, ids=IDS)
@pytest.mark.parametrize("compiled", [False, True])
def test_tangent(f: Function, x: list[float], want: list[float], compiled: bool) -> None:
    """Forward mode selects between tangents as it does between values."""
    apply = ad.compile(f) if compiled else f
    _, tangent = ad.jvp(apply, (np.array(x),), (np.ones(len(x)),))
    np.testing.assert_allclose(tangent, sum(want), rtol=1e-14)


@pytest.mark.parametrize(
    ("f", "x", "want"),
    [
        (root, [0.0, 4.0], [0.0, -1 / 32]),
        (sinc, [0.0], [0.0]),
        (norm, [0.0, 0.0], [0.0, 0.0]),
        (direction, [0.0, 0.0], [0.0, 0.0]),
        (bounded_exp, [1000.0, 0.0], [0.0, 1.0]),
        (logarithm, [0.0, 2.0], [0.0, 0.5]),
        (power, [0.0, 1.0], [0.0, -0.21]),
        (picked, [0.0, 1.0], [0.0, -0.5]),
        (gathered, [0.0, 1.0], [0.0, 4.0]),
    ],
)
@pytest.mark.parametrize("outer", ["rev", "fwd"])
@pytest.mark.parametrize("compiled", [False, True])
def test_second_order(f: Function, x: list[float], want: list[float], compiled: bool, outer: str) -> None:
    """The sums of the rows of the Hessian; those of the cases are symmetric, and mostly diagonal."""

    def reverse(x: Any) -> Any:
        return ad.grad(lambda x: np.sum(ad.grad(f)(x)))(x)

    def forward(x: Any) -> Any:
        return ad.jvp(ad.grad(f), (x,), (np.ones(x.shape),))[1]

    second = reverse if outer == "rev" else forward
    got = (ad.compile(second) if compiled else second)(np.array(x))
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=0)


def test_what_is_not_masked_is_plain_ieee() -> None:
    assert np.isinf(ad.grad(np.sqrt)(0.0))
    assert np.isnan(ad.grad(lambda x: 0.0 * np.sqrt(x))(0.0))
