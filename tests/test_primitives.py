"""Every primitive of the registry: values, both modes, second order and batching, on every instruction set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from primitives import DIFFERENTIABLE, LEAVES, NAMES, Sample, leaf_samples, samples, special_samples

from autodiff import ir
from autodiff._native import ffi, lib
from autodiff.executable import compile_graph
from autodiff.ir import FLOAT64, INT64, Array, Aval, Value
from autodiff.transforms import batch, pullback, pushforward

# fmt: off
EXACT = [
    "add", "sub", "mul", "div", "neg", "sqrt", "abs", "sign", "maximum", "minimum", "scale", "eq", "ne", "lt",
    "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not", "select", "convert",
    "stop_gradient", "identity", "broadcast", "reshape", "transpose", "slice", "pad", "concatenate",
    "reduce_max", "reduce_min", "argmax", "argmin", "gather", "scatter_set", "constant", "full", "iota",
]
# fmt: on
"""Primitives whose results are NumPy's to the bit."""

ISAS = []
while (isa := lib.ad_isa_at(len(ISAS))) != ffi.NULL:
    ISAS.append(ffi.string(isa).decode())


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = lib.ad_isa_selected()
    assert lib.ad_isa_select(request.param.encode()) == lib.AD_OK
    yield request.param
    lib.ad_isa_select(before)


def run(function: Callable[..., Sequence[Value | None]], *arrays: Array) -> list[Array]:
    """Compile a function of values and call it; a result of None is a zero and is left as it is."""
    with ir.building(ir.Builder(intern=True)):
        inputs = tuple(ir.argument(Aval(x.shape, x.dtype)) for x in arrays)
        outputs = tuple(y if y is not None else ir.full(0.0, (), FLOAT64) for y in function(*inputs))
        graph = ir.Graph(inputs, outputs)
        ir.verify(graph)
        return [np.asarray(y) for y in compile_graph(graph).run_flat(list(arrays))]


def ulp_error(got: Array, want: Array, exact: Array) -> float:
    """The largest error in units in the last place of the exact result, where it is finite."""
    ok = np.isfinite(want) & (got != want)
    if not ok.any():
        return 0.0
    unit = np.spacing(np.abs(want[ok])).astype(np.longdouble)
    return float((np.abs(got[ok].astype(np.longdouble) - exact[ok]) / unit).max())


def assert_value(sample: Sample, got: Array) -> None:
    want = sample.oracle(*sample.arrays)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if sample.op.name in EXACT or want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
    elif sample.op.elementwise:
        wide = np.longdouble if want.dtype == FLOAT64 else np.float64
        exact = sample.oracle(*[x.astype(wide) if x.dtype.kind == "f" else x for x in sample.arrays])
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        with np.errstate(over="ignore"):
            want = np.where(np.isnan(want), want, exact.astype(want.dtype))
        finite = np.isfinite(want)
        np.testing.assert_array_equal(got[~finite & ~np.isnan(want)], want[~finite & ~np.isnan(want)])
        assert ulp_error(got, want, exact.astype(np.longdouble)) <= 2
    else:
        bound = sample.oracle(*[np.abs(x) if x.dtype.kind == "f" else x for x in sample.arrays])
        assert np.all(np.abs(got - want) <= bound * np.finfo(want.dtype).eps * 40), str(sample)


def test_registry_is_what_this_file_tests() -> None:
    assert sorted(ir.OPS) == sorted(NAMES)
    for name in NAMES:
        assert samples(name) or name in LEAVES or name == "host"


@pytest.mark.parametrize("name", [n for n in NAMES if n not in LEAVES and n != "host"])
def test_value(name: str, isa: str) -> None:
    for sample in samples(name):
        (got,) = run(lambda *xs: [sample.apply(*xs)], *sample.arrays)  # noqa: B023
        assert_value(sample, got)


def test_leaves(isa: str) -> None:
    for sample in leaf_samples():
        (got,) = run(lambda: [sample.apply()])  # noqa: B023
        assert_value(sample, got)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in LEAVES and ir.OPS[n].elementwise])
