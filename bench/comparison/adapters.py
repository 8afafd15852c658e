"""How each peer is called from NumPy and back, in the fastest way that its documentation knows.

The functions that are differentiated return a scalar, or a pair of it and other results.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from comparison.trees import Array, leaves, map_leaves

Function = Callable[..., Any]


class UnavailableError(Exception):
    """A peer cannot do this here; the message says why."""


def jax(function: Function) -> Function:
    """A function of JAX arrays, compiled; calling it with NumPy arrays brings them to the device."""
    import jax

    compiled = jax.jit(function)
    return lambda *args: map_leaves(np.asarray, compiled(*args))


def torch(loss: Function, argnums: Sequence[int]) -> Function:
    """Value and gradient by the tape, eagerly; arrays and tensors share their memory."""
    import torch

    def run(*args: Any) -> list[Array]:
        tensors = map_leaves(torch.from_numpy, args)
        wanted = [tensor.requires_grad_() for i in argnums for tensor in leaves(tensors[i])]
        values = leaves(loss(*tensors))
        gradients = torch.autograd.grad(values[0], wanted)
        return [value.detach().numpy() for value in values] + [gradient.numpy() for gradient in gradients]

    return run


def torch_function(function: Function) -> Function:
    """Any function of tensors."""
    import torch

    def run(*args: Any) -> Any:
        return map_leaves(lambda tensor: tensor.detach().numpy(), function(*map_leaves(torch.from_numpy, args)))

    return run


def torch_compile(loss: Function, argnums: Sequence[int], has_aux: bool = False) -> Function:
    """Value and gradient as one compiled function: about twice as fast as a tape behind a compiled forward pass."""
    import torch

    compiled = torch.compile(torch.func.grad_and_value(loss, tuple(argnums), has_aux=has_aux))

    def value_first(*args: Any) -> Any:
        gradients, value = compiled(*args)
        return value, gradients

    return torch_function(value_first)


def pytensor(loss: Function, argnums: Sequence[int], arguments: Any, *, c: bool) -> Function:
    """Value and gradient as a graph."""
    import pytensor

    symbols = pytensor_symbols(arguments)
    values = leaves(loss(*symbols))
    gradients = pytensor.grad(values[0], [x for i in argnums for x in leaves(symbols[i])])
    return pytensor_function(symbols, [*values, *gradients], c=c)


def pytensor_symbols(arguments: Any) -> Any:
    import pytensor.tensor as pt

    return map_leaves(lambda x: pt.tensor(dtype=x.dtype.name, shape=x.shape), arguments)


def pytensor_function(symbols: Any, results: Sequence[Any], *, c: bool) -> Function:
    """A compiled graph: by Numba, which is the default, or by the C compiler."""
    import pytensor

    if c and not pytensor.config.cxx:
        raise UnavailableError("no C++ compiler")
    mode = pytensor.compile.mode.Mode(linker="cvm", optimizer="fast_run") if c else None
    sys.setrecursionlimit(100_000)  # it walks graphs by recursion
    function = pytensor.function(leaves(symbols), results, mode=mode, trust_input=True)
    return lambda *args: function(*leaves(args))


def casadi(kind: str, loss: Function, argnums: Sequence[int], arguments: Any, *, c: bool) -> Function:
    """Value and gradient by CasADi, whose symbols are scalars (`kind` "SX") or matrices ("MX")."""
    import casadi

    symbols, expressions = casadi_symbols(kind, arguments)
    values = leaves(loss(*expressions))
    wanted = [x for i in argnums for x in leaves(symbols[i])]
    gradients = casadi.reverse([values[0]], wanted, [[casadi.DM(1)]], {})[0]
    shapes: list[tuple[int, ...]] = [(), *[value.shape[:1] for value in values[1:]]]
    shapes += [x.shape for i in argnums for x in leaves(arguments[i])]
    return casadi_function(symbols, [*values, *gradients], shapes, c=c)


def casadi_symbols(kind: str, arguments: Any) -> tuple[Any, Any]:
    """Symbols in the memory layout of NumPy's arrays (CasADi has matrices by columns), and what they mean."""
    import casadi

    symbol = getattr(casadi, kind).sym
    symbols = map_leaves(lambda x: symbol("x", *reversed(x.shape)), arguments)
    return symbols, map_leaves(lambda x: x.T if x.shape[1] > 1 else x, symbols)


def casadi_function(symbols: Any, results: Sequence[Any], shapes: Sequence[tuple[int, ...]], *, c: bool) -> Function:
    """A function of NumPy arrays: small ones are copied to and from buffers that CasADi knows, large ones passed."""
    import casadi

    inputs = leaves(symbols)
    function = casadi.Function("f", inputs, [casadi.densify(result) for result in results])
    if c:
        function = _compiled_c(function)
    buffer, run = function.buffer()
    small_inputs: list[tuple[int, Array]] = []
    large_inputs: list[int] = []
    for i, x in enumerate(inputs):
        if x.numel() > SMALL:
            large_inputs.append(i)
        else:
            small_inputs.append((i, np.empty(x.numel())))
            buffer.set_arg(i, _memory(small_inputs[-1][1]))
    outputs: list[Array | None] = []
    large_outputs: list[int] = []
    for i, shape in enumerate(shapes):
        large = int(np.prod(shape)) > SMALL
        outputs.append(None if large else np.empty(shape))
        if large:
            large_outputs.append(i)
        else:
            buffer.set_res(i, _memory(outputs[-1]))

    def call(*args: Any) -> list[Array]:
        arrays = leaves(args)
        for i, room in small_inputs:
            room[...] = arrays[i].reshape(-1)
        for i in large_inputs:
            buffer.set_arg(i, _memory(arrays[i]))
        fresh = {i: np.empty(shapes[i]) for i in large_outputs}
        for i, array in fresh.items():
            buffer.set_res(i, _memory(array))
        run()
        return [fresh[i] if room is None else room.copy() for i, room in enumerate(outputs)]

    return call


def _memory(array: Any) -> memoryview:
    """NumPy's arrays are buffers, but their types say so only from Python 3.12 on."""
    return memoryview(array)


SMALL = 512
"""Elements up to which copying is faster than telling CasADi of another buffer."""


def _compiled_c(function: Any) -> Any:
    """The C code that CasADi generates, compiled and loaded."""
    import casadi

    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise UnavailableError("no C compiler")
    with tempfile.TemporaryDirectory() as directory:
        generator = casadi.CodeGenerator("f.c")
        generator.add(function)
        generator.generate(directory + "/")
        library = Path(directory, "f.so")
        flags = ["-O2", "-march=native", "-fPIC", "-shared"]
        subprocess.run([compiler, *flags, str(Path(directory, "f.c")), "-o", str(library)], check=True)
        return casadi.external("f", str(library))
