"""Large results lie in memory that earlier ones have left: ordinary arrays, and nobody's memory is given away."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff import _caller

N = 1 << 16  # elements: 512 KiB, which the pool keeps
LIMIT = 256 << 20


@pytest.fixture(autouse=True)
def _empty_pool() -> Iterator[None]:
    gc.collect()
    _caller.trim()
    yield
    _caller.trim()


@pytest.fixture
def double() -> Any:
    f = ad.compile(lambda x: x + x)
    for _ in range(3):
        f(np.ones(N))
    gc.collect()
    _caller.trim()
    return f


def address(x: Any) -> int:
    return int(x.__array_interface__["data"][0])


def test_memory_is_used_again(double: Any) -> None:
    x = np.arange(float(N))
    first = double(x)
    where = address(first)
    assert where % 64 == 0
    assert _caller.idle_bytes() == 0
    del first
    assert _caller.idle_bytes() >= 8 * N
    second = double(x + 1)
    assert address(second) == where
    assert _caller.idle_bytes() == 0
    np.testing.assert_array_equal(second, 2 * x + 2)
    _caller.trim()
    np.testing.assert_array_equal(second, 2 * x + 2)


def test_views_keep_their_memory(double: Any) -> None:
    x = np.arange(float(N))
    views = []
    for i in range(5):
        result = double(x + i)
        views.append([result[::7], result.reshape(2, -1).T, memoryview(result)[:10], result[5:6].view(np.int64)][i % 4])
        del result
    gc.collect()
    assert _caller.idle_bytes() == 0
    for i, view in enumerate(views):
        want = 2 * (x + i)
        want = [want[::7], want.reshape(2, -1).T, want[:10], want[5:6].view(np.int64)][i % 4]
        np.testing.assert_array_equal(np.asarray(view), want)


def test_results_are_ordinary_arrays(double: Any) -> None:
    x = np.arange(float(N))
    result, other = double(x), double(x)
    assert type(result) is np.ndarray
    assert result.base is None
    assert result.flags.owndata
    assert result.flags.writeable
    assert result.flags.c_contiguous
    assert not np.shares_memory(result, other)
    assert not np.shares_memory(result, x)
    assert np.shares_memory(result, result[3:])
    assert sys.getrefcount(result) == 2
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(result)), result)
    assert pickle.loads(pickle.dumps(result, protocol=5)).flags.writeable
    result.resize((2, N // 2), refcheck=False)
    result.fill(np.nan)
    np.testing.assert_array_equal(other, 2 * x)


@pytest.mark.parametrize("size", [10, N - 8, N + 100, 3 * N])
def test_results_can_be_resized(double: Any, size: int) -> None:
    x = np.arange(1.0, N + 1)
    result = double(x)
    result.resize(size, refcheck=False)
    kept = min(size, N)
    np.testing.assert_array_equal(result[:kept], 2 * x[:kept])
    assert not np.any(result[kept:])
    np.testing.assert_array_equal(double(x), 2 * x)
    np.testing.assert_array_equal(result[:kept], 2 * x[:kept])
    del result
    np.testing.assert_array_equal(double(x), 2 * x)


def test_what_is_kept_is_bounded() -> None:
    size = (48 << 20) // 8
    f = ad.compile(lambda x: x + 1)
    x = np.zeros(size)
    results = [f(x) for _ in range(8)]
    del results
    assert 0 < _caller.idle_bytes() <= LIMIT
    small = ad.compile(lambda x: x + 1)
    many = [small(np.zeros(N)) for _ in range(100)]
    del many
    assert _caller.idle_bytes() <= LIMIT
    _caller.trim()
    assert _caller.idle_bytes() == 0


def test_a_block_is_not_wasted_on_a_much_smaller_result(double: Any) -> None:
    large = ad.compile(lambda x: x + 1)(np.zeros(8 * N))
    where = address(large)
    del large
    assert address(double(np.zeros(N))) != where


def test_many_threads_and_sizes() -> None:
    f = ad.compile(lambda x: x * 3)
    sizes = [N + 64 * i for i in range(4)]
    for n in sizes:
        f(np.zeros(n))
        f(np.zeros(n))
    wrong: list[int] = []

    def work(seed: int) -> None:
        kept: list[tuple[float, Any]] = []
        for i in range(60):
            number = float(100 * seed + i)
            kept.append((3 * number, f(np.full(sizes[(seed + i) % 4], number))))
            if i % 3 == 2:
                wrong.extend(i for want, result in kept if not np.all(result == want))
                del kept[:2]
        wrong.extend(seed for want, result in kept if not np.all(result == want))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