def test_special_values(name: str, isa: str) -> None:
    for sample in special_samples(name):
        (got,) = run(lambda *xs: [sample.apply(*xs)], *sample.arrays)  # noqa: B023
        assert_value(sample, got)


@pytest.mark.parametrize("name", ["reduce_max", "reduce_min", "argmax", "argmin"])
def test_nan_wins_selections(name: str, isa: str) -> None:
    x = np.arange(2000.0).reshape(4, 500)
    x[1, 7] = x[2, 499] = x[2, 3] = np.nan
    params = {"axis": 1} if name.startswith("arg") else {"axes": (1,)}
    sample = Sample(ir.OPS[name], (x,), params)
    (got,) = run(lambda v: [sample.apply(v)], x)
    assert_value(sample, got)


def test_host_step() -> None:
    aval = Aval((3,), FLOAT64)

    def both(x: Array) -> tuple[Array, Array]:
        return x + 1, x * 2

    a, b = run(lambda x: ir.OPS["host"].emit(x, function=both, results=(aval, aval)), np.arange(3.0))
    np.testing.assert_array_equal(a, [1, 2, 3])
    np.testing.assert_array_equal(b, [0, 2, 4])


# ---- derivatives ---------------------------------------------------------------------------------------------------


def float_samples(name: str) -> list[Sample]:
    """Samples with float64 operands and results, small enough to differentiate numerically."""
    return [
        s
        for s in samples(name, seed=1)
        if any(x.dtype == FLOAT64 for x in s.arrays)
        and all(x.dtype in (FLOAT64, INT64, ir.BOOL) for x in s.arrays)
        and s.params.get("dtype", FLOAT64) == FLOAT64
    ]


def directions(sample: Sample, rng: np.random.Generator) -> list[Array]:
    return [rng.normal(size=x.shape) for x in sample.arrays if x.dtype == FLOAT64]


def floats(values: Sequence[Value]) -> list[Value]:
    return [x for x in values if x.dtype == FLOAT64]


def moved(sample: Sample, ts: list[Array], step: complex) -> list[Array]:
    it = iter(ts)
    return [x + step * next(it) if x.dtype == FLOAT64 else x for x in sample.arrays]


def with_zeros(values: Sequence[Value | None], like: Sequence[Value]) -> list[Value]:
    return [ir.zeros(Aval(x.shape, x.dtype)) if v is None else v for v, x in zip(values, like, strict=True)]


def push(sample: Sample, xs: Sequence[Value], ts: Sequence[Value]) -> Value:
    y = sample.apply(*xs)
    return with_zeros(pushforward([y], floats(xs), list(ts)), [y])[0]


def pull(sample: Sample, xs: Sequence[Value], ct: Value) -> list[Value]:
    y = sample.apply(*xs)
    return with_zeros(pullback([y], floats(xs), [ct]), floats(xs))


