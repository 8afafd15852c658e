"""Vector maths in nanoseconds an element, beside NumPy or SciPy and glibc's libmvec in vectors of one width.

    python bench/vector_maths.py [--isa avx512] [--quick]

One thread; arguments and results are in the second-level cache.  Times are the shortest of many.  libmvec is called
through its vector ABI, from a small C module built into a temporary directory; where it or a function of it is missing,
or the machine is no x86-64, the column stays empty.  How accurate the functions are tests/test_vmath.py measures.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import math
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from measure import Array, Prepared, Timer, build, plans

# fmt: off
FUNCTIONS = [
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "arcsin", "arccos", "arctan",
    "arctan2", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "sigmoid", "sqrt", "cbrt", "hypot", "pow",
    "erf", "erfc", "lgamma", "digamma",
]
# fmt: on
BINARY = ["pow", "arctan2", "hypot"]
ELSEWHERE = {"pow": "power", "sigmoid": "expit", "lgamma": "gammaln"}
"""What NumPy or SciPy call a function."""

LIBMVEC = """
static void libmvec_f64(void *function, int arity, const double *x, const double *y, double *out, long n);
static void libmvec_f32(void *function, int arity, const float *x, const float *y, float *out, long n);
"""
ABI = {"base": ("b", 16), "avx2": ("d", 32), "avx512": ("e", 64)}
"""glibc's letter for an instruction set, and the bytes of its vectors."""

N = 1 << 14


def domain(name: str) -> Array:
    u = np.random.default_rng(0).random(N)
    if name in ("log", "log2", "log10", "pow", "lgamma", "digamma"):
        return 10 * u + 0.1
    if name in ("arcsin", "arccos", "arctanh"):
        return 1.98 * u - 0.99
    return {"log1p": 5 * u - 0.9, "sqrt": 10 * u, "arccosh": 10 * u + 1}.get(name, 10 * u - 5)


def here(name: str, arguments: list[Array], out: Array) -> Callable[[], object]:
    dtype, arity = out.dtype.name, len(arguments)
    instr = (name, dtype, arity, tuple(range(arity)))
    reads = [(x, dtype) for x in arguments]
    write = (plans.WRITE, out, arity, dtype)
    plan, inputs, outputs = plans.map_plan([N], reads, [instr], [write], lane=out.itemsize)
    return Prepared(plan.to_bytes(), inputs, outputs)


def in_numpy(name: str, arguments: list[Array], out: Array) -> Callable[[], object] | None:
    name = ELSEWHERE.get(name, name)
    function = getattr(np, name, None)
    if function is None:
        try:
            function = getattr(importlib.import_module("scipy.special"), name)
        except ImportError:
            return None
    return lambda: function(*arguments, out=out)


def in_libmvec(loops: Any, isa: str, name: str, arguments: list[Array], out: Array) -> Callable[[], object] | None:
    letter, width = ABI[isa]
    suffix, loop = ("f", "libmvec_f32") if out.itemsize == 4 else ("", "libmvec_f64")
    symbol = f"_ZGV{letter}N{width // out.itemsize}{'v' * len(arguments)}_{name.replace('arc', 'a')}{suffix}"
    try:
        function = ctypes.CDLL("libmvec.so.1")[symbol]
    except (OSError, AttributeError):
        return None
    ffi, element = loops.ffi, "float *" if suffix else "double *"
    address = ffi.cast("void *", ctypes.cast(function, ctypes.c_void_p).value)
    x, y, to = (ffi.cast(element, a.ctypes.data) for a in (arguments[0], arguments[-1], out))
    run = getattr(loops.lib, loop)
    return lambda: run(address, len(arguments), x, y, to, N)


def row(name: str, dtype: str, loops: Any, isa: str, timer: Timer) -> list[float]:
    """Nanoseconds an element: here, NumPy, libmvec; NaN where there is none."""
    arguments = [domain(name).astype(dtype)]
    if name in BINARY:
        arguments.append(np.random.default_rng(1).uniform(-2, 2, N).astype(dtype))
    out = np.empty(N, dtype)
    works = [here(name, arguments, out), in_numpy(name, arguments, out), in_libmvec(loops, isa, name, arguments, out)]
    times = iter(timer.rivals([work for work in works if work is not None]))
    return [math.nan if work is None else 1e9 * next(times) / N for work in works]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", choices=plans.isas(), default=plans.isas()[-1])
    parser.add_argument("--quick", action="store_true", help="shorter measurements")
    options = parser.parse_args()
    timer = Timer(0.02 if options.quick else 0.2)
    with tempfile.TemporaryDirectory() as directory, plans.isa_selected(options.isa):
        loops = build("libmvec", options.isa, directory, LIBMVEC, ["libmvec.inc"])
        print(f"Vector maths, ns an element; instruction set {options.isa}, one thread")
        print(f"{'':9}{'float64':>9}{'NumPy':>9}{'libmvec':>9}{'float32':>12}{'NumPy':>9}{'libmvec':>9}")
        rows = []
        for name in FUNCTIONS:
            cells = [row(name, dtype, loops, options.isa, timer) for dtype in ("float64", "float32")]
            rows.append([*cells[0], *cells[1]])
            texts = [["" if math.isnan(c) else f"{c:.2f}" for c in half] for half in cells]
            print(f"{name:9}" + "   ".join("".join(f"{t:>9}" for t in half) for half in texts))
    times = np.array(rows)
    for j, what in ((1, "float64, NumPy"), (2, "float64, libmvec"), (4, "float32, NumPy"), (5, "float32, libmvec")):
        ratios = times[:, j] / times[:, j // 3 * 3]
        print(f"geometric mean of {what} / here: {np.exp(np.nanmean(np.log(ratios))):.2f}")


if __name__ == "__main__":
    main()
