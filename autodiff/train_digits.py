"""The main job: learn to read handwritten digits, each training step one call into C.

The network, its loss and the training step are plain NumPy functions; `ad.compile` makes one plan of the whole step:
picking the batch, the forward pass, the gradient and Adam's update of the parameters in place.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import autodiff as ad
from autodiff import digits

Floats = NDArray[np.float32]
Layer = tuple[Any, Any]
"""Weights (inputs, outputs) and bias (outputs,): arrays, or tensors while the step is traced."""

SIZES = (64, 128, 10)
BATCH = 64
STEPS = 1500
RATE = 3e-3
SMOOTHING = 0.1
"""How much of a label's probability is spread over all digits, so that the network is not taught to be certain."""


class State(NamedTuple):
    """All that a training step changes."""

    layers: list[Layer]
    optimiser: Any


def logits(layers: list[Layer], images: Any) -> Any:
    """The network: images (n, 64) -> unnormalised log-probabilities of each digit (n, 10)."""
    hidden = images
    for weights, bias in layers[:-1]:
        hidden = np.maximum(hidden @ weights + bias, 0)
    weights, bias = layers[-1]
    return hidden @ weights + bias


def loss(layers: list[Layer], images: Any, labels: Any) -> Any:
    """Mean cross-entropy of smoothed labels."""
    z = logits(layers, images)
    z = z - np.max(z, axis=1, keepdims=True)
    log_p = z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))
    true = log_p[np.arange(len(labels)), labels]
    return -np.mean((1 - SMOOTHING) * true + SMOOTHING * np.mean(log_p, axis=1))


def step(state: State, images: Any, labels: Any, rows: Any, rate: Any) -> tuple[State, Any]:
    """One step of Adam on the batch `rows` of the training set: the new state and the loss before it."""
    value, gradient = ad.value_and_grad(loss)(state.layers, images[rows], labels[rows])
    layers, optimiser = ad.optim.adam(rate).update(gradient, state.optimiser, state.layers)
    return State(layers, optimiser), value


def initial(seed: int) -> State:
    """Random weights that keep the signals' size from layer to layer, and zero biases."""
    random = np.random.default_rng(seed)
    layers: list[Layer] = []
    for inputs, outputs in itertools.pairwise(SIZES):
        weights = random.standard_normal((inputs, outputs), np.float32) * np.float32(np.sqrt(2 / inputs))
        layers.append((weights, np.zeros(outputs, np.float32)))
    return State(layers, ad.optim.adam(RATE).init(layers))


def batches(seed: int, n: int, steps: int) -> Iterator[NDArray[np.int64]]:
    """Rows of `steps` batches: each image once, in random order, then all again in another."""
    random = np.random.default_rng(seed)
    rows = np.empty(0, np.int64)
    for _ in range(steps):
        if len(rows) < BATCH:
            rows = random.permutation(n)
        yield rows[:BATCH]
        rows = rows[BATCH:]


def compile_step() -> tuple[Any, float]:
    """The step as one executable, which updates the state's arrays in place, and the seconds it took to compile."""
    data, state, rows = digits.split(seed=0), initial(0), np.arange(BATCH)
    began = time.perf_counter()
    executable = ad.compile(step, donate_argnums=0).lower(state, data.train_images, data.train_labels, rows, RATE)
    return executable, time.perf_counter() - began


class Trained(NamedTuple):
    """What came of one training."""

    data: digits.Split
    layers: list[Layer]
    losses: list[float]
    predictions: NDArray[np.int64]
    accuracy: float  # on the held-out images
    seconds: float


def train(
    executable: Any, seed: int, steps: int = STEPS, progress: Callable[[int, float], None] | None = None
) -> Trained:
    """Train a network from scratch; the learning rate falls linearly to zero.

    `progress(step, loss)` is called after each step.
    """
    data = digits.split(seed)
    state = initial(seed)
    losses: list[float] = []
    began = time.perf_counter()
    for i, rows in enumerate(batches(seed, len(data.train_labels), steps)):
        state, value = executable(state, data.train_images, data.train_labels, rows, RATE * (1 - i / steps))
        losses.append(float(value))
        if progress:
            progress(i + 1, losses[-1])
    seconds = time.perf_counter() - began
    predictions = np.argmax(logits(state.layers, data.test_images), axis=1)  # plain NumPy: the same function
    accuracy = float(np.mean(predictions == data.test_labels))
    return Trained(data, state.layers, losses, predictions, accuracy, seconds)
