"""The native library through cffi: small plans built by hand, against NumPy, on every instruction set.

Under AddressSanitizer and UndefinedBehaviorSanitizer, which also see every byte touched outside a buffer:

    AUTODIFF_CFLAGS="-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all" python setup.py build_ext -fi
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
        python -m pytest tests/test_native.py tests/test_plan_fuzz.py
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from native_plans import (
    DTYPES,
    MAX,
    MIN,
    OPCODES,
    READ,
    SUM,
    WRITE,
    Array,
    Callbacks,
    Operand,
    Plan,
    PlanError,
    base_of,
    element_strides,
    ffi,
    isa_selected,
    isas,
    lane_of,
    lib,
    load,
    map_plan,
    row_major,
    run,
    run_map,
)
from stated_order import numbers, reduction, same

import autodiff.ops  # noqa: F401  (declares the primitives)
from autodiff.ir import OPS

NUMBERS = ["float64", "float32", "int64", "int32", "uint8"]
FLOATS = ["float64", "float32"]
LENGTHS = [1, 2, 7, 8, 31, 64, 65, 511, 512, 513, 1000, 4099]


@pytest.fixture(params=isas(), autouse=True)
def isa(request: pytest.FixtureRequest) -> Any:
    with isa_selected(request.param):
        yield request.param


# --- opcodes ---

EXACT = {"div", "sqrt", "scale"}
"""Opcodes of floating numbers whose results are NumPy's to the bit."""

DOMAINS = {  # those of rows: see test_rows.py
    "number": NUMBERS,
    "floating": FLOATS,
    "integer": NUMBERS[2:],
    "compare": NUMBERS,
    "logic": ["bool"],
    "choice": [*NUMBERS, "bool"],
    "to_float": FLOATS,
    "to_int": FLOATS,
    "to_bool": NUMBERS,
    "from_bool": NUMBERS,
}
INT_OF = {"float64": "int64", "float32": "int32"}
EVERY_OP = [(name, dtype) for name, (_, _, domain) in OPCODES.items() for dtype in DOMAINS.get(domain, [])]


def op_types(name: str, dtype: str) -> tuple[list[str], str]:
    """The dtypes an opcode takes and gives."""
    _, arity, domain = OPCODES[name]
    first = {"choice": "bool", "from_bool": "bool", "to_float": INT_OF.get(dtype, "")}.get(domain, dtype)
    result = {"compare": "bool", "to_bool": "bool", "to_int": INT_OF.get(dtype, "")}.get(domain, dtype)
    return [first, *[dtype] * (arity - 1)], result


def oracle(name: str, dtype: str, args: list[Array]) -> Array:
    with np.errstate(all="ignore"):
        if name in OPS:
            return np.asarray(OPS[name].oracle(*args))
        if name == "int_pow":
            return np.power(*args)
        return args[0].astype(op_types(name, dtype)[1])  # to_float, to_int, to_bool, from_bool


@pytest.mark.parametrize(("name", "dtype"), EVERY_OP)
@pytest.mark.parametrize("n", [1, 5, 64, 1027])
def test_opcode(name: str, dtype: str, n: int) -> None:
    types, result = op_types(name, dtype)
    args = [numbers(t, n, seed=i) for i, t in enumerate(types)]
    if name == "int_pow":
        args[1] = np.abs(args[1] % 40).astype(dtype)
    if name in ("lgamma", "digamma", "trigamma"):  # beyond the zeros, where the oracles lose their bits
        args = [np.abs(args[0]) + args[0].dtype.type(2.2)]
    out = np.empty(n, result)
    reads = [(a, t) for a, t in zip(args, types, strict=True)]
    last = len(reads)
    instrs = [(name, dtype, last, range(last))]
    run_map([n], reads, instrs, [(WRITE, out, last, result)], lane=lane_of(dtype))
    want = oracle(name, dtype, args)
    if OPCODES[name][2] == "floating" and name not in EXACT:
        np.testing.assert_array_equal(np.isnan(out), np.isnan(want))
        finite = np.isfinite(want) & np.isfinite(out)
        same(out[~finite & ~np.isnan(want)], want[~finite & ~np.isnan(want)])
        ulp = np.abs(np.nextafter(want[finite], np.zeros((), dtype)).astype("f8") - want[finite].astype("f8"))
        difference = np.abs(out[finite].astype("f8") - want[finite].astype("f8"))
        tiny = float(np.finfo(dtype).smallest_subnormal)
        assert np.all(difference <= 8 * np.maximum(ulp, tiny))  # test_vmath.py has the true bounds
    elif name in ("maximum", "minimum"):  # which of two equal zeros is not NumPy's promise
        np.testing.assert_array_equal(out, want)
    else:
        same(out, want)


@pytest.mark.parametrize("dtype", ["bool", *NUMBERS])
@pytest.mark.parametrize("lane", [1, 4, 8])
def test_bool_lanes_of_every_width(dtype: str, lane: int) -> None:
    """Masks are as wide as the program's other lanes; every dtype loads as one and stores from one."""
    x = numbers(dtype, 333)
    y = numbers("bool", 333, seed=1)
    for out_dtype in DTYPES:
        out = np.empty(333, out_dtype)
        instrs = [("logical_not", "bool", 2, [0]), ("select", "bool", 2, [2, 1, 0])]
        run_map([333], [(x, "bool"), (y, "bool")], instrs, [(WRITE, out, 2, "bool")], lane=lane)
        same(out, np.where(~x.astype(bool), y, x.astype(bool)).astype(out_dtype))


