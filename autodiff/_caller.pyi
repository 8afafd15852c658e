"""What a call costs besides its plan: see csrc/python/caller.h."""

from collections.abc import Callable
from typing import Any, final

from autodiff.ir import Array, Dtype, Shape

_Spec = tuple[Shape, Dtype, bool, int]
"""Shape, dtype, whether it is a Python float, and of a donated input its output's number or the reverse; else -1."""

@final
class Caller:
    def __new__(
        cls,
        *,
        run: int,
        prepared: int,
        keep: object,
        fail: Callable[[int, int, int, int, str | None], None],
        inputs: tuple[_Spec, ...],
        outputs: tuple[_Spec, ...],
        workspace: int,
        pool: int,
        host: int,
        poll: int,
        context: int,
        releases: bool,
    ) -> Caller: ...
    def run(self, *inputs: Any) -> tuple[Any, ...] | None: ...
    def bind(self, inputs: tuple[Array, ...], outputs: tuple[Array, ...], out: Any) -> Bound: ...

@final
class Bound:
    @property
    def out(self) -> Any: ...
    def __call__(self) -> Any: ...

class Entry:
    def _lead(self, target: Callable[..., Any], direct: Caller | None, single: bool) -> None: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any: ...

def idle_bytes() -> int: ...
def trim() -> None: ...
