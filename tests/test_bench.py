"""The problems that bench/peers.py measures still compile and still give the right numbers, at tiny sizes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
if not (BENCH / "comparison").is_dir():
    pytest.skip("bench/ is not part of what is installed", allow_module_level=True)
sys.path.append(str(BENCH))
trees: Any = importlib.import_module("comparison.trees")
rows: list[Any] = importlib.import_module("comparison.rows").ROWS
report: Any = importlib.import_module("comparison.report")
scaling: Any = importlib.import_module("scaling")


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in rows])
def test_agrees_with_the_reference(row: Any) -> None:
    if row.name == "black-scholes":
        pytest.importorskip("scipy.special")
    tiny = row.tiny()
    results = tiny.autodiff()(*tiny.arguments)
    rough = any(np.asarray(x).dtype == np.float32 for x in trees.leaves(tiny.arguments))
    assert trees.relative_error(results, tiny.reference()) < (1e-6 if rough else 1e-13)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in rows if hasattr(row, "loss")])
def test_the_reference_is_the_derivative(row: Any) -> None:
    """By finite differences of this library's value, along a random direction."""
    tiny = row.tiny()
    arguments = trees.as_float64(tiny.arguments)
    rng = np.random.default_rng(1)
    directions = [trees.map_leaves(lambda x: rng.standard_normal(x.shape), arguments[i]) for i in tiny.argnums]
    step = 1e-6

    def moved(by: float) -> Any:
        changed = list(arguments)
        for i, direction in zip(tiny.argnums, directions, strict=True):
            away = iter(trees.leaves(direction))
            changed[i] = trees.map_leaves(lambda x, away=away: x + by * next(away), arguments[i])
        return tiny.loss(*changed)

    _, *gradients = trees.leaves(tiny.numpy()(*arguments))
    slope = sum(np.sum(g * d) for g, d in zip(gradients, trees.leaves(directions), strict=True))
    np.testing.assert_allclose(slope, (moved(step) - moved(-step)) / (2 * step), rtol=1e-5, atol=1e-7)


def test_black_scholes_by_hand() -> None:
    pytest.importorskip("scipy.special")
    row = next(row for row in rows if row.name == "black-scholes").tiny()
    _, _, *gradients = row.reference()
    for i, gradient in enumerate(gradients):
        higher, lower = list(row.arguments), list(row.arguments)
        higher[i], lower[i] = row.arguments[i] + 1e-6, row.arguments[i] - 1e-6
        slope = (row.numpy()(*higher)[1] - row.numpy()(*lower)[1]) / 2e-6
        np.testing.assert_allclose(slope, gradient, rtol=1e-5, atol=1e-6)


def test_the_reports_tables_have_all_their_columns() -> None:
    from comparison.compare import Figures, Result
    from comparison.peers import PEERS

    figures = {p.title: Figures(p.title, 0.5, [2e-6, 1e-6, 3e-6], 1e-16) for p in PEERS[:3]}
    figures[PEERS[2].title] = Figures(PEERS[2].title, note="> 40 s")
    results = [Result(row.name, row.title, row.run_goal, row.first_goal, figures) for row in rows]
    text = report.to_markdown(results, PEERS[:3], {"date": "today"})
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    assert sum("> 40 s" in line for line in tables[0]) == len(rows) + sum(row.first_goal is not None for row in rows)
    assert [report.duration(s) for s in (1.5e-9, 12.34e-6, 0.1234, 100.0)] == ["1.50 ns", "12.3 µs", "123 ms", "100 s"]
    assert [report.times(r) for r in (0.061, 1.26, 1234.5)] == ["0.061", "1.3", "1,234"]


def test_scaling_measures_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "SECONDS", 0.0)
    point = scaling.measure_graph(1000, 100)
    assert 700 < point.nodes < 1300
    assert 0 <= point.live <= point.arena
