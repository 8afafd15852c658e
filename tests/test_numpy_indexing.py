"""Reading and writing parts of tensors against NumPy."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from against_numpy import arrays, check, shapes
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff.numpy as anp
from autodiff.tensor import Tensor

many = settings(max_examples=60)
steps = st.sampled_from([None, 1, 2, 3, -1, -2])
ends = st.one_of(st.none(), st.integers(-5, 5))
slices = st.builds(slice, ends, ends, steps)
integers = st.integers(-4, 4)


@st.composite
def index_arrays(draw: Any) -> Any:
    chosen = draw(st.sampled_from([(), (1,), (2,), (2, 1), (1, 2), (0,)]))
    array = draw(hnp.arrays(draw(st.sampled_from(["int64", "int32", "uint8"])), chosen, elements=st.integers(0, 3)))
    return array.tolist() if draw(st.booleans()) and chosen != (0,) else array


@st.composite
def indices(draw: Any, shape: Any) -> Any:
    """An index for an array of that shape, of all of NumPy's forms; sometimes out of range or too long."""
    entries = []
    axis = 0
    dots = False
    for _ in range(draw(st.integers(0, len(shape) + 1))):
        form = draw(st.sampled_from(["slice", "integer", "array", "mask", "new", "dots", "bool"]))
        if form == "mask" and axis < len(shape):
            n = draw(st.integers(1, 2))
            entries.append(draw(hnp.arrays(bool, shape[axis : axis + n])))
            axis += n
        elif form == "dots" and not dots:
            entries.append(...)
            dots = True
        elif form == "bool":
            entries.append(draw(st.sampled_from([None, None, True, False])))
        elif form == "new":
            entries.append(None)
        else:
            entries.append(draw({"slice": slices, "integer": integers}.get(form, index_arrays())))
            axis += 1
    return (
        entries[0] if len(entries) == 1 and draw(st.booleans()) and not isinstance(entries[0], list) else tuple(entries)
    )


@st.composite
def cases(draw: Any) -> Any:
    x = np.arange(64)[: int(np.prod(shape := draw(shapes)))].reshape(shape)
    x = x.astype(draw(st.sampled_from(["int64", "float32", "float64", "uint8", "bool"])))
    return x, draw(indices(shape))


@given(case=cases())
@settings(max_examples=300)
def test_reading(case: Any) -> None:
    x, index = case
    check(lambda t: t[index], x, exact=True)


@given(case=cases(), number=st.sampled_from([0, 1, 7, True, 2.5]))
@settings(max_examples=150)
def test_writing_a_number(case: Any, number: Any) -> None:
    x, index = case

    def write(t: Any) -> Any:
        if isinstance(t, Tensor):
            return t.at[index].set(number)
        t[index] = number
        return t

    check(write, x, exact=True)


@given(case=cases(), data=st.data())
@settings(max_examples=150)
def test_writing_an_array(case: Any, data: Any) -> None:
    x, index = case
    try:
        shape = x[index].shape
    except IndexError:
        return
    if shape == ():
        return  # NumPy wants a number there, not an array of one
    shape = tuple(data.draw(st.sampled_from([n, n, n, 1])) for n in shape)
    shape = shape[data.draw(st.integers(0, len(shape))) :] if data.draw(st.booleans()) else shape
    values = data.draw(hnp.arrays("int64", shape, elements=st.integers(0, 100)))

    def write(t: Any, v: Any) -> Any:
        if isinstance(t, Tensor):
            t = t.copy()
        t[index] = v
        return t

    check(write, x, values, exact=True)


@given(case=cases())
@many
def test_adding(case: Any) -> None:
    x, index = case
    if x.dtype == bool:
        return

    def add(t: Any) -> Any:
        if isinstance(t, Tensor):
            return t.at[index].add(3)
        np.add.at(t, index, np.asarray(3, t.dtype))
        return t

    check(add, x, exact=True)


@given(x=arrays(shape=(4, 3)), i=index_arrays(), j=st.integers(-3, 2))
@many
def test_indices_that_are_tensors(x: Any, i: Any, j: int) -> None:
    i = np.asarray(i, int)
    check(lambda t, k: t[k], x, i, exact=True)
    check(lambda t, k: t[k, j], x, i, exact=True)
    check(lambda t, k: t[::-1, k], x, np.minimum(i, 2), exact=True)
    check(lambda k: anp.take(x, k, axis=0), i, exact=True)
    check(lambda t, k: np.take(t, k), x, i, exact=True)
    check(lambda t, k: np.take(t, k, axis=1, mode="clip"), x, i + 2, exact=True)
    check(lambda t: np.take(t, i, axis=0, mode="wrap"), x, exact=True)
    check(lambda t: t.take(j, axis=1), x, exact=True)


def test_a_scalar_index_that_is_a_tensor() -> None:
    x = np.arange(12.0).reshape(3, 4)
    check(lambda t, i: (t[i], t[i, 1:], t[:, i], t[..., i]), x, np.array(1), exact=True)
    check(lambda t, i: t.at[i].set(7) if isinstance(t, Tensor) else np.vstack([x[:1], np.full((1, 4), 7.0), x[2:]]),
          x, np.array(1), exact=True)  # fmt: skip


@given(x=arrays(shape=(3, 4)), k=st.integers(-4, 5))
@many
def test_diagonals(x: Any, k: int) -> None:
    check(lambda t: np.diagonal(t, k), x, exact=True)
    check(lambda t: (np.diag(t, k), np.diag(t[0], k)), x, exact=True)
    check(lambda t: (np.tril(t, k), np.triu(t, k)), x, exact=True)
    check(lambda t: np.trace(t, k), x)
    check(lambda t: np.diagonal(np.stack([t, t]), k, 2, 0), x, exact=True)


@given(x=arrays(shape=(3, 4)))
def test_take_along_axis(x: Any) -> None:
    check(lambda t: np.take_along_axis(t, np.argsort(x, axis=1), axis=1), x, exact=True)
    check(lambda t, i: np.take_along_axis(t, i, axis=0), x, np.argmax(x, axis=0, keepdims=True), exact=True)


@pytest.mark.parametrize("index", [1.5, "a", np.array([0.5]), (0, 0, 0), 9, [9], (slice(None), 9), (..., ...)])
def test_wrong_indices(index: Any) -> None:
    check(lambda t: t[index], np.zeros((2, 2)))
    check(lambda t: t[index], np.zeros(3))


def test_masks_of_the_wrong_shape() -> None:
    check(lambda t: t[np.ones(2, bool)], np.zeros(3))
    check(lambda t: t[np.ones((3, 1), bool)], np.zeros((3, 2)))
