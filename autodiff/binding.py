"""Executables bound to their arrays: which arrays can be bound, and errors that name the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff import errors
from autodiff._caller import Bound
from autodiff.errors import placed
from autodiff.executable import Executable
from autodiff.ir import Array, Aval
from autodiff.pytree import StructureError, TreeDef, flatten_like


def bind(
    name: str, paths: Sequence[str], executable: Executable, arguments: Sequence[Any], result: TreeDef, out: Any
) -> Bound:
    """Bind an executable to the arrays among its arguments, and to those of `out` or to new ones.

    Args:
        name: the function's.
        paths: the arguments', as people write them.
        executable: what is to run.
        arguments: of the shapes and dtypes of its inputs.
        result: the structure of its result.
        out: a tree of that structure, or None.

    Raises:
        ValueError: for an array that cannot be bound, naming it.
    """

    def refuse(what: str, why: str) -> ValueError:
        return ValueError(placed(errors.user_line(), f"{name}: {what} {why}"))

    inputs = []
    for i, (x, aval) in enumerate(zip(arguments, executable.inputs, strict=True)):
        path = f"argument {paths[i]}"
        array = np.asarray(x)
        if why := _unfit(array, aval, writes=i in executable.donated):
            raise refuse(path, why)
        inputs.append(array)
    donors = {j: i for i, j in executable.donated.items()}
    if out is None:
        outputs = [
            inputs[donors[j]] if j in donors else np.empty(y.shape, y.dtype) for j, y in enumerate(executable.outputs)
        ]
        out = result.unflatten(outputs)
    else:
        try:
            outputs = flatten_like(result, out)
        except StructureError as error:
            raise refuse("out", f"is no tree like the result: {error}") from None
    named = [(f"argument {path}", x) for path, x in zip(paths, inputs, strict=True)]
    for i in executable.donated:
        for j, (other, y) in enumerate(named):
            if i != j and np.may_share_memory(inputs[i], y):
                raise refuse(named[i][0], f"is donated and shares memory with {other}")
    for j, (path, y) in enumerate(zip(result.paths(), outputs, strict=True)):
        what = f"out{path}"
        if not isinstance(y, np.ndarray):
            raise refuse(what, f"is a {type(y).__name__}, not an array")
        if why := _unfit(y, executable.outputs[j], writes=True):
            raise refuse(what, why)
        if j in donors:
            if _address(y) != _address(inputs[donors[j]]):
                raise refuse(what, f"is made in the memory of {named[donors[j]][0]}, which is donated: pass that array")
            continue
        for other, x in named:
            if np.may_share_memory(x, y):
                raise refuse(what, f"shares memory with {other}")
        named.append((what, y))
    return executable.bind(inputs, [np.asarray(y) for y in outputs], out)


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _unfit(array: Array, aval: Aval, writes: bool) -> str | None:
    """Why a plan cannot work on an array."""
    if array.shape != aval.shape or array.dtype != aval.dtype:
        return f"is {Aval(array.shape, array.dtype)} instead of {Aval(aval.shape, aval.dtype)}"
    if not (array.flags.c_contiguous and array.flags.aligned):
        return "is not contiguous and aligned: bind np.ascontiguousarray of it"
    if writes and not array.flags.writeable:
        return "is read-only"
    return None
