"""What `import autodiff` imports: little, so that it takes little time."""

from __future__ import annotations

import subprocess
import sys

BESIDES_NUMPY = {"__future__", "gc", "heapq", "_heapq", "threading", "_thread", "_threading_local", "_weakrefset"}
"""Modules of Python itself that are imported though NumPy does not need them."""

LATER = {
    "_native": "the kernels, with the first function that is compiled",
    "passes": "the compiler, likewise",
    "lower": "likewise",
    "plan": "likewise",
    "executable": "likewise",
    "threads": "likewise",
    "evaluate": "with the first value that is asked for",
    "binding": "with the first executable that is bound",
    "optim": "when it is asked for",
    "special": "likewise",
    "testing": "likewise",
    "digits": "by `python -m autodiff`",
    "train_digits": "likewise",
}


def imported(program: str) -> set[str]:
    """Modules that a program leaves imported, beside those that NumPy imports."""
    program = f"import sys, numpy\nbefore = set(sys.modules)\n{program}\nprint(*set(sys.modules) - before)"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(result.stdout.split())


def test_nothing_heavy_is_imported() -> None:
    names = imported("import autodiff")
    others = {name for name in names if name.partition(".")[0] not in ("autodiff", "org")}
    assert others <= BESIDES_NUMPY, "imported at the first import: can it wait?"
    early = {name for name in names if name.startswith("autodiff.") and name.split(".")[1] in LATER}
    assert not early


def test_numpys_generators_are_not_imported_by_compiling() -> None:
    names = imported("import autodiff as ad; assert ad.compile(ad.grad(numpy.sin))(0.0) == 1")
    assert "numpy.random" not in names
    assert "autodiff.executable" in names


def test_what_is_imported_later_is_found() -> None:
    program = """
import autodiff as ad, autodiff.numpy as anp
assert {"optim", "testing", "check_grads"} <= set(dir(ad))
ad.check_grads(numpy.sin, (1.0,))
assert ad.optim.sgd and ad.testing.instruction_set
assert anp.random is numpy.random
from autodiff import *
from autodiff.numpy import random
for module in (ad, anp):
    try:
        module.nonsense
    except AttributeError as error:
        assert "has no attribute 'nonsense'" in str(error)
    else:
        raise AssertionError
"""
    assert "autodiff.testing" in imported(program)


def test_the_first_draw_of_all_is_noticed() -> None:
    program = """
import autodiff as ad
try:
    ad.compile(lambda x: x * numpy.random.normal())(1.0)
except RuntimeError as error:
    assert "generator" in str(error), error
else:
    raise AssertionError
"""
    imported(program)
