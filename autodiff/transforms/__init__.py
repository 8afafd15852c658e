"""Transforms of a network of nodes: each emits new nodes in the current builder and leaves the old ones as they are.

`forward` pushes tangents through (dual numbers), `reverse` pulls cotangents back (the backward schedule), `batch` gives
every value a leading axis.  They compose in any order because what they emit is made of the same primitives.
"""

from autodiff.transforms.batch import batch
from autodiff.transforms.forward import pushforward
from autodiff.transforms.reverse import pullback

__all__ = ["batch", "pullback", "pushforward"]
