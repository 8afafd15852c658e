"""Tests marked `exhaustive` run only when asked for: `python -m pytest -m exhaustive`."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "exhaustive: complete but slow (minutes); run by -m exhaustive")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "exhaustive" in config.getoption("markexpr", ""):
        return
    for item in items:
        if "exhaustive" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: run by -m exhaustive"))
