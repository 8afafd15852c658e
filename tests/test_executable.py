"""Executables: calls, errors, threads, donation, keeping them; and values computed when they are asked for."""

from __future__ import annotations

import _thread
import gc
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autodiff import callbacks, ir
from autodiff import evaluate as evaluate_module
from autodiff.evaluate import evaluate
from autodiff.executable import Executable, PlanError, compile_graph
from autodiff.ir import FLOAT32, FLOAT64, INT32, INT64, OPS, Array, Aval, Dtype, Graph, Shape, Value


def graph(function: Callable[..., Value | Sequence[Value]], *avals: tuple[Shape, Dtype], line: int = 3) -> Graph:
    builder = ir.Builder(intern=True)
    builder.line = ir.Line("user.py", line)
    with ir.building(builder):
        inputs = tuple(ir.argument(Aval(*aval)) for aval in avals)
        outputs = function(*inputs)
    return Graph(inputs, (outputs,) if isinstance(outputs, Value) else tuple(outputs))


def compiled(function: Callable[..., Value | Sequence[Value]], *avals: tuple[Shape, Dtype]) -> Executable:
    return compile_graph(graph(function, *avals))


def dot(x: Value, y: Value) -> Value:
    return OPS["dot_general"](x, y, contract=((1,), (0,)), batch=((), ()))


V, M = ((4,), FLOAT64), ((3, 4), FLOAT64)

# ---- arguments and results -----------------------------------------------------------------------------------------


def test_any_layout_of_arguments() -> None:
    base = np.arange(48.0).reshape(6, 8)
    unaligned = np.frombuffer(b"\0" + base[:3, :4].tobytes(), np.uint8)[1:].view(FLOAT64).reshape(3, 4)
    layouts = [base[::2, ::2], np.asfortranarray(base[:3, :4]), base[:3, :4].astype(">f8"), unaligned]
    large = [np.broadcast_to(x, (200, 3, 4)) for x in layouts]
    for x in layouts + large:
        run = compiled(lambda v: OPS["sin"](v) * 2.0, (x.shape, FLOAT64)).run_flat
        before = x.copy()
        np.testing.assert_allclose(run([x])[0], np.sin(before) * 2, rtol=1e-14)
        np.testing.assert_array_equal(x, before)


def test_read_only_arguments() -> None:
    x = np.arange(4.0)
    x.flags.writeable = False
    np.testing.assert_array_equal(compiled(lambda v: v + 1.0, V).run_flat([x])[0], x + 1)


