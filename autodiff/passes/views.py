"""Values that are only another way to look at a value in memory: an offset and strides, in elements, and a window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

from autodiff.ir import OPS, Node, Op, Shape, Value

Window = tuple[tuple[int, int], ...]
"""In each dimension the indices [low, high) that lie in memory, some at least; all other elements are zero."""


class View(NamedTuple):
    """Element (i, j, ...) of a value is element `offset + i * strides[0] + j * strides[1] ...` of `root`.

    With a window, that is so within it, and element (0, 0, ...) need not be there.
    """

    root: Any
    offset: int
    strides: Shape
    window: Window | None = None


@lru_cache(maxsize=4096)
def dense(shape: Shape) -> Shape:
    """The strides of elements that lie one after the other in row-major order."""
    strides, n = [], 1
    for d in reversed(shape):
        strides.append(n)
        n *= d
    return tuple(reversed(strides))


@lru_cache(maxsize=4096)
def squeezed(shape: Shape) -> Shape:
    """The dimensions that are longer (or shorter) than 1."""
    return tuple([d for d in shape if d != 1])


def squeezed_window(shape: Shape, window: Window | None) -> Window | None:
    """A window along the dimensions that are not 1 long."""
    return None if window is None else tuple([limits for d, limits in zip(shape, window, strict=True) if d != 1])


def squeezed_strides(shape: Shape, strides: Shape) -> Shape:
    """Strides along the dimensions that are not 1 long."""
    return tuple([s for d, s in zip(shape, strides, strict=True) if d != 1])


def is_dense(shape: Shape, strides: Shape) -> bool:
    """Whether the elements lie one after the other in row-major order; strides that lead nowhere do not matter."""
    if strides == dense(shape) or 0 in shape:
        return True
    n = 1
    for d, s in zip(reversed(shape), reversed(strides), strict=True):
        if d != 1:
            if s != n:
                return False
            n *= d
    return True


def _groups(shape: Shape, new: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """The fewest dimensions of both shapes that cover the same elements; those of length 1 are left out."""
    olds, news = ([i for i, d in enumerate(dims) if d != 1] for dims in (shape, new))
    i = j = 0
    while i < len(olds):
        first_old, first_new, have, want = i, j, shape[olds[i]], new[news[j]]
        i, j = i + 1, j + 1
        while have != want:
            if have < want:
                have *= shape[olds[i]]
                i += 1
            else:
                want *= new[news[j]]
                j += 1
        yield olds[first_old:i], news[first_new:j]


def reshaped(shape: Shape, strides: Shape, new: Shape) -> Shape | None:
    """The strides under which a view has another shape; None if it has to be copied for that."""
    if is_dense(shape, strides):
        return dense(new)
    result = [0] * len(new)
    for olds, news in _groups(shape, new):
        if any(strides[i] != shape[j] * strides[j] for i, j in pairwise(olds)):
            return None
        step = strides[olds[-1]]
        for i in reversed(news):
            result[i] = step
            step *= new[i]
    return tuple(result)


def reshaped_window(shape: Shape, window: Window, new: Shape) -> Window | None:
    """The window of a view that is given another shape; None if it would not be one."""
    result = [(0, d) for d in new]
    for olds, news in _groups(shape, new):
        if any(window[i] != (0, shape[i]) for i in olds[1:]):
            return None
        row = prod([shape[i] for i in olds[1:]])
        (low, cut_low), (high, cut_high) = (divmod(n * row, prod([new[i] for i in news[1:]])) for n in window[olds[0]])
        if cut_low or cut_high:
            return None
        result[news[0]] = low, high
    return tuple(result)


def _windowed(view: View, shape: Shape, window: Iterable[tuple[int, int]] | None) -> View | None:
    """A view through a window, if there is anything in that."""
    if 0 in shape:
        return View(view.root, 0, view.strides)
    if window is None:
        return view
    window = tuple([(max(low, 0), min(high, d)) for (low, high), d in zip(window, shape, strict=True)])
    if any(low >= high for low, high in window):
        return None
    if all(high - low == d for (low, high), d in zip(window, shape, strict=True)):
        return view
    return View(view.root, view.offset, view.strides, window)


def _broadcast(node: Node, shape: Shape, view: View) -> View | None:
    new, axes = node.params["shape"], node.params["axes"]
    strides = [0] * len(new)
    for axis, stride in zip(axes, view.strides, strict=True):
        strides[axis] = stride
    if view.window is None:
        return View(view.root, view.offset, tuple(strides))
    window = [(0, d) for d in new]
    for axis, limits in zip(axes, view.window, strict=True):
        window[axis] = limits
    return _windowed(View(view.root, view.offset, tuple(strides)), new, window)


def _transpose(node: Node, shape: Shape, view: View) -> View:
    axes = node.params["axes"]
    window = None if view.window is None else tuple([view.window[i] for i in axes])
    return View(view.root, view.offset, tuple([view.strides[i] for i in axes]), window)


def _slice(node: Node, shape: Shape, view: View) -> View | None:
    starts, steps, new = node.params["starts"], node.params["steps"], node.params["shape"]
    strides = tuple([s * step for s, step in zip(view.strides, steps, strict=True)])
    offset = view.offset + sum([a * s for a, s in zip(starts, view.strides, strict=True)])
    window = None if view.window is None else [_between(*each) for each in zip(view.window, starts, steps, strict=True)]
    return _windowed(View(view.root, offset, strides), new, window)


def _between(limits: tuple[int, int], start: int, step: int) -> tuple[int, int]:
    """For which i `start + i * step` is within limits."""
    low, high = limits[0] - start, limits[1] - 1 - start
    if step < 0:
        low, high, step = -high, -low, -step
    return -(-low // step), high // step + 1


def _pad(node: Node, shape: Shape, view: View) -> View | None:
    starts, steps, new = node.params["starts"], node.params["steps"], node.params["shape"]
    if 0 in shape or any(abs(step) != 1 and d != 1 for step, d in zip(steps, shape, strict=True)):
        return None  # a window has no holes
    strides = tuple([s * step if d != 1 else 0 for s, step, d in zip(view.strides, steps, shape, strict=True)])
    offset = view.offset - sum([a * s for a, s in zip(starts, strides, strict=True)])
    inner = view.window or [(0, d) for d in shape]
    window = [
        (start + low, start + high) if step > 0 or d == 1 else (start - high + 1, start - low + 1)
        for (low, high), start, step, d in zip(inner, starts, steps, shape, strict=True)
    ]
    return _windowed(View(view.root, offset, strides), new, window)


def _reshape(node: Node, shape: Shape, view: View) -> View | None:
    new = node.params["shape"]
    strides = reshaped(shape, view.strides, new)
    if strides is None or view.window is None:
        return None if strides is None else View(view.root, view.offset, strides)
    window = reshaped_window(shape, view.window, new)
    return None if window is None else View(view.root, view.offset, strides, window)


def _same(node: Node, shape: Shape, view: View) -> View:
    return view


def _convert(node: Node, shape: Shape, view: View) -> View | None:
    return view if node.inputs[0].aval.dtype == node.params["dtype"] else None  # else it is arithmetic


VIEWS: dict[Op, Any] = {
    OPS["broadcast"]: _broadcast,
    OPS["transpose"]: _transpose,
    OPS["slice"]: _slice,
    OPS["pad"]: _pad,
    OPS["reshape"]: _reshape,
    OPS["identity"]: _same,
    OPS["stop_gradient"]: _same,
    OPS["convert"]: _convert,
}
"""How each op that moves nothing looks at its operand, given the operand's shape and view."""


def look(node: Node, views: dict[Value, View]) -> View | None:
    """The node's value as a view, given those of the values before it; None if it has to be computed."""
    rule = VIEWS.get(node.op)
    if rule is None:
        return None
    x = node.inputs[0]
    shape = x.aval.shape
    view = views.get(x)
    result: View | None = rule(node, shape, View(x, 0, dense(shape)) if view is None else view)
    return result
