"""Real handwritten digits to learn from: 1,797 images of 8x8 pixels; `data/README` says whose they are."""

from __future__ import annotations

from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


class Split(NamedTuple):
    """Images (n, 64) as float32 between 0 and 1 and labels (n,) as int64, to learn from and to be tested on."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels


def load() -> tuple[Images, Labels]:
    """All images, float32 (1797, 64) between 0 and 1, and their labels, int64 (1797,) from 0 to 9.

    >>> images, labels = load()
    >>> images.shape, labels[:10].tolist()
    ((1797, 64), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    path = resources.files("autodiff") / "data" / "digits.npz"
    with path.open("rb") as file, np.load(file) as archive:
        images: NDArray[np.uint8] = archive["images"]
        labels: NDArray[np.uint8] = archive["labels"]
    return images.reshape(-1, 64).astype(np.float32) / np.float32(16), labels.astype(np.int64)


def split(seed: int, held_out: float = 0.2) -> Split:
    """Hold out a part of each digit's images for testing; which ones depends on the seed alone.

    Raises ValueError unless 0 < held_out < 1.

    >>> [len(part) for part in split(seed=0)]
    [1438, 1438, 359, 359]
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is the part of the images to test on, between 0 and 1, not {held_out}")
    images, labels = load()
    random = np.random.default_rng(seed)
    test = np.zeros(len(labels), bool)
    for digit in range(10):
        test[_some(random, np.flatnonzero(labels == digit), held_out)] = True
    return Split(images[~test], labels[~test], images[test], labels[test])


def _some(random: np.random.Generator, positions: NDArray[Any], part: float) -> NDArray[Any]:
    return random.permutation(positions)[: round(len(positions) * part)]
