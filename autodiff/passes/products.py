"""Products of arrays of any rank and layout, as the matrix products that the kernels compute."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from autodiff.ir import Shape
from autodiff.ops.contraction import Axes, free_axes
from autodiff.passes.views import dense


class ProductLayout(NamedTuple):
    """A product's iteration space (batch..., m, n, k), and its operands' strides over that."""

    shape: Shape
    a: Shape
    b: Shape
    c: Shape


Dims = list[tuple[int, tuple[int, ...]]]
"""Sizes, and the strides of some operands."""


def merged(dims: Dims) -> Dims:
    """Dimensions longer than 1, those made one that all operands walk as one."""
    result: Dims = []
    for d, strides in dims:
        if d == 1:
            continue
        if result and all(outer == s * d for outer, s in zip(result[-1][1], strides, strict=True)):
            result[-1] = (result[-1][0] * d, strides)
        else:
            result.append((d, strides))
    return result


@lru_cache(maxsize=4096)
def product_layout(x: Shape, a: Shape, y: Shape, b: Shape, contract: Axes, batch: Axes) -> ProductLayout | None:
    """How to compute dot_general of operands of shapes x and y and strides a and b as matrix products.

    Whatever of the free axes does not merge into one becomes a batch axis.  None if the contracted axes do not merge.
    """
    free_x, free_y = free_axes(len(x), contract[0], batch[0]), free_axes(len(y), contract[1], batch[1])
    result = tuple([x[i] for i in batch[0] + free_x] + [y[i] for i in free_y])
    c = iter(dense(result))
    batches: Dims = [(x[i], (a[i], b[j], next(c))) for i, j in zip(*batch, strict=True)]
    rows = merged([(x[i], (a[i], 0, next(c))) for i in free_x])
    columns = merged([(y[i], (0, b[i], next(c))) for i in free_y])
    terms = merged([(x[i], (a[i], b[j], 0)) for i, j in zip(*contract, strict=True)])
    if len(terms) > 1:
        return None
    dims = merged(batches) + rows[:-1] + columns[:-1]
    for last in (rows, columns, terms):
        dims.append(last[-1] if last else (1, (0, 0, 0)))
    sizes, strides = zip(*dims, strict=True)
    return ProductLayout(tuple(sizes), *[tuple(s) for s in zip(*strides, strict=True)])
