"""What the measurements of kernels share: C built for the occasion, timers, and plans run without Python in between."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported
os.environ.pop("OPENBLAS_CORETYPE", None)  # it and the next make NumPy slower or faster than users have it
os.environ.pop("OPENBLAS_L2_SIZE", None)
os.environ.setdefault("AUTODIFF_NUM_THREADS", "1")

import cffi
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
static double repeat(int (*)(const void *, const void *), const void *, const void *, long);
"""
"""What probes.inc has."""

FLAGS = ["-O3", "-fwrapv", "-fno-strict-aliasing", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]


def build(name: str, isa: str, directory: str, declarations: str, includes: Sequence[str]) -> Any:
    """C of this directory in the vectors of one instruction set: a module with `lib` and `ffi`."""
    name = f"_{name}_{isa}"
    ffi = cffi.FFI()
    ffi.cdef(declarations)
    pragma = f'#pragma GCC target("{TARGETS[isa]}")\n' if TARGETS[isa] else ""
    ffi.set_source(
        name,
        pragma + "".join(f'#include "{file}"\n' for file in (f"simd_{isa}.h", *includes)),
        include_dirs=[str(ROOT / "csrc"), str(ROOT / "csrc" / "kernels"), str(ROOT / "bench")],
        extra_compile_args=[*FLAGS, "-Wno-psabi", "-Wno-unused-function", "-Wno-unused-variable"],
    )
    spec = importlib.util.spec_from_file_location(name, ffi.compile(tmpdir=directory))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Timer:
    """The shortest processor time within about `budget` seconds of trying."""

    def __init__(self, budget: float) -> None:
        self.budget = budget

    def __call__(self, work: Callable[[], object]) -> float:
        return self.rivals([work])[0]

    def rivals(self, works: Sequence[Callable[[], object]]) -> list[float]:
        """The same of several, which take turns, so that what else the machine does meets them alike."""
        for work in works:
            work()
        best, rounds = [float("inf")] * len(works), 0
        end = time.perf_counter() + self.budget * len(works)
        while rounds < 5 or time.perf_counter() < end:
            rounds += 1
            for i, work in enumerate(works):
                start = time.thread_time()
                work()
                best[i] = min(best[i], time.thread_time() - start)
        return best


class Prepared:
    """A plan and all that a run of it needs; calling it runs it once."""

    def __init__(self, plan: bytes, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        ffi = plans.ffi
        self.plan = plans.load(plan)
        self.run = plans.lib.ad_plan_run
        workspace = plans.aligned(max(plans.lib.ad_plan_workspace(self.plan), 64))
        pointers = ffi.new("const void *[]", [ffi.cast("void *", a.ctypes.data) for a in inputs])
        targets = ffi.new("void *[]", [ffi.cast("void *", a.ctypes.data) for a in outputs])
        self.keep = [workspace, pointers, targets, *inputs, *outputs]
        self.args = ffi.new("ad_run *")
        self.args.size = ffi.sizeof("ad_run")
        self.args.inputs, self.args.outputs = pointers, targets
        self.args.workspace, self.args.workspace_size = ffi.cast("void *", workspace.ctypes.data), workspace.nbytes

    def __call__(self) -> None:
        status = self.run(self.plan, self.args)
        assert status == plans.lib.AD_OK

    def address(self, which: str) -> int:
        """Of the run function, the plan or its arguments, for C that calls it."""
        ffi = plans.ffi
        thing = {"run": ffi.addressof(plans.lib, "ad_plan_run"), "plan": self.plan, "args": self.args}[which]
        return int(ffi.cast("uintptr_t", thing))


def new_like(array: Array) -> Array:
    """An array of zeros on a 64-byte boundary, where results are, too."""
    made: Array = plans.aligned(max(array.nbytes, 64)).view(array.dtype)[: array.size].reshape(array.shape)
    made[...] = 0
    return made
