"""How fast are the native kernels, beside what the machine can do and beside NumPy (one thread each)?

    python bench/kernels.py [--only tiles opcodes regions] [--isa avx512] [--quick]

The tile VM and reductions in % of the bandwidth of a plain loop over the same memory; each opcode and superinstruction
in bytes a cycle, and whole regions beside loops by hand (kernels_opcodes.py, kernels_regions.py).  Products are in
gemm.py and products.py, vector maths in vector_maths.py.  Peak and bandwidth are measured in the same run, by a small
C module built into a temporary directory.  Times are processor time and the shortest of many, as the peak's is: on a
shared machine the others measure the neighbours.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import kernels_opcodes
import kernels_regions
from measure import PROBES, Prepared, Timer, build, plans


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ["tiles", "opcodes", "regions"]
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
        if "tiles" in options.only:
            bench_tiles(probes, timer)
        if "opcodes" in options.only:
            kernels_opcodes.bench(probes, timer)
        if "regions" in options.only:
            kernels_regions.bench(probes, timer)


if __name__ == "__main__":
    main()
