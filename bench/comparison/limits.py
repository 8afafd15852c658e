"""What no library can beat on this machine, measured beside them: a call into C, memory, multiply-adds."""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import tempfile
import timeit
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import measure
from comparison.adapters import UnavailableError
from comparison.trees import leaves

DECLARATIONS = """
void nothing(void);
void one_pass(const void *const *in, const long *in_words, long n_in,
              void *const *out, const long *out_words, long n_out);
"""
SOURCE = """
static void nothing(void) {}

/* Reads everything, then writes everything; 8 bytes are a word. */
static void one_pass(const void *const *in, const long *in_words, long n_in,
                     void *const *out, const long *out_words, long n_out) {
    unsigned long sum = 0;
    for (long i = 0; i < n_in; i++) {
        const unsigned long *x = in[i];
        for (long k = 0; k < in_words[i]; k++) sum += x[k];
    }
    for (long i = 0; i < n_out; i++) {
        unsigned long *y = out[i];
        for (long k = 0; k < out_words[i]; k++) y[k] = sum;
    }
}
"""


@cache
def native() -> Any:
    """The C code above, built now: a module with `lib` and `ffi`."""
    if not (shutil.which("gcc") or shutil.which("cc")):
        raise UnavailableError("no C compiler")
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    ffi.set_source("_limits", SOURCE, extra_compile_args=["-O3", "-march=native"])
    with tempfile.TemporaryDirectory() as directory:
        spec = importlib.util.spec_from_file_location("_limits", ffi.compile(tmpdir=directory))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def one_pass(arguments: Any, results: Any) -> Callable[..., Any]:
    """One call into C that reads its arguments, writes fresh arrays like the results, and does nothing else."""
    lib, ffi = native().lib, native().ffi
    read, made = leaves(arguments), leaves(results)
    inputs, in_words = ffi.new("void *[]", len(read)), ffi.new("long[]", [x.nbytes // 8 for x in read])
    outputs, out_words = ffi.new("void *[]", len(made)), ffi.new("long[]", [x.nbytes // 8 for x in made])
    likes = [(x.shape, x.dtype) for x in made]

    def call(*args: Any) -> Any:
        for i, x in enumerate(leaves(args)):
            inputs[i] = ffi.from_buffer(x)
        fresh = [np.empty(shape, dtype) for shape, dtype in likes]
        for i, x in enumerate(fresh):
            outputs[i] = ffi.from_buffer(x)
        lib.one_pass(inputs, in_words, len(read), outputs, out_words, len(likes))
        return fresh

    return call


def limits() -> dict[str, str]:
    """What the machine can do, as text: the parts of a call, memory, multiply-adds."""
    lib, ffi = native().lib, native().ffi
    known: dict[str, Any] = {"nothing": lib.nothing, "from_buffer": ffi.from_buffer, "np": np, "x": np.zeros(10)}
    found = {}
    for title, statement in (
        ("a call into C by cffi", "nothing()"),
        ("from_buffer of an array", "from_buffer(x)"),
        ("np.empty of 10 numbers", "np.empty(10)"),
        ("x.copy() of 10 numbers", "x.copy()"),
    ):
        found[title] = f"{1e9 * _seconds(statement, 10_000, known):.0f} ns"
    for array in (np.ones(64_000), np.ones(16_000_000)):
        known.update(read=one_pass([array], []), array=array)
        rate = array.nbytes / _seconds("read(array)", 5, known)
        found[f"reading {array.nbytes / 1e6:.3g} MB again and again"] = f"{rate / 1e9:.1f} GB/s"
    with tempfile.TemporaryDirectory() as directory:
        probes = measure.build("probes", measure.plans.isas()[-1], directory, measure.PROBES, ["probes.inc"])
    for dtype, peak in (("float64", probes.lib.peak_f64), ("float32", probes.lib.peak_f32)):
        found[f"multiply-adds, {dtype}"] = f"{peak() / 1e9:.1f} G/s"
    return found


def _seconds(statement: str, number: int, known: dict[str, Any]) -> float:
    """The time of a statement: the median of many."""
    times: list[float] = timeit.repeat(statement, number=number, repeat=15, globals=known)
    return statistics.median(times) / number
