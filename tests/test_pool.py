"""Several threads share a step: the same bits for any number of them, in any circumstances."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import native_plans
import numpy as np
import pytest
import test_gemm
import test_native
import test_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from native_plans import MAX, READ, SUM, WRITE, Callbacks, Operand, Plan, PlanError, ffi, lib, shared
from random_graphs import random_case, same_bits

import autodiff as ad
from autodiff.executable import compile_graph

THREADS = [1, 2, 3, 5, 8, 64]
needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="where threads are counted")
# Around what pieces end at: tiles, chunks and blocks, and powers of two of these.
LONG = [1023, 4096, 4097, 512 * 7 - 1, 512 * 8, 512 * 8 + 1, 512 * 13 + 5]
REDUCED: list[tuple[tuple[int, ...], int, int]] = [
    *[((n,), 0, 1) for n in LONG],
    *[((n, m), 0, 1) for n in (31, 64, 65, 16 * 8 - 1, 16 * 8 + 1, 16 * 13 + 3) for m in (3, 64, 130)],
    *[((3, n), 1, 1) for n in LONG[::2]],
    *[((n, 700), 1, 1) for n in (5, 9, 70)],
    *[((n, 50, 7), 1, 1) for n in (2, 3, 20)],
    *[((2, n, 40), 1, 1) for n in (100, 128, 129)],
    ((2, 3, 3000), 0, 2),
    ((3, 2500), 0, 1),
    ((33, 9000), 0, 1),
]
SPACES = [
    *[((n, m), 1) for n, m in ((15, 3), (17, 64), (63, 9), (130, 700), (1030, 2), (1024, 1), (600, 10), (70, 512))],
    *[((33, 4, 8), 2), ((20, 3, 5, 1), 2)],
]

PRODUCTS = [*test_gemm.SHAPES, (85, 7, 30), (169, 3, 5), (9, 129, 4), (2, 65, 8), (1, 1, 5000)]


@contextmanager
def threads(n: int, pieces: int = 0) -> Iterator[None]:
    """Executables are loaded with all steps in pieces, if so wished, and run on n threads."""
    before = ad.get_num_threads()
    ad.set_num_threads(n)
    lib.ad_pieces_select(pieces > 0, pieces)
    try:
        yield
    finally:
        lib.ad_pieces_select(0, 0)
        ad.set_num_threads(before)


def python(code: str, **environment: str) -> str:
    """What a process of its own prints; it ends as it should, and soon."""
    env = {**os.environ, **environment}
    command, directory = [sys.executable, "-c", textwrap.dedent(code)], str(Path(ad.__file__).parent.parent)
    result = subprocess.run(command, env=env, cwd=directory, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


# --- the same bits ---


@pytest.mark.parametrize("pieces", [2, 7, 64])
@pytest.mark.parametrize(("shape", "n_outer", "n_reduced"), REDUCED)
def test_reductions_in_the_stated_order(shape: tuple[int, ...], n_outer: int, n_reduced: int, pieces: int) -> None:
    with shared(3, pieces):
        test_native.test_sum_in_the_stated_order(shape, n_outer, n_reduced, "float32")
        test_native.test_extrema(shape, n_outer, n_reduced, "float64", MAX)


@pytest.mark.parametrize("pieces", [2, 7, 64])
@pytest.mark.parametrize(("shape", "n_outer"), SPACES)
def test_programs_on_rows(shape: tuple[int, ...], n_outer: int, pieces: int) -> None:
    with shared(3, pieces):
        for seed in range(5):
            test_rows.random_program(random.Random(f"{seed} {shape}"), shape, n_outer, ["float64", "float32"][seed % 2])


@pytest.mark.parametrize("pieces", [2, 64])
@pytest.mark.parametrize("shape", [(3, 5), (100, 10), (2, 5000), (1030, 2), (9, 5, 40), (70, 600)])
def test_elements(shape: tuple[int, ...], pieces: int) -> None:
    with shared(3, pieces):
        for view in test_native.VIEWS:
            test_native.test_operands_of_any_stride(shape, view, "float32")
        for kind in test_native.LIMITS:
            test_native.test_windows(shape, kind, "float64")
        for n in LONG:
            test_native.test_in_place(n)


@pytest.mark.parametrize("pieces", [2, 64])
def test_elements_that_are_moved(pieces: int) -> None:
    with shared(3, pieces):
        for axes in [(0, 1, 2), (2, 1, 0), (1, 2, 0)]:
            test_native.test_copy("float32", axes, (7, 130, 65))
        for shape, n_outer in [((130, 70), 0), ((130, 7), 1), ((3, 5, 200), 1)]:
            test_native.test_arg_reduce("float64", shape, n_outer, MAX)
        test_native.test_gather_and_scatter("float64", (4, 6), 20)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("m", "n", "k"), PRODUCTS)
def test_products(m: int, n: int, k: int, dtype: str) -> None:
    a, b = test_gemm.matrices(m, n, k, dtype)
    want = test_gemm.multiply(a, b, np.zeros((m, n), dtype))
    turned = test_gemm.laid_out(np.zeros((m, n), dtype), "columns")
    for pieces in (2, 5, 64):
        with shared(3, pieces):
            assert same_bits(test_gemm.multiply(a, b, np.zeros((m, n), dtype)), want)
            assert same_bits(test_gemm.multiply(a, b, turned), want)


@pytest.mark.parametrize("batch", [(3,), (40,), (2, 9)])
def test_products_in_a_batch(batch: tuple[int, ...]) -> None:
    for pieces in (2, 5, 64):
        with shared(3, pieces):
            test_native.test_gemm("float64", 130, 70, 30, batch, "b")


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_graphs(seed: int, size: int) -> None:
    case = random_case(random.Random(seed), size, [(), (4097,), (300, 20), (20, 1024), (1300, 3), (40, 33)])
    wants = compile_graph(case.graph).run_flat(case.arrays)
    for pieces in (2, 5, 64):
        with threads(1, pieces):
            executable = compile_graph(case.graph)
        for n in THREADS:
            with threads(n):
                results = executable.run_flat(case.arrays)
            for got, want in zip(results, wants, strict=True):
                assert same_bits(got, want), f"{n} threads, {pieces} pieces"


# --- errors and interrupts ---


@pytest.mark.parametrize("n", THREADS)
def test_the_error_is_that_of_one_thread(n: int) -> None:
    """... though a later piece fails before: the first one fails at its end."""
    index = np.arange(3200) % 100
    index[[399, 400, 801]] = [1000, 2000, 3000]
    table, target = np.zeros((100, 500)), np.zeros((3200, 500))
    arrays = [(READ, table, [0, 1, 500]), (READ, index, [1, 0, 0]), (WRITE, target, [500, 1, 0])]
    labels = index[:, None].copy()
    picked = np.zeros(3200)
    with shared(n, 8):
        for _ in range(20):
            with pytest.raises(PlanError) as gather:
                test_native.one_step(lib.AD_GATHER, [3200, 500, 100], arrays)
            with pytest.raises(PlanError) as rows:
                test_rows.run_rows(
                    (3200, 100),
                    1,
                    [(np.zeros((3200, 100)), "float64"), (labels, "position")],
                    [("pick", "float64", 2, [0, 1])],
                    [(WRITE, picked, 2, "float64")],
                    8,
                )
            assert gather.value.detail == rows.value.detail == (1000, 100)


def endless() -> Plan:
    plan = Plan()
    operands = [Operand(READ, plan.input(8), "float64", [0, 0]), Operand(SUM, plan.output(8), "float64", [0, 0])]
    plan.step(lib.AD_MAP, [2**20, 2**20], operands, lane=8, n_registers=1, n_reduced=2)
    return plan


@pytest.mark.parametrize("n", [2, 8])
def test_an_interrupt_stops_all_threads(n: int) -> None:
    calls: list[int] = []

    def poll() -> int:
        calls.append(0)
        return len(calls) >= 3

    with shared(n, 64), pytest.raises(PlanError) as caught:
        native_plans.run(endless(), [np.ones(1)], [np.empty(1)], callbacks=Callbacks(poll=poll))
    assert caught.value.status == lib.AD_INTERRUPTED
    assert len(calls) == 3


# --- how many threads ---


def test_short_steps_are_shared_if_told_to() -> None:
    """From any time on, in as many pieces as suit: one, if they are that short."""
    def f(x: Any) -> Any:
        return np.sum(x * x), np.sin(x), x @ x

    x = np.arange(25.0).reshape(5, 5)
    want = ad.compile(f)(x)
    lib.ad_pieces_select(1, 0)
    try:
        got = ad.compile(f)(x)
    finally:
        lib.ad_pieces_select(0, 0)
    assert all(same_bits(a, b) for a, b in zip(got, want, strict=True))


def test_the_number_of_threads() -> None:
    before = ad.get_num_threads()
    try:
        for n in (1, 7, np.int64(3)):
            ad.set_num_threads(n)
            assert ad.get_num_threads() == n
        for bad in (0, -1, 10**6):
            with pytest.raises(ValueError, match="number of threads"):
                ad.set_num_threads(bad)
        for wrong in (2.0, "2", None, True):
            with pytest.raises(TypeError, match="number of threads"):
                ad.set_num_threads(wrong)  # type: ignore[arg-type]
        assert ad.get_num_threads() == 3
    finally:
        ad.set_num_threads(before)
    assert lib.ad_pool_create(0) == ffi.NULL
    assert lib.ad_pool_resize(ffi.NULL, 2) == lib.AD_ERROR_ARGUMENT


@needs_proc
def test_the_number_of_threads_at_first() -> None:
    code = "import autodiff; print(autodiff.get_num_threads())"
    assert int(python(code, AUTODIFF_NUM_THREADS="5")) == 5
    assert int(python(code, AUTODIFF_NUM_THREADS="")) == len(os.sched_getaffinity(0))
    one = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); " + code
    assert int(python(one, AUTODIFF_NUM_THREADS="")) == 1
    wrong = "import autodiff\ntry: autodiff.get_num_threads()\nexcept ValueError as error: print(error)"
    assert "AUTODIFF_NUM_THREADS" in python(wrong, AUTODIFF_NUM_THREADS="many")


BEGIN = """
import os, threading, numpy as np, autodiff as ad
tasks = lambda: len(os.listdir("/proc/self/task"))
x = np.random.default_rng(0).standard_normal(1 << 20)
f = ad.compile(lambda x: (np.sum(np.exp(x)), np.tanh(x) * x))
ad.set_num_threads(4)
"""


@needs_proc
def test_no_thread_unless_it_pays() -> None:
    code = """
    before = tasks()
    for n in (1, 100, 10000): f(x[:n])
    assert tasks() == before
    ad.set_num_threads(1); f(x)
    assert tasks() == before
    ad.set_num_threads(4); f(x)
    assert tasks() == before + 3
    ad.set_num_threads(2)
    for _ in range(1000):
        if tasks() == before + 1: break
        threading.Event().wait(0.01)
    assert tasks() == before + 1
    """
    python(BEGIN + textwrap.dedent(code), OPENBLAS_NUM_THREADS="1")


@needs_proc
def test_a_forked_process_has_threads_of_its_own() -> None:
    """... also if other threads were in the middle of runs."""
    code = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    want = f(x)
    same = lambda y: y[0] == want[0] and np.array_equal(y[1], want[1])
    stop = threading.Event()
    def work():
        while not stop.is_set(): assert same(f(x))
    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers: worker.start()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            alone = tasks() == 1
            right = all(same(f(x)) for _ in range(3))
            os._exit(not (alone and right and tasks() == 4))
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    for worker in workers: worker.join()
    assert same(f(x))
    """
    python(BEGIN + textwrap.dedent(code), OPENBLAS_NUM_THREADS="1")


