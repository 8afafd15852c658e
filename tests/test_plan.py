"""The plan: bytes with one meaning, a dump for people, and a loader that refuses what is damaged."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from autodiff import ir
from autodiff._native import ffi, lib
from autodiff.executable import Executable, PlanError, compile_graph
from autodiff.ir import FLOAT64, INT64, OPS, Aval, Graph
from autodiff.plan import ARRAYS, HEADER, OPCODES, Plan


def small_graph() -> Graph:
    builder = ir.Builder(intern=True)
    with ir.building(builder):
        x, w = ir.argument(Aval((3, 4), FLOAT64)), ir.argument(Aval((4, 2), FLOAT64))
        index = ir.argument(Aval((2,), INT64))
        builder.line = ir.Line("model.py", 7)
        y = OPS["dot_general"](OPS["tanh"](x) * 2.0, w, contract=((1,), (0,)), batch=((), ()))
        builder.line = ir.Line("model.py", 9)
        rows = OPS["gather"](y, index)
        return Graph((x, w, index), (OPS["reduce_sum"](rows, axes=(0,)), OPS["argmax"](y, axis=1)))


def small_executable() -> Executable:
    return compile_graph(small_graph())


def test_every_process_makes_the_same_bytes() -> None:
    program = """
import autodiff as ad
def f(x):
    y = x * 2.5
    y = y + x
    y = y * y
    y = y - x
    y = y / 3.0
    y = x * y
    y = y + 0.5
    return y * x
print(ad.compile(ad.value_and_grad(f)).lower(1.0).plan.data.hex())
"""
    plans = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(plans) == 1


def test_structs_are_those_of_the_header() -> None:
    assert HEADER.itemsize == ffi.sizeof("ad_plan_header")
    for name, struct in [
        ("steps", "ad_step"),
        ("operands", "ad_operand"),
        ("instrs", "ad_instr"),
        ("lines", "ad_line"),
    ]:
        assert ARRAYS[name].itemsize == ffi.sizeof(struct)
        assert sum(ARRAYS[name][field].itemsize for field in ARRAYS[name].names or ()) == ffi.sizeof(struct)
    assert OPCODES["add"] == 1


def test_equal_graphs_give_equal_bytes() -> None:
    a, b = small_executable().plan, small_executable().plan
    assert a == b
    assert hash(a) == hash(b)
    assert pickle.loads(pickle.dumps(a)) == a


def test_dump() -> None:
    lines = str(small_executable().plan).splitlines()
    assert lines[0].startswith("plan: 5 steps, 3 inputs, 2 outputs, 192 arena bytes (96 live), 8 constant bytes")
    assert [line[:4].strip() for line in lines if line[:4].strip().isdigit()] == list("01234")
    for text in [
        "   0 map 3x4: fused: tanh mul  # model.py:7",
        "       r0 = input[0] float64 strides 4,1",
        "tanh.float64 r0  # model.py:7",
        "   1 gemm 3x2x4: dot_general  # model.py:7",
        "       read input[1] float64 strides 0,1,2",
        "gather 2x2x3: gather  # model.py:9",
        "map 2x2 (reduces 2): reduce_sum",
        "       output[0] float64 strides 0,1 = sum r0",
        "arg_reduce 3x2 (reduces 2): argmax",
    ]:
        assert any(text in line for line in lines), text


def test_a_step_knows_its_line() -> None:
    plan = small_executable().plan
    (gather,) = [step for step in plan.steps if step["kind"] == lib.AD_GATHER]
    assert plan.line(int(gather["line"])) == "model.py:9"


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_cut_short_is_refused(length: int) -> None:
    executable = small_executable()
    with pytest.raises(PlanError, match=r"cut short|damaged"):
        Executable(Plan(executable.plan.data[:length]), executable.inputs, executable.outputs)


def test_other_bytes_are_refused() -> None:
    with pytest.raises(PlanError, match="no plan"):
        Executable(Plan(bytes(1000)), [], [])


def test_arrays_are_read_only_views() -> None:
    steps = small_executable().plan.steps
    with pytest.raises(ValueError, match="read-only"):
        steps["kind"] = 0
    assert isinstance(steps, np.ndarray)
