"""How fast are products with a vector and sums, beside what the machine can do and beside NumPy (one thread each)?

    python bench/products.py [--only vectors sums] [--isa avx512] [--quick]

They are bound by memory: in GB/s of what they read, and in % of what a plain loop reads of as many bytes.  Products of
matrices are in gemm.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from gemm import gemm_steps
from measure import PROBES, Array, Prepared, Timer, build, plans

VECTORS = [(16, 16), (64, 64), (200, 100), (500, 3), (1000, 20), (1024, 1024), (4096, 512), (100_000, 30), (1, 10_000)]
SUMS = [(128, 10), (1000, 30), (64, 512), (300, 300), (4096, 512), (100_000, 10), (2048, 16), (1, 1000)]
CALL = 2_000_000
"""Multiply-adds in one run, so that the call is not measured."""


def sum_steps(x: Array, out: Array, axis: int, squares: bool, repeat: int) -> Callable[[], object]:
    """A run of the sums of a matrix over an axis, or of its squares."""
    plan, name = plans.Plan(), x.dtype.name
    source, target = plan.input(x.nbytes), plan.output(out.nbytes)
    instrs = [("mul", name, 1, (0, 0))] if squares else []
    operands = [
        plans.Operand(plans.READ, source, name, plans.element_strides(x), 0, name),
        plans.Operand(plans.SUM, target, name, [0, 1] if axis == 0 else [1, 0], len(instrs), name),
    ]
    for _ in range(repeat):
        sizes = {"lane": x.itemsize, "n_registers": 2, "n_outer": axis, "n_reduced": 1}
        plan.step(plans.lib.AD_MAP, list(x.shape), operands, instrs, **sizes)
    return Prepared(plan.to_bytes(), [x], [out])


def read_rate(probes: Any, array: Array) -> float:
    """Bytes a second of a plain loop over that many bytes, the best of some."""
    count = array.nbytes // 4
    pointer = probes.ffi.cast("float *", array.ctypes.data)
    seconds = min(float(probes.lib.read_all(pointer, count)) for _ in range(200))
    return 4 * count / max(seconds, 1e-9)


def random(shape: tuple[int, ...], dtype: str) -> Array:
    return np.random.default_rng(0).random(shape).astype(dtype)


def line(what: str, nbytes: int, rate: float, ours: float, theirs: float) -> str:
    speeds = "".join(f"{nbytes / seconds / 1e9:9.1f}" for seconds in (ours, theirs))
    return f"{what:28}{1e6 * ours:10.2f}{speeds}{100 * nbytes / ours / rate:8.0f}%"


HEADINGS = f"{'us':>10}{'GB/s':>9}{'NumPy':>9}{'of read':>9}"


def bench_vectors(probes: Any, timer: Timer, dtype: str) -> None:
    print(f"\n{f'{dtype} matrix (m, k)':28}{HEADINGS}")
    for m, k in VECTORS:
        a, x, y = random((m, k), dtype), random((k, 1), dtype), random((m, 1), dtype)
        repeat, rate = max(1, CALL // (m * k)), read_rate(probes, a)
        for what, matrix, vector in (("A x", a, x), ("A' y", a.T, y)):
            out = np.empty((matrix.shape[0], 1), dtype)
            ours = timer(gemm_steps(matrix, vector, out, repeat)) / repeat
            theirs = timer(lambda a=matrix, b=vector, c=out: np.matmul(a, b, out=c))  # type: ignore[misc]
            print(line(f"{what:6}{m} x {k}", a.nbytes, rate, ours, theirs))


def bench_sums(probes: Any, timer: Timer, dtype: str) -> None:
    print(f"\n{f'{dtype} sums of':28}{HEADINGS}")
    for shape in SUMS:
        x = random(shape, dtype)
        repeat, rate = max(1, CALL // x.size), read_rate(probes, x)
        for axis, squares in ((0, False), (0, True), (1, False)):
            out = np.empty(shape[1 - axis], dtype)
            ours = timer(sum_steps(x, out, axis, squares, repeat)) / repeat

            def numpy(x: Array = x, axis: int = axis, squares: bool = squares, out: Array = out) -> Array:
                return (x * x if squares else x).sum(axis, out=out)

            what = ("rows" if axis else "columns") + (" of x * x" if squares else "")
            print(line(f"{what:18}{shape[0]} x {shape[1]}", x.nbytes, rate, ours, timer(numpy)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"vectors": bench_vectors, "sums": bench_sums}
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--isa", choices=plans.isas(), default=plans.isas()[-1])
    parser.add_argument("--quick", action="store_true", help="shorter measurements")
    options = parser.parse_args()
    timer = Timer(0.02 if options.quick else 0.2)
    with tempfile.TemporaryDirectory() as directory, plans.isa_selected(options.isa):
        probes = build("probes", options.isa, directory, PROBES, ["probes.inc"])
        print(f"instruction set {options.isa}, one thread")
        for part in options.only:
            for dtype in ("float32", "float64"):
                parts[part](probes, timer, dtype)


if __name__ == "__main__":
    main()
