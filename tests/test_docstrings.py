"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import autodiff

MODULES = ["autodiff"] + [
    module.name
    for module in pkgutil.walk_packages(autodiff.__path__, "autodiff.")
    if not module.name.endswith(("_build", "_native", "__main__"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
