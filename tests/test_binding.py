"""Executables bound to their arrays: what they compute, whose memory it is, which arrays are refused."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.executable import compile_graph
from autodiff.ir import FLOAT64, OPS, Array, Aval, Builder, Graph, argument, building

X = np.arange(12.0).reshape(3, 4)


def model(params: dict[str, Any], scale: Any, name: str) -> dict[str, Any]:
    assert name == "square"
    return {"sum": np.sum(params["w"] ** 2) * scale, "pair": (params["w"] * scale, params["b"] + 1)}


def test_a_bound_executable_reads_its_arrays_at_each_call() -> None:
    params, scale = {"w": X.copy(), "b": np.zeros(2, np.float32)}, np.array(3.0)
    bound = ad.compile(model).lower(params, scale, "square").bind(params, scale, name="square")
    for _ in range(3):
        result = bound()
        assert result is bound.out
        wanted = model(params, scale, "square")
        assert result["sum"] == wanted["sum"]
        assert result["sum"].shape == ()
        np.testing.assert_array_equal(result["pair"][0], wanted["pair"][0])
        np.testing.assert_array_equal(result["pair"][1], wanted["pair"][1])
        assert result["pair"][1].dtype == np.float32
        params["w"] += 1
        params["b"] += 1
        scale *= 2


def test_numbers_keep_the_value_they_were_bound_with() -> None:
    f = ad.compile(lambda x, a, b: x * a + b)
    bound = f.lower(X, 2.0, np.float64(3)).bind(X, 2.0, np.float64(3))
    np.testing.assert_array_equal(bound(), 2 * X + 3)


def test_out_is_written_to() -> None:
    out = {"sum": np.zeros(()), "pair": (np.full((3, 4), -1.0), np.zeros(2))}
    arguments = {"w": X, "b": np.ones(2)}, np.array(2.0), "square"
    bound = ad.compile(model).lower(*arguments).bind(*arguments, out=out)
    assert np.all(out["pair"][0] == -1), "nothing runs before the first call"
    assert bound() is out
    assert out["sum"] == 2 * np.sum(X**2)
    np.testing.assert_array_equal(out["pair"][0], 2 * X)
    np.testing.assert_array_equal(out["pair"][1], [2, 2])


@pytest.mark.parametrize("given", [False, True])
def test_a_donated_argument_is_updated_in_place(given: bool) -> None:
    def step(w: Any, g: Any) -> Any:
        return w - 0.5 * g, np.sum(w)

    w, g, total = X.copy(), np.ones((3, 4)), np.zeros(())
    lowered = ad.compile(step, donate_argnums=0).lower(w, g)
    bound = lowered.bind(w, g, out=(w, total)) if given else lowered.bind(w, g)
    for i in range(3):
        new, before = bound()
        assert new is w
        np.testing.assert_array_equal(w, X - 0.5 * (i + 1))
        assert before == np.sum(X - 0.5 * i)


def test_what_cannot_be_bound() -> None:
    def two(x: Any, y: Any) -> Any:
        return x + y, {"product": x * y}

    lowered = ad.compile(two).lower(X, X)
    y = np.ones((3, 4))
    frozen = np.zeros((3, 4))
    frozen.flags.writeable = False
    memory = np.zeros((6, 4))

    def out(first: Any, second: Any) -> Any:
        return first, {"product": second}

    fresh = np.empty((3, 4))
    for arguments, given, message in [
        ((X, np.ones((4, 3)).T), None, r"two: argument y is not contiguous and aligned: bind np.ascontiguousarray"),
        ((X, y.astype(">f8")), None, r"argument y is float64\[3,4\] instead of|argument y .*float64"),
        ((X, y), (fresh,), r"out is no tree like the result: expected a tuple of 2, not a tuple of 1"),
        ((X, y), out(fresh, 1.0), r"out\[1\]\['product'\] is a float, not an array"),
        ((X, y), out(fresh, np.empty((3, 5))), r"out\[1\]\['product'\] is float64\[3,5\] instead of float64\[3,4\]"),
        ((X, y), out(np.empty((3, 4), np.float32), fresh), r"out\[0\] is float32\[3,4\] instead of float64\[3,4\]"),
        ((X, y), out(frozen, fresh), r"out\[0\] is read-only"),
        ((X, y), out(fresh, np.empty((3, 8))[:, ::2]), r"out\[1\]\['product'\] is not contiguous"),
        ((X, y), out(fresh, y), r"out\[1\]\['product'\] shares memory with argument y"),
        ((memory[:3], y), out(memory[2:5], fresh), r"out\[0\] shares memory with argument x"),
        ((X, y), out(fresh, fresh), r"out\[1\]\['product'\] shares memory with out\[0\]"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            lowered.bind(*arguments, out=given)
        assert "test_binding.py" in str(caught.value), "the user's line"
    lowered.bind(memory[:3], y, out=out(memory[3:], fresh))()
    with pytest.raises(TypeError, match="for other arguments"):
        lowered.bind(X, np.ones(4))


def test_what_cannot_be_donated_to_a_bound_executable() -> None:
    lowered = ad.compile(lambda w, g: w - g, donate_argnums=0).lower(X, X)
    w, frozen = X.copy(), X.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="argument w is read-only"):
        lowered.bind(frozen, X)
    with pytest.raises(ValueError, match="argument w is donated and shares memory with argument g"):
        lowered.bind(w, w)
    with pytest.raises(ValueError, match="out is made in the memory of argument w, which is donated: pass that array"):
        lowered.bind(w, X, out=np.empty((3, 4)))


def test_arrays_that_change_after_binding_are_refused() -> None:
    x, out = np.arange(12.0), np.empty(12)
    bound = ad.compile(lambda x: x + 1).lower(x).bind(x, out=out)
    bound()
    for array in (x, out):
        array.resize((3, 4), refcheck=False)
        with pytest.raises(ValueError, match="was given another shape"):
            bound()
        array.resize(12, refcheck=False)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="another shape"):
        bound()
    out.flags.writeable = True
    np.testing.assert_array_equal(bound(), x + 1)


def test_a_bound_executable_takes_no_arguments_and_is_no_value() -> None:
    bound = ad.compile(lambda x: x + 1).lower(X).bind(X)
    with pytest.raises(TypeError, match="takes no arguments"):
        bound(X)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="takes no arguments"):
        bound(x=X)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        pickle.dumps(bound)
    with pytest.raises(TypeError):
        type(bound)()


def test_errors_name_the_users_line() -> None:
    index = np.array([0, 7])
    bound = ad.compile(lambda x, i: x[i]).lower(X, index).bind(X, index)
    for _ in range(2):
        with pytest.raises(IndexError, match=r"index 7 is out of bounds for axis with size 3 .*test_binding.py"):
            bound()
    index[1] = 2
    np.testing.assert_array_equal(bound(), X[index])


def test_arrays_live_as_long_as_they_are_bound() -> None:
    x = np.arange(4.0)
    alive = weakref.ref(x)
    bound = ad.compile(lambda x: x + 1).lower(x).bind(x)
    del x
    gc.collect()
    assert alive() is not None
    np.testing.assert_array_equal(bound(), [1, 2, 3, 4])
    kept = bound.out
    del bound
    gc.collect()
    assert alive() is None
    np.testing.assert_array_equal(kept, [1, 2, 3, 4])


def hosted(function: Any) -> Any:
    builder = Builder(intern=True)
    with building(builder):
        x = argument(Aval((4,), FLOAT64))
        (y,) = OPS["host"].emit(x, function=function, results=(x.aval,))
    executable = compile_graph(Graph((x,), (y,)))
    out = np.zeros(4)
    return executable.bind([np.arange(4.0)], [out], out)


def test_one_run_at_a_time() -> None:
    running, go_on = threading.Event(), threading.Event()

    def wait(x: Array) -> tuple[Array]:
        running.set()
        assert go_on.wait(60)
        return (x + 1,)

    bound = hosted(wait)
    thread = threading.Thread(target=bound)
    thread.start()
    assert running.wait(60)
    with pytest.raises(RuntimeError, match="bind one for each thread"):
        bound()
    go_on.set()
    thread.join()
    np.testing.assert_array_equal(bound(), [1, 2, 3, 4])


def test_a_run_that_failed_leaves_the_executable_free() -> None:
    fails = [True]

    def sometimes(x: Array) -> tuple[Array]:
        if fails.pop() if fails else False:
            raise KeyboardInterrupt
        return (x,)

    bound = hosted(sometimes)
    with pytest.raises(KeyboardInterrupt):
        bound()
    np.testing.assert_array_equal(bound(), np.arange(4.0))


def test_eight_threads_each_with_its_own() -> None:
    lowered = ad.compile(lambda x: np.tanh(x) * 2).lower(np.zeros(500))
    inputs = [np.linspace(i, i + 1, 500) for i in range(8)]
    expected = [2 * np.tanh(x) for x in inputs]
    right = []

    def work(i: int) -> None:
        bound = lowered.bind(inputs[i])
        first = bound().copy()
        assert np.allclose(first, expected[i], rtol=1e-14)
        right.append(all(np.array_equal(bound(), first) for _ in range(1000)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 8
