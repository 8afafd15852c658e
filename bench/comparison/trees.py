"""Nested lists and tuples of arrays, as the problems' arguments and results are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def leaves(tree: Any) -> list[Any]:
    """What is in the lists and tuples, from left to right."""
    return [x for branch in tree for x in leaves(branch)] if isinstance(tree, (list, tuple)) else [tree]


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same lists and tuples with the function's result for each leaf."""
    if isinstance(tree, (list, tuple)):
        return type(tree)([map_leaves(function, branch) for branch in tree])
    return function(tree)


def as_float64(tree: Any) -> Any:
    """Floating arrays in double precision; others stay."""
    return map_leaves(lambda x: np.asarray(x, np.float64) if np.asarray(x).dtype.kind == "f" else x, tree)


def relative_error(results: Any, references: Any) -> float:
    """The largest difference of a result to its reference, relative to the reference's largest magnitude."""
    worst = 0.0
    found, expected = leaves(results), leaves(references)
    if len(found) != len(expected):
        raise ValueError(f"{len(found)} results, not {len(expected)}")
    for result, reference in zip(found, expected, strict=True):
        x, y = np.asarray(result), np.asarray(reference)
        if x.shape != y.shape:
            raise ValueError(f"a result of shape {x.shape}, not {y.shape}")
        if not np.isfinite(x).all():
            return float("inf")
        scale = float(np.max(np.abs(y), initial=0.0)) or 1.0
        worst = max(worst, float(np.max(np.abs(x - y), initial=0.0)) / scale)
    return worst
