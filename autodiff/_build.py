"""Describes the native library `autodiff._native` to cffi; run by setup.py, never by users."""

import os
import shlex
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ["csrc/*.c", "csrc/kernels/*.c"]
HEADERS = ["csrc/*.h", "csrc/*.def", "csrc/kernels/*.h", "csrc/kernels/*.inc"]

# No -ffast-math: its licence to reorder and to forget NaN is what the library promises not to use.
FLAGS = [
    "-std=c11",
    "-O3",
    "-fwrapv",
    "-fno-strict-aliasing",  # copies move elements of every type as words of their size
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-Wno-psabi",
    "-pthread",
    "-g0",  # debug information would be most of the wheel; AUTODIFF_CFLAGS=-g asks for it
]

# What C calls back into Python: the fields `host` and `poll` of ad_run.
CALLBACKS = """
extern "Python" int _host(void *context, uint32_t function, const void *const *inputs, void *const *outputs);
extern "Python" int _poll(void *context);
"""


def cdef() -> str:
    """The part of autodiff.h that is written for cffi as well."""
    text = (ROOT / "csrc" / "autodiff.h").read_text(encoding="utf-8")
    _, _, rest = text.partition("/* cdef begin */")
    body, mark, _ = rest.partition("/* cdef end */")
    if not mark:
        raise SystemExit("csrc/autodiff.h has lost its cdef marks")
    return body


def files(patterns: list[str]) -> list[str]:
    """Paths relative to the project's root, as setuptools wants them."""
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


ffibuilder = FFI()
ffibuilder.cdef(cdef() + CALLBACKS)
ffibuilder.set_source(
    "autodiff._native",
    '#include "autodiff.h"\n',
    sources=files(SOURCES),
    depends=files(HEADERS),
    include_dirs=["csrc"],
    extra_compile_args=FLAGS + shlex.split(os.environ.get("AUTODIFF_CFLAGS", "")),
    extra_link_args=["-pthread"],
)
