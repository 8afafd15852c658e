"""`python -m autodiff` and `python -m autodiff info`, as a user starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import autodiff as ad

HIDING = (
    "import sys, runpy; sys.modules |= dict.fromkeys({names!r}); runpy.run_module('autodiff', None, '__main__', True)"
)


def run(*arguments: str, cwd: Path, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command in a fresh interpreter, in which the modules `without` cannot be imported."""
    start = ["-c", HIDING.format(names=without)] if without else ["-m", "autodiff"]
    environment = {**os.environ, "PYTHONPATH": str(Path(ad.__file__).parent.parent)}
    command = [sys.executable, *start, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_info(tmp_path: Path) -> None:
    result = run("info", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    said = dict(re.split(r"  +", line, maxsplit=1) for line in result.stdout.splitlines())
    assert said["autodiff"] == ad.__version__
    assert said["NumPy"] == np.__version__
    assert {"instruction set", "threads", "cffi"} <= said.keys()
    chosen, available = re.fullmatch(r"(\S+) \(available: (.*)\)", said["instruction set"]).groups()  # type: ignore[union-attr]
    assert chosen in available.split(", ")


def test_training_in_plain_lines(tmp_path: Path) -> None:
    result = run("--seeds", "2", "--steps", "600", cwd=tmp_path, without=("tqdm", "matplotlib"))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "seed 1: step 500 of 600, loss" in result.stdout
    said = dict(re.split(r"  +", line, maxsplit=1) for line in result.stdout.split("\n\n")[1].splitlines())
    accuracy = re.match(r"(\d+\.\d\d)%", said["test accuracy"])
    assert accuracy
    assert float(accuracy[1]) > 95
    assert float(said["steps per second"].replace(",", "")) > 0
    assert re.fullmatch(r"[\d.]+ ms", said["compiled in"])
    assert re.fullmatch(r"\d+ steps, arena of [\d,]+ bytes", said["plan"])
    assert said["picture"] == "none: matplotlib is not installed"
    assert list(tmp_path.iterdir()) == []


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run("train", "--seeds", "1", "--steps", "20", "--picture", "some.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "some.png") in result.stdout
    assert (tmp_path / "some.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("arguments", [("--steps", "0"), ("--seeds", "x"), ("dance",)])
def test_what_is_not_understood_is_said(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert arguments[-1] in result.stderr
