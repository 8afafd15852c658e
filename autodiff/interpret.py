"""A graph computed by NumPy, node by node: what every compiled one is measured against."""

from __future__ import annotations

import numpy as np

from autodiff.ir import Array, Graph, Value


def interpret(graph: Graph, *arrays: Array) -> list[Array]:
    """The graph's outputs, by its ops' oracles."""
    env: dict[Value, Array] = dict(zip(graph.inputs, map(np.asarray, arrays), strict=True))
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            result = node.op.oracle(*[env[x] for x in node.inputs], **node.params)
            results = (result,) if node.results is None else result
            for y, array in zip(node.outputs, results, strict=True):
                env[y] = np.asarray(array, y.aval.dtype)
    return [env[y] for y in graph.outputs]
