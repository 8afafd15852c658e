"""Values that are only another way to look at a value in memory: an offset and strides, in elements."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from autodiff.ir import OPS, Node, Op, Shape, Value


class View(NamedTuple):
    """Element (i, j, ...) of a value is element `offset + i * strides[0] + j * strides[1] ...` of `root`."""

    root: Any
    offset: int
    strides: Shape


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


def reshaped(shape: Shape, strides: Shape, new: Shape) -> Shape | None:
    """The strides under which a view has another shape; None if it has to be copied for that."""
    if is_dense(shape, strides):
        return dense(new)
    old = [(d, s) for d, s in zip(shape, strides, strict=True) if d != 1]
    result: list[int] = []
    i = 0
    dims = list(new)
    at = 0
    while at < len(dims):
        if dims[at] == 1:
            result.append(0)
            at += 1
            continue
        # the fewest dimensions of both that cover the same elements
        first_old, first_new = i, at
        have, want = old[i][0], dims[at]
        i, at = i + 1, at + 1
        while have != want:
            if have < want:
                have *= old[i][0]
                i += 1
            else:
                want *= dims[at]
                at += 1
        for (_, outer), (d, inner) in zip(old[first_old : i - 1], old[first_old + 1 : i], strict=True):
            if outer != d * inner:
                return None
        step, group = old[i - 1][1], []
        for d in reversed(dims[first_new:at]):
            group.append(step)
            step *= d
        result.extend(reversed(group))
    return tuple(result)


def _broadcast(node: Node, shape: Shape, view: View) -> View:
    strides = [0] * len(node.params["shape"])
    for axis, stride in zip(node.params["axes"], view.strides, strict=True):
        strides[axis] = stride
    return View(view.root, view.offset, tuple(strides))


def _transpose(node: Node, shape: Shape, view: View) -> View:
    return View(view.root, view.offset, tuple([view.strides[i] for i in node.params["axes"]]))


def _slice(node: Node, shape: Shape, view: View) -> View:
    params = node.params
    strides = tuple([s * step for s, step in zip(view.strides, params["steps"], strict=True)])
    if 0 in params["shape"]:
        return View(view.root, view.offset, strides)
    start = sum([a * s for a, s in zip(params["starts"], view.strides, strict=True)])
    return View(view.root, view.offset + start, strides)


def _reshape(node: Node, shape: Shape, view: View) -> View | None:
    strides = reshaped(shape, view.strides, node.params["shape"])
    return None if strides is None else View(view.root, view.offset, strides)


def _same(node: Node, shape: Shape, view: View) -> View:
    return view


def _convert(node: Node, shape: Shape, view: View) -> View | None:
    return view if node.inputs[0].aval.dtype == node.params["dtype"] else None  # else it is arithmetic


VIEWS: dict[Op, Any] = {
    OPS["broadcast"]: _broadcast,
    OPS["transpose"]: _transpose,
    OPS["slice"]: _slice,
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
