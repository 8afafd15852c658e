"""Who is compared, and the settings that give each so many threads."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from typing import NamedTuple


class Peer(NamedTuple):
    """A way to solve problems; rows have a method named `method` for it."""

    method: str
    title: str
    module: str  # that has to be importable
    package: str  # that it comes from

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str:
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return "from the source tree"


PEERS = [
    Peer("autodiff", "autodiff", "autodiff", "autodiff-compiled"),
    Peer("numpy", "NumPy by hand", "numpy", "numpy"),
    Peer("autograd", "HIPS autograd", "autograd", "autograd"),
    Peer("jax", "JAX jit", "jax", "jax"),
    Peer("torch", "torch eager", "torch", "torch"),
    Peer("torch_compile", "torch.compile", "torch", "torch"),
    Peer("pytensor", "PyTensor", "pytensor", "pytensor"),
    Peer("pytensor_c", "PyTensor, C", "pytensor", "pytensor"),
    Peer("casadi", "CasADi", "casadi", "casadi"),
    Peer("casadi_c", "CasADi, C", "casadi", "casadi"),
    Peer("one_pass", "one pass in C", "cffi", "cffi"),
]
OURS, BOUND = PEERS[0], PEERS[-1]
RIVALS = PEERS[1:-1]
"""One pass in C solves nothing: it bounds what can be reached."""

THREADS = ("AUTODIFF", "OPENBLAS", "OMP", "MKL", "NUMEXPR", "NUMBA")
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE")
"""Would change which of its kernels OpenBLAS uses, to NumPy's disadvantage; or have modules compiled at each import."""


def settings(scratch: str, threads: int = 1) -> dict[str, str]:
    """The environment of processes that are measured; `scratch` is a new directory for compilers' caches."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return kept | {f"{name}_NUM_THREADS": str(threads) for name in THREADS} | {
        "PYTHONPYCACHEPREFIX": scratch,  # a source tree may have no bytecode yet, where what is installed has
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()} intra_op_parallelism_threads={threads}",
        "PYTENSOR_FLAGS": f"base_compiledir={scratch}",
        "NUMBA_CACHE_DIR": scratch,
        "TORCHINDUCTOR_CACHE_DIR": scratch,
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }  # fmt: skip
