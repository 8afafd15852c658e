"""Donated arguments: results that are the memory of an argument, so that a training step updates in place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autodiff import errors
from autodiff.errors import placed
from autodiff.executable import Executable
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


class Donation:
    """Runs an executable some of whose inputs are donated, and says which argument cannot be."""

    def __init__(self, name: str, paths: Sequence[str], executable: Executable):
        self.name = name
        self.paths = tuple(paths)
        self.donated = tuple(executable.donated)
        self.run = executable.run_flat
        # these the executable copies before it looks for overlaps; a Python float has an array of its own anyway
        self.copied = [i for i in executable.small_inputs if not executable.inputs[i].weak]

    def __call__(self, arrays: list[Array]) -> Sequence[Array]:
        """Run it.

        Raises:
            ValueError: naming the argument that cannot be written to or overlaps another.
        """
        for i in self.copied:
            x = arrays[i]
            for j in self.donated:
                if np.may_share_memory(x, arrays[j]):
                    self.explain(arrays)
        try:
            return self.run(arrays)
        except ValueError:
            self.explain(arrays)
            raise

    def explain(self, arrays: Sequence[Array]) -> None:
        """Raise what is wrong with the donated arrays, if anything is."""
        for i in self.donated:
            x = arrays[i]
            if not x.dtype.isnative:
                self._refuse(i, f"has dtype {x.dtype.str}, not the machine's byte order: convert it with .astype")
            if not x.flags.writeable:
                self._refuse(i, "is read-only: pass a copy, or leave it out of donate_argnums")
            if not (x.flags.c_contiguous and x.flags.aligned):
                self._refuse(i, "is not contiguous and aligned: pass np.ascontiguousarray of it")
            for j, other in enumerate(arrays):
                if j != i and np.may_share_memory(x, other):
                    self._refuse(i, f"shares memory with argument {self.paths[j]}: pass a copy of one of them")

    def _refuse(self, i: int, what: str) -> None:
        raise ValueError(placed(errors.user_line(), f"{self.name}: donated argument {self.paths[i]} {what}"))
