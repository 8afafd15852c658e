"""Awkward numbers, and reductions of them in the order that csrc/kernels/reduce.inc states, in Python."""

from __future__ import annotations

from typing import Any

import numpy as np
from native_plans import MAX, MIN, SUM, Array


def numbers(dtype: str, shape: Any, seed: int = 0) -> Array:
    """Random numbers with all the awkward ones among them."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype).kind
    if kind == "b":
        return rng.random(shape) < 0.5
    if kind in "iu":
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
        special = [0, 1, 2, info.max, info.min, info.max // 2]
    else:
        info = np.finfo(dtype)
        x = (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)).astype(dtype)
        special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, info.max, info.tiny, info.smallest_subnormal, 0.5]
    chosen = rng.random(shape) < 0.25
    return np.where(chosen, rng.choice(np.array(special, dtype), shape), x).astype(dtype)


def same(got: Array, want: Array) -> None:
    """Bit for bit, but all NaNs alike."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.dtype.kind == "f":
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        got, want = np.where(np.isnan(got), 0, got), np.where(np.isnan(want), 0, want)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want))
    np.testing.assert_array_equal(got, want)


def fold(partials: list[Array], operation: Any) -> Array:
    """Parts combine as a binary counter carries; what is left, from the youngest to the oldest."""
    levels: list[tuple[int, Array]] = []
    for part in partials:
        levels.append((1, part))
        while len(levels) > 1 and levels[-1][0] == levels[-2][0]:
            (count, younger), (_, older) = levels.pop(), levels.pop()
            levels.append((2 * count, operation(older, younger)))
    total = levels.pop()[1]
    while levels:
        total = operation(levels.pop()[1], total)
    return total


def neutral(role: int, dtype: str) -> Any:
    if np.dtype(dtype).kind == "f":
        return {SUM: -0.0, MAX: -np.inf, MIN: np.inf}[role]
    if dtype == "bool":
        return role == MIN
    return {SUM: 0, MAX: np.iinfo(dtype).min, MIN: np.iinfo(dtype).max}[role]


OPERATIONS = {SUM: np.add, MAX: np.maximum, MIN: np.minimum}


def reduce_row(row: Array, role: int) -> Array:
    operation, parts = OPERATIONS[role], []
    for start in range(0, len(row), 512):
        lanes = np.full(32, neutral(role, row.dtype.name), row.dtype)
        for at in range(start, min(start + 512, len(row)), 32):
            piece = row[at : min(at + 32, start + 512)]
            lanes[: len(piece)] = operation(lanes[: len(piece)], piece)
        for step in (16, 8, 4, 2, 1):
            lanes = operation(lanes[:step], lanes[step : 2 * step])
        parts.append(lanes[0])
    return fold(parts, operation)


def reduce_rows(rows: Array, role: int) -> Array:
    operation, parts = OPERATIONS[role], []
    for start in range(0, len(rows), 16):
        total = np.full(rows.shape[1:], neutral(role, rows.dtype.name), rows.dtype)
        for row in rows[start : start + 16]:
            total = operation(total, row)
        parts.append(total)
    return fold(parts, operation)


def reduction(x: Array, n_outer: int, n_reduced: int, role: int) -> Array:
    """The stated order, in Python."""
    with np.errstate(all="ignore"):
        return _reduction(x, n_outer, n_reduced, role)


def _reduction(x: Array, n_outer: int, n_reduced: int, role: int) -> Array:
    kept = x.shape[:n_outer] + x.shape[n_outer + n_reduced :]
    outer = int(np.prod(x.shape[:n_outer]))
    reduced = int(np.prod(x.shape[n_outer : n_outer + n_reduced]))
    cube = x.reshape(outer, reduced, -1)
    if cube.shape[2] == 1:
        return np.array([reduce_row(row, role) for row in cube[:, :, 0]], x.dtype).reshape(kept)
    return np.array([reduce_rows(rows, role) for rows in cube], x.dtype).reshape(kept)
