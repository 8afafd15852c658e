"""Builds the native library and its caller; everything else about the package stands in pyproject.toml."""

import os
import runpy
import shlex
import shutil
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
from cffi.setuptools_ext import cffi_modules as _  # noqa: F401  (fails early, and by name, where cffi is missing)
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

BUILD = runpy.run_path("autodiff/_build.py")

CALLER = Extension(
    "autodiff._caller",
    sources=BUILD["files"](["csrc/python/*.c"]),
    depends=BUILD["files"](["csrc/autodiff.h", "csrc/python/*.h"]),
    include_dirs=["csrc", numpy.get_include()],
    define_macros=[] if FREE_THREADED else [("Py_LIMITED_API", "0x030B0000")],
    py_limited_api=not FREE_THREADED,
    extra_compile_args=BUILD["FLAGS"] + shlex.split(os.environ.get("AUTODIFF_CFLAGS", "")),
)


def in_parallel(compile_all: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """A compiler's `compile`, several sources at a time: each set of instructions is most of a minute's work."""

    def compile_each(sources: list[str], *args: Any, **kwargs: Any) -> list[str]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = pool.map(lambda source: compile_all([source], *args, **kwargs), sources)
            return [name for names in made for name in names]

    return compile_each


class BuildNative(build_ext):  # type: ignore[misc]  # setuptools ships no types
    """build_ext that says in one sentence what to install where there is no C compiler."""

    def build_extensions(self) -> None:
        """Look for a compiler before the first of its errors does."""
        command = getattr(self.compiler, "compiler_so", None)
        if not command:
            raise SystemExit("autodiff's native library needs GCC or Clang: other compilers' C has no vector types.")
        if shutil.which(command[0]) is None:
            raise SystemExit(
                f"autodiff needs a C compiler to build its native library and found no {command[0]!r}: install GCC or "
                "Clang (Debian, Ubuntu: apt install gcc; Fedora: dnf install gcc; macOS: xcode-select --install) "
                "or set CC to one."
            )
        self.compiler.compile = in_parallel(self.compiler.compile)
        super().build_extensions()


setup(
    ext_modules=[CALLER],
    cffi_modules=["autodiff/_build.py:ffibuilder"],
    cmdclass={"build_ext": BuildNative},
    options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
