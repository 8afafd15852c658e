"""How fast are products of matrices, beside OpenBLAS called from C with the same pointers (one thread each)?

    python bench/gemm.py [--only squares models odd plan] [--types f32 f64] [--isa avx512] [--quick]

Of each shape and layout (NN: a and b by rows; NT: b by columns, as in dy @ w.T; TN: a by columns, as in x.T @ dy) the
ratio of OpenBLAS's time to ours, above 1 where we are faster, and what we reach in % of the peak of fused
multiply-adds, which is measured in the same run.  The two take turns; figures are medians, times are processor time.
`plan` is a product, or a batch of them, as a step of a plan, beside NumPy's call of matmul with out=.

The kernel is compiled for the occasion, from csrc/kernels/gemm.inc, so nothing but `plan` needs the library anew.
OpenBLAS is the one that the package scipy-openblas32 ships, or else NumPy's own.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from measure import PROBES, Array, Prepared, Timer, build, new_like, plans

Shape = tuple[int, int, int]
DECLARATIONS = """
typedef struct ad_gemm {
    int64_t m, n, k;
    const void *a, *b;
    void *c;
    int64_t a_m, a_k, b_k, b_n, c_m;
    void *scratch;
} ad_gemm;
static double ours_f32(const ad_gemm *, long);
static double ours_f64(const ad_gemm *, long);
static double theirs_f32(void *, const ad_gemm *, long);
static double theirs_f64(void *, const ad_gemm *, long);
static uint64_t scratch_bytes(int64_t, int64_t, int64_t, uint32_t);
"""
DTYPES = {"f32": "float32", "f64": "float64"}
LAYOUTS = ["NN", "NT", "TN"]
CHUNK = 5e-5
"""Seconds of one turn, at least."""

SQUARES = [(n, n, n) for n in (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)]
ODD = [
    *[(3, 3, 3), (5, 5, 5), (13, 7, 5), (7, 13, 17), (20, 20, 20), (33, 17, 65), (33, 65, 17), (17, 31, 129)],
    *[(100, 100, 100), (127, 129, 131), (64, 10, 64), (64, 10, 128), (10, 64, 64), (1000, 30, 30), (300, 300, 300)],
    *[(2, 512, 512), (512, 2, 512), (512, 512, 2), (16, 1000, 100), (1000, 10, 100), (5, 2000, 200), (1000, 1000, 40)],
]


def dense(batch: int, sizes: list[int]) -> dict[str, list[Shape]]:
    """The products of layers of `sizes`: forward x w, backward dy w' and x' dy."""
    layers = list(pairwise(sizes))
    return {
        "NN": [(batch, n, k) for k, n in layers],
        "NT": [(batch, k, n) for k, n in layers[1:]],
        "TN": [(k, n, batch) for k, n in layers],
    }


def models() -> dict[str, list[Shape]]:
    """Of issue 4's table: two perceptrons, and a transformer's block with its heads."""
    parts = [dense(128, [784, 256, 128, 10]), dense(256, [1024, 2048, 2048, 10])]
    parts += [dense(1024, [256, 768]), dense(1024, [768, 256, 1024, 256])]
    parts += [{"NN": [(128, 64, 128)], "NT": [(128, 128, 64)], "TN": [(128, 64, 128)]}]
    return {layout: [shape for part in parts for shape in part[layout]] for layout in LAYOUTS}


@dataclass
class OpenBlas:
    """A library and how its symbols are called."""

    library: ctypes.CDLL
    prefix: str
    suffix: str

    def __getitem__(self, name: str) -> Any:
        return self.library[f"{self.prefix}{name}{self.suffix}"]

    def address(self, name: str) -> int:
        return ctypes.cast(self[name], ctypes.c_void_p).value or 0


def open_blas() -> OpenBlas:
    """The library with 64-bit sizes, one thread; NumPy's stands beside its package, or inside it."""
    places = [*Path(np.__file__).parent.parent.glob("numpy.libs/libscipy_openblas64_*")]
    places += Path(np.__file__).parent.glob(".dylibs/libscipy_openblas64_*")
    try:
        shipped = importlib.import_module("scipy_openblas64")
        places.insert(0, Path(shipped.get_lib_dir()) / f"{shipped.get_library()}.so")
    except ImportError:
        pass
    if not places:
        raise SystemExit("no OpenBLAS found: pip install scipy-openblas64")
    blas = OpenBlas(ctypes.CDLL(str(places[0])), "scipy_", "64_")
    blas["openblas_set_num_threads"](1)
    config = blas["openblas_get_config"]
    config.restype = ctypes.c_char_p
    print(config().decode())
    return blas


