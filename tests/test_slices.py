"""Gradients of code that takes arrays apart and puts them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff import ir
from autodiff.interpret import interpret
from autodiff.ir import FLOAT64, OPS, Array, Aval, Graph, Shape, Value
from autodiff.testing import check_grads
from autodiff.transforms import pullback

X = np.linspace(-1.0, 1.5, 12) ** 3
M = X.reshape(3, 4)


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def halves(x: Any) -> Any:
    a, b = np.split(x, 2)
    return np.sum(np.sin(a) * b)


def unpacked(x: Any) -> Any:
    a, b, c, *rest = x
    return a * np.sin(b) + c / (2 + rest[0] * rest[1]) + a * rest[-1]


def twice_the_same(x: Any) -> Any:
    return x[2] * np.sin(x[2:5]).sum() + x[2] ** 3 + x[-1] * x[2]


def all_but_some(x: Any) -> Any:
    return np.sum(np.exp(x[2:4] + 2)) + np.sum(x[7:9] ** 3) * x[0]


def diffusion(x: Any) -> Any:
    inner = x[1:-1] + 0.1 * (x[2:] - 2 * x[1:-1] + x[:-2])
    return np.sum(np.concatenate([x[:1], inner, x[-1:]]) ** 3)


def every_other(x: Any) -> Any:
    return np.sum(x[::2] * x[1::2]) + np.sum(x[::-1] * np.sin(x)) + x[5:2:-1] @ x[:3]


def stacked(x: Any) -> Any:
    a, b = x[0] * x[1], np.sin(x[2])
    return np.sum(np.stack([a, b, a - b, x[3]]) ** 2 * x[:4])


def columns(x: Any) -> Any:
    m = np.stack([x[:4] * x[4:8], np.sin(x[8:]), x[:4]], axis=1)
    return np.sum(m[:, 0] * m[:, 2]) + np.sum(np.tanh(m.T[1:]))


def written(x: Any) -> Any:
    y = np.zeros_like(x)
    y[1:-1] = x[2:] * x[:-2]
    y[0] = x[3]
    return np.sum(y * x)


def matrix(x: Any) -> Any:
    m = x.reshape(3, 4)
    return (
        m[0, 0] * m[1, 1] + m[2, 1] ** 3 + np.sum(m[:, 2]) * m[0, 1] + np.sum(m[1:] * m[:-1]) + np.sum(m[1:, 1:3] ** 2)
    )


def padded(x: Any) -> Any:
    return np.sum(np.sin(np.pad(x, (2, 1)) + 0.5) * np.pad(x**2, (0, 3))) + np.pad(x, 1)[:3] @ x[:3]


FUNCTIONS = [
    *[rosenbrock, halves, unpacked, twice_the_same, all_but_some, diffusion, every_other, stacked, columns, written],
    *[matrix, padded],
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_both_modes_agree_with_differences(function: Callable[[Any], Any]) -> None:
    check_grads(function, (X,), order=2)
    bare, compiled = ad.grad(function)(X), ad.compile(ad.grad(function))(X)
    np.testing.assert_allclose(compiled, bare, rtol=1e-13, atol=1e-13)
    tangent = np.cos(X)
    _, moved = ad.compile(lambda x: ad.jvp(function, (x,), (tangent,)))(X)
    np.testing.assert_allclose(compiled @ tangent, moved, rtol=1e-12, atol=1e-12)


def cotangent(function: Callable[[Value], Value], shape: Shape) -> tuple[Graph, list[Array]]:
    """The graph of a function's gradient, and what that is at numbers from 1 to 2."""
    with ir.building(ir.Builder(intern=True)):
        x = ir.argument(Aval(shape, FLOAT64))
        y = function(x)
        (ct,) = pullback([y], [x], [y.full_like(1.0)])
    assert ct is not None
    graph = Graph((x,), (ct,))
    ir.verify(graph)
    return graph, interpret(graph, np.linspace(1.0, 2.0, x.size).reshape(shape))


