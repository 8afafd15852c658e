"""Prints csrc/kernels/vmath_tables.inc: the polynomials and tables of the vector maths, fitted in 50 digits.

    python bench/vmath_coefficients.py > csrc/kernels/vmath_tables.inc

Polynomials are minimax, by Remez' exchange.  Each is fitted in the weighted error that its function adds to the result,
so the bound printed beside it is the part of the result's relative error that the polynomial is to blame for.  Needs
mpmath and a minute or two; run it only to change something here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import mpmath as mp  # type: ignore[import-untyped]

mp.mp.dps = 50
TINY = mp.mpf(10) ** -6  # keeps weights off zero
Function = Callable[[mp.mpf], mp.mpf]
Piece = tuple[mp.mpf, mp.mpf, mp.mpf]  # an interval's low end, its origin, its high end


@dataclass
class Format:
    """A type of number that coefficients are rounded to."""

    name: str
    c_type: str
    bits: int
    per_line: int

    def round(self, x: mp.mpf) -> mp.mpf:
        with mp.workprec(self.bits):
            return +x

    def text(self, x: mp.mpf) -> str:
        mantissa, exponent = float(self.round(x)).hex().split("p")
        return mantissa.rstrip("0").removesuffix(".") + "p" + exponent


F64 = Format("f64", "double", 53, 4)
F32 = Format("f32", "float", 24, 6)


def remez(f: Function, weight: Function, low: mp.mpf, high: mp.mpf, degree: int) -> tuple[list[mp.mpf], mp.mpf]:
    """The polynomial p of `degree` with the least maximum of |weight * (p - f)| on [low, high], and that maximum."""
    n = degree + 2
    points = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / (n - 1)) for i in range(n)]
    grid = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / (20 * n)) for i in range(20 * n + 1)]
    f_grid, w_grid = [f(x) for x in grid], [weight(x) for x in grid]
    coefficients: list[mp.mpf] = []
    worst = mp.inf
    for _ in range(8):
        rows = [[x**j for j in range(degree + 1)] + [(-1) ** i / weight(x)] for i, x in enumerate(points)]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([f(x) for x in points]))
        candidate = [solution[j] for j in range(degree + 1)]
        values = [w * (mp.polyval(candidate[::-1], x) - y) for x, y, w in zip(grid, f_grid, w_grid, strict=True)]
        if max(map(abs, values)) >= worst * mp.mpf("0.999"):
            break
        coefficients, worst = candidate, max(map(abs, values))
        # One extremum for each run of equal sign; where there are too many, drop the smaller end.
        extrema: list[int] = []
        for i, value in enumerate(values):
            if extrema and (value > 0) == (values[extrema[-1]] > 0):
                if abs(value) > abs(values[extrema[-1]]):
                    extrema[-1] = i
            else:
                extrema.append(i)
        while len(extrema) > n:
            extrema.pop(0 if abs(values[extrema[0]]) < abs(values[extrema[-1]]) else -1)
        if len(extrema) < n:
            break
        points = [grid[i] for i in extrema]
    return coefficients, worst


def series(f: Function, small: Function) -> Function:
    """f, or near 0, where f cancels, the first terms of its series."""
    return lambda x: small(x) if abs(x) < mp.mpf("1e-8") else f(x)


def lines(values: Sequence[mp.mpf], form: Format, indent: str) -> str:
    texts = [form.text(x) for x in values]
    rows = [", ".join(texts[i : i + form.per_line]) for i in range(0, len(texts), form.per_line)]
    return f",\n{indent}".join(rows)


def polynomial(name: str, form: Format, f: Function, weight: Function, low: object, high: object, degree: int) -> None:
    coefficients, worst = remez(f, weight, mp.mpf(low), mp.mpf(high), degree)
    print(f"static const {form.c_type} {name}_{form.name}[] = {{ /* 2^{mp.nstr(mp.log(worst, 2), 4)} */")
    print(f"    {lines(coefficients, form, '    ')}}};")


def table(name: str, form: Format, rows: Sequence[Sequence[mp.mpf]]) -> None:
    body = "},\n    {".join(lines(row, form, "     ") for row in rows)
    print(f"static _Alignas(64) const {form.c_type} {name}_{form.name}[][16] = {{\n    {{{body}}}}};")


def piecewise(name: str, form: Format, f: Function, pieces: Sequence[Piece], degree: int) -> None:
    """Print a function on 16 intervals as f(origin) + t * polynomial(t), t = x - origin.

    Rows: the origins, f(origin), what rounding it lost, the polynomial's coefficients from the lowest.  Where an odd
    function's origin is 0, x takes its place: there f(x) = x + x * polynomial(x).
    """
    columns, bounds = [], []
    for low, wanted, high in pieces:
        origin = form.round(wanted)
        value = f(origin)
        linear = mp.mpf(0) if origin else mp.mpf(1)

        def rest(t: mp.mpf, c: mp.mpf = origin, value: mp.mpf = value, linear: mp.mpf = linear) -> mp.mpf:
            return ((f(c + t) - value) / t if abs(t) > mp.mpf("1e-12") else mp.diff(f, c)) - linear

        def weight(t: mp.mpf, c: mp.mpf = origin) -> mp.mpf:
            return abs(t / f(c + t)) + TINY if f(c + t) else mp.mpf(1)

        coefficients, worst = remez(rest, weight, low - origin, high - origin, degree)
        lost = value - form.round(value)
        columns.append([origin, value, lost, *coefficients])
        bounds.append(worst)
    print(f"/* {name}, {form.name}: 2^{mp.nstr(mp.log(max(bounds), 2), 4)} */")
    table(name, form, list(zip(*columns, strict=True)))


# ---- exp, expm1, tanh ----------------------------------------------------------------------------------------------


def exponentials() -> None:
    edge = mp.log(2) / 2 * (1 + mp.mpf(2) ** -15)

    def exp_rest(x: mp.mpf) -> mp.mpf:
        return mp.fsum(x ** (i - 2) / mp.factorial(i) for i in range(2, 40))

    def exp_third(x: mp.mpf) -> mp.mpf:
        return mp.fsum(x ** (i - 3) / mp.factorial(i) for i in range(3, 40))

    def tanh_rest(z: mp.mpf) -> mp.mpf:
        x = mp.sqrt(z)
        return series(lambda z: (mp.tanh(x) - x) / (x * z), lambda z: -mp.mpf(1) / 3 + 2 * z / 15)(z)

    print("\n/* (e^x - 1 - x) / x^2 on |x| <= ln(2)/2 */")
    polynomial("EXP", F64, exp_rest, lambda x: x * x + TINY, -edge, edge, 9)
    polynomial("EXP_SHORT", F64, exp_rest, lambda x: x * x + TINY, -edge, edge, 4)
    polynomial("EXP", F32, exp_rest, lambda x: x * x + TINY, -edge, edge, 4)
    print("\n/* (e^x - 1 - x - x^2/2) / x^3 on the same, in the error of e^x - 1 */")
    polynomial("EXPM1", F64, exp_third, lambda x: x * x + TINY, -edge, edge, 9)
    polynomial("EXPM1", F32, exp_third, lambda x: x * x + TINY, -edge, edge, 4)
    print("\n/* (tanh x - x) / x^3 in x^2 on |x| <= 5/8 */")
    polynomial("TANH", F64, tanh_rest, lambda z: z + TINY, 0, mp.mpf(25) / 64, 10)
    width = mp.mpf(19) / 32
    print("\n/* tanh on intervals of 19/32 */")
    piecewise("TANH", F32, mp.tanh, even_pieces(width), 7)


def even_pieces(width: mp.mpf) -> list[Piece]:
    """16 intervals of one width, with origins near their centres but for the first.

    A little below, so that at the second one's lower end, where that matters most, what is added is less than 1/8.
    """
    return [(n * width, (n + (n > 0) * mp.mpf(31) / 64) * width, (n + 1) * width) for n in range(16)]


# ---- log, log1p, pow -----------------------------------------------------------------------------------------------


def exact_inverse(low: mp.mpf, high: mp.mpf) -> mp.mpf:
    """The inverse with the least |r| over low <= m < high among those for which r fits the bits of m."""
    found = []
    for bits in range(7):
        for j in range(2**bits // 2, 2 ** (bits + 1)):
            inverse = mp.mpf(j) / 2**bits
            r = max(abs(low * inverse - 1), abs(high * inverse - 1))
            if bits == 0 or r <= mp.mpf(2) ** ((low >= 1) - bits):  # m's last bit is half as much below 1
                found.append((r, inverse))
    return min(found)[1]


def logarithms() -> None:
    """For pow, m lies in one of 16 intervals that are even in its bits and begin at 45/64; the tenth lies about 1.

    The inverses have so few bits that r = m * inverse - 1 is exact.
    """
    edges = [mp.mpf(45 + 2 * i) / 64 for i in range(10)] + [mp.mpf(33 + 2 * i) / 32 for i in range(7)]
    pieces = list(pairwise(edges))
    inverses = [exact_inverse(low, high) for low, high in pieces]
    reduced = [x * inverse - 1 for (low, high), inverse in zip(pieces, inverses, strict=True) for x in (low, high)]

    def log_rest(f: mp.mpf) -> mp.mpf:
        return series(lambda t: (mp.log1p(t) - t) / (t * t), lambda t: -mp.mpf(1) / 2 + t / 3 - t * t / 4)(f)

    def atanh_rest(z: mp.mpf) -> mp.mpf:
        return mp.fsum(2 * z**i / (3 + 2 * i) for i in range(80))

    def log_third(f: mp.mpf) -> mp.mpf:
        return mp.fsum((-1) ** i * f**i / (i + 3) for i in range(40))

    top = (mp.sqrt(2) - 1) ** 2 / (mp.sqrt(2) + 1) ** 2 * (1 + mp.mpf(2) ** -18)
    print("\n/* log((1 + s) / (1 - s)) = 2 s + s z (2/3 + 2z/5 + ...), where z = s^2, on |s| <= 3 - sqrt(8) */")
    polynomial("LOG", F64, atanh_rest, lambda z: z / 2 + TINY, 0, top, 6)
    polynomial("LOG", F32, atanh_rest, lambda z: z / 2 + TINY, 0, top, 2)

    print("\n/* Inverses of about m, and minus their logarithms, in two parts: the first is a multiple of 2^-42. */")
    unit = mp.mpf(2) ** -42
    highs = [mp.nint(-mp.log(x) / unit) * unit for x in inverses]
    table("LOG_TABLE", F64, [inverses, highs, [-mp.log(x) - h for x, h in zip(inverses, highs, strict=True)]])
    low, high = min(reduced), max(reduced)
    print(f"\n/* (log(1 + r) - r + r^2/2) / r^3 on {mp.nstr(low, 4)} <= r <= {mp.nstr(high, 4)} */")
    polynomial("LOG_POW", F64, log_third, lambda f: f * f + TINY, low, high, 8)
    print("\n/* (log(1 + r) - r) / r^2 on the same */")
    polynomial("LOG_POW_SHORT", F64, log_rest, lambda f: abs(f) + TINY, low, high, 4)


# ---- sinh, cosh, arctanh, arcsin, arctan, cbrt ----------------------------------------------------------------------


def hyperbolic() -> None:
    edge = (mp.log(2) / 2 * (1 + mp.mpf(2) ** -15)) ** 2

    def sinh_rest(z: mp.mpf) -> mp.mpf:
        return mp.fsum(z**i / mp.factorial(2 * i + 3) for i in range(30))

    def cosh_rest(z: mp.mpf) -> mp.mpf:
        return mp.fsum(z**i / mp.factorial(2 * i + 2) for i in range(30))

    def arctanh_rest(z: mp.mpf) -> mp.mpf:
        return mp.fsum(z**i / (3 + 2 * i) for i in range(80))

    for form, degree in ((F64, 4), (F32, 2)):
        print("\n/* (sinh x - x) / x^3 and (cosh x - 1) / x^2, in x^2 on |x| <= ln(2)/2 */")
        polynomial("SINH", form, sinh_rest, lambda z: z + TINY, 0, edge, degree)
        polynomial("COSH", form, cosh_rest, lambda z: z + TINY, 0, edge, degree)
    print("\n/* (arctanh x - x) / x^3 in x^2 on |x| <= 0.28 */")
    polynomial("ATANH", F64, arctanh_rest, lambda z: z + TINY, 0, mp.mpf("0.0784"), 8)
    polynomial("ATANH", F32, arctanh_rest, lambda z: z + TINY, 0, mp.mpf("0.0784"), 3)


def inverses_of_circular() -> None:
    def arcsin_rest(z: mp.mpf) -> mp.mpf:
        x = mp.sqrt(z)
        return series(lambda z: (mp.asin(x) - x) / (x * z), lambda z: mp.mpf(1) / 6 + 3 * z / 40)(z)

    def arctan_rest(z: mp.mpf) -> mp.mpf:
        return mp.fsum((-1) ** (i + 1) * z**i / (3 + 2 * i) for i in range(60))

    print("\n/* (arcsin x - x) / x^3 in x^2 on |x| <= 1/2 */")
    polynomial("ASIN", F64, arcsin_rest, lambda z: z + TINY, 0, mp.mpf("0.25"), 12)
    polynomial("ASIN", F32, arcsin_rest, lambda z: z + TINY, 0, mp.mpf("0.25"), 5)
    print("\n/* (arctan x - x) / x^3 in x^2 on |x| <= 1/4 */")
    polynomial("ATAN", F64, arctan_rest, lambda z: z + TINY, 0, mp.mpf("0.0625"), 7)
    polynomial("ATAN", F32, arctan_rest, lambda z: z + TINY, 0, mp.mpf("0.0625"), 3)
    print("\n/* arctan of 0, 1/2, 1; pi/2 less these; pi less these; pi/2 and these; and what rounding lost */")
    first = [mp.mpf(0), mp.atan(mp.mpf("0.5")), mp.pi / 4, mp.mpf(0)]
    axes = [*first, *(mp.pi / 2 - x for x in first), *(mp.pi - x for x in first), *(mp.pi / 2 + x for x in first)]
    for form in (F64, F32):
        table("ATAN_TABLE", form, [axes, [x - form.round(x) for x in axes]])


def roots() -> None:
    low, high = mp.sqrt(mp.mpf("0.5")) - 1 - mp.mpf(2) ** -20, mp.sqrt(2) - 1 + mp.mpf(2) ** -20
    print("\n/* (1 + x)^(-1/3) on sqrt(1/2) <= 1 + x <= sqrt(2) */")
    for form, degree in ((F64, 5), (F32, 3)):
        polynomial("CBRT", form, lambda x: (1 + x) ** (-mp.mpf(1) / 3), lambda x: mp.mpf(1), low, high, degree)


# ---- lgamma, digamma, trigamma -------------------------------------------------------------------------------------


def gammas() -> None:
    """Pieces are quarters of the binades from 1/2 to 8, in the order of the last bits of their exponents."""
    edges = [mp.mpf(2) ** (i // 4) * (1 + mp.mpf(i % 4) / 4) for i in (*range(4, 12), *range(-4, 4))]
    widths = [mp.mpf(2) ** (i // 4 - 2) for i in (*range(4, 12), *range(-4, 4))]

    def pieces(*zeros: mp.mpf) -> list[Piece]:
        """With origins in their centres or, next to a zero of the function, there."""
        found = []
        for low, width in zip(edges, widths, strict=True):
            near = [z for z in zeros if low <= z <= low + width or abs(low - z) < mp.mpf("0.05")]
            found.append((low, near[0] if near else low + width / 2, low + width))
        return found

    def stirling(z: mp.mpf) -> mp.mpf:
        if not z:
            return mp.mpf(1) / 12
        x = 1 / mp.sqrt(z)
        return x * (mp.loggamma(x) - (x - mp.mpf("0.5")) * mp.log(x) + x - mp.log(2 * mp.pi) / 2)

    def digamma_rest(z: mp.mpf) -> mp.mpf:
        if not z:
            return mp.mpf(1) / 12
        x = 1 / mp.sqrt(z)
        return x * x * (mp.log(x) - 1 / (2 * x) - mp.digamma(x))

    def trigamma_rest(z: mp.mpf) -> mp.mpf:
        if not z:
            return mp.mpf(1) / 6
        x = 1 / mp.sqrt(z)
        return x**3 * (mp.polygamma(1, x) - 1 / x - z / 2)

    zero = mp.findroot(mp.digamma, 1.46)
    print("\n/* log gamma and its first two derivatives on quarters of binades, from 2 on and then from 1/2 to 2 */")
    for form, degree in ((F64, 13), (F32, 6)):
        piecewise("LGAMMA", form, mp.loggamma, pieces(mp.mpf(1), mp.mpf(2)), degree)
        piecewise("DIGAMMA", form, mp.digamma, pieces(zero), degree)
        piecewise("TRIGAMMA", form, lambda x: mp.polygamma(1, x), pieces(), degree)
    print("\n/* x (log gamma x - (x - 1/2) log x + x - log(2 pi)/2), x^2 (log x - 1/(2 x) - digamma x) and")
    print(" * x^3 (trigamma x - 1/x - 1/(2 x^2)), in 1/x^2 for x >= 8 */")
    last = mp.mpf(1) / 64
    polynomial("LGAMMA_FAR", F64, stirling, lambda z: mp.mpf(1) / 64, 0, last, 4)
    polynomial("LGAMMA_FAR_SHORT", F64, stirling, lambda z: mp.mpf(1) / 64, 0, last, 1)
    for form, degree in ((F64, 5), (F32, 2)):
        polynomial("DIGAMMA_FAR", form, digamma_rest, lambda z: z + TINY, 0, last, degree)
        polynomial("TRIGAMMA_FAR", form, trigamma_rest, lambda z: z + TINY, 0, last, degree)


# ---- sin, cos ------------------------------------------------------------------------------------------------------


def circular() -> None:
    def sin_rest(z: mp.mpf) -> mp.mpf:
        return mp.fsum((-1) ** (i + 1) * z**i / mp.factorial(2 * i + 3) for i in range(30))

    def cos_rest(z: mp.mpf) -> mp.mpf:
        return mp.fsum((-1) ** i * z**i / mp.factorial(2 * i + 4) for i in range(30))

    for form, excess, degrees in ((F64, -20, (5, 5)), (F32, -6, (2, 2))):
        quarter = (mp.pi / 4) ** 2 * (1 + mp.mpf(2) ** excess)
        print("\n/* (sin x - x) / x^3 and (cos x - 1 + x^2/2) / x^4, in x^2 on |x| <= pi/4 */")
        polynomial("SIN", form, sin_rest, lambda z: z + TINY, 0, quarter, degrees[0])
        polynomial("COS", form, cos_rest, lambda z: z * z + TINY, 0, quarter, degrees[1])


# ---- erf, erfc -----------------------------------------------------------------------------------------------------


def error_functions() -> None:
    print("\n/* erf on intervals of 3/8 (1/4) */")
    piecewise("ERF", F64, mp.erf, even_pieces(mp.mpf(3) / 8), 12)
    piecewise("ERF", F32, mp.erf, even_pieces(mp.mpf(1) / 4), 5)
    # x + 2 from 2 to 32, each binade in four
    steps = [mp.mpf(2) ** (1 + i // 4) * (1 + mp.mpf(i % 4) / 4) - 2 for i in range(17)]
    pieces = [(low, (low + high) / 2, high) for low, high in pairwise(steps)]
    print("\n/* e^(x^2) erfc x on the intervals that x + 2's first two bits after the leading one make */")
    piecewise("ERFCX", F64, lambda x: mp.exp(x * x) * mp.erfc(x), pieces, 13)
    piecewise("ERFCX", F32, lambda x: mp.exp(x * x) * mp.erfc(x), pieces, 6)


def main() -> None:
    print("/* Coefficients, printed by bench/vmath_coefficients.py, which says how they come about.")
    print(" * Polynomials are minimax, lowest coefficient first; beside each is its part of the result's error. */")
    exponentials()
    logarithms()
    circular()
    error_functions()
    hyperbolic()
    inverses_of_circular()
    roots()
    gammas()


if __name__ == "__main__":
    main()
