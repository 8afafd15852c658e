"""Which of NumPy's functions are implemented, and by what.

An implementation has NumPy's signature and gets values in place of tensors; what it returns may hold values, which
become tensors again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Implementation(NamedTuple):
    """`views`: whether NumPy's result shares memory with its first argument."""

    function: Callable[..., Any]
    views: bool


IMPLEMENTATIONS: dict[Callable[..., Any], Implementation] = {}
"""NumPy functions with `__array_function__` dispatch, and what they do with values."""


known: set[str] = set()
"""Names of all functions and ufuncs that are implemented."""


def implements(*functions: Callable[..., Any] | None, views: bool = False) -> Callable[[F], F]:
    """Declare the function below to be NumPy's `functions` on values; None is one that this NumPy lacks."""

    def declare(implementation: F) -> F:
        for function in filter(None, functions):
            known.add(function.__name__)
            IMPLEMENTATIONS[function] = Implementation(implementation, views)
        return implementation

    return declare


NEAR = {
    "prod": "np.exp(np.sum(np.log(x))) for positive x",
    "cumsum": "np.sum of slices, or a product with a triangular matrix",
    "nonzero": "np.where(mask, a, b), whose shape does not depend on the data",
    "argwhere": "np.where(mask, a, b), whose shape does not depend on the data",
    "unique": "np.unique of the data, outside",
    "einsum": "np.matmul, np.tensordot, and np.sum of products",
    "linalg.norm": "np.sqrt(np.sum(x * x))",
    "put": "x.at[index].set(v)",
    "place": "np.where(mask, v, x)",
    "copyto": "x.at[...].set(v)",
}
"""What comes near to a function that is not implemented, where that is not one of a similar name."""


NEAR |= {f"nan{f}": f"np.{f}(x, where=~np.isnan(x))" for f in ("sum", "mean", "var", "std")}


def unsupported(name: str) -> TypeError:
    """The error for a NumPy function of that name, which says what is near it."""
    near = NEAR.get(name)
    if near is None:
        import difflib

        close = difflib.get_close_matches(name, known, n=3, cutoff=0.75)
        near = ", ".join(f"np.{n}" for n in close)
    hint = (
        f"; near it: {near}"
        if near
        else "; call it on the data, outside the function that is compiled or differentiated"
    )
    return TypeError(f"np.{name} is not supported on tensors{hint}")
