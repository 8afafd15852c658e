"""How fast are the native kernels, beside what the machine can do and beside NumPy (one thread each)?

    python bench/kernels.py [--only gemm tiles maths opcodes regions] [--isa avx512] [--quick]

GEMM in % of the peak of fused multiply-adds, the tile VM and reductions in % of the bandwidth of a plain loop over the
same memory, vector maths in nanoseconds per element; each opcode and superinstruction in bytes a cycle, and whole
regions beside loops by hand (kernels_opcodes.py, kernels_regions.py).  Peak and bandwidth are measured in the same run,
by a small C module built into a temporary directory.  Times are processor time and the shortest of many, as the peak's
is: on a shared machine the others measure the neighbours.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported

import kernels_opcodes
import kernels_regions
import numpy as np
from measure import Array, Prepared, Timer, build, plans

PROBES = """
static double peak_f32(void);
static double peak_f64(void);
static double read_all(const float *, long);
static double add_all(const float *, const float *, float *, long);
static double repeat(int (*)(const void *, const void *), const void *, const void *, long);
"""
GEMM_SHAPES = [(n, n, n) for n in (16, 32, 64, 96, 128, 256, 512, 1024)] + [
    (128, 256, 784),
    (128, 10, 128),
    (64, 128, 64),
    (64, 10, 64),
    (33, 65, 17),
    (1, 1024, 1024),
    (1024, 1, 1024),
]
FUNCTIONS = ["exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "sqrt", "pow"]


def gemm_steps(a: Array, b: Array, c: Array, repeat: int) -> Callable[[], object]:
    """A run of c = a @ b, several times in one run, so that small ones are not drowned by the call."""
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


def bench_gemm(probes: Any, timer: Timer) -> None:
    for dtype, peak in (("float32", probes.lib.peak_f32()), ("float64", probes.lib.peak_f64())):
        print(f"\nGEMM {dtype}, % of the peak of {peak / 1e9:.1f} G multiply-adds/s; last column NumPy's NN")
        print(f"{'m':>6}{'n':>6}{'k':>6}{'NN':>8}{'NT':>8}{'TN':>8}{'NumPy':>8}")
        for m, n, k in GEMM_SHAPES:
            rng = np.random.default_rng(0)
            a, b = rng.random((m, k)).astype(dtype), rng.random((k, n)).astype(dtype)
            c = np.empty((m, n), dtype)
            repeat = max(1, 2_000_000 // (m * n * k))
            a_t, b_t = np.ascontiguousarray(a.T).T, np.ascontiguousarray(b.T).T

            def share(seconds: float, work: int = m * n * k, peak: float = peak) -> str:
                return f"{100 * work / seconds / peak:7.1f}%"

            cells = [share(timer(gemm_steps(x, y, c, repeat)) / repeat) for x, y in ((a, b), (a, b_t), (a_t, b))]
            cells.append(share(timer(lambda a=a, b=b, c=c: np.matmul(a, b, out=c))))  # type: ignore[misc]
            print(f"{m:6}{n:6}{k:6}{''.join(cells)}")


def bench_tiles(probes: Any, timer: Timer) -> None:
    n = 1 << 24
    f32 = "float32"
    x, y, out = (np.full(n, value, np.float32) for value in (1.0, 2.0, 0.0))
    pointer = [probes.ffi.cast("float *", a.ctypes.data) for a in (x, y, out)]
    rates = {"read": 4 * n, "add": 12 * n}
    probe: dict[str, Callable[[], float]] = {
        "read": lambda: min(probes.lib.read_all(pointer[0], n) for _ in range(9)),
        "add": lambda: min(probes.lib.add_all(*pointer, n) for _ in range(9)),
    }
    print(f"\nTile VM and reductions over {n} float32 (64 MB an array), in % of a plain loop's bandwidth:")
    print("; ".join(f"{name} {rates[name] / measure() / 1e9:.1f} GB/s" for name, measure in probe.items()))
    rows, columns = x.reshape(4096, 4096), x.reshape(-1, 16)
    one, row = np.zeros((), np.float32), np.zeros(4096, np.float32)
    narrow, column = np.zeros(n // 16, np.float32), np.zeros(4096, np.float32)
    write, total = plans.WRITE, plans.SUM
    chain = [("mul", f32, 2, (0, 1)), ("add", f32, 2, (2, 0)), ("maximum", f32, 2, (2, 1)), ("sub", f32, 2, (2, 0))]
    cases: list[tuple[str, str, Any, Callable[[], object]]] = [
        (
            "x + y",
            "add",
            plans.map_plan([n], [(x, f32), (y, f32)], [("add", f32, 2, (0, 1))], [(write, out, 2, f32)], lane=4),
            lambda: np.add(x, y, out=out),
        ),
        (
            "four ops fused",
            "add",
            plans.map_plan([n], [(x, f32), (y, f32)], chain, [(write, out, 2, f32)], lane=4),
            lambda: np.subtract(np.maximum(x * y + x, y), x, out=out),
        ),
        (
            "sum of all",
            "read",
            plans.map_plan([n], [(x, f32)], [], [(total, one, 0, f32)], lane=4, n_reduced=1),
            lambda: x.sum(),
        ),
        (
            "sum of rows of 4096",
            "read",
            plans.map_plan([4096, 4096], [(rows, f32)], [], [(total, row, 0, f32)], lane=4, n_outer=1, n_reduced=1),
            lambda: rows.sum(1),
        ),
        (
            "sum of rows of 16",
            "read",
            plans.map_plan(
                [n // 16, 16], [(columns, f32)], [], [(total, narrow, 0, f32)], lane=4, n_outer=1, n_reduced=1
            ),
            lambda: columns.sum(1),
        ),
        (
            "sum of columns",
            "read",
            plans.map_plan([4096, 4096], [(rows, f32)], [], [(total, column, 0, f32)], lane=4, n_reduced=1),
            lambda: rows.sum(0),
        ),
    ]
    print(f"{'':24}{'here':>8}{'NumPy':>8}")
    for name, kind, (plan, inputs, outputs), theirs in cases:
        bound = probe[kind]()  # anew each time, as the machine's share may have changed
        ours = timer(Prepared(plan.to_bytes(), inputs, outputs))
        print(f"{name:24}{100 * bound / ours:7.1f}%{100 * bound / timer(theirs):7.1f}%")


def bench_maths(timer: Timer) -> None:
    n = 1 << 14
    print("\nVector maths, ns per element (arguments in the second-level cache)")
    print(f"{'':8}{'float64':>9}{'NumPy':>9}{'float32':>9}{'NumPy':>9}")
    rng = np.random.default_rng(0)
    u = rng.random(n)
    domain = {"log": 10 * u + 0.1, "log1p": 5 * u - 0.9, "pow": 10 * u + 0.1, "sqrt": 10 * u}
    for name in FUNCTIONS:
        cells = []
        for dtype in ("float64", "float32"):
            x = domain.get(name, 10 * u - 5).astype(dtype)
            y = rng.uniform(-2, 2, n).astype(dtype)
            arguments = [x, y] if name == "pow" else [x]
            arity = len(arguments)
            out = np.empty(n, dtype)
            instr = (name, dtype, arity, tuple(range(arity)))
            plan, inputs, outputs = plans.map_plan(
                [n], [(a, dtype) for a in arguments], [instr], [(plans.WRITE, out, arity, dtype)], lane=out.itemsize
            )
            function = getattr(np, {"pow": "power"}.get(name, name))
            cells.append(timer(Prepared(plan.to_bytes(), inputs, outputs)))
            cells.append(timer(lambda f=function, a=arguments, o=out: f(*a, out=o)))  # type: ignore[misc]
        print(f"{name:8}{''.join(f'{1e9 * c / n:9.2f}' for c in cells)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ["gemm", "tiles", "maths", "opcodes", "regions"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--isa", choices=plans.isas(), default=plans.isas()[-1])
    parser.add_argument("--quick", action="store_true", help="shorter measurements")
    options = parser.parse_args()
    timer = Timer(0.02 if options.quick else 0.2)
    with tempfile.TemporaryDirectory() as directory, plans.isa_selected(options.isa):
        declarations = PROBES + kernels_opcodes.DECLARATIONS + kernels_regions.DECLARATIONS
        includes = ["probes.inc", *kernels_regions.INCLUDES]
        probes = build("probes", options.isa, directory, declarations, includes)
        print(f"instruction set {options.isa}, one thread")
        if "gemm" in options.only:
            bench_gemm(probes, timer)
        if "tiles" in options.only:
            bench_tiles(probes, timer)
        if "maths" in options.only:
            bench_maths(timer)
        if "opcodes" in options.only:
            kernels_opcodes.bench(probes, timer)
        if "regions" in options.only:
            kernels_regions.bench(probes, timer)


if __name__ == "__main__":
    main()
