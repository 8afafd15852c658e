"""Each opcode and superinstruction of the tile VM alone, beside a plain C loop that reads and writes as much."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from measure import Array, Prepared, Timer, new_like, plans

SIZES = {"L1": 20 << 10, "L2": 400 << 10, "L3": 6 << 20, "DRAM": 128 << 20}
"""Bytes of all arrays together."""

DECLARATIONS = "static double cycles_a_second(void);" + "".join(
    f"static double stream_{k}(double *const *, double *, long, long);" for k in (1, 2, 3, 4)
)

Program = tuple[int, list[tuple[str, int, list[int]]]]
"""How many operands there are, and instrs (opcode, register, sources)."""


def programs() -> dict[str, Program]:
    found: dict[str, Program] = {}
    for name, (_, arity, domain) in plans.OPCODES.items():
        if domain in ("number", "floating"):
            found[name] = arity, [(name, arity, list(range(arity)))]
    for tree in plans.superop_trees():
        leaves, instrs = plans.program_of(tree)
        found[written(tree)] = len(leaves), instrs
    return found


def written(tree: Any) -> str:
    """A tree as people write it."""
    signs = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
    signs |= {"eq": "==", "ne": "!="}
    if isinstance(tree, str):
        return tree
    parts = [f"({written(part)})" if part[0] in signs else written(part) for part in tree[1:]]
    return f" {signs[tree[0]]} ".join(parts) if tree[0] in signs else f"{tree[0]}({', '.join(parts)})"


def prepare(instrs: list[tuple[str, int, list[int]]], arrays: list[Array], out: Array) -> Prepared:
    plan, inputs, outputs = plans.map_plan(
        [out.size],
        [(a, "float64") for a in arrays],
        [(name, "float64", register, sources) for name, register, sources in instrs],
        [(plans.WRITE, out, instrs[-1][1], "float64")],
        lane=8,
    )
    return Prepared(plan.to_bytes(), inputs, outputs)


def bench(probes: Any, timer: Timer) -> None:
    ghz = probes.lib.cycles_a_second() / 1e9
    cast, lib = probes.ffi.cast, probes.lib
    print(f"\nTile VM, float64: bytes a cycle (at {ghz:.2f} GHz), and % of a plain loop over as many arrays")
    print(f"{'':32}{''.join(f'{level:>14}' for level in SIZES)}")
    for name, (arity, instrs) in programs().items():
        cells = []
        for nbytes in SIZES.values():
            n = nbytes // (8 * (arity + 1)) // 64 * 64
            arrays, out, repeat = [new_like(np.empty(n)) for _ in range(arity)], new_like(np.empty(n)), 1 + 30_000 // n
            for k, array in enumerate(arrays):
                array[...] = 1 + k / 4
            vm = prepare(instrs, arrays, out)
            parts = [cast("void *", vm.address(part)) for part in ("run", "plan", "args")]
            streams = probes.ffi.new("double *[]", [cast("double *", a.ctypes.data) for a in arrays])
            ours, least = timer.rivals(
                [
                    partial(lib.repeat, *parts, repeat),
                    partial(getattr(lib, f"stream_{arity}"), streams, cast("double *", out.ctypes.data), n, repeat),
                ]
            )
            rate = repeat * 8 * n * (arity + 1) / ours / ghz / 1e9
            cells.append(f"{rate:8.1f}{100 * least / ours:5.0f}%")
        print(f"{name:32}{''.join(cells)}", flush=True)
