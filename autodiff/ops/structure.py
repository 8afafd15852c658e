"""Arrangement of elements: no arithmetic.

`slice` and `pad` are each other's transpose and take the same lattice: element i along an axis is at start + i * step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from autodiff.ir import Array, Aval, Node, Op, Shape, Tangents, Value
from autodiff.ops.base import LINEAR, joint_jvp, primitive, with_batch_axis


@lru_cache(maxsize=1024)
def _infer_broadcast(x: Aval, shape: Shape, axes: Shape) -> Aval:
    if len(axes) != len(x.shape) or list(axes) != sorted(set(axes)) or x.shape != tuple(shape[i] for i in axes):
        raise TypeError(f"broadcast: {x} does not lie along axes {axes} of {shape}")
    return Aval(shape, x.dtype)


def _broadcast_oracle(x: Array, shape: Shape, axes: Shape) -> Array:
    expanded = [d if i in axes else 1 for i, d in enumerate(shape)]
    return np.broadcast_to(np.reshape(x, expanded), shape)


def _batch_broadcast(node: Node, size: int, inputs: Sequence[Value], batched: Sequence[bool]) -> Sequence[Value]:
    shape, axes = node.params["shape"], node.params["axes"]
    return broadcast.emit(inputs[0], shape=(size, *shape), axes=(0, *[i + 1 for i in axes]))


def _transpose_broadcast(ct: Value, x: Value, shape: Shape, axes: Shape) -> Value:
    from autodiff.ops.arithmetic import neg
    from autodiff.ops.reduction import reduce_sum

    repeated = tuple(i for i in range(len(shape)) if i not in axes)
    if ct.node.op is neg:  # of fewer numbers: x - mean(x) and its like
        return -reduce_sum(ct.node.inputs[0], axes=repeated)
    return reduce_sum(ct, axes=repeated)


# broadcast(x, shape, axes): x's axis i becomes axis axes[i] of the result, which repeats along all other axes
broadcast = primitive(
    "broadcast",
    _broadcast_oracle,
    infer=_infer_broadcast,
    jvp=LINEAR,
    transpose=_transpose_broadcast,
    batch=_batch_broadcast,
)


@lru_cache(maxsize=1024)
def _infer_reshape(x: Aval, shape: Shape) -> Aval:
    result = Aval(shape, x.dtype)
    if result.size != x.size:
        raise TypeError(f"reshape: {x} has not the size of {shape}")
    return result


reshape: Op = primitive(
    "reshape",
    lambda x, shape: np.reshape(x, shape),
    infer=_infer_reshape,
    jvp=LINEAR,
    transpose=lambda ct, x, shape: reshape(ct, shape=x.shape),
    batch=lambda node, size, inputs, batched: reshape.emit(inputs[0], shape=(size, *node.params["shape"])),
)


@lru_cache(maxsize=1024)
def _infer_transpose(x: Aval, axes: Shape) -> Aval:
    if sorted(axes) != list(range(len(x.shape))):
        raise TypeError(f"transpose: {axes} is no permutation of the axes of {x}")
    return Aval(tuple(x.shape[i] for i in axes), x.dtype)


def inverse(axes: Shape) -> Shape:
    """The inverse of a permutation."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


transpose: Op = primitive(
    "transpose",
    lambda x, axes: np.transpose(x, axes),
    infer=_infer_transpose,
    jvp=LINEAR,
    transpose=lambda ct, x, axes: transpose(ct, axes=inverse(axes)),
    batch=lambda node, size, inputs, batched: transpose.emit(
        inputs[0], axes=(0, *[i + 1 for i in node.params["axes"]])
    ),
)


def _check_lattice(name: str, whole: Shape, part: Shape, starts: Shape, steps: Shape) -> None:
    if not len(whole) == len(part) == len(starts) == len(steps):
        raise TypeError(f"{name}: starts {starts}, steps {steps} and shape {part} do not fit {whole}")
    for n, m, start, step in zip(whole, part, starts, steps, strict=True):
        last = start + (m - 1) * step
        if m and not (step and 0 <= start < n and 0 <= last < n):
            raise TypeError(f"{name}: elements {start}, {start + step} ... {last} are not all within {n}")


