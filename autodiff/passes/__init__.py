"""What is done to a graph before it runs.

From graph to graph: `canonical` (always), `simplify` (and `picked` with it) and a part of `recompute`.  From graph to
schedule: `views` (read values through offsets, strides and windows instead of copying them, and make parts where the
whole is), `fuse` (regions of nodes that run together), `sink` (nodes to where they are needed), `rows` (regions of
several stages that each row of a space goes through while it is in the cache), `recompute` (what is cheaper to compute
again than to store), `reuse` (memory of values that are needed no more).  Each can be switched off; the results stay
the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from autodiff.ir import Graph
from autodiff.passes.canonical import canonical
from autodiff.passes.padded import compute_padded
from autodiff.passes.picked import compute_picked
from autodiff.passes.simplify import simplify

Pass = Callable[[Graph], Graph]

PIPELINE: tuple[tuple[str, Pass], ...] = (
    ("simplify", compute_picked),
    ("simplify", simplify),
    ("canonical", canonical),
    ("recompute", compute_padded),
)
"""Passes from graph to graph, in order."""

ALL = frozenset({"simplify", "views", "fuse", "sink", "rows", "recompute", "reuse"})
"""Everything that can be switched off."""


def optimise(graph: Graph, passes: Collection[str] = ALL) -> Graph:
    """Apply the passes of the pipeline that are switched on, and `canonical`."""
    for name, change in PIPELINE:
        if name in passes or (name == "canonical" and "simplify" not in passes):  # `simplify` is canonical already
            graph = change(graph)
    return graph


__all__ = ["ALL", "PIPELINE", "Pass", "optimise"]
