"""How many ulp the native library's elementary functions are off, on every instruction set.

float64 is measured against mpmath on random and on hard points, float32 against NumPy's float64.  The normal run takes
a sample of the float32s; every one of them (about four minutes a function and instruction set):

    python -m pytest tests/test_vmath.py -m exhaustive -s
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any

import mpmath as mp  # type: ignore[import-untyped]
import numpy as np
import pytest
from native_plans import WRITE, Array, isa_selected, isas, load, map_plan, run

UNARY = ["exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf", "erfc"]
# In ulp; what is measured stands in csrc/kernels/vmath.inc.
BOUNDS_64 = dict.fromkeys(UNARY, 0.9) | {"tanh": 1.2, "erf": 1.0, "pow": 1.0}
BOUNDS_32 = dict.fromkeys(UNARY, 0.95) | {"erfc": 1.0, "pow": 0.57}

mp.mp.prec = 200
MP: dict[str, Callable[..., Any]] = {
    "exp": mp.exp,
    "expm1": mp.expm1,
    "log": mp.log,
    "log1p": mp.log1p,
    "sin": mp.sin,
    "cos": mp.cos,
    "tanh": mp.tanh,
    "erf": mp.erf,
    "erfc": mp.erfc,
    "pow": mp.power,
}


def in_float64(name: str, x: Array) -> Array:
    """The function of float32s, in float64: NumPy's, or Python's where NumPy has none."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        if hasattr(np, name):
            return np.asarray(getattr(np, name)(wide))
        return np.fromiter(map(getattr(math, name), wide.tolist()), np.float64, wide.size)


@pytest.fixture(params=isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with isa_selected(request.param):
        yield request.param


class Function:
    """An opcode as a function of arrays of one length, for the instruction set selected when it is made."""

    def __init__(self, name: str, dtype: str, n: int) -> None:
        arity = 2 if name == "pow" else 1
        arrays = [np.zeros(n, dtype) for _ in range(arity)]
        self.out = np.zeros(n, dtype)
        instr = (name, dtype, arity, list(range(arity)))
        reads = [(a, dtype) for a in arrays]
        lane = self.out.itemsize
        plan, _, _ = map_plan([n], reads, [instr], [(WRITE, self.out, arity, dtype)], lane=lane)
        self.prepared = load(plan.to_bytes())

    def __call__(self, *arrays: Array) -> Array:
        """Overwritten by the next call."""
        run(self.prepared, arrays, [self.out])
        return self.out


def apply(name: str, *arrays: Array) -> Array:
    return Function(name, arrays[0].dtype.name, arrays[0].size)(*arrays)


def ulp_32(x: Array) -> Array:
    """The distance of float32s around x, which is float64."""
    _, exponent = np.frexp(np.where(np.isfinite(x), x, 1.0))
    return np.asarray(np.ldexp(1.0, np.clip(exponent, -125, 128) - 24))


def errors_32(got: Array, want: Array) -> Array:
    """In ulp, of float32 against float64; infinite where a special value is not the right one."""
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32)
        special = ~np.isfinite(rounded) | ~np.isfinite(got)
        right = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        # Next to overflow either side is within an ulp.
        edge = np.isinf(got) & (np.abs(want) > np.finfo(np.float32).max)
        error = np.abs(got - want) / ulp_32(want)
        error = np.where(special, np.where(right | edge, 0.0, np.inf), error)
        return np.where((np.signbit(got) != np.signbit(rounded)) & ~np.isnan(rounded), np.inf, error)


def float32s(first: int, step: int, count: int) -> Array:
    """Float32s by their bits."""
    return (np.uint64(first) + np.arange(count, dtype=np.uint64) * np.uint64(step)).astype(np.uint32).view(np.float32)


def sample_32() -> Array:
    special = [0, 1, 0.5, 0.25, 2, 88.72284, -103.97208, 709, 9.01, np.pi, 1e6, 2.0**20, np.inf, np.nan, 3.4e38, 1e-45]
    bits = np.array(special, np.float32).view(np.int32)[:, None] + np.arange(-500, 500, dtype=np.int32)
    near = bits.astype(np.int32).ravel().view(np.float32)
    return np.concatenate([float32s(0, 20011, 1 << 18), near, -near])


@pytest.mark.parametrize("name", UNARY)
def test_unary_float32(name: str, isa: str) -> None:
    x = sample_32()
    want = in_float64(name, x)
    error = errors_32(apply(name, x), want)
    worst = int(np.argmax(error))
    assert error[worst] <= BOUNDS_32[name], (x[worst], want[worst])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", UNARY)
def test_every_float32(name: str, isa: str) -> None:
    n = 1 << 21
    function = Function(name, "float32", n)
    worst = 0.0
    for first in range(0, 1 << 32, n):
        x = float32s(first, 1, n)
        error = errors_32(function(x), in_float64(name, x))
        worst = max(worst, float(error.max()))
        assert worst <= BOUNDS_32[name], x[int(np.argmax(error))]
    print(f"\n{name} {isa}: {worst:.4f} ulp over every float32")


