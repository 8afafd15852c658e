"""Donated arguments: results that are the memory of an argument, so that a training step updates in place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from autodiff import errors
from autodiff.errors import placed
from autodiff.ir import Array, Aval


def match(
    name: str, donated: Sequence[tuple[str, str, Aval, int]], results: Sequence[tuple[str, Aval]]
) -> dict[int, int]:
    """Which input's memory becomes which result: results' numbers by inputs'.

    A donated leaf has its argument's name, its path in there, its aval and its number among the inputs; a result its
    path and aval.  Leaf and result agree in shape and dtype, and where there is a choice in their paths, so that mostly
    each array of `step(params, state) -> (params, state)` comes back in its own place.

    Raises:
        TypeError: for a donated leaf that agrees with no result that is left.
    """
    found: dict[int, int] = {}  # inputs by results
    by_aval: dict[tuple[object, ...], list[int]] = {}
    for i, (_, aval) in enumerate(results):
        by_aval.setdefault(aval[:2], []).append(i)
    unmatched = []
    for leaf in donated:
        argument, path, aval, number = leaf
        candidates = [i for i in by_aval.get(aval[:2], ()) if i not in found and results[i][0].endswith(path)]
        if path and candidates:
            named = [i for i in candidates if argument in results[i][0]] or candidates
            found[min(named, key=lambda i: len(results[i][0]))] = number
        else:
            unmatched.append(leaf)
    for argument, path, aval, number in unmatched:
        free = [i for i in by_aval.get(aval[:2], ()) if i not in found]
        if not free:
            shown = ", ".join(str(aval) for _, aval in results[:8]) + ", ..." * (len(results) > 8)
            raise TypeError(
                placed(
                    errors.user_line(),
                    f"compile({name}): donated argument {argument}{path}, {aval}, has the shape and dtype of no result "
                    f"that is left (of {shown}): leave it out of donate_argnums",
                )
            )
        found[free[0]] = number
    return {number: i for i, number in found.items()}


def explain(name: str, paths: Sequence[str], donated: Iterable[int], arrays: Sequence[Array]) -> None:
    """Raise what is wrong with donated arrays, if anything is.

    Args:
        name: the function's.
        paths: the arguments', as people write them.
        donated: numbers of the donated ones.
        arrays: the arguments.

    Raises:
        ValueError: naming the argument that cannot be written to or overlaps another.
    """
    for i in donated:
        x = arrays[i]
        what = None
        if not x.dtype.isnative:
            what = f"has dtype {x.dtype.str}, not the machine's byte order: convert it with .astype"
        elif not x.flags.writeable:
            what = "is read-only: pass a copy, or leave it out of donate_argnums"
        elif not (x.flags.c_contiguous and x.flags.aligned):
            what = "is not contiguous and aligned: pass np.ascontiguousarray of it"
        else:
            for j, other in enumerate(arrays):
                if j != i and np.may_share_memory(x, other):
                    what = f"shares memory with argument {paths[j]}: pass a copy of one of them"
        if what:
            raise ValueError(placed(errors.user_line(), f"{name}: donated argument {paths[i]} {what}"))