CONSTANT_BY_DECREE = {"stop_gradient"}
NOT_ANALYTIC = {"abs", "sign", "convert", "stop_gradient"}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_jvp(name: str, isa: str) -> None:
    """Tangents against central differences and, where NumPy's function takes complex numbers, the complex step."""
    rng = np.random.default_rng(2)
    for sample in float_samples(name):
        ts = directions(sample, rng)
        n = len(sample.arrays)
        (got,) = run(lambda *vs: [push(sample, vs[:n], vs[n:])], *sample.arrays, *ts)  # noqa: B023
        if name in CONSTANT_BY_DECREE:
            assert not got.any()
            continue
        h = 1e-6
        want = (sample.oracle(*moved(sample, ts, h)) - sample.oracle(*moved(sample, ts, -h))) / (2 * h)
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6, err_msg=str(sample))
        if name not in NOT_ANALYTIC and not name.startswith("reduce_m"):
            try:
                step = sample.oracle(*moved(sample, ts, 1e-40j))
            except TypeError:
                continue
            np.testing.assert_allclose(got, step.imag / 1e-40, rtol=1e-12, atol=1e-12, err_msg=str(sample))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_transpose_identity(name: str, isa: str) -> None:
    """<J t, c> = <t, J^T c>: reverse mode is the transpose of forward mode."""
    rng = np.random.default_rng(3)
    for sample in float_samples(name):
        ts = directions(sample, rng)
        n, m = len(sample.arrays), len(ts)
        c = rng.normal(size=sample.oracle(*sample.arrays).shape)
        y_dot, *x_bars = run(
            lambda *vs: [push(sample, vs[:n], vs[n : n + m]), *pull(sample, vs[:n], vs[-1])],  # noqa: B023
            *sample.arrays,
            *ts,
            c,
        )
        left = float(np.sum(y_dot * c))
        right = sum(float(np.sum(x_bar * t)) for x_bar, t in zip(x_bars, ts, strict=True))
        scale = sum(float(np.sum(np.abs(x_bar * t))) for x_bar, t in zip(x_bars, ts, strict=True))
        assert abs(left - right) <= 1e-12 * (1 + scale), str(sample)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_second_order(name: str) -> None:
    """Forward over reverse and reverse over reverse against differences of the first derivative."""
    rng = np.random.default_rng(4)
    for sample in float_samples(name):
        if sum(x.size for x in sample.arrays) > 500:
            continue
        ts = directions(sample, rng)
        n, m = len(sample.arrays), len(ts)
        c = rng.normal(size=sample.oracle(*sample.arrays).shape)

        def first(*vs: Value, sample: Sample = sample, n: int = n) -> list[Value]:
            return pull(sample, vs[:n], vs[n])

        def forward_over_reverse(*vs: Value, n: int = n, m: int = m) -> list[Value]:
            xs = floats(vs[:n])
            grads = first(*vs[:n], vs[-1])
            return with_zeros(pushforward(grads, xs, list(vs[n : n + m])), xs)

        def reverse_over_reverse(*vs: Value, n: int = n, m: int = m) -> list[Value]:
            xs = floats(vs[:n])
            grads = first(*vs[:n], vs[-1])
            return with_zeros(pullback(grads, xs, list(vs[n : n + m])), xs)

        h = 1e-6
        plus = run(first, *moved(sample, ts, h), c)
        minus = run(first, *moved(sample, ts, -h), c)
        for second in (forward_over_reverse, reverse_over_reverse):
            got = run(second, *sample.arrays, *ts, c)
            for g, p, q in zip(got, plus, minus, strict=True):
                if name in CONSTANT_BY_DECREE:
                    assert not g.any()
                else:
                    np.testing.assert_allclose(g, (p - q) / (2 * h), rtol=1e-5, atol=1e-5, err_msg=str(sample))


# ---- batching ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in NAMES if n not in LEAVES and n != "host"])
def test_batch(name: str) -> None:
    """The batch rule against a loop, for every choice of which operands are batched."""
    size = 3
    for sample in samples(name, seed=5):
        if any(x.size > 300 for x in sample.arrays):
            continue
        others = [samples(name, seed=6 + i) for i in range(size)]
        position = [str(s) for s in samples(name, seed=5)].index(str(sample))
        examples = [o[position].arrays for o in others]
        n = len(sample.arrays)
        for choice in range(1, 2 ** min(n, 3)):
            flags = [bool(choice >> min(i, 2) & 1) for i in range(n)]
            operands = [
                np.stack([e[i] for e in examples]) if flag else x
                for i, (flag, x) in enumerate(zip(flags, sample.arrays, strict=True))
            ]

            def batched(*bs: Value, sample: Sample = sample, flags: list[bool] = flags) -> list[Value]:
                xs = [ir.argument(aval) if flag else b for aval, flag, b in zip(sample.avals, flags, bs, strict=True)]
                y = sample.apply(*xs)
                return batch([y], xs, [b if flag else None for b, flag in zip(bs, flags, strict=True)])

            (got,) = run(batched, *operands)
            for k in range(size):
                one = [e if flag else x for e, flag, x in zip(examples[k], flags, sample.arrays, strict=True)]
                single = Sample(sample.op, tuple(one), sample.params)
                assert_value(single, got[k])
