"""How fast are the native kernels, beside what the machine can do and beside NumPy (one thread each)?

    python bench/kernels.py [--isa avx512] [--quick]

The tile VM and reductions in % of the bandwidth of a plain loop over the same memory; products are in products.py,
vector maths in vector_maths.py.  Bandwidth is measured in the same run, by a small C module built into a temporary
directory.  Times are the shortest of many: on a shared machine the others measure the neighbours.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported

import cffi
import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
plans: Any = importlib.import_module("native_plans")

Array = npt.NDArray[Any]

TARGETS = {"base": "", "avx2": "avx2,fma", "avx512": "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"}
PROBES = """
static double peak_f32(void);
static double peak_f64(void);
static double read_all(const float *, long);
static double add_all(const float *, const float *, float *, long);
"""


def build_probes(isa: str, directory: str, declarations: str = PROBES, source: str = "probes.inc") -> Any:
    """The probes in the vectors of one instruction set: a module with `lib` and `ffi`."""
    name = f"_{Path(source).stem}_{isa}"
    ffi = cffi.FFI()
    ffi.cdef(declarations)
    pragma = f'#pragma GCC target("{TARGETS[isa]}")\n' if TARGETS[isa] else ""
    ffi.set_source(
        name,
        f'{pragma}#include "simd_{isa}.h"\n#include "{source}"\n',
        include_dirs=[str(ROOT / "csrc" / "kernels"), str(ROOT / "bench")],
        extra_compile_args=["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"],
    )
    spec = importlib.util.spec_from_file_location(name, ffi.compile(tmpdir=directory))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Timer:
    """The shortest time within about `budget` seconds of trying."""

    def __init__(self, budget: float) -> None:
        self.budget = budget

    def __call__(self, work: Callable[[], object]) -> float:
        work()
        times: list[float] = []
        end = time.perf_counter() + self.budget
        while len(times) < 5 or time.perf_counter() < end:
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)


def prepared(plan: Any, inputs: Sequence[Array], outputs: Sequence[Array]) -> Callable[[], object]:
    """A call that runs the plan and nothing else."""
    lib, ffi = plans.lib, plans.ffi
    loaded = plans.load(plan.to_bytes())
    workspace = plans.aligned(max(lib.ad_plan_workspace(loaded), 64))
    keep = [
        ffi.new("const void *[]", [ffi.cast("void *", a.ctypes.data) for a in inputs]),
        ffi.new("void *[]", [ffi.cast("void *", a.ctypes.data) for a in outputs]),
        workspace,
        *inputs,
        *outputs,
    ]
    args = ffi.new("ad_run *")
    args.size = ffi.sizeof("ad_run")
    args.inputs, args.outputs = keep[0], keep[1]
    args.workspace, args.workspace_size = ffi.cast("void *", workspace.ctypes.data), workspace.nbytes

    def work(lib: Any = lib, keep: Any = keep) -> None:
        status = lib.ad_plan_run(loaded, args)
        assert status == lib.AD_OK

    return work


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
        ours = timer(prepared(plan, inputs, outputs))
        print(f"{name:24}{100 * bound / ours:7.1f}%{100 * bound / timer(theirs):7.1f}%")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", choices=plans.isas(), default=plans.isas()[-1])
    parser.add_argument("--quick", action="store_true", help="shorter measurements")
    options = parser.parse_args()
    timer = Timer(0.02 if options.quick else 0.2)
    with tempfile.TemporaryDirectory() as directory, plans.isa_selected(options.isa):
        probes = build_probes(options.isa, directory)
        print(f"instruction set {options.isa}, one thread")
        bench_tiles(probes, timer)


if __name__ == "__main__":
    main()
