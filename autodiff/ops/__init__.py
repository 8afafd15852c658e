"""The closed set of primitives, a file a family; `autodiff.ir.OPS` has them by name."""

from autodiff.ops import arithmetic, contraction, gamma, host, indexing, logic, reduction, structure, transcendental

__all__ = [
    "arithmetic",
    "contraction",
    "gamma",
    "host",
    "indexing",
    "logic",
    "reduction",
    "structure",
    "transcendental",
]
