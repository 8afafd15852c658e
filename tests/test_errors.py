"""What is refused, and what is said: the function or argument, shapes and dtypes, the user's line, what to do."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import autodiff as ad

X = np.array([0.5, 1.0, 2.0])


def raises(kind: type[Exception], message: str, function: Callable[[], Any], line: str = "") -> None:
    """The call raises and says `message`, and last a line of the calling test: one that contains `line`."""
    with pytest.raises(kind, match=message) as info:
        function()
    named = re.search(r"\[([^\[\]]+):(\d+)\]$", str(info.value))
    assert named, f"no source line in {info.value}"
    assert named[1] == __file__
    lines, start = inspect.getsourcelines(inspect.currentframe().f_back.f_code)  # type: ignore[union-attr]
    assert int(named[2]) in [start + i for i, text in enumerate(lines) if line in text]


def loss(params: Any, x: Any) -> Any:
    return np.sum(params["w"] * x)


# ---- arguments of compiled functions -------------------------------------------------------------------------------


class Vector:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.ones(3)


class Units(np.ndarray):
    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
        return NotImplemented


@dataclass
class Box:
    content: Any


BAD_LEAVES: list[tuple[Any, str]] = [
    (np.array([None, 1]), r"is an object array, shape \(2,\): convert it to one of bool, uint8, .* with \.astype"),
    (np.array(["a"]), r"is an array of dtype <U1, shape \(1,\): convert it"),
    (np.array([1j]), r"is an array of dtype complex128, shape \(1,\): convert it to one of"),
    (np.complex64(1), r"is an array of dtype complex64, shape \(\)"),
    (np.ones(2, np.float16), "is an array of dtype float16"),
    (np.ones(2, np.int8), "is an array of dtype int8"),
    (np.array(["2020-01-01"], "M8[D]"), "is an array of dtype datetime64"),
    (np.ma.masked_array([1.0], [True]), "is a MaskedArray, whose own arithmetic would be lost: pass its data"),
    (np.ones((1, 1)).view(np.matrix), "is a matrix, whose own arithmetic would be lost"),
    (np.ones(2).view(Units), "is a Units, whose own arithmetic"),
    (Vector(), "is a Vector: convert it with np.asarray"),
    ({1, 2}, "is a set, which is no array and not hashable: pass arrays in tuples, lists, dicts or dataclasses"),
    (bytearray(b"x"), "is a bytearray, which is no array and not hashable"),
]


@pytest.mark.parametrize(("leaf", "message"), BAD_LEAVES, ids=[m[:25] for _, m in BAD_LEAVES])
def test_leaves_that_are_neither_traced_nor_static(leaf: Any, message: str) -> None:
    f = ad.compile(lambda params, x: x)
    raises(TypeError, rf"<lambda>: argument x {message}", lambda: f({}, leaf))
    raises(TypeError, rf"<lambda>: argument params\['w'\]\[1\] {message}", lambda: f({"w": [X, leaf]}, X))
    raises(TypeError, rf"<lambda>: argument params\.content {message}", lambda: f(Box(leaf), X))
    raises(TypeError, rf"<lambda>: argument x {message}", lambda: f.lower({}, x=leaf))
    inside = ad.grad(lambda y: f({}, leaf) * y)
    raises(TypeError, rf"<lambda>: argument x {message}", lambda: inside(1.0), line="* y)")


def test_arguments_without_a_name_have_a_number() -> None:
    f = ad.compile(lambda *args, **named: None)
    raises(TypeError, r"<lambda>: argument 1\[0\] is a set", lambda: f(1.0, [{1}]))
    raises(TypeError, "<lambda>: argument a is a set", lambda: f(1.0, a={1}))


def test_static_arguments_have_to_be_hashable() -> None:
    f = ad.compile(lambda x, axes: np.sum(x, axes), static_argnums=1)
    raises(TypeError, r"argument axes is an array, shape \(3,\), where a static value", lambda: f(X, X))
    raises(TypeError, "argument axes is a set", lambda: f(X, {0}))
    with pytest.raises(TypeError, match=r"argument axes is an array, shape \(3,\), where a static value"):
        ad.grad(lambda a: f(X, a))(X)


def test_argnums_have_to_fit() -> None:
    with pytest.raises(ValueError, match="static_argnums has 2, but there are 2 arguments"):
        ad.compile(loss, static_argnums=2)
    with pytest.raises(ValueError, match="donate_argnums has -3, but there are 2 arguments"):
        ad.compile(loss, donate_argnums=(0, -3))
    with pytest.raises(ValueError, match="argument params cannot be both static and donated"):
        ad.compile(loss, donate_argnums=(0, 1), static_argnums=0)
    with pytest.raises(TypeError, match="positions of arguments, not 'x'"):
        ad.compile(loss, static_argnums=("x",))  # type: ignore[arg-type]
    for wrong in ((1.5,), 1.5):
        with pytest.raises(TypeError, match=r"argnums are positions of arguments, not 1\.5"):
            ad.grad(loss, wrong)  # type: ignore[arg-type]


def test_errors_do_not_stay() -> None:
    """After an error while tracing, everything works as before."""

    @ad.compile
    def f(x: Any) -> Any:
        if x.shape == (2,):
            raise ZeroDivisionError("mine")
        return x + 1

    with pytest.raises(ZeroDivisionError, match="mine"):
        f(np.ones(2))
    with pytest.raises(ZeroDivisionError):
        ad.grad(lambda x: f(x) / 0)(np.ones(2))
    np.testing.assert_array_equal(f(X), X + 1)
    assert ad.Tensor(1.0).value == 1.0
    assert ad.grad(lambda x: x if x > 0 else -x)(2.0) == 1.0


# ---- results of compiled functions ---------------------------------------------------------------------------------


def test_results_have_to_be_arrays() -> None:
    raises(
        TypeError,
        r"compile\(<lambda>\): the result\['a'\]\[1\] is a str: a compiled function returns arrays",
        lambda: ad.compile(lambda x: {"a": (x, "text")})(X),
    )
    raises(TypeError, "the result is a set", lambda: ad.compile(lambda x: {1})(X))
    raises(TypeError, "the result is an array of dtype complex128", lambda: ad.compile(lambda x: np.array([1j]))(X))
    raises(TypeError, "the result is an object array", lambda: ad.compile(lambda x: np.array([None]))(X))
    raises(TypeError, "the result is .* object", lambda: ad.compile(lambda x: 2**70)(X))


# ---- tensors where they do not belong ------------------------------------------------------------------------------


def test_tensors_made_outside_are_not_frozen() -> None:
    w = ad.Tensor([1.0, 2.0, 3.0])
    f = ad.compile(lambda x: x * w)  # here
    raises(
        TypeError,
        r"compile\(<lambda>\): the function uses a tensor, float64\[3\], made outside of it, whose value "
        r"would be frozen into the plan: pass it as an argument",
        lambda: f(X),
        "# here",
    )
    raises(TypeError, r"uses a tensor, float64\[3\], made outside", lambda: ad.compile(lambda x: w)(1.0))
    np.testing.assert_array_equal(ad.compile(lambda x: x * w.value)(X), X * [1, 2, 3])


def test_tensors_of_another_trace() -> None:
    kept = []
    ad.compile(lambda x: kept.append(x))(X)
    raises(
        RuntimeError,
        r"uses a tensor, float64\[3\], that was traced in another call and has no value: return it",
        lambda: ad.compile(lambda x: x + kept[0])(X),
    )


def test_executables_take_arrays() -> None:
    executable = ad.compile(lambda x: x + x).lower(X)
    raises(
        TypeError,
        "<lambda>: an executable takes arrays, not tensors: call the compiled function itself",
        lambda: executable(ad.Tensor(X)),
    )
    with pytest.raises(TypeError, match="an executable takes arrays, not tensors"):
        ad.grad(lambda x: np.sum(executable(x)))(X)
    for _ in range(2):
        raises(
            TypeError,
            r"<lambda>: this executable is for other arguments: argument x: float64\[3\] -> float32\[3\]",
            lambda: executable(X.astype(np.float32)),
        )
        raises(TypeError, r"argument x: float64\[3\] -> float64\[2\]", lambda: executable(np.ones(2)))
        raises(TypeError, r"argument x: \* -> \(\*, \*\)", lambda: executable((X, X)))
        raises(TypeError, r"argument x: float64\[3\] -> a Python float", lambda: executable(1.0))
        with pytest.raises(TypeError, match="unexpected keyword"):
            executable(X, y=X)
        executable(X)


FORCING: dict[str, Callable[[Any], Any]] = {
    "bool()": lambda x: x[0] if x.sum() > 0 else -x[0],
    "float()": lambda x: float(x[0]),
    ".value": lambda x: np.sum(x.value),
    "__array__()": lambda x: np.sum(np.asarray(x)),
    "__index__()": lambda x: x[0] * range(5)[np.argmax(x)],
    ".item()": lambda x: x.sum().item(),
}


@pytest.mark.parametrize("asked", FORCING)
def test_values_are_not_known_inside_compile(asked: str) -> None:
    f = FORCING[asked]
    for call in (ad.compile(f), ad.compile(ad.grad(f)), ad.grad(ad.compile(f)), ad.compile(ad.compile(f))):
        with pytest.raises(TypeError, match=re.escape(asked) + ".* no value") as info:
            call(X)
        assert f"[{__file__}:" in str(info.value)


@pytest.mark.parametrize("asked", ["float()", "__array__()", ".item()"])
def test_derivatives_are_not_lost_silently(asked: str) -> None:
    with pytest.raises(TypeError, match=re.escape(asked) + ".*derivative") as info:
        ad.grad(lambda x: np.sum(FORCING[asked](x)))(X)
    assert f"[{__file__}:" in str(info.value)
    assert ad.grad(lambda x: x[0] * float(ad.stop_gradient(x)[1]))(X).tolist() == [1.0, 0.0, 0.0]
    assert ad.grad(lambda x: x[0] * x.value[1])(X).tolist() == [1.0, 0.0, 0.0]


# ---- random numbers ------------------------------------------------------------------------------------------------


def noise(n: int) -> Any:
    return np.random.standard_normal(n)  # noqa: NPY002  # the draw


def test_drawing_inside_compile() -> None:
    def direct(x: Any) -> Any:
        y = x * 2
        y = y + np.random.normal(size=3)  # noqa: NPY002  # here
        return np.sum(y)

    message = (
        "draws from NumPy's global generator, whose numbers would be frozen into the plan: draw them outside and pass"
    )
    for f in (ad.compile(direct), ad.compile(ad.grad(direct)), ad.grad(ad.compile(direct))):
        raises(RuntimeError, message, lambda f=f: f(X), "# here")
    _, start = inspect.getsourcelines(noise)
    with pytest.raises(RuntimeError, match=rf"{message}.*:{start + 1}\]$"):
        ad.compile(lambda x: x + noise(3))(X)
    with pytest.raises(RuntimeError, match=message):
        ad.compile(lambda x: np.random.shuffle([1, 2, 3]))(X)  # noqa: NPY002
    own = np.random.default_rng(0)
    assert ad.compile(lambda x: x + own.normal(size=3))(X).shape == (3,)


# ---- derivatives ---------------------------------------------------------------------------------------------------


def test_results_have_to_be_scalars() -> None:
    def vector(x: Any) -> Any:
        return x * x  # here

    for derive in (ad.grad, ad.value_and_grad):
        what = derive.__name__
        message = rf"{what}\(vector\): the result is float64\[3\], not a floating-point scalar: sum or average it"
        raises(TypeError, message, lambda d=derive: d(vector)(X), "# here")
        with pytest.raises(TypeError, match=r"the result is float64\[3\]"):
            ad.compile(derive(vector))(X)
    raises(TypeError, r"the result is float64\[1,1\]", lambda: ad.grad(lambda x: x.reshape(1, 1))(1.0))
    raises(
        TypeError,
        r"the result is int64\[\], .*: convert it with .astype\(float\)",
        lambda: ad.grad(lambda x: np.argmax(x))(X),
    )
    raises(TypeError, r"the result is bool\[\]", lambda: ad.grad(lambda x: x > 0)(1.0))
    raises(TypeError, "the result is None, not a floating-point scalar: return", lambda: ad.grad(print)(1.0))
    raises(
        TypeError, "the result is a tuple.*: return a scalar; .* has_aux=True", lambda: ad.grad(lambda x: (x, x))(1.0)
    )
    raises(TypeError, "the result is a dict", lambda: ad.grad(lambda x: {"a": x})(1.0))
    raises(TypeError, "the result is a str", lambda: ad.grad(lambda x: "a")(1.0))


def test_aux_has_to_come_in_a_pair() -> None:
    raises(
        TypeError,
        r"grad\(<lambda>\): with has_aux the function returns a pair \(result, aux\), not a Tensor",
        lambda: ad.grad(lambda x: x, has_aux=True)(1.0),
    )
    raises(TypeError, "not a tuple of 3", lambda: ad.vjp(lambda x: (x, x, x), 1.0, has_aux=True))


DERIVATIVES: dict[str, Callable[..., Any]] = {
    "grad": lambda f, *args: ad.grad(f)(*args),
    "value_and_grad": lambda f, *args: ad.value_and_grad(f)(*args),
    "vjp": ad.vjp,
    "jvp": lambda f, *args: ad.jvp(f, args, args),
}


@pytest.mark.parametrize("what", DERIVATIVES)
def test_derivatives_are_by_floating_point_numbers(what: str) -> None:
    derive = DERIVATIVES[what]

    def f(x: Any) -> Any:
        return 1.0

    for x, shown in [
        (np.array([1, 2]), r"argument x is int64\[2\], .*: convert it with \.astype\(float\)"),
        (np.bool_(True), r"argument x is bool\[\]"),
        (3, r"argument x is the int 3, .*: pass 3\.0, or do not differentiate by it"),
        (True, "argument x is the bool True"),
        ({"n": [1.0, 2]}, r"argument x\['n'\]\[1\] is the int 2"),
        ("text", "argument x is the str 'text'"),
        (np.array([None]), r"argument x is an object array, shape \(1,\)"),
        (np.array([1j]), "argument x is an array of dtype complex128"),
        ({1.0}, "argument x is a set"),
    ]:
        with pytest.raises(TypeError, match=rf"^{what}\(f\): {shown}.*\[{re.escape(__file__)}:\d+\]$"):
            derive(f, x)


def test_argnums_of_calls() -> None:
    raises(TypeError, r"grad\(loss\): argnums has 2, but the call has 2 arguments", lambda: ad.grad(loss, 2)({}, X))
    raises(TypeError, r"argnums \(0, -2\) has an argument twice", lambda: ad.grad(loss, (0, -2))({}, X))
    raises(TypeError, "argnums has 0, but the call has 0", lambda: ad.grad(lambda x=1.0: x)())
    with pytest.raises(TypeError, match="loss: missing a required argument: 'x'"):
        ad.grad(loss)(params={})


def test_wrong_trees_of_tangents_and_cotangents() -> None:
    def f(p: Any) -> Any:
        return p["w"] * p["b"]

    p = {"w": X, "b": 2.0}
    message = r"jvp\(f\): the tangents' structure is wrong: expected a dict of 'w', 'b' at \[0\], not a tuple of 2"
    raises(TypeError, message, lambda: ad.jvp(f, (p,), ((X, 2.0),)))
    raises(TypeError, "expected a tuple of 1, not a tuple of 2", lambda: ad.jvp(f, (p,), (p, p)))
    raises(TypeError, "expected a dict of 'w', 'b'.*, not a dict of 'w'", lambda: ad.jvp(f, (p,), ({"w": X},)))
    raises(TypeError, "primals and tangents are tuples", lambda: ad.jvp(f, p, p))  # type: ignore[arg-type]
    raises(
        TypeError,
        r"the tangent\[0\]\['w'\] is float64\[2\], but belongs to float64\[3\]: make it of that shape",
        lambda: ad.jvp(f, (p,), ({"w": np.ones(2), "b": 1.0},)),
    )
    raises(
        TypeError,
        r"the tangent\[0\]\['w'\] is float32\[3\], but belongs to float64\[3\]",
        lambda: ad.jvp(f, (p,), ({"w": X.astype(np.float32), "b": 1.0},)),
    )
    raises(TypeError, r"the tangent\[0\]\['b'\] is a str", lambda: ad.jvp(f, (p,), ({"w": X, "b": "1"},)))
    _, pull = ad.vjp(f, p)
    raises(
        TypeError, r"vjp\(f\): the cotangent is float64\[\], but belongs to float64\[3\]", lambda: pull(np.float64(1))
    )
    raises(TypeError, "the cotangent is a list", lambda: pull([X]))
    _, pull = ad.vjp(lambda p: (p["w"], p["b"]), p)
    raises(TypeError, "the cotangents' structure is wrong: expected a tuple of 2, not ndarray", lambda: pull(X))


def test_wrong_trees_in_optimisers() -> None:
    params = {"w": X, "b": 2.0}
    for optimiser in (ad.optim.sgd(0.1), ad.optim.sgd(0.1, momentum=0.9), ad.optim.adam()):
        state = optimiser.init(params)
        with pytest.raises(ValueError, match="expected a dict of 'w', 'b', not a dict of 'w'"):
            optimiser.update({"w": X}, state, params)
        with pytest.raises(TypeError, match="an optimiser updates floating-point parameters, not int64"):
            optimiser.update({"n": 3}, optimiser.init({"n": np.array(3)}), {"n": np.array(3)})


# ---- donation ------------------------------------------------------------------------------------------------------


def test_arrays_that_cannot_be_donated() -> None:
    f = ad.compile(lambda p, x: {"w": p["w"] + x}, donate_argnums=0)
    good = np.ones(4)
    readonly = np.ones(4)
    readonly.flags.writeable = False
    whole = np.ones(8)

    class Sub(np.ndarray):
        pass

    x = np.ones(4)
    for _ in range(3):  # the first call, and later ones by generated code
        name = r"<lambda>: donated argument p\['w'\]"
        raises(ValueError, f"{name} is read-only: pass a copy", lambda: f({"w": readonly}, x))
        raises(ValueError, f"{name} is not contiguous", lambda: f({"w": whole[::2]}, x))
        raises(ValueError, f"{name} shares memory with argument x: pass a copy", lambda: f({"w": x}, x))
        raises(ValueError, f"{name} shares memory", lambda: f({"w": whole[:4]}, whole[2:6]))
        raises(ValueError, f"{name} has dtype >f8", lambda: f({"w": good.astype(">f8")}, x))
        assert f({"w": whole[:4]}, whole[4:])["w"].base is whole
        assert f({"w": good}, x)["w"] is good


def test_two_donated_arguments_share_no_memory() -> None:
    f = ad.compile(lambda a, b: (a + 1, b + 1), donate_argnums=(0, 1))
    x = np.ones(3)
    raises(ValueError, "donated argument a shares memory with argument b", lambda: f(x, x))
    np.testing.assert_array_equal(x, np.ones(3))  # refused before anything was written


def test_donated_arguments_need_a_result_like_them() -> None:
    f = ad.compile(lambda p, x: np.sum(p * x), donate_argnums=0)
    message = (
        r"donated argument p, float64\[3\], has the shape and dtype of no result that is left \(of float64\[\]\): leave"
    )
    raises(TypeError, message, lambda: f(X.copy(), X))
    f = ad.compile(lambda p, q: p + q, donate_argnums=(0, 1))
    raises(TypeError, r"donated argument q, float64\[3\]", lambda: f(X.copy(), X.copy()))


# ---- errors that only a run can find -------------------------------------------------------------------------------


def test_errors_of_a_run_name_the_line() -> None:
    f = ad.compile(lambda x, i: x[i])  # index
    for _ in range(3):
        raises(IndexError, "index 3 is out of bounds for axis with size 3", lambda: f(X, np.array([0, 3])), "# index")
        np.testing.assert_array_equal(f(X, np.array([0, -1])), X[[0, -1]])
    g = ad.compile(lambda n, p: n**p)  # power
    raises(ValueError, "Integers to negative integer powers", lambda: g(np.array([2]), np.array([-1])), "# power")
