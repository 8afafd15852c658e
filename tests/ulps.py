"""How many ulp the native library's elementary functions are off: where it is measured, and against what.

float64 is measured against mpmath on random and on hard points, float32 against the library's own float64, which is
good to some 29 bits more.  What is found is the table of docs/accuracy.md (float32 takes a minute or two a function):

    python tests/ulps.py > docs/accuracy.md
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import mpmath as mp  # type: ignore[import-untyped]
import numpy as np
from native_plans import OPCODES, WRITE, Array, isa_selected, isas, load, map_plan, run

mp.mp.prec = 200


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


EXACT: dict[str, Callable[..., Any]] = {
    "exp": mp.exp,
    "exp2": lambda x: mp.power(2, x),
    "expm1": mp.expm1,
    "log": mp.log,
    "log2": lambda x: mp.log(x) / mp.log(2),
    "log10": lambda x: mp.log(x) / mp.log(10),
    "log1p": mp.log1p,
    "sin": mp.sin,
    "cos": mp.cos,
    "tan": mp.tan,
    "arcsin": mp.asin,
    "arccos": mp.acos,
    "arctan": mp.atan,
    "arctan2": mp.atan2,
    "sinh": mp.sinh,
    "cosh": mp.cosh,
    "tanh": mp.tanh,
    "arcsinh": mp.asinh,
    "arccosh": mp.acosh,
    "arctanh": mp.atanh,
    "sigmoid": _sigmoid,
    "pow": mp.power,
    "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)),
    "hypot": mp.hypot,
    "erf": mp.erf,
    "erfc": mp.erfc,
    "lgamma": lambda x: mp.re(mp.loggamma(x)),
    "digamma": mp.digamma,
    "trigamma": lambda x: mp.polygamma(1, x),
}
BINARY = ["pow", "arctan2", "hypot"]
UNARY = [name for name in EXACT if name not in BINARY]


class Bound(NamedTuple):
    """The most ulp that any instruction set may be off."""

    float64: float
    float32: float


GAMMA = ["lgamma", "digamma", "trigamma"]
REFLECTED = [f"{name}, x < 0" for name in GAMMA]
"""Of negative arguments in ulp of the larger of f(x) and f(1 - x), from which it comes and which may all but cancel."""

BOUNDS = dict.fromkeys(EXACT, Bound(0.9, 0.95)) | {
    "log2": Bound(1.1, 1.05),
    "log10": Bound(1.0, 1.1),
    "sin": Bound(0.95, 0.97),
    "cos": Bound(0.95, 0.97),
    "tan": Bound(1.1, 1.1),
    "arcsinh": Bound(1.2, 1.3),
    "arccosh": Bound(1.1, 1.1),
    "arctanh": Bound(1.1, 1.2),
    "tanh": Bound(1.2, 0.95),
    "cbrt": Bound(0.75, 0.76),
    "hypot": Bound(1.2, 1.2),
    "pow": Bound(1.0, 0.57),
    "erf": Bound(1.0, 0.95),
    "erfc": Bound(0.9, 1.0),
    "lgamma": Bound(1.6, 1.8),
    "digamma": Bound(2.2, 1.9),  # without fma; 1.4 with it
    "trigamma": Bound(1.8, 1.8),
    "lgamma, x < 0": Bound(3, 1),
    "digamma, x < 0": Bound(3.5, 1),
    "trigamma, x < 0": Bound(5, 1),
}


class Function:
    """An opcode as a function of arrays of one length, for the instruction set selected when it is made."""

    def __init__(self, name: str, dtype: str, n: int) -> None:
        arity = OPCODES[name][1]
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


def in_float64(name: str, *arrays: Array) -> Array:
    """The function of float32s, in float64."""
    with isa_selected(isas()[-1]), np.errstate(invalid="ignore"):  # of signalling NaNs
        return apply(name, *[a.astype(np.float64) for a in arrays])


# ---- float32 -------------------------------------------------------------------------------------------------------


def ulp_32(x: Array) -> Array:
    """The distance of float32s around x, which is float64."""
    _, exponent = np.frexp(np.where(np.isfinite(x), x, 1.0))
    return np.asarray(np.ldexp(1.0, np.clip(exponent, -125, 128) - 24))


def errors_32(got: Array, want: Array, scale: Array | float = 0.0) -> Array:
    """In ulp of float64 results, or of `scale` if that is larger; infinite where a special value is not right."""
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32)
        special = ~np.isfinite(rounded) | ~np.isfinite(got)
        right = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        # Next to overflow either side is within an ulp.
        edge = np.isinf(got) & (np.abs(want) > np.finfo(np.float32).max)
        error = np.abs(got - want) / ulp_32(np.maximum(np.abs(want), scale))
        error = np.where(special, np.where(right | edge, 0.0, np.inf), error)
        off_sign = (np.signbit(got) != np.signbit(rounded)) & ~np.isnan(rounded) & (np.abs(want) > scale)
        return np.where(off_sign, np.inf, error)


def unary_errors_32(name: str, function: Function, x: Array) -> Array:
    want = in_float64(name, x)
    scale = np.where(x < 0, np.abs(in_float64(name, 1 - x)), 0.0) if name in GAMMA and (x < 0).any() else 0.0
    return errors_32(function(x), want, scale)


def float32s(first: int, step: int, count: int) -> Array:
    """Float32s by their bits."""
    return (np.uint64(first) + np.arange(count, dtype=np.uint64) * np.uint64(step)).astype(np.uint32).view(np.float32)


def sample_32() -> Array:
    special = [0, 1, 0.5, 0.25, 2, 88.72284, -103.97208, 709, 9.01, np.pi, 1e6, 2.0**20, np.inf, np.nan, 3.4e38, 1e-45]
    bits = np.array(special, np.float32).view(np.int32)[:, None] + np.arange(-500, 500, dtype=np.int32)
    near = bits.astype(np.int32).ravel().view(np.float32)
    return np.concatenate([float32s(0, 20011, 1 << 18), near, -near])


def pairs_32(name: str) -> tuple[Array, Array]:
    if name != "pow":
        x, y = pairs_64(name)
        with np.errstate(all="ignore"):
            rounded = np.concatenate([x, x * 1e-30, x * 2.0**-130]), np.concatenate([y, y * 1e-30, y * 2.0**-130])
            return rounded[0].astype(np.float32), rounded[1].astype(np.float32)
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


# ---- float64 -------------------------------------------------------------------------------------------------------


def error_64(got: float, exact: Any, scale: Any = 0) -> float:
    """In ulp of the exact result, or of `scale` if that is larger."""
    rounded = float(exact)
    if rounded == 0 or not np.isfinite(rounded) or not np.isfinite(got):
        beyond = abs(exact) < mp.mpf(2) ** -1074 or abs(exact) > mp.mpf(2) ** 1024 * (1 - mp.mpf(2) ** -54)
        return 0.0 if got == rounded or (beyond and abs(got) in (0.0, 5e-324, np.inf, np.finfo(float).max)) else np.inf
    _, exponent = mp.frexp(max(abs(exact), abs(scale)))
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
    small = u * 2.0 ** rng.integers(-1070, -1, 400)
    scales = np.concatenate([u, 10 * u, 100 * u, 745 * u, small])
    near = 1 + u * 2.0 ** rng.integers(-52, 0, 400)
    powers = np.ldexp(1 + np.abs(u), rng.integers(-1074, 1023, 400))
    if name in ("exp", "exp2", "expm1", "tanh", "sinh", "cosh", "sigmoid"):
        edges = [-745.14, -745.13, -708.4, -0.3466, 0.3466, 709.78, 1e-300, -37.0, -40.0, 1.0397, 19.06, 22.0, 0.5493]
        edges += [710.475, -710.475, -1021.9, -1074.5, 1023.9, 0.5, 1.5]
        return np.concatenate([scales, *[around(e) for e in edges], 19 * np.abs(u), -1 + u / 8, 1000 * u])
    if name in ("erf", "erfc"):
        edges = np.concatenate([0.375 * np.arange(1, 17), [0.25, 0.5, 1.0, 5.9, 5.99, 6.0, 6.5, 26.5, 27.2, 27.3]])
        edges = np.concatenate([edges, 2.0 ** np.arange(2, 5) - 2, 2.5 * 2.0 ** np.arange(4) - 2])
        return np.concatenate([u, 6 * u, 27.3 * np.abs(u), scales, *[around(e) for e in [*edges, *-edges]]])
    if name.startswith("log"):
        if name == "log1p":
            near = near - 1
        edges = [1.0, 0.5**0.5, 2.0**0.5, 2.0, 5e-320, 2.3e-308, 1.7e308, 0.41421356, 1e16]
        positive = np.concatenate([near, powers, np.abs(scales), *[around(e) for e in edges]])
        negative = -np.abs(u) if name == "log1p" else np.abs(u)
        return np.concatenate([positive, negative])
    if name in ("arcsin", "arccos", "arctanh"):
        edges = [around(0.5), around(0.25), 0.5 + u / 99]
        inside = np.concatenate([u, small, 2 - near[near >= 1], near[near < 1], *edges])
        return np.concatenate([inside, -inside])
    if name in ("arctan", "arcsinh", "cbrt"):
        edges = [around(e) for e in (0.25, 0.5, 0.75, 1.0, 4 / 3, 2.0, 4.0, 1e9, 1e18, 1e150, 1e160, 8.0, 27.0)]
        return np.concatenate([scales, powers, -powers, near, 1 + 3 * u, *edges])
    if name == "arccosh":
        edges = [around(1.5), around(2.0), around(1e155)]
        return np.concatenate([near[near >= 1], 1 + np.abs(scales), powers[powers >= 1], *edges])
    if name.startswith(tuple(GAMMA)):
        if name in REFLECTED:
            return np.concatenate([-np.abs(scales[:1200]), -np.abs(small[small > -0.5])])
        edges = [around(e) for e in (0.25, 0.5, 1.0, 1.25, 1.4616321449683623, 1.5, 1.75, 2.0, 3.0, 4.0, 8.0)]
        zeros = np.concatenate([near, near + 1, 1.4616321449683623 + (near - 1) / 4])
        return np.concatenate([np.abs(u) + 2e-16, 10 * np.abs(u), powers, zeros[zeros > 0], 8 + 9 * np.abs(u), *edges])
    big = np.ldexp(1 + np.abs(u), rng.integers(0, 1023, 400))
    turns = (rng.integers(-(10**6), 10**6, 400) * (np.pi / 2)).astype(np.float64)
    edges = [2.0**20, 2.0**20 * np.pi / 2, np.pi / 4, np.pi, np.pi / 2, 1e22, 1.7e308, 6381956970095103 * 2.0**797]
    return np.concatenate([scales, big, turns, *[around(e) for e in edges], np.array(hard_angles())])


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


def pairs_64(name: str) -> tuple[Array, Array]:
    if name == "pow":
        return powers_64()
    rng = np.random.default_rng(4)
    u, v = rng.uniform(-1, 1, (2, 1500))
    exponents = rng.integers(-1040, 1000, 1500)
    close = np.ldexp(u, exponents + rng.integers(-30, 23, 1500)), np.ldexp(v, exponents)
    apart = np.ldexp(u, rng.integers(-1070, 1023, 1500)), np.ldexp(v, rng.integers(-1070, 1023, 1500))
    slopes = u, u * (rng.integers(0, 9, 1500) / 4 + rng.uniform(-1, 1, 1500) * 2.0 ** rng.integers(-50, -3, 1500))
    parts = [(u, v), close, apart, slopes, slopes[::-1]]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


@cache
def exact_64(case: str) -> tuple[list[Array], list[Any], list[Any]]:
    """Points, what the function is there, and what its error is measured against if that is larger."""
    name = case.partition(",")[0]
    arrays = list(pairs_64(name)) if name in BINARY else [points_64(case)]
    if case in REFLECTED:
        arrays = [arrays[0][arrays[0] != np.round(arrays[0])]]
    with mp.workprec(1300 if name in ("sin", "cos", "tan") else 200):
        exact = [EXACT[name](*map(mp.mpf, point)) for point in zip(*(a.tolist() for a in arrays), strict=True)]
        scales = [EXACT[name](1 - mp.mpf(x)) if case in REFLECTED else 0 for x in arrays[0].tolist()]
    return arrays, exact, scales


def errors_64(case: str) -> Array:
    arrays, exact, scales = exact_64(case)
    got = apply(case.partition(",")[0], *arrays).tolist()
    return np.array([error_64(*values) for values in zip(got, exact, scales, strict=True)])


# ---- the table -----------------------------------------------------------------------------------------------------


def worst_64(case: str) -> tuple[float, str]:
    errors = errors_64(case)
    worst = int(np.argmax(errors))
    return float(errors[worst]), ", ".join(repr(float(a[worst])) for a in exact_64(case)[0])


def worst_32(case: str) -> tuple[float, str]:
    """Over every 64th float32 of the sign that counts, or the pairs."""
    name = case.partition(",")[0]
    if name in BINARY:
        arrays = pairs_32(name)
        errors = errors_32(apply(name, *arrays), in_float64(name, *arrays))
        worst = int(np.argmax(errors))
        return float(errors[worst]), ", ".join(repr(float(a[worst])) for a in arrays)
    n, found = 1 << 20, (0.0, "")
    function = Function(name, "float32", n)
    signs = [0] if case in GAMMA else [1] if case in REFLECTED else [0, 1]
    for sign in signs:
        for first in range(sign << 31, (sign + 1) << 31, 64 * n):
            x = float32s(first + 7, 64, n)
            errors = unary_errors_32(name, function, x)
            worst = int(np.argmax(errors))
            found = max(found, (float(errors[worst]), repr(float(x[worst]))))
    return found


HEAD = """# Accuracy

Worst errors found, in units in the last place of the exact result, on instruction sets with fused multiply-add, which
all give the same bits; made by `python tests/ulps.py > docs/accuracy.md`.  float64 was compared with mpmath on some
thousands of random and hard points a function, float32 with float64 on every 64th number.  `tests/test_vmath.py` holds
every instruction set to the bounds in `tests/ulps.py`, and this table to what it measures itself.

Square roots are rounded correctly.  `np.logaddexp`, `softplus` and `log_expit` are compositions: the last two are
within 2 ulp, the first within 2 ulp of its larger argument where the two terms of its result all but cancel.  The
gamma function's logarithm and derivatives at negative x come from those at 1 - x and may all but cancel: there the
error is in ulp of the larger of f(x) and f(1 - x).

| function | float64 | at | float32 | at |
|---|---|---|---|---|"""


def main() -> None:
    print(HEAD)
    with isa_selected(isas()[-1]):
        for case in [*EXACT, *REFLECTED]:
            (a, at_a), (b, at_b) = worst_64(case), worst_32(case)
            print(f"| {case} | {a:.2f} | {at_a} | {b:.2f} | {at_b} |", flush=True)


if __name__ == "__main__":
    main()
