"""Prints the polynomials of vmath.inc: minimax fits by Remez' exchange, in 60 digits, rounded to double.

Each is fitted in the weighted error that its function adds to the result, so the bound printed beside it is the part of
the result's relative error that the polynomial is to blame for.  Needs mpmath; run it only to change a polynomial.
"""

from collections.abc import Callable

import mpmath as mp  # type: ignore[import-untyped]

mp.mp.dps = 60
TINY = mp.mpf(10) ** -6  # keeps weights off zero
Function = Callable[[mp.mpf], mp.mpf]


def remez(f: Function, weight: Function, low: mp.mpf, high: mp.mpf, degree: int) -> tuple[list[mp.mpf], mp.mpf]:
    """The polynomial p of `degree` with the least maximum of |weight * (p - f)| on [low, high], and that maximum."""
    n = degree + 2
    points = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / (n - 1)) for i in range(n)]
    coefficients: list[mp.mpf] = []
    for _ in range(12):
        rows = [[x**j for j in range(degree + 1)] + [(-1) ** i / weight(x)] for i, x in enumerate(points)]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([f(x) for x in points]))
        coefficients = [solution[j] for j in range(degree + 1)]

        def error(x: mp.mpf, c: list[mp.mpf] = coefficients) -> mp.mpf:
            return weight(x) * (mp.polyval(c[::-1], x) - f(x))

        grid = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / (40 * n)) for i in range(40 * n + 1)]
        values = [error(x) for x in grid]
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
    worst = max(abs(error(low + (high - low) * i / 2000)) for i in range(2001))
    return coefficients, worst


def series(f: Function, small: Callable[[mp.mpf], mp.mpf]) -> Function:
    """f, or near 0, where f cancels, the first terms of its series."""
    return lambda x: small(x) if abs(x) < mp.mpf("1e-8") else f(x)


def show(name: str, f: Function, weight: Function, low: object, high: object, degree: int) -> None:
    coefficients, worst = remez(f, weight, mp.mpf(low), mp.mpf(high), degree)
    print(f"/* {name}: degree {degree}, error 2^{mp.nstr(mp.log(worst, 2), 4)} */")
    print("    " + ", ".join(float(c).hex() for c in coefficients))


def main() -> None:
    edge = mp.log(2) / 2 * (1 + mp.mpf(2) ** -30)

    def exp_rest(x: mp.mpf) -> mp.mpf:  # (e^x - 1 - x) / x^2
        return mp.fsum(x ** (i - 2) / mp.factorial(i) for i in range(2, 40))

    def exp_third(x: mp.mpf) -> mp.mpf:  # (e^x - 1 - x - x^2 / 2) / x^3
        return mp.fsum(x ** (i - 3) / mp.factorial(i) for i in range(3, 40))

    show("EXP, f64", exp_rest, lambda x: x * x + TINY, -edge, edge, 9)
    show("EXPM1, f64", exp_third, lambda x: x * x + TINY, -edge, edge, 9)
    show("EXP, f32", exp_rest, lambda x: x * x + TINY, -edge, edge, 4)
    show("EXPM1, f32", exp_rest, lambda x: abs(x) + TINY, -edge, edge, 5)

    top = (mp.sqrt(2) - 1) ** 2 / (mp.sqrt(2) + 1) ** 2 * (1 + mp.mpf(2) ** -18)

    def atanh_rest(z: mp.mpf, first: int) -> mp.mpf:  # 1/first + z/(first + 2) + ...
        return mp.fsum(z**i / (first + 2 * i) for i in range(80))

    show("LOG, f64 (twice 1/3 + z/5 ...)", lambda z: 2 * atanh_rest(z, 3), lambda z: z / 2 + TINY, 0, top, 6)
    show("POW's log, f64 (1/5 + z/7 ...)", lambda z: atanh_rest(z, 5), lambda z: z * z + TINY, 0, top, 7)
    show("POW's log, f32 (twice 1/3 ...)", lambda z: 2 * atanh_rest(z, 3), lambda z: z / 2 + TINY, 0, top, 4)

    def log_rest(f: mp.mpf) -> mp.mpf:  # (log(1 + f) - f) / f^2
        return series(lambda t: (mp.log1p(t) - t) / (t * t), lambda t: -mp.mpf(1) / 2 + t / 3 - t * t / 4)(f)

    root = mp.sqrt(2) * (1 + mp.mpf(2) ** -20)
    show("LOG, f32", log_rest, lambda f: abs(f) + TINY, 1 / root - 1, root - 1, 9)

    quarter = (mp.pi / 4) ** 2 * (1 + mp.mpf(2) ** -20)

    def sin_rest(z: mp.mpf) -> mp.mpf:  # (sin x - x) / x^3, z = x^2
        return mp.fsum((-1) ** (i + 1) * z**i / mp.factorial(2 * i + 3) for i in range(30))

    def cos_rest(z: mp.mpf) -> mp.mpf:  # (cos x - 1 + x^2 / 2) / x^4
        return mp.fsum((-1) ** i * z**i / mp.factorial(2 * i + 4) for i in range(30))

    show("SIN, f64", sin_rest, lambda z: z + TINY, 0, quarter, 5)
    show("COS, f64", cos_rest, lambda z: z * z + TINY, 0, quarter, 5)
    show("SIN, f32", sin_rest, lambda z: z + TINY, 0, quarter, 2)
    show("COS, f32", cos_rest, lambda z: z * z + TINY, 0, quarter, 2)


if __name__ == "__main__":
    main()
