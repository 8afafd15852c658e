"""Losses and layers, with their gradients, that run row by row: how many steps they are, and the same bits without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from random_graphs import same_bits

import autodiff as ad
from autodiff.executable import compile_graph
from autodiff.passes import ALL

Array = Any


def one_hot_loss(z: Array, t: Array) -> Array:
    s = z - np.max(z, axis=-1, keepdims=True)
    return -np.mean(np.sum(t * (s - np.log(np.sum(np.exp(s), axis=-1, keepdims=True))), axis=-1))


def log_softmax(z: Array) -> Array:
    s = z - np.max(z, axis=-1, keepdims=True)
    return s - np.log(np.sum(np.exp(s), axis=-1, keepdims=True))


def label_loss(z: Array, y: Array) -> Array:
    return -np.mean(log_softmax(z)[np.arange(z.shape[0]), y])


def label_loss_of_sequences(z: Array, y: Array) -> Array:
    n, length, _ = z.shape
    return -np.mean(log_softmax(z)[np.arange(n)[:, None], np.arange(length)[None, :], y])


def logits_at_labels(z: Array, y: Array) -> Array:
    """The labels pick from an argument, and not from what is computed."""
    return np.mean(np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(z.shape[0]), y])


def layer_norm(x: Array, gamma: Array, beta: Array, c: Array) -> Array:
    d = x - np.mean(x, axis=-1, keepdims=True)
    y = d / np.sqrt(np.mean(d * d, axis=-1, keepdims=True) + np.float32(1e-5)) * gamma + beta
    return np.sum(y * c)


def rms_norm(x: Array, gamma: Array) -> Array:
    y = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(1e-5)) * gamma
    return np.sum(y * y)


def masked_attention(s: Array, mask: Array, v: Array) -> Array:
    e = np.where(mask, np.exp(s - np.max(s, axis=-1, keepdims=True)), 0)
    return np.sum((e / np.sum(e, axis=-1, keepdims=True)) * v)


def variance(x: Array) -> Array:
    return np.sum(np.var(x, axis=1) ** 2)


def normal(*shape: int, dtype: str = "float32") -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


def integers(high: int, *shape: int) -> Array:
    return np.random.default_rng(0).integers(-high, high, shape)


def one_hot(n: int, classes: int) -> Array:
    return np.eye(classes, dtype=np.float32)[np.arange(n) % classes]


# The steps beside that of rows take the mean of the losses.
CASES: list[tuple[Callable[..., Any], tuple[Array, ...], tuple[int, ...], int]] = [
    (one_hot_loss, (normal(64, 10), one_hot(64, 10)), (0,), 2),
    (one_hot_loss, (normal(300, 33), one_hot(300, 33)), (0,), 2),
    (one_hot_loss, (normal(40, 700, dtype="float64"), one_hot(40, 700)), (0,), 2),
    (label_loss, (normal(64, 10), integers(10, 64)), (0,), 2),
    (label_loss, (normal(300, 33, dtype="float64"), integers(33, 300)), (0,), 2),
    (label_loss, (normal(60, 512), integers(512, 60)), (0,), 2),
    (label_loss_of_sequences, (normal(4, 5, 30), integers(30, 4, 5)), (0,), 2),
    (logits_at_labels, (normal(70, 40), integers(40, 70)), (0,), 2),
    (layer_norm, (normal(50, 64), normal(64), normal(64), normal(50, 64)), (0, 1, 2), 1),
    (layer_norm, (normal(3, 7, 33), normal(33), normal(33), normal(3, 7, 33)), (0, 1, 2), 1),
    (layer_norm, (normal(3, 2000), normal(2000), normal(2000), normal(3, 2000)), (0, 1, 2), 1),
    (rms_norm, (normal(50, 64), normal(64)), (0, 1), 1),
    (masked_attention, (normal(2, 3, 8, 8), normal(2, 3, 8, 8) > -1, normal(2, 3, 8, 8)), (0, 2), 1),
    (masked_attention, (normal(2, 4, 40, 50), normal(40, 50) > -1, normal(2, 4, 40, 50)), (0, 2), 1),
    (variance, (normal(70, 65, dtype="float64"),), (0,), 1),
]


def leaves(tree: Any) -> list[Array]:
    return [x for part in tree for x in leaves(part)] if isinstance(tree, tuple) else [np.asarray(tree)]


@pytest.mark.parametrize(("function", "arguments", "argnums", "steps"), CASES)
def test_value_and_gradient(
    function: Callable[..., Any], arguments: tuple[Array, ...], argnums: tuple[int, ...], steps: int
) -> None:
    step = ad.compile(ad.value_and_grad(function, argnums=argnums))
    executable = step.lower(*arguments)
    kinds = [str(executable.plan).count(f" {kind} ") for kind in ("rows", "map", "gather", "scatter_add")]
    assert len(executable.plan.steps) <= steps
    assert str(executable.plan).count("rows of") == 1, kinds
    results = leaves(step(*arguments))
    arrays = [np.asarray(x) for x in arguments]
    for passes in (ALL - {"rows"}, frozenset[str]()):
        for got, want in zip(results, compile_graph(executable.graph, passes=passes).run_flat(arrays), strict=True):
            assert same_bits(got, want), passes
    value = function(*[x.astype("float64") if x.dtype.kind == "f" else x for x in arguments])
    np.testing.assert_allclose(results[0], value, rtol=2e-5)


@pytest.mark.parametrize("wrong", [10, -11, 2**40])
def test_a_label_out_of_range_is_an_index_error(wrong: int) -> None:
    z, y = normal(64, 10), np.zeros(64, np.int64)
    y[50] = wrong
    step = ad.compile(ad.value_and_grad(label_loss))
    assert "rows of" in str(step.lower(z, y).plan)
    with pytest.raises(IndexError, match=f"index {wrong} is out of bounds for axis with size 10") as error:
        step(z, y)
    assert "test_row_regions.py" in str(error.value)


def test_rows_that_nothing_else_reads_are_not_read_for_their_labels() -> None:
    def picked(z: Array, x: Array, y: Array) -> Array:
        return z[np.arange(2000), y] + np.sum(np.exp(x), axis=1)

    executable = ad.compile(picked).lower(normal(2000, 100), normal(2000, 100) + 1, integers(100, 2000))
    assert "gather" in str(executable.plan)


def test_the_dump_shows_rows_numbers_and_positions() -> None:
    text = str(ad.compile(ad.grad(label_loss)).lower(normal(64, 10), integers(10, 64)).plan)
    for part in ("rows 64 rows of 10", "as position", "row_max.float32", "place.float32"):
        assert part in text


def scaled_exp(x: Array, t: Array) -> Array:
    return np.exp(x - np.max(x, axis=-1, keepdims=True)) * t


def squashed_norm(x: Array, t: Array) -> Array:
    d = x - np.mean(x, axis=-1, keepdims=True)
    return np.tanh(d / np.sqrt(np.mean(d * d, axis=-1, keepdims=True) + 1e-5)) * t


@pytest.mark.parametrize("length", [7, 70, 1000])
@pytest.mark.parametrize("function", [scaled_exp, squashed_norm])
def test_a_number_of_all_rows_is_not_overwritten_by_one_of_a_row(
    function: Callable[[Array, Array], Array], length: int
) -> None:
    """It is used only after a row's own number has been used for the last time."""
    x = np.random.default_rng(0).standard_normal((64, length))
    want = function(x, 3.0)
    for t in (3.0, np.float64(3.0), np.array(3.0)):
        np.testing.assert_allclose(ad.compile(function)(x, t), want, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(ad.compile(lambda x: function(x, 3.0))(x), want, rtol=1e-11, atol=1e-14)
