"""The main job's parts: real digits, and a training step that is one call into C."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff import digits, train_digits
from autodiff.train_digits import RATE, State, initial, loss


@pytest.fixture(scope="module")
def executable() -> Any:
    return train_digits.compile_step()[0]


def leaves(tree: Any) -> list[np.ndarray[Any, Any]]:
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, tuple | list) else [tree]


def test_the_images_are_all_there() -> None:
    images, labels = digits.load()
    assert images.shape == (1797, 64)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (images * 16).sum() == 561718  # the sum of all pixels of the original


def test_the_split_is_stratified_and_depends_on_the_seed_alone() -> None:
    one, again, other = digits.split(1), digits.split(1), digits.split(2)
    for a, b in zip(leaves(one), leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.test_images, other.test_images)
    assert np.bincount(one.test_labels).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    together = np.concatenate([one.train_images, one.test_images])
    assert np.array_equal(np.sort(together, axis=0), np.sort(digits.load()[0], axis=0))


@pytest.mark.parametrize("held_out", [0, 1, -0.5, 2])
def test_a_split_needs_both_parts(held_out: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        digits.split(0, held_out)


def test_batches_show_each_image_once_before_any_twice() -> None:
    seen = np.concatenate(list(train_digits.batches(0, 1000, 15)))
    assert len(set(seen.tolist())) == len(seen) == 15 * 64
    assert len(list(train_digits.batches(0, 1000, 40))) == 40


def test_a_short_training_learns(executable: Any) -> None:
    reports: list[int] = []
    trained = train_digits.train(executable, seed=3, steps=200, progress=lambda step, value: reports.append(step))
    assert reports == list(range(1, 201))
    assert np.mean(trained.losses[-20:]) < np.mean(trained.losses[:20]) / 2
    assert trained.accuracy > 0.9
    assert trained.predictions.shape == (359,)


def test_training_twice_gives_the_same_bits(executable: Any) -> None:
    one, two = (train_digits.train(executable, seed=0, steps=50) for _ in range(2))
    assert one.losses == two.losses
    assert all(np.array_equal(a, b) for a, b in zip(leaves(one.layers), leaves(two.layers), strict=True))


def test_the_gradient_is_right() -> None:
    data = digits.split(0)
    rng = np.random.default_rng(0)
    layers = [tuple(np.asarray(x, np.float64) + 0.01 * rng.standard_normal(x.shape) for x in layer)
              for layer in initial(0).layers]  # fmt: skip
    images, labels = data.train_images[:8].astype(np.float64), data.train_labels[:8]
    ad.check_grads(lambda layers: loss(layers, images, labels), (layers,), order=1, modes=("fwd", "rev"))


def test_the_step_is_what_numpy_computes(executable: Any) -> None:
    """The step's loss is that of the same function in plain NumPy."""
    data, rows = digits.split(0), np.arange(64)
    expected = loss(initial(0).layers, data.train_images[rows], data.train_labels[rows])
    _, value = executable(initial(0), data.train_images, data.train_labels, rows, RATE)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_the_state_is_updated_in_place(executable: Any) -> None:
    data, state = digits.split(0), initial(0)
    before = [np.copy(leaf) for leaf in leaves(state)]
    after, _ = executable(state, data.train_images, data.train_labels, np.arange(64), RATE)
    assert isinstance(after, State)
    for old, new, copy in zip(leaves(state), leaves(after), before, strict=True):
        assert not np.array_equal(new, copy)
        if isinstance(old, np.ndarray):  # Adam counts its steps in a NumPy scalar, which nothing can change in place
            assert new is old


def test_a_step_runs_one_plan_and_no_python(executable: Any) -> None:
    data, state, rows = digits.split(0), initial(0), np.arange(64)
    events: list[tuple[str, str]] = []

    def profile(frame: Any, event: str, argument: Any) -> None:
        events.append((event, frame.f_code.co_name if event in {"call", "return"} else argument.__name__))

    sys.setprofile(profile)
    try:
        executable(state, data.train_images, data.train_labels, rows, RATE)
    finally:
        sys.setprofile(None)
    runs = [i for i, event in enumerate(events) if event == ("c_call", "run")]
    assert len(runs) == 1
    assert events[runs[0] + 1] == ("c_return", "run")
