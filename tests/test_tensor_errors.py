"""What must not be asked of a tensor: the message names what was called, where, and what to write instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autodiff import ir, state
from autodiff.errors import ConversionError
from autodiff.ir import Aval
from autodiff.numpy.promotion import leaf
from autodiff.tensor import Tensor

# fmt: off


def store(t: Any, arr: Any) -> None:
    arr[0] = t


def store_slice(t: Any, arr: Any) -> None:
    arr[0:2] = t


def add_to_array(t: Any, arr: Any) -> None:
    arr += t


DETACHING: list[tuple[Callable[..., Any], str]] = [
    (lambda t, arr: np.array([t, t]), r"np\.stack"),
    (lambda t, arr: np.asarray(t), r"a tensor by itself is an array already"),
    (lambda t, arr: float(t), r"the tensor itself"),
    (lambda t, arr: complex(t), r"the tensor itself"),
    (lambda t, arr: int(t), r"the tensor itself"),
    (lambda t, arr: t.item(), r"NumPy functions on the tensor"),
    (lambda t, arr: Tensor(t), r"stop_gradient|inside compile"),
    (lambda t, arr: setattr(Tensor(1.0), "value", t), r"stop_gradient|inside compile"),
    (lambda t, arr: (t * t).grad(t), r"stop_gradient|inside compile"),
    (lambda t, arr: (t * t).backward(), r"stop_gradient|inside compile"),
    (lambda t, arr: math.sin(t), r"np\.sin\(x\)"),
    (lambda t, arr: math.pow(t, 2), r"np\.power\(x\)"),
    (store, r"x\.at\[i\]\.set"),
    (store_slice, r"x\.at\[i\]\.set"),
    (lambda t, arr: np.full_like(arr, t), r"np\.broadcast_to\(x, shape\).*autodiff\.numpy\.full_like"),
    (lambda t, arr: np.full(3, t), r"np\.broadcast_to\(x, shape\).*autodiff\.numpy\.full"),
    (lambda t, arr: np.copyto(arr, t), r"x\.at\[i\]\.set"),
    (lambda t, arr: arr.fill(t), r"x\.at\[i\]\.set"),
    (lambda t, arr: np.random.normal(t), r"mean \+ std"),  # noqa: NPY002
    (lambda t, arr: np.random.default_rng().normal(t), r"mean \+ std"),
    (lambda t, arr: np.float64(t), r"the tensor itself"),
]
"""What would lose a derivative, or has no value."""

VALUES: list[tuple[Callable[..., Any], str]] = [
    (lambda t, i: bool(t > 1), r"np\.where\(condition, a, b\)"),
    (lambda t, i: 1 if t > 1 else 2, r"np\.where\(condition, a, b\)"),
    (lambda t, i: t > 1 and t < 2, r"np\.where\(condition, a, b\)"),
    (lambda t, i: max(t, 1.0), r"np\.maximum"),
    (lambda t, i: np.zeros(3)[i], r"autodiff\.numpy\.take"),
    (lambda t, i: [1, 2, 3][i], r"autodiff\.numpy\.take"),
    (lambda t, i: range(i), r"static_argnums"),
    (lambda t, i: f"{t:.3f}", r"NumPy functions"),
    (lambda t, i: t.value, r"inside compile"),
    (lambda t, i: t.grad(t), r"inside compile"),
    (lambda t, i: t.backward(), r"inside compile"),
    (lambda t, i: t.tolist(), r"inside compile"),
]
"""What has no value inside `compile`."""

REFUSED: list[tuple[Callable[..., Any], type[Exception], str]] = [
    (lambda v: np.add(v, v, out=np.zeros(3)), TypeError, r"np\.add\(float64\[3\], float64\[3\]\): out=.*result"),
    (lambda v: np.sum(v, out=np.zeros(())), TypeError, r"np\.sum.*out=.*use the result"),
    (lambda v: add_to_array(v, np.zeros(3)), TypeError, r"arr = arr \+ t"),
    (lambda v: np.add.at(np.zeros(3), [0], v), TypeError, r"x\.at\[index\]\.add"),
    (lambda v: np.add.accumulate(v), TypeError, r"np\.add\.accumulate.*not supported"),
    (lambda v: np.multiply.reduce(v), TypeError, r"np\.multiply\.reduce.*np\.add\.reduce"),
    (lambda v: np.cumsum(v), TypeError, r"np\.cumsum\(float64\[3\]\).*not supported.*near it"),
    (lambda v: np.meen(v) if hasattr(np, "meen") else np.nanmean(v), TypeError, r"np\.nanmean.*near it: np\.mean"),
    (lambda v: np.linalg.norm(v), TypeError, r"np\.linalg\.norm.*np\.sqrt"),
    (lambda v: np.fft.fft(v), TypeError, r"np\.fft\.fft.*not supported"),
    (lambda v: np.spacing(v), TypeError, r"np\.spacing.*not supported"),
    (lambda v: np.modf(v), TypeError, r"np\.modf.*not supported"),
    (lambda v: v // 2, TypeError, r"np\.floor_divide.*not supported"),
    (lambda v: divmod(v, 2), TypeError, r"np\.divmod.*not supported"),
    (lambda v: round(v), TypeError, r"np\.round.*not supported"),
    (lambda v: v.cumsum(), AttributeError, r"'cumsum'.*near it"),
    (lambda v: v.nonsense, AttributeError, r"nonsense"),
    (lambda v: np.where(v > 0), TypeError, r"np\.where\(condition, x, y\)"),
    (lambda v: np.square(v, where=v > 0), TypeError, r"where=.*np\.where"),
    (lambda v: np.sin(v.astype(np.uint8)), TypeError, r"np\.sin of uint8 works in dtype float16"),
    (lambda v: np.sum(v.astype(np.uint8)), TypeError, r"uint64.*dtype=np\.int64"),
    (lambda v: v.astype(np.float16), TypeError, r"float16.*one of bool, uint8, int32"),
    (lambda v: v.astype(complex), TypeError, r"complex128"),
    (lambda v: v.astype(np.int8), TypeError, r"int8"),
    (lambda v: np.sum(v, dtype=np.float16), TypeError, r"float16"),
    (lambda v: np.zeros_like(v, dtype=object), TypeError, r"object"),
    (lambda v: v + 1j, TypeError, r"complex.*not supported"),
    (lambda v: v + np.zeros(3, np.float16), TypeError, r"np\.add\(float64\[3\], float16\[3\]\).*float16"),
    (lambda v: np.zeros(3, np.int8) * v, TypeError, r"np\.multiply\(int8\[3\], float64\[3\]\).*int8"),
    (lambda v: v + np.array([1, None, 2]), TypeError, r"object.*np\.stack"),
    (lambda v: v + np.array(["a", "b", "c"]), TypeError, r"str"),
    (lambda v: v + np.array(1, np.uint64), TypeError, r"uint64"),
    (lambda v: v + np.zeros(4), ValueError, r"np\.add\(float64\[3\], float64\[4\]\).*broadcast.*reshape"),
    (lambda v: v @ np.zeros((4, 3)), ValueError, r"np\.matmul\(float64\[3\], float64\[4,3\]\).*not aligned"),
    (lambda v: v.reshape(2, 2), ValueError, r"x\.reshape\(float64\[3\].*size 3 into shape \(2, 2\)"),
    (lambda v: np.sum(v, axis=2), np.exceptions.AxisError, r"np\.sum\(float64\[3\]\): axis 2"),
    (lambda v: v[7], IndexError, r"index 7 is out of bounds for axis 0 with size 3"),
    (lambda v: v[0, 0], IndexError, r"too many indices"),
    (lambda v: np.concatenate([v, np.zeros((1, 2))]), ValueError, r"np\.concatenate\(\[float64\[3\], float64"),
    (lambda v: np.max(v[:0]), ValueError, r"np\.max\(float64\[0\]\).*no identity"),
    (lambda v: v.at[0].set(np.zeros(2)), ValueError, r"could not broadcast input array from shape \(2,\)"),
    (lambda v: v.at[7].add(1), IndexError, r"out of bounds"),
    (lambda v: -(v > 0), TypeError, r"np\.negative\(bool\[3\]\)"),
    (lambda v: (v > 0) - (v > 1), TypeError, r"np\.subtract\(bool\[3\], bool\[3\]\)"),
    (lambda v: v & 1, TypeError, r"np\.bitwise_and"),
    (lambda v: v.astype(int) ** -1, ValueError, r"negative integer powers.*astype\(float\)"),
    (lambda v: v.astype(np.uint8) + 300, OverflowError, r"np\.add\(uint8\[3\], 300\)"),
    (lambda v: Tensor("text"), TypeError, r"Tensor\(str\)"),
    (lambda v: Tensor(1j), TypeError, r"complex128"),
    (lambda v: v.astype(int).grad(v), TypeError, r"derivative of int64\[3\]"),
    (lambda v: v.grad(v.astype(int)), TypeError, r"with respect to int64\[3\]"),
]
"""What is not supported, whatever transform one is inside of."""


# fmt: on


def line_of(function: Callable[..., Any]) -> int:
    code = function.__code__
    return code.co_firstlineno if function.__name__ == "<lambda>" else code.co_firstlineno + 1


def assert_says(error: pytest.ExceptionInfo[Any], pattern: str, function: Callable[..., Any]) -> None:
    error.match(pattern)
    error.match(rf"test_tensor_errors\.py:{line_of(function)}\]")


@pytest.mark.parametrize(("function", "instead"), DETACHING)
def test_derivatives_are_not_lost(function: Any, instead: str) -> None:
    t = Tensor._of(ir.OPS["identity"](leaf(np.array(2.0))))
    with pytest.raises(ConversionError) as error, state.within("derivative", [t._value]):
        function(t * 2, np.zeros(3))
    assert_says(error, instead, function)
    error.match(r"float64\[\].*lose")
    error.match(r"stop_gradient")


@pytest.mark.parametrize(("function", "instead"), DETACHING)
def test_no_values_inside_compile(function: Any, instead: str) -> None:
    with ir.building(ir.Builder(intern=True)):
        t = Tensor._of(ir.argument(Aval((), ir.FLOAT64)))
        with pytest.raises(ConversionError) as error, state.within("compile"):
            function(t * 2, np.zeros(3))
    assert_says(error, instead, function)


@pytest.mark.parametrize(("function", "instead"), VALUES)
def test_values_that_only_exist_outside_compile(function: Any, instead: str) -> None:
    with ir.building(ir.Builder(intern=True)):
        t = Tensor._of(ir.argument(Aval((), ir.FLOAT64)))
        i = Tensor._of(ir.argument(Aval((), ir.INT64)))
        with pytest.raises(ConversionError) as error, state.within("compile"):
            function(t, i)
        assert_says(error, instead, function)
        assert repr(t) == "Tensor(float64[], traced)"


@pytest.mark.parametrize(("function", "kind", "message"), REFUSED)
@pytest.mark.parametrize("tracing", [False, True])
def test_what_is_refused(function: Any, kind: type[Exception], message: str, tracing: bool) -> None:
    if tracing:
        with ir.building(ir.Builder(intern=True)):
            v = Tensor._of(ir.argument(Aval((3,), ir.FLOAT64)))
            with pytest.raises(kind) as error:
                function(v)
    else:
        with pytest.raises(kind) as error:
            function(Tensor(np.arange(3.0)))
    error.match(message)
    if "nonsense" not in message:
        error.match(r"test_tensor_errors\.py:\d+\]")


def test_what_carries_no_derivative_may_be_asked_for() -> None:
    t = Tensor._of(ir.OPS["identity"](leaf(np.array([1.0, 3.0, 2.0]))))
    with state.within("derivative", [t._value]):
        assert np.zeros(3)[np.argmax(t)] == 0
        np.testing.assert_array_equal(np.asarray(t > 1.5), [False, True, True])
        assert t[0] < t[1]
        assert float(Tensor._of(ir.OPS["stop_gradient"](t._value)).sum()) == 6
        assert float(t.sum().value) == 6
        assert f"{t.sum():.1f}" == "6.0"
        assert t[t > 1.5].shape == (2,)


def test_masks_need_their_data() -> None:
    with ir.building(ir.Builder(intern=True)):
        v = Tensor._of(ir.argument(Aval((3,), ir.FLOAT64)))
        with (
            pytest.raises(IndexError, match=r"np\.where\(mask, x, other\).*\[.*test_tensor_errors"),
            state.within("compile"),
        ):
            v[v > 0]


def test_indices_out_of_range_when_run() -> None:
    i = Tensor(np.array([0, 7]))
    with pytest.raises(IndexError, match=r"7.*test_tensor_errors\.py"):
        _ = (Tensor(np.arange(3.0))[i] * 1.25).value