@pytest.mark.parametrize("end", ["f(x)", "f(x); os._exit(0)", "threading.Thread(target=endless, daemon=True).start()"])
def test_exit(end: str) -> None:
    code = f"""
    def endless():
        while True: f(x)
    {end}
    threading.Event().wait(0.05)
    """
    python(BEGIN + textwrap.dedent(code))


def test_an_interrupt_in_python() -> None:
    code = """
    import signal
    def stop(*_): raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, stop)
    g = ad.compile(lambda x: [np.sum(np.exp(x[i:] * 1.5)) for i in range(2000)])
    g.lower(x)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try: g(x)
    except KeyboardInterrupt: print("stopped")
    f(x)
    """
    assert python(BEGIN + textwrap.dedent(code)) == "stopped\n"


# --- many at once ---


def test_runs_at_once_while_their_threads_come_and_go() -> None:
    rng = np.random.default_rng(0)
    x, a = rng.standard_normal(1 << 19), rng.standard_normal((300, 300))
    functions = [
        ad.compile(lambda x, a: (np.sum(np.exp(x)), x * x)),
        ad.compile(lambda x, a: (a @ a, np.sum(a, axis=0))),
    ]
    with threads(1):
        wants = [f(x, a) for f in functions]

    def work(i: int) -> int:
        right = 0
        for k in range(40):
            if i == 0:
                ad.set_num_threads(1 + k % 6)
            got, want = functions[(i + k) % 2](x, a), wants[(i + k) % 2]
            right += all(same_bits(np.asarray(g), np.asarray(w)) for g, w in zip(got, want, strict=True))
        return right

    with threads(4), ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [40] * 8


def test_pools_come_and_go() -> None:
    plan, inputs, outputs = test_native.simple_plan(5000)
    for n in THREADS:
        with shared(n, 64):
            native_plans.run(plan, inputs, outputs)
        np.testing.assert_array_equal(outputs[0], -inputs[0])
