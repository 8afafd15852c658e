"""For tests: derivatives against finite differences, and the choice of an instruction set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from autodiff import api
from autodiff._native import lib
from autodiff.derivative import Subject
from autodiff.ir import Array
from autodiff.pytree import flatten, flatten_like

Function = Callable[..., Any]

_ORDINALS = ("zeroth", "first", "second", "third")


def check_grads(
    f: Function,
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    *,
    eps: float = 1e-5,
    rtol: float = 1e-6,
    atol: float = 1e-6,
    seed: int = 0,
) -> None:
    """Check a function's derivatives against central finite differences, in random directions.

    Args:
        f: of trees of arrays; returns one.  It must be smooth around `args`.
        args: its arguments.  Floating arrays and numbers are varied, in float64 whatever their dtype; all else is held.
        order: how often to differentiate.
        modes: "fwd" (jvp), "rev" (vjp); at higher orders each is applied to each.
        eps: half the distance of the two points whose difference is taken, relative to each element or to 1.
        rtol: how much the two numbers may differ, relative to the larger one.
        atol: how much they may differ besides.
        seed: of the directions.

    Raises:
        AssertionError: where they differ more, naming the argument and both numbers.

    >>> import numpy as np
    >>> check_grads(lambda x, y: np.sin(x) * y, (np.array([1.0, 2.0]), 3.0))
    """
    if unknown := set(modes) - {"fwd", "rev"}:
        raise ValueError(f"modes are 'fwd' and 'rev', not {', '.join(map(repr, sorted(unknown)))}")
    leaves, structure = flatten(tuple(args))
    wanted = [i for i, x in enumerate(leaves) if _is_floating(x)]
    if not wanted:
        raise TypeError("check_grads: no argument is floating, so there is nothing to differentiate by")
    parameters = Subject("check_grads", f).parameters
    names = [parameters.positional(i) + path for i, tree in enumerate(structure.subtrees()) for path in tree.paths()]

    def of_wanted(*xs: Any) -> Any:
        full = list(leaves)
        for i, x in zip(wanted, xs, strict=True):
            full[i] = x
        return f(*structure.unflatten(full))

    xs = [np.array(leaves[i], np.float64) for i in wanted]
    check = _Check(parameters.name, [names[i] for i in wanted], tuple(modes), (eps, rtol, atol), seed)
    check.run(of_wanted, xs, order, "")


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """Prepare what is compiled meanwhile for an instruction set of the machine: "base", "avx2", "avx512".

    What has been compiled before keeps its own.  The choice is the whole process's.

    Raises:
        ValueError: if this build or this machine does not have it.

    >>> import numpy as np
    >>> import autodiff as ad
    >>> with ad.testing.instruction_set("base"):
    ...     executable = ad.compile(np.sin).lower(1.0)
    >>> executable.isa
    'base'
    """
    before = lib.ad_isa_selected()
    if lib.ad_isa_select(name.encode()) != lib.AD_OK:
        raise ValueError(f"there is no instruction set {name!r} here")
    try:
        yield
    finally:
        lib.ad_isa_select(before)


def _is_floating(x: Any) -> bool:
    return type(x) is float or (isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind == "f")


class _Check:
    def __init__(
        self, name: str, names: Sequence[str], modes: Sequence[str], numbers: tuple[float, float, float], seed: int
    ):
        self.name = name
        self.names = names
        self.modes = modes
        self.eps, self.rtol, self.atol = numbers
        self.random = np.random.default_rng(seed)

    def run(self, f: Function, xs: list[Array], order: int, history: str) -> None:
        """Check the first derivative of `f` and then, of that, the others."""
        if order == 0:
            return
        directions = [self._direction(x) for x in xs]
        for mode in self.modes:
            self._check(f, xs, directions, mode, history)
        for mode in self.modes:
            derivative = self._forward(f, directions) if mode == "fwd" else self._reverse(f, xs)
            self.run(derivative, xs, order - 1, f"{mode} of {history}" if history else mode)

    def _direction(self, x: Array) -> Array:
        return np.asarray(self.random.standard_normal(x.shape) * np.maximum(np.abs(x), 1))

    def _forward(self, f: Function, directions: Sequence[Array]) -> Function:
        return lambda *xs: api.jvp(f, xs, directions)[1]

    def _reverse(self, f: Function, xs: Sequence[Array]) -> Function:
        cotangents = self._cotangents(f, xs)
        return lambda *xs: api.vjp(f, *xs)[1](cotangents)

    def _cotangents(self, f: Function, xs: Sequence[Array]) -> Any:
        leaves, structure = flatten(api.vjp(f, *xs)[0])
        if not any(map(_is_floating, leaves)):
            raise TypeError(f"check_grads: no result of {self.name} is floating, so there is nothing to differentiate")
        return structure.unflatten(
            [np.asarray(self.random.standard_normal(np.shape(y)), y.dtype) if _is_floating(y) else None for y in leaves]
        )

    def _check(self, f: Function, xs: list[Array], directions: list[Array], mode: str, history: str) -> None:
        """Along all directions at once; if that fails, by one argument after the other, to name it."""
        cotangents = self._cotangents(f, xs)
        if self._agree(f, xs, directions, cotangents, mode) is None:
            return
        zeros = [np.zeros_like(x) for x in xs]
        failures = []
        for i, name in enumerate(self.names):
            alone = [*zeros[:i], directions[i], *zeros[i + 1 :]]
            numbers = self._agree(f, xs, alone, cotangents, mode)
            if numbers is not None:
                failures.append((name, *numbers))
        if not failures:  # too little of each to notice
            numbers = self._agree(f, xs, directions, cotangents, mode)
            assert numbers is not None
            failures.append((", ".join(self.names), *numbers))
        what = f"derivative ({mode})" if not history else f"derivative ({mode} of {history})"
        raise AssertionError(
            "; ".join(
                f"{self.name}: the {what} with respect to argument {name} is {got:.10g} in a random direction, but "
                f"finite differences give {want:.10g}"
                for name, got, want in failures
            )
        )

    def _agree(
        self, f: Function, xs: list[Array], directions: list[Array], cotangents: Any, mode: str
    ) -> tuple[float, float] | None:
        """The derivative's number and that of finite differences, if they differ too much."""
        if mode == "fwd":
            got = _dot(cotangents, api.jvp(f, xs, directions)[1])
        else:
            bars = api.vjp(f, *xs)[1](cotangents)
            got = float(sum(np.vdot(v, bar) for v, bar in zip(directions, bars, strict=True)))
        ahead, behind = (
            _dot(cotangents, api.vjp(f, *[np.asarray(x + h * v) for x, v in zip(xs, directions, strict=True)])[0])
            for h in (self.eps, -self.eps)
        )
        want = (ahead - behind) / (2 * self.eps)
        rounding = 100 * np.finfo(np.float64).eps * max(abs(ahead), abs(behind)) / self.eps
        tolerance = self.rtol * max(abs(got), abs(want)) + self.atol + rounding
        return None if abs(got - want) <= tolerance else (got, want)


def _dot(cotangents: Any, tree: Any) -> float:
    """The sum of products of two trees, without those leaves that have no cotangent."""
    leaves, structure = flatten(tree)
    cts = flatten_like(structure, cotangents)
    return float(sum(np.vdot(ct, y) for ct, y in zip(cts, leaves, strict=True) if ct is not None))
