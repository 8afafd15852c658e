"""What a row of the table is: a problem, and how each peer solves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from comparison import adapters, limits
from comparison.trees import as_float64, leaves, map_leaves

Solution = Callable[..., Any]
"""Takes a problem's arguments, NumPy arrays; returns its results, the same for every peer."""


class Goal(NamedTuple):
    """What a time of this library is to reach: a multiple of a rival's, or seconds if there is no rival."""

    reach: float
    aim: float
    rival: str = ""  # a peer's name, or "best peer"


class Row:
    """A problem.  A peer that can solve it has a method of its name, which makes the solution.

    The method's time and that of the solution's first call are the *time to first gradient*; later calls are *runs*.
    """

    name: str  # in --rows
    title: str
    run_goal: Goal
    first_goal: Goal | None = None  # of the time to first gradient, where that is of interest

    @cached_property
    def arguments(self) -> tuple[Any, ...]:
        """What each solution is called with."""
        raise NotImplementedError

    def tiny(self) -> Row:
        """The same problem, so small that it takes no time: to warm up with, and for tests."""
        raise NotImplementedError

    def autodiff(self) -> Solution:
        raise NotImplementedError

    def numpy(self) -> Solution:
        """What a competent NumPy user would write by hand."""
        raise NotImplementedError

    def one_pass(self) -> Solution:
        """Not a solution, but a bound for them: C code that reads the arguments and writes the results, once each."""
        dtype = leaves(self.arguments)[0].dtype
        return limits.one_pass(self.arguments, map_leaves(lambda x: np.asarray(x, dtype), self.reference()))

    def reference(self) -> Any:
        """The results in double precision."""
        return self.numpy()(*as_float64(self.arguments))


class ValueAndGradient(Row):
    """The value and the gradient of a scalar function that is written once, in terms of a namespace like NumPy's."""

    loss: Callable[..., Any]  # a static method; its keyword `np` is the namespace, NumPy unless told otherwise
    argnums: Sequence[int] = (0,)

    def loss_of(self, peer: str, namespace: Any) -> Callable[..., Any]:
        """The function for one peer: other than NumPy's words are used where it has better ones."""
        return partial(self.loss, np=namespace)

    def autodiff(self) -> Solution:
        import autodiff as ad

        return ad.compile(ad.value_and_grad(self.loss, self.argnums))

    def autograd(self) -> Solution:
        import autograd.numpy
        from autograd import value_and_grad

        return value_and_grad(self.loss_of("autograd", autograd.numpy), tuple(self.argnums))  # type: ignore[no-any-return]

    def jax(self) -> Solution:
        import jax

        return adapters.jax(jax.value_and_grad(self.loss_of("jax", jax.numpy), tuple(self.argnums)))

    def torch(self) -> Solution:
        import torch

        return adapters.torch(self.loss_of("torch", torch), self.argnums)

    def torch_compile(self) -> Solution:
        import torch

        return adapters.torch_compile(self.loss_of("torch", torch), self.argnums)

    def pytensor(self) -> Solution:
        import pytensor.tensor

        return adapters.pytensor(self.loss_of("pytensor", pytensor.tensor), self.argnums, self.arguments, c=False)

    def pytensor_c(self) -> Solution:
        import pytensor.tensor

        return adapters.pytensor(self.loss_of("pytensor", pytensor.tensor), self.argnums, self.arguments, c=True)