@dataclass
class Result:
    """Of one product."""

    shape: Shape
    layout: str
    ratio: float
    share: float  # of the peak


def matrix(rows: int, columns: int, dtype: str, by_column: bool = False) -> Array:
    x = new_like(np.empty((columns, rows) if by_column else (rows, columns), dtype))
    x[...] = np.random.default_rng(0).random(x.shape)
    return x.T if by_column else x


def compare(module: Any, blas: int, shape: Shape, layout: str, kind: str, peak: float, budget: float) -> Result:
    m, n, k = shape
    dtype = DTYPES[kind]
    a, b, c = matrix(m, k, dtype, layout[0] == "T"), matrix(k, n, dtype, layout[1] == "T"), matrix(m, n, dtype)
    scratch = plans.aligned(max(64, module.lib.scratch_bytes(m, n, k, c.itemsize)))
    pointers = [module.ffi.cast("void *", x.ctypes.data) for x in (a, b, c, scratch)]
    g = module.ffi.new("ad_gemm *", {"m": m, "n": n, "k": k, "c_m": n})
    g.a, g.b, g.c, g.scratch = pointers
    g.a_m, g.a_k, g.b_k, g.b_n = (stride // c.itemsize for x in (a, b) for stride in x.strides)
    ours, theirs = getattr(module.lib, f"ours_{kind}"), getattr(module.lib, f"theirs_{kind}")
    function = module.ffi.cast("void *", blas)
    ours(g, 1)
    got = c.copy()
    theirs(function, g, 1)
    assert np.allclose(got, c, rtol=1e-4 if kind == "f32" else 1e-12), (shape, layout)
    times = max(1, int(CHUNK / (ours(g, 1) + 1e-9)), int(CHUNK * peak / (4 * m * n * k)))
    turns: list[tuple[float, float]] = []
    end = time.perf_counter() + budget
    while len(turns) < 5 or time.perf_counter() < end:
        turns.append((max(ours(g, times), 1e-9), theirs(function, g, times)))
    mine, other = np.array(turns).T
    return Result(shape, layout, float(np.median(other / mine)), m * n * k * times / float(np.median(mine)) / peak)


def report(results: list[Result]) -> None:
    ratios = np.array([r.ratio for r in results])
    mean = np.exp(np.log(ratios).mean())
    print(f"  geometric mean {mean:.3f}, least {ratios.min():.2f}; {len(ratios)} products, of which below 1:")
    for r in sorted((r for r in results if r.ratio < 1), key=lambda r: r.ratio):
        print(f"    {r.ratio:.2f}  {r.layout} {'x'.join(map(str, r.shape))}")


def bench_shapes(module: Any, blas: OpenBlas, kind: str, cases: dict[str, list[Shape]], budget: float) -> list[Result]:
    peak = getattr(module.lib, f"peak_{kind}")()
    function = blas.address({"f32": "cblas_sgemm", "f64": "cblas_dgemm"}[kind])
    print(f"{'m':>6}{'n':>6}{'k':>6}" + "".join(f"{layout:>8}{'':8}" for layout in LAYOUTS))
    results = []
    for shape in dict.fromkeys(shape for layout in LAYOUTS for shape in cases[layout]):
        line = "".join(f"{size:6}" for size in shape)
        for layout in LAYOUTS:
            if shape not in cases[layout]:
                line += " " * 16
                continue
            r = compare(module, function, shape, layout, kind, peak, budget)
            results.append(r)
            line += f"{r.ratio:8.2f}{100 * r.share:7.0f}%"
        print(line, flush=True)
    report(results)
    return results


def gemm_steps(a: Array, b: Array, c: Array, repeat: int) -> Callable[[], object]:
    """A run of c = a @ b, of matrices or stacks of them, several times in one run."""
    plan = plans.Plan()
    *batch, m, n = c.shape
    (*a_batch, a_m, a_k), (*b_batch, b_k, b_n), (*c_batch, c_m, c_n) = (plans.element_strides(x) for x in (a, b, c))
    strides = [[*a_batch, a_m, 0, a_k], [*b_batch, 0, b_n, b_k], [*c_batch, c_m, c_n, 0]]
    buffers = [plan.input(a.nbytes), plan.input(b.nbytes), plan.output(c.nbytes)]
    roles = [plans.READ, plans.READ, plans.WRITE]
    for _ in range(repeat):
        operands = [
            plans.Operand(role, buffer, c.dtype.name, s)
            for role, buffer, s in zip(roles, buffers, strides, strict=True)
        ]
        plan.step(plans.lib.AD_GEMM, [*batch, m, n, a.shape[-1]], operands)
    return Prepared(plan.to_bytes(), [a, b], [c])


def bench_plan(timer: Timer, kind: str) -> None:
    print(f"{'':>16}{'ns here':>10}{'NumPy':>10}{'times':>8}")
    for batch in (1, 64):
        for n in (2, 3, 4, 6, 8, 10, 12, 16):
            a = np.random.default_rng(0).random((batch, n, n)).astype(DTYPES[kind])
            a = a[0] if batch == 1 else a
            b, c = a.copy(), np.empty_like(a)
            repeat = max(1, 1000 // batch)

            def numpy(a: Array = a, b: Array = b, c: Array = c, repeat: int = repeat) -> None:
                for _ in range(repeat):
                    np.matmul(a, b, out=c)

            times = timer.rivals([gemm_steps(a, b, c, repeat), numpy])
            ours, theirs = (1e9 * seconds / batch / repeat for seconds in times)
            print(f"{batch:6} of {n:2} x {n:2}{ours:10.1f}{theirs:10.1f}{theirs / ours:8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=["squares", "models", "odd", "plan"])
    parser.add_argument("--types", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--isa", choices=plans.isas(), default=plans.isas()[-1])
    parser.add_argument("--quick", action="store_true", help="shorter measurements")
    options = parser.parse_args()
    only = options.only or ["squares", "models", "odd", "plan"]
    groups = {
        "squares": dict.fromkeys(LAYOUTS, SQUARES),
        "models": models(),
        "odd": dict.fromkeys(LAYOUTS, ODD),
    }
    blas = open_blas()
    with tempfile.TemporaryDirectory() as directory, plans.isa_selected(options.isa):
        includes = ["kernels.h", "gemm.inc", "probes.inc", "gemm_rivals.inc"]
        module = build("gemm", options.isa, directory, PROBES + DECLARATIONS, includes)
        for kind in options.types:
            peak = getattr(module.lib, f"peak_{kind}")()
            print(f"\n{kind}, {options.isa}, one thread; the peak is {2e-9 * peak:.0f} GFLOP/s")
            results: list[Result] = []
            for group in only:
                print(f"\n{group}")
                if group == "plan":
                    bench_plan(Timer(0.02 if options.quick else 0.1), kind)
                else:
                    results += bench_shapes(module, blas, kind, groups[group], 0.005 if options.quick else 0.05)
            if len(only) > 1 and results:
                print("\nall")
                report(results)


if __name__ == "__main__":
    main()
