"""Shapes, axes, joining and cutting of tensors against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_numpy import arrays, axes, check, dtypes, shapes
from hypothesis import given, settings
from hypothesis import strategies as st

few = settings(max_examples=40)


@given(x=arrays(), shape=st.lists(st.integers(-1, 4), max_size=4), order=st.sampled_from("CFA"))
@few
def test_reshape(x: Any, shape: Any, order: str) -> None:
    if order == "F" and x.size == 0:
        return
    check(lambda t: np.reshape(t, tuple(shape), order=order), x, exact=True)
    check(lambda t: t.reshape(*shape, order=order) if shape else t.reshape(()), x, exact=True)
    check(lambda t: (np.reshape(t, -1), np.ravel(t), t.ravel("F"), t.flatten()), x, exact=True)


@given(x=arrays(), order=st.one_of(st.none(), st.permutations(range(3)), st.lists(st.integers(-3, 2), max_size=3)))
@few
def test_transpose(x: Any, order: Any) -> None:
    check(lambda t: np.transpose(t, order), x, exact=True)
    check(lambda t: (t.T, t.transpose()), x, exact=True)
    check(lambda t: t.mT, x, exact=True)


@given(x=arrays(), a=st.integers(-3, 3), b=st.integers(-3, 3))
@few
def test_moving_axes(x: Any, a: int, b: int) -> None:
    check(lambda t: np.swapaxes(t, a, b), x, exact=True)
    check(lambda t: np.moveaxis(t, a, b), x, exact=True)
    check(lambda t: np.moveaxis(t, (0, 1), (a, b)), x, exact=True)
    check(lambda t: np.expand_dims(t, a), x, exact=True)
    check(lambda t: np.expand_dims(t, (a, b)), x, exact=True)
    check(lambda t: np.rot90(t, a, (0, b)), x, exact=True)


@given(x=arrays(), data=st.data())
@few
def test_squeeze_and_flip(x: Any, data: Any) -> None:
    axis = data.draw(axes(x.ndim))
    check(lambda t: np.squeeze(t, axis), x, exact=True)
    check(np.squeeze, x, exact=True)
    check(lambda t: np.flip(t, axis), x, exact=True)
    check(np.flipud, x, exact=True)
    check(np.fliplr, x, exact=True)


@given(x=arrays(), shape=shapes)
@few
def test_broadcast(x: Any, shape: Any) -> None:
    check(lambda t: np.broadcast_to(t, shape), x, exact=True)
    check(lambda t: np.broadcast_arrays(t, np.zeros(shape)), x, exact=True)


@given(x=arrays())
@few
def test_at_least(x: Any) -> None:
    check(lambda t: (np.atleast_1d(t), np.atleast_2d(t), np.atleast_3d(t)), x, exact=True)
    check(lambda t: np.atleast_2d(t, 3.0), x, exact=True)


JOINS = [np.concatenate, np.stack, np.hstack, np.vstack, np.dstack, np.column_stack]


@pytest.mark.parametrize("join", JOINS, ids=lambda f: f.__name__)
@given(shape=shapes, types=st.tuples(dtypes, dtypes), axis=st.integers(-3, 3), number=st.integers(0, 3))
@few
def test_joining(join: Any, shape: Any, types: Any, axis: int, number: int) -> None:
    x, y = (np.arange(np.prod(shape)).reshape(shape).astype(d) for d in types)
    check(lambda t, u: join([t, u]), x, y, exact=True)
    check(lambda t, u: join((t, u, x, t)), x, y, exact=True)
    check(lambda t: join(t), x, exact=True)
    check(lambda t: join([t, np.ones(number)]), x, exact=True)
    if join in (np.concatenate, np.stack):
        check(lambda t, u: join([t, u], axis=axis), x, y, exact=True)
        check(lambda t, u: join([t, u], axis=None), x, y, exact=True)
        check(lambda t, u: join([t, u], dtype=np.float32, casting="unsafe"), x, y, exact=True)
        check(lambda t, u: join([t, u], dtype=np.float32), x, y, exact=True)


def test_joining_numbers() -> None:
    check(lambda t: np.stack([t, 1.0, t]), np.array(2.0))
    check(lambda t: np.append(t, 3), np.arange(3))
    check(lambda t: np.append(t, [[7, 8]], axis=0), np.arange(4).reshape(2, 2))


@given(
    x=arrays(), sections=st.one_of(st.integers(1, 4), st.lists(st.integers(-2, 5), max_size=3)), axis=st.integers(-3, 2)
)
@few
def test_splitting(x: Any, sections: Any, axis: int) -> None:
    for split in (np.split, np.array_split):
        check(lambda t: split(t, sections, axis), x, exact=True)  # noqa: B023
    for split in (np.hsplit, np.vsplit, np.dsplit):
        check(lambda t: split(t, sections), x, exact=True)  # noqa: B023


@given(
    x=arrays(),
    reps=st.one_of(st.integers(0, 3), st.lists(st.integers(0, 2), min_size=1, max_size=4)),
    axis=st.integers(-3, 2),
)
@few
def test_repeating(x: Any, reps: Any, axis: int) -> None:
    check(lambda t: np.tile(t, reps), x, exact=True)
    check(lambda t: np.repeat(t, 2), x, exact=True)
    check(lambda t: np.repeat(t, reps), x, exact=True)
    if x.ndim:  # NumPy repeats a number along an axis 0 that it has not
        check(lambda t: np.repeat(t, reps, axis), x, exact=True)
        check(lambda t: np.roll(t, 2, axis), x, exact=True)
    check(lambda t: np.roll(t, -3), x, exact=True)
    check(lambda t: np.roll(t, (1, 2), (0, 1)), x, exact=True)


@given(x=arrays(), width=st.sampled_from([0, 1, (1, 2), ((0, 1), (2, 0)), -1]), fill=st.integers(0, 1))
@few
def test_pad(x: Any, width: Any, fill: int) -> None:
    if x.ndim:
        check(lambda t: np.pad(t, width, constant_values=fill), x, exact=True)


@given(x=arrays(), n=st.integers(-1, 3), axis=st.integers(-3, 2))
@few
def test_diff(x: Any, n: int, axis: int) -> None:
    check(lambda t: np.diff(t, n, axis), x, exact=True)
    if x.ndim == 1 and x.dtype.kind != "b":
        check(lambda t: np.diff(t, prepend=0, append=[1, 2]), x, exact=x.dtype.kind != "f")
