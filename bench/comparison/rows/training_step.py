"""A step of stochastic gradient descent on a perceptron: products of matrices, and what is fused around them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from comparison import adapters
from comparison.row import Goal, Row, Solution
from comparison.trees import Array, leaves, map_leaves

RATE = 0.1


def loss(layers: Any, x: Any, labels: Any, np: Any = np) -> Any:
    """Mean cross entropy; `labels` are one-hot, as all namespaces can multiply."""
    for weights, bias in layers[:-1]:
        x = np.maximum(x @ weights + bias, 0)
    weights, bias = layers[-1]
    z = x @ weights + bias
    z = z - np.max(z, axis=1, keepdims=True)
    return np.mean(np.log(np.sum(np.exp(z), axis=1)) - np.sum(z * labels, axis=1))


def by_hand(layers: Any, x: Array, labels: Array) -> Any:
    entered = []
    for weights, bias in layers:
        entered.append(x)
        x = x @ weights
        x += bias
        if len(entered) < len(layers):
            np.maximum(x, 0, out=x)
    z = x - x.max(axis=1, keepdims=True)
    p = np.exp(z)
    total = p.sum(axis=1, keepdims=True)
    value = np.mean(np.log(total[:, 0]) - np.sum(z * labels, axis=1))
    p /= total
    p -= labels
    p /= len(p)
    updated = []
    for (weights, bias), h in zip(reversed(layers), reversed(entered), strict=True):
        new = weights - RATE * (h.T @ p), bias - RATE * p.sum(axis=0)
        updated.append((new[0].astype(weights.dtype, copy=False), new[1].astype(bias.dtype, copy=False)))
        if h is not entered[0]:
            p = p @ weights.T
            p *= h > 0
    return value, updated[::-1]


class TrainingStep(Row):
    def __init__(self, name: str, sizes: Sequence[int], batch: int, run_goal: Goal) -> None:
        self.name, self.sizes, self.batch, self.run_goal = name, sizes, batch, run_goal
        self.title = f"training step of a {'-'.join(map(str, sizes))} perceptron, batch {batch}, f32"

    def tiny(self) -> TrainingStep:
        return TrainingStep(self.name, (5, 4, 3), 6, self.run_goal)

    @cached_property
    def arguments(self) -> tuple[Any, ...]:
        rng = np.random.default_rng(0)
        layers = [
            (rng.standard_normal((n, m), np.float32) * np.float32((2 / n) ** 0.5), np.full(m, 0.01, np.float32))
            for n, m in itertools.pairwise(self.sizes)
        ]
        labels = np.eye(self.sizes[-1], dtype=np.float32)[rng.integers(0, self.sizes[-1], self.batch)]
        return layers, rng.standard_normal((self.batch, self.sizes[0]), np.float32), labels

    def numpy(self) -> Solution:
        return by_hand

    def autodiff(self) -> Solution:
        import autodiff as ad

        def step(layers: Any, x: Any, labels: Any) -> Any:
            value, gradients = ad.value_and_grad(loss)(layers, x, labels)
            return value, _descended(layers, gradients)

        return ad.compile(step)

    def autograd(self) -> Solution:
        import autograd.numpy
        from autograd import value_and_grad

        differentiated = value_and_grad(partial(loss, np=autograd.numpy))

        def step(layers: Any, x: Array, labels: Array) -> Any:
            value, gradients = differentiated(layers, x, labels)
            return value, _descended(layers, gradients)

        return step

    def jax(self) -> Solution:
        import jax

        differentiated = jax.value_and_grad(partial(loss, np=jax.numpy))

        def step(layers: Any, x: Any, labels: Any) -> Any:
            value, gradients = differentiated(layers, x, labels)
            return value, _descended(layers, gradients)

        return adapters.jax(step)

    def torch(self) -> Solution:
        import torch

        def step(layers: Any, x: Any, labels: Any) -> Any:
            parameters = [p.requires_grad_() for p in leaves(layers)]
            value = _torch_loss(layers, x, labels)
            gradients = torch.autograd.grad(value, parameters)
            with torch.no_grad():
                return [value, *(p - RATE * g for p, g in zip(parameters, gradients, strict=True))]

        return adapters.torch_function(step)

    def torch_compile(self) -> Solution:
        import torch

        differentiated = torch.func.grad_and_value(_torch_loss)

        def step(layers: Any, x: Any, labels: Any) -> Any:
            gradients, value = differentiated(layers, x, labels)
            return value, _descended(layers, gradients)

        return adapters.torch_function(torch.compile(step))

    def pytensor(self) -> Solution:
        return self.by_pytensor(c=False)

    def pytensor_c(self) -> Solution:
        return self.by_pytensor(c=True)

    def by_pytensor(self, c: bool) -> Solution:
        import pytensor
        import pytensor.tensor as pt

        symbols = adapters.pytensor_symbols(self.arguments)
        layers, x, labels = symbols
        value = loss(layers, x, labels, np=pt)
        parameters = leaves(symbols[0])
        rate = np.float32(RATE)
        updated = [p - rate * g for p, g in zip(parameters, pytensor.grad(value, parameters), strict=True)]
        return adapters.pytensor_function(symbols, [value, *updated], c=c)


def _descended(layers: Any, gradients: Any) -> Any:
    steps = iter(leaves(gradients))
    return map_leaves(lambda p: p - RATE * next(steps), layers)


def _torch_loss(layers: Any, x: Any, labels: Any) -> Any:
    import torch

    for weights, bias in layers[:-1]:
        x = torch.relu(torch.addmm(bias, x, weights))
    weights, bias = layers[-1]
    return torch.nn.functional.cross_entropy(torch.addmm(bias, x, weights), labels)