def random_powers_32() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    n = 50_000
    x = rng.integers(0, 1 << 32, n, np.uint32).view(np.float32)
    y = rng.integers(0, 1 << 32, n, np.uint32).view(np.float32)
    near_one = (1 + rng.standard_normal(n) * 2.0 ** rng.integers(-24, -1, n)).astype(np.float32)
    with np.errstate(all="ignore"):
        fitting = (rng.uniform(-104, 90, n) / np.log(np.abs(near_one).astype(np.float64))).astype(np.float32)
        fitting_any = (rng.uniform(-104, 90, n) / np.log(np.abs(x).astype(np.float64))).astype(np.float32)
    whole = rng.integers(-20, 21, n).astype(np.float32)
    halves = rng.integers(-40, 41, n).astype(np.float32) / 2
    return np.concatenate([x, near_one, np.abs(x), whole]), np.concatenate([y, fitting, fitting_any, halves])


def test_pow_float32(isa: str) -> None:
    x, y = random_powers_32()
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), y.astype(np.float64))
    error = errors_32(apply("pow", x, y), want)
    worst = int(np.argmax(error))
    assert error[worst] <= BOUNDS_32["pow"], (x[worst], y[worst])


SPECIAL = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 1e10, 2.0**52 + 1, 2.0**53, 1e300, 1e-310, 5e-324, np.inf, np.nan]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_pow_of_special_values(dtype: str, isa: str) -> None:
    """C's table, Annex F: wherever NumPy's result is exact it is ours."""
    with np.errstate(all="ignore"):
        special = np.array([*SPECIAL, 2.0**23 + 1, 2.0**24], dtype)
        values = np.concatenate([special, -special])
        x, y = (np.array(v, dtype) for v in zip(*product(values, values), strict=True))
        want = np.power(x, y)
    got = apply("pow", x, y)
    np.testing.assert_array_max_ulp(got, want, 1)
    np.testing.assert_array_equal(np.signbit(got) & ~np.isnan(got), np.signbit(want) & ~np.isnan(want))
    exact = ~np.isfinite(want) | (want == 0) | (np.abs(want) == 1)
    np.testing.assert_array_equal(got[exact], want[exact])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name: str, dtype: str, isa: str) -> None:
    x = np.array([0.0, 1.0, np.inf, np.nan, np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal], dtype)
    x = np.concatenate([x, -x])
    with np.errstate(all="ignore"):
        want = in_float64(name, x).astype(dtype)
    got = apply(name, x)
    np.testing.assert_array_max_ulp(got, want, 1)
    np.testing.assert_array_equal(np.signbit(got) & ~np.isnan(got), np.signbit(want) & ~np.isnan(want))
    exact = ~np.isfinite(want) | (want == 0)
    np.testing.assert_array_equal(got[exact], want[exact])


def error_64(got: float, exact: Any) -> float:
    """In ulp of the exact result."""
    rounded = float(exact)
    if rounded == 0 or not np.isfinite(rounded) or not np.isfinite(got):
        beyond = abs(exact) < mp.mpf(2) ** -1074 or abs(exact) > mp.mpf(2) ** 1024 * (1 - mp.mpf(2) ** -54)
        return 0.0 if got == rounded or (beyond and abs(got) in (0.0, 5e-324, np.inf, np.finfo(float).max)) else np.inf
    _, exponent = mp.frexp(exact)
    return float(abs(mp.mpf(got) - exact) / mp.mpf(2) ** (max(int(exponent), -1021) - 53))


def around(x: float, n: int = 8) -> Array:
    """The 2n + 1 float64s about x."""
    return (np.array(x).view(np.int64) + np.arange(-n, n + 1)).view(np.float64)


def hard_angles() -> list[float]:
    """The float64s nearest to multiples of pi/2, over all magnitudes: continued fractions of pi/2 * 2^-e."""
    found = []
    with mp.workprec(2400):
        for e in range(-52, 972, 7):
            ratio = mp.pi / 2 / mp.mpf(2) ** e
            before, now = (0, 1), (1, int(mp.floor(ratio)))
            rest = ratio - mp.floor(ratio)
            while now[1] < 2**53:
                if now[1] >= 2**52:
                    found.append(float(np.ldexp(float(now[1]), e)))
                whole = int(mp.floor(1 / rest))
                rest = 1 / rest - whole
                before, now = now, (before[0] + whole * now[0], before[1] + whole * now[1])
    return found