def part(x: Value, *limits: tuple[int, int]) -> Value:
    starts = tuple([start for start, _ in limits])
    shape = tuple([end - start for start, end in limits])
    y: Value = OPS["slice"](x, starts=starts, steps=(1,) * len(limits), shape=shape)
    return OPS["reduce_sum"](OPS["sin"](y), axes=tuple(range(len(limits))))


def added(x: Value, *boxes: tuple[tuple[int, int], ...]) -> Value:
    total = part(x, *boxes[0])
    for box in boxes[1:]:
        total = total + part(x, *box)
    return total


Box = tuple[tuple[int, int], ...]
BOXES: list[tuple[Shape, list[Box], dict[str, int]]] = [
    ((6,), [((0, 2),), ((2, 5),), ((5, 6),)], {"concatenate": 1}),
    ((6,), [((5, 6),), ((1, 3),)], {"concatenate": 1}),
    ((6,), [((0, 5),), ((1, 6),)], {"pad": 2, "add": 1}),
    ((6,), [((0, 4),), ((2, 6),), ((4, 6),), ((0, 2),)], {"concatenate": 2, "add": 1}),
    ((6,), [((2, 3),)], {"pad": 1}),
    ((6,), [((0, 6),)], {}),
    ((4, 5), [((i, i + 1), (j, j + 1)) for i in range(4) for j in range(5)], {"concatenate": 5}),
    ((4, 5), [((0, 2), (0, 5)), ((2, 4), (0, 2)), ((2, 4), (2, 5))], {"concatenate": 2}),
    ((4, 5), [((0, 4), (0, 1)), ((0, 4), (3, 5))], {"concatenate": 1}),
    ((4, 5), [((0, 4), (0, 5)), ((0, 4), (0, 1))], {"pad": 1, "add": 1}),
    ((0, 5), [((0, 0), (0, 5)), ((0, 0), (1, 3))], {"concatenate": 0}),
]


@pytest.mark.parametrize(("shape", "boxes", "counts"), BOXES)
def test_cotangents_of_slices_are_joined(shape: Shape, boxes: list[Box], counts: dict[str, int]) -> None:
    graph, (got,) = cotangent(lambda x: added(x, *boxes), shape)
    x = np.linspace(1.0, 2.0, got.size).reshape(shape)
    want = np.zeros(shape)
    for box in boxes:
        where = tuple(slice(*limits) for limits in box)
        want[where] += np.cos(x[where])
    np.testing.assert_allclose(got, want, rtol=1e-15)
    names = [node.op.name for node in graph.nodes]
    if got.size:
        assert {name: names.count(name) for name in ("concatenate", "pad", "add") if name in names} == counts


def test_unpacking_is_linear() -> None:
    """A thousand elements, one by one: the gradient is made in place, by no more nodes than the elements take."""

    def function(x: Any) -> Any:
        total = 0.0
        for i in range(len(x)):
            total = total + np.sin(x[i]) * (i + 1.0)
        return total

    x = np.linspace(0.0, 1.0, 1000)
    lowered = ad.compile(ad.grad(function)).lower(x)
    np.testing.assert_allclose(lowered(x), np.cos(x) * np.arange(1.0, 1001.0), rtol=1e-14)
    graph = lowered.graph
    assert graph is not None
    assert len(graph.nodes) < 7000
    assert "copy" not in str(lowered.plan)


def test_a_split_that_covers_everything_masks_nothing() -> None:
    """No zeros are put into the cotangent, so products above need not keep zeros."""

    def whole(x: Value) -> Value:
        y = OPS["exp"](x) * x
        return added(y, ((0, 3),), ((3, 6),))

    def half(x: Value) -> Value:
        y = OPS["exp"](x) * x
        return added(y, ((0, 3),), ((4, 6),))

    assert "scale" not in [node.op.name for node in cotangent(whole, (6,))[0].nodes]
    assert "scale" in [node.op.name for node in cotangent(half, (6,))[0].nodes]