@pytest.mark.parametrize("source", list(DTYPES))
@pytest.mark.parametrize("target", list(DTYPES))
@pytest.mark.parametrize("n", [3, 300])
def test_conversion_on_load_and_on_store(source: str, target: str, n: int) -> None:
    x = numbers(source, n)
    if source.startswith("float"):
        x = np.concatenate([x[: n // 2], np.array([300.7, -300.7, 2.0**31, -(2.0**31), 2.0**63, 1e30], source), x])[-n:]
    out, back = np.empty(n, target), np.empty(n, target)
    with np.errstate(all="ignore"):
        want = x.astype(target)
        if target == "uint8" and source.startswith("float"):  # C leaves it open; here it is as by way of int32
            want = np.where(np.abs(x) < 2.0**31, x, -(2.0**31)).astype("int32").astype("uint8")
    run_map([n], [(x, target)], [], [(WRITE, out, 0, target)], lane=lane_of(target))
    same(out, want)
    run_map([n], [(x, source)], [], [(WRITE, back, 0, source)], lane=lane_of(source))
    same(back, want)


# --- spaces ---

VIEWS = {
    "dense": lambda x: x,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "every other": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "rows backwards": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "one row": lambda x: x[:1],
    "one column": lambda x: np.ascontiguousarray(x[..., :1]),
    "one number": lambda x: x.reshape(-1)[:1].reshape((1,) * x.ndim),
}
SHAPES = [(1, 1), (3, 5), (100, 10), (7, 33), (2, 1000), (41, 3), (5, 513), (1030, 2), (2, 3, 4), (9, 5, 40), (3, 1, 7)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
def test_operands_of_any_stride(shape: tuple[int, ...], view: str, dtype: str) -> None:
    x, y = numbers(dtype, shape), VIEWS[view](numbers(dtype, shape, seed=1))
    out = np.zeros(shape, dtype)
    mixed = np.zeros(shape, "int64" if dtype == "float64" else "bool")
    spread = np.zeros((*shape[:-1], shape[-1] * 3), dtype)[..., 1::3]
    run_map(
        shape,
        [(x, dtype), (y, dtype)],
        [("add", dtype, 2, [0, 1]), ("lt", dtype, 3, [0, 1])],
        [(WRITE, out, 2, dtype), (WRITE, spread, 2, dtype), (WRITE, mixed, 3, "bool")],
        lane=lane_of(dtype),
    )
    with np.errstate(all="ignore"):
        same(out, x + y)
        same(spread, x + y)
        same(mixed, (x < y).astype(mixed.dtype))
    assert not np.any(spread.base[..., 0::3])
    assert not np.any(spread.base[..., 2::3])


@pytest.mark.parametrize("n", LENGTHS)
def test_in_place(n: int) -> None:
    """An output may be the memory of an input that is read at or before the instr that writes it."""
    x, y = numbers("float64", n), numbers("float64", n, seed=1)
    both = x.copy()
    plan, _, _ = map_plan(
        [n],
        [(x, "float64"), (y, "float64")],
        [("mul", "float64", 2, [0, 1]), ("add", "float64", 0, [2, 0]), ("sub", "float64", 1, [0, 2])],
        [(WRITE, both, 0, "float64"), (WRITE, np.empty(n), 1, "float64")],
        lane=8,
    )
    rest = np.empty(n)
    run(plan, [both, y], [both, rest])
    with np.errstate(all="ignore"):
        same(both, x * y + x)
        same(rest, (x * y + x) - x * y)


def test_registers_used_again_do_not_write_to_inputs() -> None:
    x = np.arange(1000.0)
    kept, out = x.copy(), np.empty(1000)
    instrs = [("neg", "float64", 0, [0]), ("add", "float64", 0, [0, 0]), ("neg", "float64", 0, [0])]
    run_map([1000], [(x, "float64")], instrs, [(WRITE, out, 0, "float64")], lane=8)
    same(x, kept)
    same(out, 2 * x)


def test_one_register_stored_twice_and_an_input_stored() -> None:
    x = numbers("float32", 777)
    outs = [np.empty(777, "float32") for _ in range(3)]
    instrs = [("neg", "float32", 1, [0])]
    results = [(WRITE, outs[0], 1, "float32"), (WRITE, outs[1], 1, "float32"), (WRITE, outs[2], 0, "float32")]
    run_map([777], [(x, "float32")], instrs, results, lane=4)
    for out, want in zip(outs, [-x, -x, x], strict=True):
        same(out, want)


def test_constants_and_arena() -> None:
    plan = Plan()
    x, y = np.arange(10.0), np.arange(10.0) ** 2
    a, c, t, o = plan.input(80), plan.constant(y), plan.arena(80), plan.output(80)
    for buffers in [(a, c, t), (t, c, o)]:
        operands = [Operand(READ, buffers[0], "float64", [1], 0), Operand(READ, buffers[1], "float64", [1], 1)]
        operands.append(Operand(WRITE, buffers[2], "float64", [1], 2))
        plan.step(lib.AD_MAP, [10], operands, [("mul", "float64", 2, [0, 1])], lane=8, n_registers=3)
    out = np.empty(10)
    run(plan, [x], [out])
    same(out, x * y * y)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4), (2, 0, 3)])
def test_nothing_to_do(shape: tuple[int, ...]) -> None:
    x, out = np.empty(shape), np.empty(shape)
    run_map(shape, [(x, "float64")], [("neg", "float64", 1, [0])], [(WRITE, out, 1, "float64")], lane=8)


def test_rank_zero_and_the_highest() -> None:
    x, out = np.array(3.0), np.array(0.0)
    run_map([], [(x, "float64")], [("neg", "float64", 1, [0])], [(WRITE, out, 1, "float64")], lane=8)
    assert out == -3
    shape = [1, 2] * 5 + [1] * 12 + [2, 1] * 5
    x = np.arange(1024.0).reshape(shape)
    y, out = np.empty(shape), np.empty(())
    reads = [(x.T.copy().T, "float64")]
    instrs = [("neg", "float64", 1, [0])]
    run_map(shape, reads, instrs, [(WRITE, y, 1, "float64"), (SUM, out, 1, "float64")], lane=8, n_reduced=32)
    same(y, -x)
    assert out == -x.sum()


# --- reductions ---


REDUCED = [
    *[((n,), 0, 1) for n in LENGTHS],
    *[((40, n), 1, 1) for n in (1, 2, 3, 10, 16, 31, 32, 33, 64, 100, 129, 256, 257, 500, 513)],
    *[((3, n), 1, 1) for n in (1024, 1537, 5000)],
    *[((n, 10), 0, 1) for n in (1, 15, 16, 17, 128, 1000)],
    *[((n, m), 0, 1) for n in (3, 33, 100) for m in (2, 3, 64, 65, 300, 2500)],
    ((70, 9000), 0, 1),
    ((2, 3, 4, 5), 1, 2),
    ((2, 3, 4, 5), 0, 3),
    ((2, 3, 4, 5), 2, 2),
    ((100, 4, 3), 1, 1),
    ((7, 33, 5), 1, 1),
    ((5, 40, 600), 1, 1),
    ((6, 20, 30), 1, 2),
    ((4, 5), 2, 0),
    ((4, 5), 1, 0),
    ((4, 1, 5), 1, 1),
    ((4, 5, 1), 1, 1),
]


@pytest.mark.parametrize(("shape", "n_outer", "n_reduced"), REDUCED)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
def test_sum_in_the_stated_order(shape: tuple[int, ...], n_outer: int, n_reduced: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype) if dtype != "int32" else numbers(dtype, shape)
    view = np.ascontiguousarray(x.T).T
    y = rng.standard_normal(shape[-1:]).astype(dtype)
    kept = shape[:n_outer] + shape[n_outer + n_reduced :]
    for operand in (x, view, x[::-1].copy()[::-1]):
        plain, scaled = np.empty(kept, dtype), np.empty(kept, "float64")
        run_map(
            shape,
            [(operand, dtype), (y, dtype)],
            [("mul", dtype, 1, [0, 1])],
            [(SUM, plain, 0, dtype), (SUM, scaled, 1, dtype)],
            lane=lane_of(dtype),
            n_outer=n_outer,
            n_reduced=n_reduced,
        )
        same(plain, reduction(x, n_outer, n_reduced, SUM))
        same(scaled, reduction(x * y, n_outer, n_reduced, SUM).astype("float64"))


@pytest.mark.parametrize(("shape", "n_outer", "n_reduced"), REDUCED[:: 3 if len(REDUCED) > 40 else 1])
@pytest.mark.parametrize("dtype", [*NUMBERS, "bool"])
@pytest.mark.parametrize("role", [MAX, MIN])
def test_extrema(shape: tuple[int, ...], n_outer: int, n_reduced: int, dtype: str, role: int) -> None:
    x = numbers(dtype, shape)
    if dtype.startswith("float"):
        x = np.where(np.isnan(x) & (np.random.default_rng(1).random(shape) < 0.99), 3, x).astype(dtype)
    kept = shape[:n_outer] + shape[n_outer + n_reduced :]
    for lane in {"bool": [1, 4, 8]}.get(dtype, [lane_of(dtype)]):
        out = np.empty(kept, dtype)
        run_map(shape, [(x, dtype)], [], [(role, out, 0, dtype)], lane=lane, n_outer=n_outer, n_reduced=n_reduced)
        np.testing.assert_array_equal(out, reduction(x, n_outer, n_reduced, role))


def test_map_and_reduction_in_one_step_with_spread_results() -> None:
    x = numbers("float64", (37, 50))
    x[~(np.abs(x) < 1e100)] = 1
    y, rows = np.empty((37, 50)), np.zeros((37, 3))
    results = [(WRITE, y, 1, "float64"), (SUM, rows[:, 1], 1, "float64")]
    instrs = [("add", "float64", 1, [0, 0])]
    run_map([37, 50], [(x, "float64")], instrs, results, lane=8, n_outer=1, n_reduced=1)
    same(y, x + x)
    same(rows[:, 1].copy(), reduction(x + x, 1, 1, SUM))
    assert not rows[:, 0].any()
    assert not rows[:, 2].any()


@pytest.mark.parametrize(("shape", "n_outer"), [((0,), 0), ((3, 0), 1), ((0, 3), 0), ((2, 0, 3), 1), ((0, 0), 1)])
def test_sum_of_nothing(shape: tuple[int, ...], n_outer: int) -> None:
    out = np.full(shape[:n_outer] + shape[n_outer + 1 :], 7.0)
    run_map(shape, [(np.empty(shape), "float64")], [], [(SUM, out, 0, "float64")], lane=8, n_outer=n_outer, n_reduced=1)
    same(out, np.zeros(out.shape))


def test_maximum_of_nothing_is_refused() -> None:
    with pytest.raises(PlanError, match="of nothing"):
        run_map([0], [(np.empty(0), "float64")], [], [(MAX, np.empty(()), 0, "float64")], lane=8, n_reduced=1)


# --- windows ---

LIMITS: dict[str, Callable[[int, random.Random], tuple[int, int]]] = {
    "all": lambda n, rng: (0, n),
    "first": lambda n, rng: (0, min(1, n)),
    "last": lambda n, rng: (n - 1, n),
    "inner": lambda n, rng: (min(1, n), max(n - 1, min(1, n))),
    "head": lambda n, rng: (0, n - n // 3),
    "tail": lambda n, rng: (n // 2, n),
    "any": lambda n, rng: tuple(sorted((rng.randint(0, n), rng.randint(0, n)))),  # type: ignore[dict-item, return-value]
    "nothing": lambda n, rng: (n // 2, n // 2),
}


def windowed(
    plan: Plan, whole: Array, limits: Sequence[tuple[int, int]], view: Callable[[Array], Array]
) -> tuple[Operand, Array, Array]:
    """An operand that reads `whole` through a window, the array in memory, and what is to be seen."""
    corner = tuple(slice(*limit) for limit in limits)
    seen = np.zeros_like(whole)
    memory = view(np.ascontiguousarray(whole[corner]))
    seen[corner] = memory
    base, offset = base_of(memory)
    buffer = plan.input(base.nbytes)
    strides = element_strides(memory)
    operand = Operand(READ, buffer, whole.dtype.name, strides, 0, "", offset if memory.size else 0, limits)
    return operand, base, seen


WINDOWED = [(1,), (9,), (513,), (5000,), (3, 5), (40, 33), (5, 3000), (2, 3, 40), (3, 1, 700), (1, 1)]


@pytest.mark.parametrize("shape", WINDOWED)
@pytest.mark.parametrize("kind", LIMITS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_windows(shape: tuple[int, ...], kind: str, dtype: str) -> None:
    """Dense, spread, backwards, still and converted; beside operands that keep dimensions from merging."""
    rng = random.Random(f"{shape} {kind}")
    views: list[Callable[[Array], Array]] = [
        lambda x: x,
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
        lambda x: np.ascontiguousarray(x.T).T,
        lambda x: np.broadcast_to(x.reshape(-1)[:1], x.shape) if x.size else x,
    ]
    for number, view in enumerate(views):
        for only_first in (False, True):
            limits = [LIMITS[kind](n, rng) if d == 0 or not only_first else (0, n) for d, n in enumerate(shape)]
            plan, x, row = Plan(), numbers(dtype, shape, number), numbers(dtype, shape[-1:], 7)
            operand, memory, seen = windowed(plan, x, limits, view)
            wide = "int64" if dtype == "bool" else "float64" if dtype == "float32" else dtype
            outs = [np.empty(shape, dtype), np.empty(shape, dtype), np.empty(shape, wide)]
            last = [0] * (len(shape) - 1) + [1]
            reads = [operand, Operand(READ, plan.input(row.nbytes), dtype, last, 1, dtype)]
            writes = [Operand(WRITE, plan.output(outs[i].nbytes), dtype, row_major(shape), i, dtype) for i in (0, 1)]
            instrs = [("logical_or" if dtype == "bool" else "maximum", dtype, 1, [0, 1])]
            plan.step(lib.AD_MAP, shape, reads + writes, instrs, lane=lane_of(dtype), n_registers=2)
            again = replace(operand, reg_dtype=wide)
            writes = [Operand(WRITE, plan.output(outs[2].nbytes), wide, row_major(shape), 0, wide)]
            plan.step(lib.AD_MAP, shape, [again, *writes], lane=lane_of(wide), n_registers=1)
            run(plan, [memory, row], outs)
            same(outs[0], seen)
            np.testing.assert_array_equal(outs[1], np.maximum(seen, row))
            with np.errstate(all="ignore"):
                same(outs[2], seen.astype(wide))


@pytest.mark.parametrize(("shape", "n_outer", "n_reduced"), REDUCED[::3])
@pytest.mark.parametrize("kind", ["inner", "head", "tail", "nothing"])
def test_sums_through_windows(shape: tuple[int, ...], n_outer: int, n_reduced: int, kind: str) -> None:
    rng, x = random.Random(0), np.random.default_rng(0).standard_normal(shape)
    for only_first in (False, True):
        limits = [LIMITS[kind](n, rng) if d == 0 or not only_first else (0, n) for d, n in enumerate(shape)]
        plan, kept = Plan(), shape[:n_outer] + shape[n_outer + n_reduced :]
        operand, memory, seen = windowed(plan, x, limits, lambda x: x)
        strides = row_major(kept)
        strides[n_outer:n_outer] = [0] * n_reduced
        out = np.empty(kept)
        result = Operand(SUM, plan.output(out.nbytes), "float64", strides, 0)
        plan.step(lib.AD_MAP, shape, [operand, result], lane=8, n_registers=1, n_outer=n_outer, n_reduced=n_reduced)
        run(plan, [memory], [out])
        same(out, reduction(seen, n_outer, n_reduced, SUM))


def test_windows_at_places_of_their_own() -> None:
    """Three windows on one array, shifted against each other, in a space of many tiles."""
    n = 3000
    plan, x, out = Plan(), numbers("float64", n), np.empty(n + 2)
    memory, result = plan.input(x.nbytes), plan.output(out.nbytes)
    reads = [Operand(READ, memory, "float64", [1], k, "float64", 0, [(k, n + k)]) for k in range(3)]
    instrs = [("maximum", "float64", 0, [0, 1]), ("maximum", "float64", 0, [0, 2])]
    operands = [*reads, Operand(WRITE, result, "float64", [1], 0)]
    plan.step(lib.AD_MAP, [n + 2], operands, instrs, lane=8, n_registers=3)
    run(plan, [x], [out])
    padded = [np.pad(x, (k, 2 - k)) for k in range(3)]
    np.testing.assert_array_equal(out, np.maximum(np.maximum(padded[0], padded[1]), padded[2]))


@pytest.mark.parametrize(
    ("window", "offset", "strides", "message"),
    [
        ([(0, 5), (0, 4)], 0, [4, 1], "outside its step's shape"),
        ([(-1, 3), (0, 4)], 4, [4, 1], "outside its step's shape"),
        ([(2, 1), (0, 4)], 0, [4, 1], "outside its step's shape"),
        ([(0, 4), (1, 4)], 2, [4, 1], "reaches past"),
        ([(1, 4), (0, 4)], 5, [4, 1], "reaches past"),
        ([(1, 4), (0, 4)], 7, [-4, 1], "reaches before"),
        ([(3, 4), (0, 4)], -12, [4, 1], "begins outside"),
        ([(1, 3), (0, 1)], 0, [2**62, 1], "reaches past"),
        ([(1, 4), (0, 1)], 0, [2**62, 1], "overflow"),
    ],
)
def test_windows_that_cannot_be(window: Any, offset: int, strides: list[int], message: str) -> None:
    plan = Plan()
    operands = [Operand(READ, plan.input(16 * 8), "float64", strides, 0, "", offset, window)]
    operands.append(Operand(WRITE, plan.output(16 * 8), "float64", [4, 1], 0))
    plan.step(lib.AD_MAP, [4, 4], operands, lane=8, n_registers=1)
    with pytest.raises(PlanError, match=message):
        load(plan.to_bytes())


def test_only_what_a_map_reads_has_a_window() -> None:
    for kind, role in ((lib.AD_COPY, READ), (lib.AD_MAP, WRITE)):
        plan, window = Plan(), [(0, 4)]
        x, y = plan.input(32), plan.output(32)
        operands = [Operand(READ, x, "float64", [1]), Operand(WRITE, y, "float64", [1])]
        operands[role == WRITE].window = window
        plan.step(kind, [4], operands, lane=8 * (kind == lib.AD_MAP), n_registers=kind == lib.AD_MAP)
        with pytest.raises(PlanError, match="only what a map reads"):
            load(plan.to_bytes())


# --- steps of the other kinds ---


def one_step(kind: int, shape: Any, arrays: list[tuple[int, Array, Any]], detail: int = 0, **options: Any) -> None:
    """A plan of one step on whole arrays or views: (role, view, strides)."""
    plan, inputs, outputs, operands = Plan(), [], [], []
    for role, view, strides in arrays:
        base = view if view.base is None else view.base
        while base.base is not None:
            base = base.base
        offset = (view.ctypes.data - base.ctypes.data) // view.itemsize
        buffer = plan.input(base.nbytes) if role == READ else plan.output(base.nbytes)
        (inputs if role == READ else outputs).append(base)
        operands.append(Operand(role, buffer, view.dtype.name, strides, offset=offset))
    plan.step(kind, shape, operands, detail=detail, **options)
    run(plan, inputs, outputs)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (3, 5, 7), (17, 1, 9), (1, 19, 8), (64, 10, 65), (130, 70, 300)])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("turned", ["", "a", "b", "c", "abc"])
def test_gemm(dtype: str, m: int, n: int, k: int, batch: tuple[int, ...], turned: str) -> None:
    rng = np.random.default_rng(0)

    def matrix(name: str, rows: int, columns: int) -> Array:
        x = rng.standard_normal((*batch, rows, columns)).astype(dtype)
        return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2) if name in turned else x

    a, b, c = matrix("a", m, k), matrix("b", k, n), matrix("c", m, n)
    lead = [element_strides(x)[:-2] for x in (a, b, c)]
    (a_m, a_k), (b_k, b_n), (c_m, c_n) = (element_strides(x)[-2:] for x in (a, b, c))
    arrays = [(READ, a, [*lead[0], a_m, 0, a_k]), (READ, b, [*lead[1], 0, b_n, b_k])]
    one_step(lib.AD_GEMM, [*batch, m, n, k], [*arrays, (WRITE, c, [*lead[2], c_m, c_n, 0])])
    want = a.astype("f8") @ b.astype("f8")
    bound = 2 * k * np.finfo(dtype).eps * (np.abs(a).astype("f8") @ np.abs(b).astype("f8"))
    assert np.all(np.abs(c - want) <= bound)


def test_gemm_of_nothing() -> None:
    out = np.full((3, 4), 7.0)
    arrays = [(READ, np.empty((3, 0)), [0, 0, 1]), (READ, np.empty((0, 4)), [0, 1, 4]), (WRITE, out, [4, 1, 0])]
    one_step(lib.AD_GEMM, [3, 4, 0], arrays)
    same(out, np.zeros((3, 4)))


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1), (1, 2, 0)])
@pytest.mark.parametrize("shape", [(3, 4, 5), (40, 3, 70), (1, 65, 66)])
def test_copy(dtype: str, axes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    x = numbers(dtype, shape).transpose(axes)
    for source in (x, x[::-1], x[:, ::-1, ::2], np.broadcast_to(x[:, :1], x.shape)):
        for target in (np.zeros(source.shape, dtype), np.zeros(source.shape[::-1], dtype).T):
            arrays = [(READ, source, element_strides(source)), (WRITE, target, element_strides(target))]
            one_step(lib.AD_COPY, source.shape, arrays)
            same(target, source.copy())


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize(("sizes", "row"), [((5,), 1), ((5,), 3), ((4, 6), 1), ((4, 6), 20), ((2, 3, 2), 2), ((5,), 0)])
def test_gather_and_scatter(dtype: str, sizes: tuple[int, ...], row: int) -> None:
    rng, n, q = np.random.default_rng(0), 50, len(sizes)
    table = numbers(dtype, (*sizes, row))
    index = [rng.integers(-s, s, n) for s in sizes]
    shape = [n, row, *sizes]
    by_row, by_index = [row, 1] + [0] * q, [1] + [0] * (q + 1)
    by_table = [0, 1] + [s * row for s in row_major(sizes)]
    indices = [(READ, i, by_index) for i in index]

    out = np.zeros((n, row), dtype)
    one_step(lib.AD_GATHER, shape, [(READ, table, by_table), *indices, (WRITE, out, by_row)])
    same(out, table[tuple(index)])

    updates, target = numbers(dtype, (n, row), seed=2), np.full((*sizes, row), 1, dtype)
    moved = [(READ, updates, by_row), *indices, (WRITE, target, by_table)]
    one_step(lib.AD_SCATTER_SET, shape, [(READ, table, by_table), *moved])
    want = table.copy()
    for k in range(n):
        want[tuple(i[k] for i in index)] = updates[k]
    same(target, want)

    if dtype == "bool":
        with pytest.raises(PlanError, match="adds bools"):
            one_step(lib.AD_SCATTER_ADD, shape, moved)
        return
    one_step(lib.AD_SCATTER_ADD, shape, moved)
    want = np.zeros_like(target)
    with np.errstate(all="ignore"):
        np.add.at(want, tuple(index), updates)
    same(target, want)


@pytest.mark.parametrize("bad", [5, -6, 2**62, -(2**63)])
def test_index_out_of_range(bad: int) -> None:
    index = np.array([0, 4, -5, bad, 1])
    with pytest.raises(PlanError) as caught:
        one_step(
            lib.AD_GATHER,
            [5, 2, 5],
            [(READ, np.zeros((5, 2)), [0, 1, 2]), (READ, index, [1, 0, 0]), (WRITE, np.zeros((5, 2)), [2, 1, 0])],
        )
    assert caught.value.status == lib.AD_ERROR_INDEX
    assert caught.value.detail == (bad, 5)


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize(
    ("shape", "n_outer"), [((700,), 0), ((30, 7), 1), ((30, 7), 0), ((5, 20, 300), 1), ((3, 1), 1)]
)
@pytest.mark.parametrize("role", [MAX, MIN])
def test_arg_reduce(dtype: str, shape: tuple[int, ...], n_outer: int, role: int) -> None:
    find = np.argmax if role == MAX else np.argmin
    for seed, operand in enumerate([numbers(dtype, shape), np.zeros(shape, dtype)]):
        x = np.ascontiguousarray(operand.T).T if seed else operand
        out = np.zeros(shape[:n_outer] + shape[n_outer + 1 :], "int64")
        strides = element_strides(out)
        strides.insert(n_outer, 0)
        arrays = [(READ, x, element_strides(x)), (WRITE, out, strides)]
        one_step(lib.AD_ARG_REDUCE, shape, arrays, role, n_outer=n_outer, n_reduced=1)
        same(out, np.asarray(find(x, axis=n_outer)))


def test_positions_in_nothing_take_no_time() -> None:
    out = np.zeros((2, 0), "int64")
    arrays = [(READ, np.zeros((2, 3, 0)), [0, 0, 0]), (WRITE, out, [0, 0, 0])]
    one_step(lib.AD_ARG_REDUCE, [2**40, 3, 0], arrays, MAX, n_outer=1, n_reduced=1)


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("n", [0, 1, 200, 5000])
def test_iota(dtype: str, n: int) -> None:
    out, spread = np.zeros(n, dtype), np.zeros((n, 2), dtype)
    one_step(lib.AD_IOTA, [n], [(WRITE, out, [1])])
    one_step(lib.AD_IOTA, [n], [(WRITE, spread[:, 1], [2])])
    same(out, np.arange(n).astype(dtype))
    same(spread[:, 1].copy(), out)
    assert not spread[:, 0].any()


def test_host() -> None:
    plan = Plan(n_hosts=3)
    a, b, o = plan.input(24), plan.input(16), plan.output(40)
    operands = [Operand(READ, a, "float64", []), Operand(WRITE, o, "float64", [], offset=1)]
    operands.insert(1, Operand(READ, b, "int64", [], offset=1))
    plan.step(lib.AD_HOST, [3, 1, 4], operands, detail=2)
    x, y, out = np.arange(3.0), np.array([5, 6]), np.zeros(5)
    seen = []

    def host(function: int, inputs: Any, outputs: Any) -> int:
        seen.append(function)
        first, second = ffi.cast("double *", inputs[0]), ffi.cast("int64_t *", inputs[1])
        target = ffi.cast("double *", outputs[0])
        for i in range(3):
            target[i] = first[i] * second[0]
        return 0

    run(plan, [x, y], [out], callbacks=Callbacks(host=host))
    same(out, np.array([0.0, 0.0, 6.0, 12.0, 0.0]))
    assert seen == [2]
    with pytest.raises(PlanError) as caught:
        run(plan, [x, y], [out], callbacks=Callbacks(host=lambda *_: 1))
    assert caught.value.status == lib.AD_ERROR_HOST
    assert caught.value.detail[0] == 2
    with pytest.raises(PlanError, match="host callback is missing"):
        run(plan, [x, y], [out])


# --- errors and limits ---


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("n", [3, 1000])
def test_negative_power(dtype: str, n: int) -> None:
    x, y, out = np.full(n, 3, dtype), np.full(n, 2, dtype), np.empty(n, dtype)
    instrs = [("int_pow", dtype, 2, [0, 1])]
    plan, inputs, outputs = map_plan(
        [n], [(x, dtype), (y, dtype)], instrs, [(WRITE, out, 2, dtype)], lane=lane_of(dtype)
    )
    run(plan, inputs, outputs)
    same(out, x**2)
    y[n // 2] = -1
    with pytest.raises(PlanError) as caught:
        run(plan, inputs, outputs)
    assert caught.value.status == lib.AD_ERROR_NEGATIVE_POWER


def simple_plan(n: int = 100) -> tuple[Plan, list[Array], list[Array]]:
    x = np.arange(float(n))
    return map_plan([n], [(x, "float64")], [("neg", "float64", 1, [0])], [(WRITE, x.copy(), 1, "float64")], lane=8)


def test_max_work() -> None:
    plan, inputs, outputs = simple_plan()
    work = lib.ad_plan_work(load(plan.to_bytes()))
    assert 100 <= work < 1000
    run(plan, inputs, outputs, max_work=work)
    with pytest.raises(PlanError) as caught:
        run(plan, inputs, outputs, max_work=work - 1)
    assert caught.value.status == lib.AD_ERROR_WORK


def test_work_saturates() -> None:
    shape, plan = [2**31, 2**31], Plan()
    operands = [Operand(READ, plan.input(8), "float64", [0, 0]), Operand(SUM, plan.output(8), "float64", [0, 0])]
    plan.step(lib.AD_MAP, shape, operands, lane=8, n_registers=1, n_reduced=2)
    assert lib.ad_plan_work(load(plan.to_bytes())) > 2**62
    for _ in range(8):
        plan.step(lib.AD_MAP, shape, [Operand(READ, 0, "float64", [0, 0])], lane=8, n_registers=1, n_outer=2)
    assert lib.ad_plan_work(load(plan.to_bytes())) == 2**64 - 1
    with pytest.raises(PlanError, match="more work"):
        run(plan, [np.ones(1)], [np.ones(1)], max_work=2**63)


@pytest.mark.parametrize("endless", ["sum", "copy", "gather", "argmax"])
def test_poll_stops_a_long_run(endless: str) -> None:
    calls = []

    def poll() -> int:
        calls.append(time.monotonic())
        return len(calls) >= 2

    plan = Plan()
    shape = [2**20, 2**20]
    one, out = plan.input(8), plan.output(8)
    if endless == "sum":
        operands = [Operand(READ, one, "float64", [0, 0]), Operand(SUM, out, "float64", [0, 0])]
        plan.step(lib.AD_MAP, shape, operands, lane=8, n_registers=1, n_reduced=2)
    elif endless == "argmax":
        operands = [Operand(READ, one, "int64", [0, 0]), Operand(WRITE, out, "int64", [0, 0])]
        plan.step(lib.AD_ARG_REDUCE, shape, operands, n_reduced=2, detail=MAX)
    else:
        target, zeros = plan.arena(2**23), plan.constant(np.zeros(2**20, "int64"))
        for _ in range(500):
            operands = [Operand(READ, one, "float64", [0, 0]), Operand(WRITE, target, "float64", [1, 1024])]
            if endless == "gather":
                operands = [Operand(READ, one, "float64", [0, 1, 1]), Operand(READ, zeros, "int64", [1, 0, 0])]
                operands.append(Operand(WRITE, target, "float64", [1, 1, 0]))
            if endless == "gather":
                plan.step(lib.AD_GATHER, [2**20, 1, 1], operands)
            else:
                plan.step(lib.AD_COPY, [1024, 1024], operands)
    with pytest.raises(PlanError) as caught:
        run(plan, [np.ones(1)], [np.empty(1)], callbacks=Callbacks(poll=poll))
    assert caught.value.status == lib.AD_INTERRUPTED
    assert all(later - earlier < 0.5 for earlier, later in itertools.pairwise(calls))


@pytest.mark.parametrize(("shape", "strides"), [((2**22,), [1]), ((2**11, 2**11), [1, 2**11]), ((2**21, 2), [1, 0])])
def test_poll_stops_within_one_copy(shape: tuple[int, ...], strides: list[int]) -> None:
    def sleep(*_: Any) -> int:
        time.sleep(0.03)  # so that the poll is due once the copy has begun
        return 0

    x, out = np.ones(shape, "uint8"), np.zeros(shape, "uint8")
    plan = Plan(n_hosts=1)
    plan.step(lib.AD_HOST, [], [])
    operands = [Operand(READ, plan.input(x.nbytes), "uint8", strides)]
    operands.append(Operand(WRITE, plan.output(out.nbytes), "uint8", row_major(shape)))
    plan.step(lib.AD_COPY, shape, operands)
    with pytest.raises(PlanError) as caught:
        run(plan, [x], [out], callbacks=Callbacks(host=sleep, poll=lambda: 1))
    assert caught.value.status == lib.AD_INTERRUPTED
    assert not out.reshape(-1)[-1]


def test_the_run_has_to_fit_the_plan() -> None:
    plan, inputs, outputs = simple_plan()
    prepared = load(plan.to_bytes())
    error, args = ffi.new("ad_error *"), ffi.new("ad_run *")
    args.error = error
    size = lib.ad_plan_workspace(prepared)
    raw = np.empty(size + 128, np.uint8)
    start = raw.ctypes.data + -raw.ctypes.data % 64
    pointers = ffi.new("void *[]", [ffi.cast("void *", inputs[0].ctypes.data)])
    results = ffi.new("void *[]", [ffi.cast("void *", outputs[0].ctypes.data)])

    def attempt(**fields: Any) -> str:
        args.size, args.workspace, args.workspace_size = ffi.sizeof("ad_run"), ffi.cast("void *", start), size
        args.inputs, args.outputs, args.pool = pointers, results, ffi.NULL
        for name, value in fields.items():
            setattr(args, name, value)
        return "" if lib.ad_plan_run(prepared, args) == lib.AD_OK else ffi.string(error.message).decode()

    nothing = ffi.new("void *[]", [ffi.NULL])
    assert attempt() == ""
    assert "too small" in attempt(workspace_size=size - 1)
    assert "missing" in attempt(workspace=ffi.NULL)
    assert "aligned" in attempt(workspace=ffi.cast("void *", start + 8))
    assert "inputs are missing" in attempt(inputs=ffi.NULL)
    assert "outputs are missing" in attempt(outputs=ffi.NULL)
    assert "input is missing" in attempt(inputs=nothing)
    assert "output is missing" in attempt(outputs=nothing)
    args.size = 8
    assert lib.ad_plan_run(prepared, args) == lib.AD_ERROR_ARGUMENT


def test_isa(isa: str) -> None:
    plan, _, _ = simple_plan()
    assert ffi.string(lib.ad_plan_isa(load(plan.to_bytes()))).decode() == isa
    assert lib.ad_isa_select(b"no such set") == lib.AD_ERROR_ARGUMENT
    assert ffi.string(lib.ad_isa_selected()).decode() == isa


def test_plans_load_from_any_alignment() -> None:
    plan, _, _ = simple_plan()
    data = plan.to_bytes()
    raw = np.zeros(len(data) + 8, np.uint8)
    for shift in range(8):
        raw[shift : shift + len(data)] = np.frombuffer(data, np.uint8)
        prepared = ffi.new("ad_prepared **")
        status = lib.ad_plan_load(ffi.cast("void *", raw.ctypes.data + shift), len(data), prepared, ffi.NULL)
        assert status == lib.AD_OK
        lib.ad_plan_free(prepared[0])


def test_every_status_has_a_message() -> None:
    for status in range(9):
        assert ffi.string(lib.ad_status_message(status)) != b"unknown status"
    assert ffi.string(lib.ad_status_message(99)) == b"unknown status"


def refuses(message: str, **changes: Any) -> None:
    """A plan that is right but for one thing is refused, and the message says which."""
    x = np.arange(12.0).reshape(3, 4)
    reads, instrs = [(x, "float64")], [("neg", "float64", 1, [0])]
    results = [(WRITE, np.empty((3, 4)), 1, "float64")]
    plan, _, _ = map_plan([3, 4], reads, instrs, results, lane=8)
    arrays = {name: np.array(plan.parts[name], dtype) for name, dtype in [("dims", np.dtype("i8"))]}
    del arrays
    for place, value in changes.items():
        part, number, member = place.split("__")
        if part == "dims":
            plan.parts["dims"][int(number)] = value
            continue
        names = {"steps": "ad_step", "operands": "ad_operand", "instrs": "ad_instr", "buffers": "ad_buffer"}[part]
        row = list(plan.parts[part][int(number)])
        row[[name for name, _ in ffi.typeof(names).fields].index(member)] = value
        plan.parts[part][int(number)] = tuple(row)
    with pytest.raises(PlanError, match=message) as caught:
        load(plan.to_bytes())
    assert caught.value.status == lib.AD_ERROR_PLAN


def test_refusals() -> None:
    refuses("kind is unknown", steps__0__kind=77)
    refuses("too many dimensions", steps__0__rank=33)
    refuses("shape lies outside", steps__0__shape=10**6)
    refuses("operands lie outside", steps__0__operand=1)
    refuses("instrs lie outside", steps__0__n_instrs=2)
    refuses("lanes are not", steps__0__lane=2)
    refuses("reduces dimensions", steps__0__n_reduced=3)
    refuses("too many registers", steps__0__n_registers=1000)
    refuses("register does not exist", steps__0__n_registers=1)
    refuses("name lies outside", steps__0__name=999)
    refuses("line lies outside", steps__0__line=9)
    refuses("reserved", steps__0__reserved=1)
    refuses("buffer does not exist", operands__0__buffer=2)
    refuses("dtype is unknown", operands__0__dtype=7)
    refuses("not as wide", operands__0__reg_dtype=DTYPES["float32"])
    refuses("role is unknown", operands__0__role=9)
    refuses("writes to a constant or an input", operands__1__buffer=0)
    refuses("reaches past", operands__0__offset=1)
    refuses("begins outside", operands__0__offset=-1)
    refuses("overflow", operands__0__offset=2**63 - 1)
    refuses("reaches before", dims__1__x=-1)
    refuses("strides overflow", dims__0__x=2**62)
    refuses("writes an element twice", dims__2__x=1)
    refuses("writes an element twice", dims__3__x=0)
    refuses("size is negative", dims__4__x=-1)
    refuses("sizes overflow", dims__4__x=2**61, dims__5__x=2**61)
    refuses("opcode is unknown", instrs__0__opcode=11)
    refuses("does not work on", instrs__0__dtype=DTYPES["bool"])
    refuses("not as wide", instrs__0__dtype=DTYPES["float32"])
    refuses("another dtype", instrs__0__dtype=DTYPES["int64"])
    refuses("holds nothing", instrs__0__a=1)
    refuses("register does not exist", instrs__0__a=2)
    refuses("line lies outside", instrs__0__line=5)
    refuses("kind is unknown", buffers__0__kind=0)
    refuses("input does not exist", buffers__0__index=1)
    refuses("has an offset", buffers__0__offset=64)
    refuses("too large", buffers__0__size=2**63)
    refuses("reaches past", buffers__0__size=95)
    refuses("reaches past where", buffers__0__kind=lib.AD_ARENA)