@lru_cache(maxsize=1024)
def _infer_slice(x: Aval, starts: Shape, steps: Shape, shape: Shape) -> Aval:
    _check_lattice("slice", x.shape, shape, starts, steps)
    return Aval(shape, x.dtype)


@lru_cache(maxsize=1024)
def _infer_pad(x: Aval, starts: Shape, steps: Shape, shape: Shape) -> Aval:
    _check_lattice("pad", shape, x.shape, starts, steps)
    return Aval(shape, x.dtype)


slice_type = slice  # the primitive below takes the name


def lattice(starts: Shape, steps: Shape, shape: Shape) -> tuple[slice_type, ...]:
    """The lattice as NumPy slices."""
    stops = [start + n * step for start, step, n in zip(starts, steps, shape, strict=True)]
    return tuple(
        slice_type(0, 0) if n == 0 else slice_type(start, stop if stop >= 0 else None, step)
        for start, stop, step, n in zip(starts, stops, steps, shape, strict=True)
    )


def _slice_oracle(x: Array, starts: Shape, steps: Shape, shape: Shape) -> Array:
    return x[lattice(starts, steps, shape)]


def _pad_oracle(x: Array, starts: Shape, steps: Shape, shape: Shape) -> Array:
    result = np.zeros(shape, x.dtype)
    result[lattice(starts, steps, x.shape)] = x
    return result


def _batch_lattice(node: Node, size: int, inputs: Sequence[Value], batched: Sequence[bool]) -> Sequence[Value]:
    starts, steps, shape = node.params["starts"], node.params["steps"], node.params["shape"]
    return node.op.emit(inputs[0], starts=(0, *starts), steps=(1, *steps), shape=(size, *shape))


# slice(x, starts, steps, shape): the elements of x on a lattice
slice: Op = primitive(
    "slice",
    _slice_oracle,
    infer=_infer_slice,
    jvp=LINEAR,
    transpose=lambda ct, x, starts, steps, shape: pad(ct, starts=starts, steps=steps, shape=x.shape),
    batch=_batch_lattice,
    selects=True,
)

# pad(x, starts, steps, shape): zeros of that shape with x on a lattice
pad: Op = primitive(
    "pad",
    _pad_oracle,
    infer=_infer_pad,
    jvp=LINEAR,
    transpose=lambda ct, x, starts, steps, shape: slice(ct, starts=starts, steps=steps, shape=x.shape),
    batch=_batch_lattice,
)


def _infer_concatenate(*avals: Aval, axis: int) -> Aval:
    first = avals[0]
    if not 0 <= axis < len(first.shape):
        raise TypeError(f"concatenate: {first} has no axis {axis}")
    for aval in avals:
        if (
            aval.dtype != first.dtype
            or len(aval.shape) != len(first.shape)
            or any(a != b for i, (a, b) in enumerate(zip(aval.shape, first.shape, strict=True)) if i != axis)
        ):
            raise TypeError(f"concatenate: {first} and {aval} do not join along axis {axis}")
    shape = list(first.shape)
    shape[axis] = sum(aval.shape[axis] for aval in avals)
    return Aval(tuple(shape), first.dtype)


def _transpose_concatenate(node: Node, cotangents: Tangents, linear: Sequence[bool]) -> Tangents:
    (ct,) = cotangents
    assert ct is not None
    axis, start = node.params["axis"], 0
    results: list[Value | None] = []
    for x, flag in zip(node.inputs, linear, strict=True):
        starts = tuple(start if i == axis else 0 for i in range(x.ndim))
        results.append(slice(ct, starts=starts, steps=(1,) * x.ndim, shape=x.shape) if flag else None)
        start += x.shape[axis]
    return results


def _batch_concatenate(node: Node, size: int, inputs: Sequence[Value], batched: Sequence[bool]) -> Sequence[Value]:
    operands = [with_batch_axis(x, size, b) for x, b in zip(inputs, batched, strict=True)]
    return concatenate.emit(*operands, axis=node.params["axis"] + 1)


concatenate = primitive(
    "concatenate",
    lambda *xs, axis: np.concatenate(xs, axis),
    infer=_infer_concatenate,
    jvp_rule=joint_jvp(0),
    transpose_rule=_transpose_concatenate,
    batch=_batch_concatenate,
)
