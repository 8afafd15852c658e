"""How fast are matrix products and sums, beside what the machine can do and beside NumPy (one thread each)?

    python bench/products.py [--only matrices vectors sums] [--isa avx512] [--quick]

Products of matrices in % of the peak of fused multiply-adds.  Products with a vector and sums are bound by memory: in
GB/s of what they read, and in % of what a plain loop reads of as many bytes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from measure import PROBES, Array, Prepared, Timer, build, plans

MATRICES = [(n, n, n) for n in (4, 8, 16, 32, 64, 96, 128, 256, 512, 1024)] + [
    (128, 256, 784),
    (128, 10, 128),
    (64, 128, 64),
    (64, 10, 64),
    (13, 7, 5),
    (33, 17, 65),
    (33, 65, 17),
]
VECTORS = [(16, 16), (64, 64), (200, 100), (500, 3), (1000, 20), (1024, 1024), (4096, 512), (100_000, 30), (1, 10_000)]
SUMS = [(128, 10), (1000, 30), (64, 512), (300, 300), (4096, 512), (100_000, 10), (2048, 16), (1, 1000)]
CALL = 2_000_000
"""Multiply-adds in one run, so that the call is not measured."""


def gemm_steps(a: Array, b: Array, c: Array, repeat: int) -> Callable[[], object]:
    """A run of c = a @ b, several times in one run."""
    plan = plans.Plan()
    (m, k), n = a.shape, b.shape[1]
    (a_m, a_k), (b_k, b_n), (c_m, c_n) = (plans.element_strides(x) for x in (a, b, c))
    strides = [[a_m, 0, a_k], [0, b_n, b_k], [c_m, c_n, 0]]
    buffers = [plan.input(a.nbytes), plan.input(b.nbytes), plan.output(c.nbytes)]
    roles = [plans.READ, plans.READ, plans.WRITE]
    for _ in range(repeat):
        operands = [
            plans.Operand(role, buffer, c.dtype.name, s)
            for role, buffer, s in zip(roles, buffers, strides, strict=True)
        ]
        plan.step(plans.lib.AD_GEMM, [m, n, k], operands)
    return Prepared(plan.to_bytes(), [a, b], [c])


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


def bench_matrices(probes: Any, timer: Timer, dtype: str) -> None:
    peak = probes.lib.peak_f32() if dtype == "float32" else probes.lib.peak_f64()
    print(f"\nproducts of {dtype} matrices, % of the peak of {peak / 1e9:.1f} G multiply-adds/s; NumPy's NN last")
    print(f"{'m':>6}{'n':>6}{'k':>6}{'NN':>8}{'NT':>8}{'TN':>8}{'NumPy':>8}")
    for m, n, k in MATRICES:
        a, b, c = random((m, k), dtype), random((k, n), dtype), np.empty((m, n), dtype)
        repeat = max(1, CALL // (m * n * k))
        a_t, b_t = np.ascontiguousarray(a.T).T, np.ascontiguousarray(b.T).T
        times = [timer(gemm_steps(x, y, c, repeat)) / repeat for x, y in ((a, b), (a, b_t), (a_t, b))]
        times.append(timer(lambda a=a, b=b, c=c: np.matmul(a, b, out=c)))  # type: ignore[misc]
        print(f"{m:6}{n:6}{k:6}{''.join(f'{100 * m * n * k / seconds / peak:7.1f}%' for seconds in times)}")


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
    parts = {"matrices": bench_matrices, "vectors": bench_vectors, "sums": bench_sums}
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
