"""Softmax cross entropy of a batch: rows that are read once, if all goes well."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from comparison.row import Goal, Solution, ValueAndGradient
from comparison.trees import Array


def cross_entropy(logits: Any, labels: Any, np: Any = np) -> Any:
    """The mean over a batch."""
    z = logits - np.max(logits, axis=1, keepdims=True)
    log_p = z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))
    return -np.mean(log_p[np.arange(labels.shape[0]), labels])


def by_hand(logits: Array, labels: Array) -> tuple[Any, Array]:
    n = len(labels)
    rows = np.arange(n)
    z = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(z)
    total = p.sum(axis=1, keepdims=True)
    value = np.mean(np.log(total[:, 0]) - z[rows, labels])
    p /= total
    p[rows, labels] -= 1
    p /= n
    return value, p


class CrossEntropy(ValueAndGradient):
    name = "cross-entropy"
    run_goal = Goal(0.7, 0.5, "best peer")
    loss = staticmethod(cross_entropy)

    def __init__(self, n: int = 4096, classes: int = 512) -> None:
        self.n, self.classes = n, classes
        self.title = f"softmax cross entropy, {n} x {classes}, f32"

    def tiny(self) -> CrossEntropy:
        return CrossEntropy(6, 5)

    @cached_property
    def arguments(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(0)
        return rng.standard_normal((self.n, self.classes), np.float32), rng.integers(0, self.classes, self.n)

    def loss_of(self, peer: str, namespace: Any) -> Callable[..., Any]:
        if peer == "torch":
            return namespace.nn.functional.cross_entropy  # type: ignore[no-any-return]
        return super().loss_of(peer, namespace)

    def numpy(self) -> Solution:
        return by_hand
