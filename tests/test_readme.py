"""README.md's examples run, and do what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_examples_run() -> None:
    """All of them, in order, in one namespace."""
    names: dict[str, Any] = {}
    for source in blocks("python"):
        exec(compile(source, str(README), "exec"), names)
    assert names["value"] < 0.3
    assert np.array_equal(np.sign(names["w"]), [1, -1, 1])
    assert names["value"] == names["step"](names["w"] + names["gradient"], names["x"], names["y"])[0]


def test_the_first_example_is_short() -> None:
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 12


def test_two_commands_of_one_line_each() -> None:
    first, second = (block.strip() for block in blocks("sh"))
    assert "\n" not in first
    assert first.endswith("-m autodiff")
    assert "\n" not in second
    assert "pytest" in second
