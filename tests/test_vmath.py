"""How many ulp the native library's elementary functions are off, on every instruction set; tests/ulps.py measures.

The normal run takes a sample of the float32s; every one of them (about four minutes a function and instruction set):

    python -m pytest tests/test_vmath.py -m exhaustive -s
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from native_plans import Array, isa_selected, isas
from ulps import (
    BINARY,
    BOUNDS,
    EXACT,
    GAMMA,
    REFLECTED,
    UNARY,
    Function,
    apply,
    errors_32,
    errors_64,
    exact_64,
    float32s,
    in_float64,
    pairs_32,
    sample_32,
    unary_errors_32,
)

import autodiff.ops  # noqa: F401  (declares the primitives)
from autodiff import ir


@pytest.fixture(params=isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with isa_selected(request.param):
        yield request.param


def bounds_32(name: str, x: Array) -> Array:
    bound = np.full(x.shape, BOUNDS[name].float32)
    return np.where(x < 0, BOUNDS[f"{name}, x < 0"].float32, bound) if name in GAMMA else bound


@pytest.mark.parametrize("name", UNARY)
def test_unary_float32(name: str, isa: str) -> None:
    x = sample_32()
    error = unary_errors_32(name, Function(name, "float32", x.size), x)
    off = error > bounds_32(name, x)
    assert not off.any(), (x[off][:5], error[off][:5])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", UNARY)
def test_every_float32(name: str, isa: str) -> None:
    n = 1 << 21
    function = Function(name, "float32", n)
    worst = 0.0
    for first in range(0, 1 << 32, n):
        x = float32s(first, 1, n)
        error = unary_errors_32(name, function, x)
        worst = max(worst, float(error.max()))
        assert np.all(error <= bounds_32(name, x)), x[int(np.argmax(error))]
    print(f"\n{name} {isa}: {worst:.4f} ulp over every float32")


@pytest.mark.parametrize("name", BINARY)
def test_binary_float32(name: str, isa: str) -> None:
    x, y = pairs_32(name)
    error = errors_32(apply(name, x, y), in_float64(name, x, y))
    worst = int(np.argmax(error))
    assert error[worst] <= BOUNDS[name].float32, (x[worst], y[worst])


SPECIAL = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 1e10, 2.0**52 + 1, 2.0**53, 1e300, 1e-310, 5e-324, np.inf, np.nan]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", BINARY)
def test_binary_functions_of_special_values(name: str, dtype: str, isa: str) -> None:
    """C's table, Annex F: wherever NumPy's result is exact it is ours."""
    with np.errstate(all="ignore"):
        special = np.array([*SPECIAL, 2.0**23 + 1, 2.0**24], dtype)
        values = np.concatenate([special, -special])
        x, y = (np.array(v, dtype) for v in zip(*product(values, values), strict=True))
        want = ir.OPS[name].oracle(x.astype(np.float64), y.astype(np.float64)).astype(dtype)
    got = apply(name, x, y)
    np.testing.assert_array_max_ulp(got, want, 1)
    np.testing.assert_array_equal(np.signbit(got) & ~np.isnan(got), np.signbit(want) & ~np.isnan(want))
    exact = ~np.isfinite(want) | (want == 0) | (np.abs(want) == 1)
    np.testing.assert_array_equal(got[exact], want[exact])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name: str, dtype: str, isa: str) -> None:
    x = np.array([0.0, 1.0, 2.0, np.inf, np.nan, np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal], dtype)
    x = np.concatenate([x, -x])
    with np.errstate(all="ignore"):
        want = ir.OPS[name].oracle(x.astype(np.float64)).astype(dtype)
    got = apply(name, x)
    np.testing.assert_array_max_ulp(got, want, 1)
    np.testing.assert_array_equal(np.signbit(got) & ~np.isnan(got), np.signbit(want) & ~np.isnan(want))
    exact = ~np.isfinite(want) | (want == 0)
    np.testing.assert_array_equal(got[exact], want[exact])


@pytest.mark.parametrize("case", [*EXACT, *REFLECTED])
def test_float64(case: str, isa: str) -> None:
    errors = errors_64(case)
    worst = int(np.argmax(errors))
    assert errors[worst] <= BOUNDS[case].float64, [a[worst] for a in exact_64(case)[0]]


@pytest.mark.skipif("avx2" not in isas(), reason="of sets with fused multiply-add")
def test_the_table_of_errors_says_no_less() -> None:
    page = Path(__file__).parent.parent / "docs" / "accuracy.md"
    if not page.exists():
        pytest.skip("docs are not here")
    rows = re.findall(r"^\| ([a-z].*?) \| ([\d.]+) \| .*? \| ([\d.]+) \| .* \|$", page.read_text(), re.MULTILINE)
    assert [case for case, _, _ in rows] == [*EXACT, *REFLECTED]
    with isa_selected("avx2"):
        for case, float64, float32 in rows:
            assert float(errors_64(case).max()) <= float(float64) + 0.005, case
            assert float(float64) <= BOUNDS[case].float64
            assert float(float32) <= BOUNDS[case].float32


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", UNARY)
def test_a_lane_depends_on_itself_alone(name: str, dtype: str, isa: str) -> None:
    """Also where neighbours take the slow way: huge angles, subnormals, special values."""
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.uniform(-3, 3, 40), 10.0 ** rng.uniform(6, 38, 10), [np.inf, np.nan, 1e-40, 0.0, -0.0]])
    x = np.concatenate([x, rng.uniform(0, 1, 20), rng.uniform(8, 12, 20)]).astype(dtype)
    together = apply(name, x).copy()
    order = rng.permutation(x.size)
    shuffled = apply(name, x[order].copy())
    np.testing.assert_array_equal(shuffled, together[order])
    alone = np.array([apply(name, x[i : i + 1].copy())[0] for i in range(x.size)])
    np.testing.assert_array_equal(alone, together)


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(isas()), reason="needs both")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", [*EXACT, *REFLECTED])
def test_same_bits_on_fused_sets(case: str, dtype: str) -> None:
    with np.errstate(all="ignore"):
        arrays = [a.astype(dtype) for a in exact_64(case)[0]]
    results = []
    for isa in ("avx2", "avx512"):
        with isa_selected(isa):
            results.append(apply(case.partition(",")[0], *arrays))
    np.testing.assert_array_equal(results[0], results[1])