def points_64(name: str) -> Array:
    rng = np.random.default_rng(1)
    u = rng.uniform(-1, 1, 400)
    scales = np.concatenate([u, 10 * u, 100 * u, 745 * u, u * 2.0 ** rng.integers(-1070, -1, 400)])
    if name in ("exp", "expm1", "tanh"):
        edges = [-745.14, -745.13, -708.4, -0.3466, 0.3466, 709.78, 1e-300, -37.0, -40.0, 1.0397, 19.06, 22.0, 0.5493]
        return np.concatenate([scales, *[around(e) for e in edges], 19 * np.abs(u), -1 + u / 8])
    if name in ("erf", "erfc"):
        edges = np.concatenate([0.375 * np.arange(1, 17), [0.25, 0.5, 1.0, 5.9, 5.99, 6.0, 6.5, 26.5, 27.2, 27.3]])
        edges = np.concatenate([edges, 2.0 ** np.arange(2, 5) - 2, 2.5 * 2.0 ** np.arange(4) - 2])
        return np.concatenate([u, 6 * u, 27.3 * np.abs(u), scales, *[around(e) for e in [*edges, *-edges]]])
    if name in ("log", "log1p"):
        near = 1 + u * 2.0 ** rng.integers(-52, 0, 400)
        powers = np.ldexp(1 + np.abs(u), rng.integers(-1074, 1023, 400))
        if name == "log1p":
            near = near - 1
        edges = [1.0, 0.5**0.5, 2.0**0.5, 2.0, 5e-320, 2.3e-308, 1.7e308, 0.41421356, 1e16]
        positive = np.concatenate([near, powers, np.abs(scales), *[around(e) for e in edges]])
        negative = -np.abs(u) if name == "log1p" else np.abs(u)
        return np.concatenate([positive, negative])
    big = np.ldexp(1 + np.abs(u), rng.integers(0, 1023, 400))
    near = (rng.integers(-(10**6), 10**6, 400) * (np.pi / 2)).astype(np.float64)
    edges = [2.0**20, 2.0**20 * np.pi / 2, np.pi / 4, np.pi, np.pi / 2, 1e22, 1.7e308, 6381956970095103 * 2.0**797]
    return np.concatenate([scales, big, near, *[around(e) for e in edges], np.array(hard_angles())])


def powers_64() -> tuple[Array, Array]:
    rng = np.random.default_rng(2)
    n = 1500
    x = np.ldexp(1 + rng.random(n), rng.integers(-1074, 1023, n))
    near_one = 1 + rng.standard_normal(n) * 2.0 ** rng.integers(-53, -2, n)
    near_root = rng.uniform(0.7, 1.42, n)
    tops = np.concatenate([x, near_one, near_root])
    with np.errstate(all="ignore"):
        fitting = rng.uniform(-745, 709.7, tops.size) / np.log(tops)
    small_x, small_y = (np.array(v, np.float64) for v in zip(*product(range(-12, 13), range(-30, 31)), strict=True))
    keep = np.isfinite(fitting)
    small = small_x != 0
    return (
        np.concatenate([tops[keep], tops, small_x[small]]),
        np.concatenate([fitting[keep], rng.uniform(-3, 3, tops.size), small_y[small]]),
    )


@cache
def exact_64(name: str) -> tuple[list[Array], list[Any]]:
    arrays = list(powers_64()) if name == "pow" else [points_64(name)]
    with mp.workprec(1300 if name in ("sin", "cos") else 200):
        exact = [MP[name](*map(mp.mpf, point)) for point in zip(*(a.tolist() for a in arrays), strict=True)]
    return arrays, exact


@pytest.mark.parametrize("name", [*UNARY, "pow"])
def test_float64(name: str, isa: str) -> None:
    arrays, exact = exact_64(name)
    got = apply(name, *arrays).tolist()
    errors = [error_64(g, e) for g, e in zip(got, exact, strict=True)]
    worst = int(np.argmax(errors))
    assert errors[worst] <= BOUNDS_64[name], ([a[worst] for a in arrays], got[worst])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", UNARY)
def test_a_lane_depends_on_itself_alone(name: str, dtype: str, isa: str) -> None:
    """Also where neighbours take the slow way: huge angles, subnormals, special values."""
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.uniform(-3, 3, 40), 10.0 ** rng.uniform(6, 38, 10), [np.inf, np.nan, 1e-40, 0.0, -0.0]])
    x = x.astype(dtype)
    together = apply(name, x).copy()
    order = rng.permutation(x.size)
    shuffled = apply(name, x[order].copy())
    np.testing.assert_array_equal(shuffled, together[order])
    alone = np.array([apply(name, x[i : i + 1].copy())[0] for i in range(x.size)])
    np.testing.assert_array_equal(alone, together)


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(isas()), reason="needs both")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [*UNARY, "pow"])
def test_same_bits_on_fused_sets(name: str, dtype: str) -> None:
    arrays = [a.astype(np.float64) for a in exact_64(name)[0]]
    with np.errstate(all="ignore"):
        arrays = [a.astype(dtype) for a in arrays]
    results = []
    for isa in ("avx2", "avx512"):
        with isa_selected(isa):
            results.append(apply(name, *arrays))
    np.testing.assert_array_equal(results[0], results[1])