def test_results_never_alias_arguments_or_each_other() -> None:
    def function(x: Value) -> list[Value]:
        return [x, x, OPS["reshape"](x, shape=(2, 2)), ir.full(3.0, (2,), FLOAT64), ir.constant(np.arange(3.0))]

    executable = compiled(function, V)
    x = np.arange(4.0)
    first, second = executable.run_flat([x]), executable.run_flat([x])
    for a in first:
        assert a.flags.writeable
        a[...] = -1
    np.testing.assert_array_equal(x, np.arange(4.0))
    for a, b in zip(second, executable.run_flat([x]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_zero_dimensions_and_zero_sizes() -> None:
    def function(x: Value, y: Value) -> list[Value]:
        return [x + 1.0, OPS["reduce_sum"](y, axes=(0, 1)), y * 2.0]

    a, b, c = compiled(function, ((), FLOAT64), ((0, 3), FLOAT64)).run_flat([np.array(2.0), np.empty((0, 3))])
    assert (a.shape, b.shape, c.shape) == ((), (), (0, 3))
    assert (a, b) == (3, 0)


def test_wrong_number_of_arguments() -> None:
    with pytest.raises(ValueError, match="1 arguments got 0"):
        compiled(lambda x: x + 1.0, V).run_flat([])


def test_a_leaked_value_is_refused() -> None:
    stranger = ir.argument(Aval((4,), FLOAT64))
    with pytest.raises(ValueError, match="another trace"):
        compiled(lambda x: x + stranger, V)


# ---- errors --------------------------------------------------------------------------------------------------------


def test_index_error_names_index_size_and_line() -> None:
    executable = compiled(lambda x, i: OPS["gather"](x, i), M, ((2,), INT64))
    with pytest.raises(IndexError, match=r"index 7 is out of bounds for axis with size 3 \[user.py:3\]"):
        executable.run_flat([np.zeros((3, 4)), np.array([0, 7])])
    with pytest.raises(IndexError, match="index -4"):
        executable.run_flat([np.zeros((3, 4)), np.array([-4, 0])])
    np.testing.assert_array_equal(executable.run_flat([np.ones((3, 4)), np.array([0, -3])])[0], np.ones((2, 4)))


def test_negative_integer_power() -> None:
    executable = compiled(lambda x, y: OPS["pow"](x + 1, y), ((3,), INT32), ((3,), INT32))
    x = np.array([2, 3, 4], INT32)
    np.testing.assert_array_equal(executable.run_flat([x, x])[0], [9, 64, 625])
    with pytest.raises(ValueError, match=r"Integers to negative integer powers are not allowed.*user.py:3"):
        executable.run_flat([x, -x])


# ---- host steps ----------------------------------------------------------------------------------------------------


def host(function: Callable[..., Any], *results: tuple[Shape, Dtype]) -> Executable:
    avals = tuple(Aval(*aval) for aval in results)
    return compiled(lambda x: OPS["host"].emit(x * 2.0, function=function, results=avals), V)


def test_host_step() -> None:
    executable = host(lambda x: (x.sum(), x[:2].astype(INT64)), ((), FLOAT64), ((2,), INT64))
    a, b = executable.run_flat([np.arange(4.0)])
    assert a == 12
    np.testing.assert_array_equal(b, [0, 2])
    assert "host" in str(executable.plan)


def test_host_steps_own_exception() -> None:
    class OwnError(Exception):
        pass

    def fail(x: Array) -> tuple[Array]:
        raise OwnError("mine")

    executable = host(fail, V)
    for _ in range(3):
        with pytest.raises(OwnError, match="mine"):
            executable.run_flat([np.arange(4.0)])


@pytest.mark.parametrize("result", [(np.zeros(3),), (np.zeros(4, FLOAT32),), (), (np.zeros(4), np.zeros(4))])
def test_host_step_returns_something_else(result: Any) -> None:
    with pytest.raises(TypeError, match=r"the host step .* returned"):
        host(lambda x: result, V).run_flat([np.arange(4.0)])


def test_host_step_may_keep_its_arguments() -> None:
    kept = []
    host(lambda x: (kept.append(x), x)[1:], V).run_flat([np.arange(4.0)])
    np.testing.assert_array_equal(kept[0], [0, 2, 4, 6])


# ---- interruption, threads -----------------------------------------------------------------------------------------


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread")
def test_interrupt() -> None:
    finished = []

    def last(x: Array) -> tuple[Array]:
        finished.append(True)
        return (x,)

    def slow(x: Value) -> Value:
        for _ in range(300):
            x = dot(x, x) / 1000.0
        return OPS["host"].emit(x, function=last, results=(x.aval,))[0]

    executable = compiled(slow, ((1000, 1000), FLOAT64))
    # Twice, as users do: Python itself swallows an interrupt that meets a finalizer.
    timers = [threading.Timer(seconds, _thread.interrupt_main) for seconds in (0.1, 4.0)]
    for timer in timers:
        timer.start()
    with pytest.raises(KeyboardInterrupt):
        executable.run_flat([np.ones((1000, 1000))])
    for timer in timers:
        timer.cancel()
    assert not finished
    assert callbacks._pending.exception is None


def test_eight_threads() -> None:
    def function(x: Value, y: Value) -> Value:
        return OPS["reduce_sum"](OPS["tanh"](dot(x, y)) + OPS["sin"](dot(x, y)), axes=(1,))

    executable = compiled(function, M, ((4, 5), FLOAT64))
    rng = np.random.default_rng(0)
    cases = [(rng.normal(size=(3, 4)), rng.normal(size=(4, 5))) for _ in range(8)]
    expected = [executable.run_flat(list(case))[0].copy() for case in cases]
    wrong = []

    def work(i: int) -> None:
        wrong.extend(
            [i for _ in range(1000) if not np.array_equal(executable.run_flat(list(cases[i]))[0], expected[i])]
        )

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_host_step_may_call_the_same_executable() -> None:
    def half(x: Array) -> tuple[Array]:
        return (x if np.all(x < 1) else executable.run_flat([x / 4])[0],)

    executable = host(half, V)
    np.testing.assert_array_equal(executable.run_flat([np.full(4, 40.0)])[0], np.full(4, 0.625))


def test_more_calls_at_once_than_are_kept() -> None:
    together = threading.Barrier(20, timeout=60)
    executable = host(lambda x: (together.wait(), (x + 1,))[1], V)
    for _ in range(2):
        results: dict[int, Array] = {}

        def work(i: int, results: dict[int, Array] = results) -> None:
            results[i] = executable.run_flat([np.full(4, float(i))])[0]

        threads = [threading.Thread(target=work, args=(i,)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i in range(20):
            np.testing.assert_array_equal(results[i], np.full(4, 2.0 * i + 1))


def test_what_the_caller_leaves_to_others() -> None:
    """It takes arguments that are just as they should be, in any layout; a plan never sees others."""

    class Sub(np.ndarray[Any, Any]):
        pass

    run = compiled(lambda x, s: x * OPS["broadcast"](s, shape=(4,), axes=()), V, ((), FLOAT64)).caller.run
    x, s = np.arange(4.0), np.float64(2)
    frozen = x.copy()
    frozen.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(FLOAT64)
    long = np.dtype(FLOAT64, metadata={"of": "the same kind"})
    for good in (x, frozen, np.repeat(x, 2)[::2], x[::-1][::-1], unaligned, x.astype(long)):
        for number in (s, np.array(2.0)):
            (result,) = run(good, number) or [None]
            np.testing.assert_array_equal(result, 2 * x)
    for bad in (x.astype(">f8"), x.astype(FLOAT32), x[:3], x[None], x.view(Sub), [0.0], None, 2.0):
        assert run(bad, s) is None
    for bad in (2.0, 2, True, np.float32(2), np.int64(2), np.array([2.0]), "2", None, x):
        assert run(x, bad) is None
    for arguments in ((), (x,), (x, s, s)):
        with pytest.raises(ValueError, match=f"an executable of 2 arguments got {len(arguments)}"):
            run(*arguments)


def test_wrong_arguments_are_named() -> None:
    executable = compiled(lambda x: x + 1.0, V)
    with pytest.raises(ValueError, match=r"argument 0 has shape \(3,\) instead of \(4,\)"):
        executable.run_flat([np.zeros(3)])
    np.testing.assert_array_equal(executable.run_flat([[1, 2, 3, 4]])[0], [2, 3, 4, 5])  # type: ignore[list-item]


def test_calls_that_fail_or_are_refused_keep_nothing() -> None:
    executable = compiled(lambda x, i: OPS["gather"](x, i), M, ((2,), INT64))
    x, good, bad = np.asfortranarray(np.ones((3, 4))), np.array([0, 1]), np.array([0, 9])

    def calls() -> None:
        for _ in range(100):
            assert executable.caller.run(x, good) is not None
            assert executable.caller.run(x, None) is None
            with pytest.raises(IndexError):
                executable.caller.run(x, bad)

    calls()
    gc.collect()
    things = (x, good, bad, executable.caller)
    before = [sys.getrefcount(thing) for thing in things], len(gc.get_objects())
    calls()
    gc.collect()
    after = [sys.getrefcount(thing) for thing in things], len(gc.get_objects())
    assert all(abs(a - b) < 50 for a, b in zip(before[0], after[0], strict=True)), (before, after)
    assert abs(before[1] - after[1]) < 50


def test_no_memory_is_kept() -> None:
    executable = compiled(lambda x: x + 1.0, ((1000,), FLOAT64))
    x = np.ones(1000)
    (result,) = executable.run_flat([x])
    counts = sys.getrefcount(x), sys.getrefcount(result)
    for _ in range(10):
        executable.run_flat([x])
    assert (sys.getrefcount(x), sys.getrefcount(result)) == counts
    alive = weakref.ref(executable)
    del executable
    gc.collect()
    assert alive() is None


# ---- donation ------------------------------------------------------------------------------------------------------


def donating(function: Callable[..., Value | Sequence[Value]], donated: dict[int, int], *avals: Any) -> Executable:
    return compile_graph(graph(function, *avals), donated)


def kinds(executable: Executable) -> list[int]:
    return executable.plan.steps["kind"].tolist()


def test_donated_update_is_in_place() -> None:
    executable = donating(lambda w, g: w - g * 0.1, {0: 0}, V, V)
    w, g = np.ones(4), np.arange(4.0)
    (result,) = executable.run_flat([w, g])
    assert result is w
    np.testing.assert_allclose(w, 1 - 0.1 * np.arange(4))
    assert len(executable.plan.steps) == 1


def test_donated_and_still_needed() -> None:
    def function(w: Value, x: Value) -> list[Value]:
        new = w + 1.0
        return [
            new,
            dot(x, OPS["reshape"](w, shape=(4, 1))),
            OPS["reduce_sum"](dot(x, _column(w) * _column(new)), axes=(0,)),
        ]

    executable = donating(function, {0: 0}, V, M)
    w, x = np.arange(4.0), np.ones((3, 4))
    new, product, total = executable.run_flat([w, x])
    assert new is w
    np.testing.assert_array_equal(w, [1, 2, 3, 4])
    np.testing.assert_array_equal(product, np.full((3, 1), 6.0))
    np.testing.assert_array_equal(total, [3 * (0 * 1 + 1 * 2 + 2 * 3 + 3 * 4)])


def _column(x: Value) -> Value:
    return OPS["reshape"](x, shape=(4, 1))


def test_donated_inputs_that_change_places() -> None:
    executable = donating(lambda a, b: [b, a], {0: 0, 1: 1}, V, V)
    a, b = np.zeros(4), np.ones(4)
    x, y = executable.run_flat([a, b])
    assert x is a
    assert y is b
    np.testing.assert_array_equal(a, np.ones(4))
    np.testing.assert_array_equal(b, np.zeros(4))


def test_donated_input_that_is_the_output() -> None:
    executable = donating(lambda a, b: [a, b + a], {0: 0}, V, V)
    a = np.arange(4.0)
    x, y = executable.run_flat([a, np.ones(4)])
    assert x is a
    np.testing.assert_array_equal(y, a + 1)
    assert len(executable.plan.steps) == 1


def test_donated_reversed() -> None:
    def reverse(x: Value) -> Value:
        return OPS["slice"](x, starts=(3,), steps=(-1,), shape=(4,))

    for function in (reverse, lambda x: reverse(x) + x):
        a = np.arange(4.0)
        (result,) = donating(function, {0: 0}, V).run_flat([a])
        assert result is a
        np.testing.assert_array_equal(a, [3, 2, 1, 0] if function is reverse else [3, 3, 3, 3])


def test_donated_arguments_are_checked() -> None:
    n = 1000
    executable = donating(lambda a, b: [a + b], {0: 0}, ((n,), FLOAT64), ((n,), FLOAT64))
    frozen = np.zeros(n)
    frozen.flags.writeable = False
    memory = np.zeros(2 * n)
    for a, b, message in [
        (frozen, np.ones(n), "read-only"),
        (memory[::2], np.ones(n), "contiguous"),
        (np.zeros(n, FLOAT32), np.ones(n), "dtype float64"),
        (memory[:n], memory[n // 2 : -n // 2], "overlaps"),
        (memory[n // 2 : -n // 2], memory[:n], "overlaps"),
    ]:
        with pytest.raises(ValueError, match=message):
            executable.run_flat([a, b])
    executable.run_flat([memory[:n], memory[n:]])
    with pytest.raises(ValueError, match="cannot be donated"):
        donating(lambda a: OPS["reduce_sum"](a, axes=(0,)), {0: 0}, V)


# ---- keeping -------------------------------------------------------------------------------------------------------


def _module_level(x: Array) -> tuple[Array]:
    return (x + 1,)


def test_pickle() -> None:
    for executable in (compiled(lambda x: OPS["sin"](x), V), host(_module_level, V)):
        again = pickle.loads(pickle.dumps(executable))
        x = np.arange(4.0)
        np.testing.assert_array_equal(again.run_flat([x])[0], executable.run_flat([x])[0])
        assert again.graph is None
        assert executable.graph is not None


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "f.autodiff"
    executable = donating(lambda x, y: [x + y, OPS["sin"](y)], {0: 0}, V, V)
    executable.save(path)
    again = Executable.load(path)
    assert (again.inputs, again.outputs, again.donated) == (executable.inputs, executable.outputs, {0: 0})
    assert again.plan == executable.plan
    x = np.ones(4)
    assert again.run_flat([x, np.ones(4)])[0] is x
    with pytest.raises(TypeError, match="_module_level"):
        host(_module_level, V).save(path)
    for data in (b"", b"something else", path.read_bytes()[:60], path.read_bytes()[:-1]):
        path.write_bytes(data)
        with pytest.raises(PlanError):
            Executable.load(path)


def test_what_it_says() -> None:
    executable = compiled(lambda x: OPS["sin"](x), V)
    assert "float64[4] -> float64[4]" in repr(executable)
    assert executable.isa in ("base", "avx2", "avx512", "neon")
    assert executable.workspace >= executable.plan.arena_size
    assert executable.work > 0
    assert "sin" in str(executable.graph)


# ---- values computed when they are asked for -----------------------------------------------------------------------


def leaf(array: Any) -> Value:
    array = np.asarray(array)
    x = ir.argument(Aval(array.shape, array.dtype))
    x.data = array
    return x


def test_evaluate() -> None:
    x = leaf(np.arange(3.0))
    y = OPS["sin"](x)
    z = y + 1.0
    (got,) = evaluate([z])
    np.testing.assert_allclose(got, np.sin(np.arange(3.0)) + 1, rtol=1e-14)
    assert z.data is got
    assert evaluate([z, x])[0] is got
    assert evaluate([x, x])[1] is x.data


def test_evaluation_starts_from_what_is_known() -> None:
    x = leaf(np.arange(3.0))
    y = OPS["sin"](x)
    y.data = np.array([5.0, 6.0, 7.0])
    np.testing.assert_array_equal(evaluate([y + 1.0])[0], [6, 7, 8])


def test_equal_structure_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compilations = []

    def counting(*args: Any, **kwargs: Any) -> Executable:
        compilations.append(args)
        return compile_graph(*args, **kwargs)

    monkeypatch.setattr(evaluate_module, "compile_graph", counting)
    for i in range(5):
        w = leaf(np.full((2, 11), float(i)))
        (y,) = evaluate([OPS["cos"](w) * leaf(np.full((2, 11), i + 1.0))])
        np.testing.assert_allclose(y, np.cos(i) * (i + 1) * np.ones((2, 11)), rtol=1e-14)
    assert len(compilations) == 1
    evaluate([OPS["cos"](leaf(np.zeros((2, 12)))) * leaf(np.ones((2, 12)))])
    w = leaf(np.zeros((2, 11)))
    evaluate([OPS["cos"](w) * w])  # the same ops, otherwise connected
    assert len(compilations) == 3


def test_evaluation_keeps_no_arrays_alive() -> None:
    array = np.arange(1000.0)
    x = leaf(array)
    evaluate([x * 3.0])
    alive = weakref.ref(array)
    del array, x
    gc.collect()
    assert alive() is None


def test_traced_values_have_no_value() -> None:
    with pytest.raises(ValueError, match="being traced"):
        evaluate([ir.argument(Aval((2,), FLOAT64)) + 1.0])


def test_deep_networks() -> None:
    x = leaf(np.ones(3))
    y = x
    with ir.collection_paused():
        for _ in range(20_000):
            y = OPS["sin"](y) + 1.0
    (got,) = evaluate([y])
    want = np.ones(3)
    for _ in range(20_000):
        want = np.sin(want) + 1
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_equal_structure_elsewhere_in_the_source_names_its_own_line() -> None:
    table, index = ir.argument(Aval((3,), FLOAT64)), ir.argument(Aval((), INT64))
    table.data, index.data = np.zeros(3), np.array(7)
    for line in (ir.Line("first.py", 1), ir.Line("second.py", 2)):
        ir.current().line = line
        value = OPS["gather"](table, index)
        ir.current().line = None
        with pytest.raises(IndexError, match=str(line)):
            evaluate([value])


@pytest.mark.parametrize("change", ["shorter", "narrower", "fewer", "more", "result", "donated"])
def test_a_plan_that_does_not_fit_its_arrays_is_refused(change: str) -> None:
    """The native library is told where arrays are, not how long: bytes from elsewhere must agree with them."""
    made = compiled(lambda x: OPS["sin"](x), ((100,), FLOAT64))
    inputs, outputs, donated = list(made.inputs), list(made.outputs), {}
    if change == "shorter":
        inputs = [Aval((99,), FLOAT64)]
    elif change == "narrower":
        inputs = [Aval((100,), FLOAT32)]
    elif change == "fewer":
        inputs = []
    elif change == "more":
        outputs = outputs * 2
    elif change == "result":
        outputs = [Aval((10,), FLOAT64)]
    else:
        donated = {0: 1}
    with pytest.raises(PlanError, match="does not fit"):
        Executable(made.plan, inputs, outputs, donated)
