"""Products of matrices: near the exact one, and the same bits whatever the strides, the packing and the set.

Every element is one chain over ascending k, c = fma(a, b, c), which the tests can replay for float32 in float64.  In
products with a vector it is the sum of the products, in the order of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from native_plans import (
    READ,
    SUM,
    WRITE,
    Array,
    Operand,
    Plan,
    base_of,
    element_strides,
    isa_selected,
    isas,
    run,
    run_map,
)

from autodiff._native import lib

SIZES = [1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 50]
# Through all paths: blocks of m, n and k, strips cut short, packed and unpacked, rows and columns alone, narrow ones
# that are computed as their transposes, in one piece and in several, and rows of a that are pages apart.
SHAPES = [
    (300, 20, 600),
    (1, 700, 300),
    (700, 1, 300),
    (1, 2100, 9),
    (64, 10, 128),
    (253, 33, 257),
    (260, 530, 70),
    (14, 2100, 30),
    (128, 256, 784),
    (20, 2500, 300),
    (300, 290, 500),
    (1100, 10, 90),
    (600, 17, 33),
    (513, 2, 20),
    (40, 5, 70),
    (30, 20, 1024),
]
# Products with a vector: (columns, terms) that end everywhere in vectors, in lanes and in chunks.
VECTORS = [
    *product([1, 2, 3, 7, 8, 9, 17, 33], [1, 2, 3, 5, 8, 13, 16, 17, 31, 32, 33, 64, 100]),
    *product([1, 5, 64, 130], [511, 512, 513, 1031, 2600, 3584]),
    (300, 6000),
]


@pytest.fixture(params=isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with isa_selected(request.param):
        yield request.param


def laid_out(x: Array, layout: str) -> Array:
    """The same numbers in another order of memory; what lies between them is NaN."""
    if layout == "rows":
        return x.copy()
    if layout == "columns":
        return np.ascontiguousarray(x.T).T
    rows, columns = x.shape
    step = 3 if layout == "apart" else 1
    base = np.full((rows, columns * step + 5), np.nan, x.dtype)
    view = base[:, : columns * step : step]
    view[...] = x
    return view


def multiply(a: Array, b: Array, c: Array) -> Array:
    """Into c, by a plan of one GEMM."""
    plan = Plan()
    operands: list[Operand] = []
    inputs: list[Array] = []
    outputs: list[Array] = []
    for role, x, axes in ((READ, a, (0, 2)), (READ, b, (2, 1)), (WRITE, c, (0, 1))):
        base, offset = base_of(x)
        strides = [0, 0, 0]
        strides[axes[0]], strides[axes[1]] = element_strides(x)
        (inputs if role == READ else outputs).append(base)
        buffer = plan.input(base.nbytes) if role == READ else plan.output(base.nbytes)
        operands.append(Operand(role, buffer, x.dtype.name, strides, offset=offset))
    plan.step(lib.AD_GEMM, [c.shape[0], c.shape[1], a.shape[1]], operands)
    run(plan, inputs, outputs)
    return c


def matrices(m: int, n: int, k: int, dtype: str) -> tuple[Array, Array]:
    rng = np.random.default_rng(m * 10007 + n * 101 + k)
    return rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)


def chain(a: Array, b: Array) -> Array:
    """The float32 product by a fused chain: in float64 each product is exact, and the sum nearly."""
    c = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        exact = np.multiply.outer(a[:, k].astype(np.float64), b[k].astype(np.float64))
        c = (exact + c).astype(np.float32)
    return c


def summed(terms: Array) -> Array:
    """Sums over the last axis, in the order of sums: lanes of chunks, folded by halves, and a tree of chunks."""
    parts = []
    for start in range(0, terms.shape[-1], 512):
        chunk = terms[..., start : start + 512]
        padding = [(0, 0)] * (chunk.ndim - 1) + [(0, -chunk.shape[-1] % 32)]
        chunk = np.pad(chunk, padding, constant_values=-0.0).reshape(*chunk.shape[:-1], -1, 32)
        lanes = chunk[..., 0, :]
        for i in range(1, chunk.shape[-2]):
            lanes = lanes + chunk[..., i, :]
        while lanes.shape[-1] > 1:
            half = lanes.shape[-1] // 2
            lanes = lanes[..., :half] + lanes[..., half:]
        parts.append(lanes[..., 0])

    def tree(parts: list[Array]) -> Array:
        if len(parts) == 1:
            return parts[0]
        older = 1 << ((len(parts) - 1).bit_length() - 1)
        return tree(parts[:older]) + tree(parts[older:])

    return tree(parts)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_small_shapes(dtype: str, isa: str) -> None:
    for m, n, k in product(SIZES, SIZES, SIZES):
        a, b = matrices(m, n, k, dtype)
        got = multiply(a, b, np.empty((m, n), dtype))
        wide = np.abs(a).astype(np.longdouble) @ np.abs(b).astype(np.longdouble)
        error = np.abs(got - a.astype(np.longdouble) @ b.astype(np.longdouble))
        assert np.all(error <= k * np.finfo(dtype).eps * wide), (m, n, k)


@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_same_bits_from_every_layout(m: int, n: int, k: int, dtype: str, isa: str) -> None:
    a, b = matrices(m, n, k, dtype)
    want = multiply(a, b, np.empty((m, n), dtype))
    bound = k * np.finfo(dtype).eps * (np.abs(a).astype("f8") @ np.abs(b).astype("f8"))
    assert np.all(np.abs(want - a.astype("f8") @ b.astype("f8")) <= bound)
    layouts: list[Any] = ["rows", "columns", "apart", "gaps"]
    for of_a, of_b, of_c in product(layouts, layouts, ["rows", "columns", "gaps"]):
        c = laid_out(np.zeros((m, n), dtype), of_c)
        np.testing.assert_array_equal(multiply(laid_out(a, of_a), laid_out(b, of_b), c), want)
        assert c.base is None or of_c != "gaps" or np.isnan(c.base[:, n:]).all()


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(isas()), reason="needs both")
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_the_same_bits_on_fused_sets(m: int, n: int, k: int) -> None:
    for dtype in ("float64", "float32"):
        a, b = matrices(m, n, k, dtype)
        results = []
        for name in ("avx2", "avx512"):
            with isa_selected(name):
                results.append(multiply(a, b, np.empty((m, n), dtype)))
        np.testing.assert_array_equal(results[0], results[1])
        if dtype == "float32" and m > 1 and n > 1 and m * n * k < 1_000_000:
            # Rounding twice differs from once by chance, and then in the last bit.
            assert np.mean(results[0] == chain(a, b)) > 0.999


@pytest.mark.parametrize(("m", "n", "k"), [(300, 290, 500), (260, 530, 70), (128, 10, 128), (33, 17, 65), (9, 9, 9)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_same_bits_in_pieces(m: int, n: int, k: int, dtype: str, isa: str) -> None:
    """As threads cut it, but for single rows and columns, which add in another order."""
    rng = np.random.default_rng(m)
    for layout in ("rows", "columns"):
        a, b = (laid_out(x, layout) for x in matrices(m, n, k, dtype))
        want = multiply(a, b, np.empty((m, n), dtype))
        rows, columns = ([0, *sorted(2 * rng.integers(1, size // 2, 3)), size] for size in (m, n))
        got = np.full((m, n), np.nan, dtype)
        for i, j in product(range(4), range(4)):
            tall, wide = slice(rows[i], rows[i + 1]), slice(columns[j], columns[j + 1])
            if min(rows[i + 1] - rows[i], columns[j + 1] - columns[j]) > 1:
                multiply(a[tall], b[:, wide], got[tall, wide])
            else:
                got[tall, wide] = want[tall, wide]
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_products_with_a_vector_add_as_sums_do(dtype: str, isa: str) -> None:
    for n, k in VECTORS:
        x, b = matrices(1, n, k, dtype)
        x[0, ::5] = 0
        want = summed(x * b.T)
        layouts = ["rows", "columns", "apart", "gaps"] if n * k < 100_000 else ["rows", "columns"]
        for of_x, of_b in product(["rows", "apart"], layouts):
            row, matrix = laid_out(x, of_x), laid_out(b, of_b)
            got = multiply(row, matrix, np.empty((1, n), dtype))
            assert got.tobytes() == want.tobytes(), (n, k, of_x, of_b)
            column = laid_out(np.zeros((n, 1), dtype), "gaps")
            assert multiply(matrix.T, row.T, column).tobytes() == want.tobytes(), (n, k, of_x, of_b)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_product_with_a_vector_is_the_sum_of_a_product(dtype: str, isa: str) -> None:
    for n, k in [(1, 5), (7, 40), (20, 513), (3, 2600)]:
        x, b = matrices(1, n, k, dtype)
        matrix, sums = np.ascontiguousarray(b.T), np.empty(n, dtype)
        instrs = [("mul", dtype, 2, (0, 1))]
        sizes = {"lane": sums.itemsize, "n_outer": 1, "n_reduced": 1}
        run_map([n, k], [(matrix, dtype), (x, dtype)], instrs, [(SUM, sums, 2, dtype)], **sizes)
        assert multiply(matrix, x.T.copy(), np.empty((n, 1), dtype)).tobytes() == sums.tobytes(), (n, k)


def test_a_vector_with_what_is_not_a_number(isa: str) -> None:
    for n, k in [(3, 5), (20, 40), (70, 600)]:
        x, b = matrices(1, n, k, "float32")
        b[k // 2, 1], b[k - 1, 2], x[0, 3] = np.nan, np.inf, -np.inf
        with np.errstate(all="ignore"):
            want = summed(x * b.T)
        for layout in ("rows", "columns"):
            got = multiply(x, laid_out(b, layout), np.empty((1, n), np.float32))
            np.testing.assert_array_equal(got[0], want)


def test_not_a_number_goes_where_it_belongs(isa: str) -> None:
    a, b = matrices(20, 40, 30, "float32")
    a[3, 7], b[9, 11], b[2, 39] = np.nan, np.inf, -np.inf
    a[:, 9] = 0
    with np.errstate(all="ignore"):
        want = a @ b
    got = multiply(a, b, np.empty((20, 40), np.float32))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
