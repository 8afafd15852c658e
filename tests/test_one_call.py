"""Between arguments and results of a compiled function there is one call into the library and no Python."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

import autodiff as ad
from autodiff._caller import Caller


class Calls:
    """What a profiler hook sees: which library functions are called, and which Python frames begin during them."""

    def __init__(self, function: Callable[[], Any]):
        self.library: list[str] = []
        self.frames_inside: list[str] = []
        self.inside = False
        sys.setprofile(self.hook)
        try:
            self.result = function()
        finally:
            sys.setprofile(None)

    def hook(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and self.inside:
            self.frames_inside.append(frame.f_code.co_name)
        if event.startswith("c_") and isinstance(getattr(argument, "__self__", None), Caller):
            self.inside = event == "c_call"
            if self.inside:
                self.library.append(argument.__name__)


def loss(params: Any, x: Any, y: Any) -> Any:
    for w, b in params:
        x = np.tanh(x @ w + b)
    return np.mean((x - y) ** 2)


def test_training_step() -> None:
    random = np.random.default_rng(0)
    params = [(random.standard_normal((4, 8)), np.zeros(8)), (random.standard_normal((8, 3)), np.zeros(3))]
    x, y = random.standard_normal((16, 4)), random.standard_normal((16, 3))
    optimiser = ad.optim.adam(1e-2)

    @ad.compile(donate_argnums=(0, 1))
    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        value, gradient = ad.value_and_grad(loss)(params, x, y)
        return (*optimiser.update(gradient, state, params), value)

    state = optimiser.init(params)
    for _ in range(5):  # the first calls trace, compile, and generate the path of a call; all later ones are alike
        calls = Calls(lambda p=params, s=state: step(p, s, x, y))
        params, state, value = calls.result
    assert calls.library == ["run"]
    assert calls.frames_inside == []
    assert np.isfinite(value)


def test_no_python_at_all_around_a_small_call() -> None:
    """Arguments and results that are arrays alone need no generated code either."""
    f = ad.compile(lambda a, b: a * b)
    a, b = np.ones(3), np.ones(3)
    for _ in range(3):
        f(a, b)
    frames: list[str] = []

    def hook(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            frames.append(frame.f_code.co_filename)

    sys.setprofile(hook)
    try:
        f(a, b)
    finally:
        sys.setprofile(None)
    assert frames == []
