"""Compiled functions: caches of executables, one a signature, and the executables with the trees they take and give."""

from __future__ import annotations

import functools
import os
import pickle
import threading
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from autodiff import donation, errors, state
from autodiff._caller import Bound, Entry
from autodiff.callpath import Route, lead
from autodiff.errors import placed
from autodiff.ir import Aval, Graph, collection_paused
from autodiff.pytree import TreeDef
from autodiff.signature import Binder, Parameters, Signature
from autodiff.tensor import Tensor
from autodiff.trace import inline, trace

if TYPE_CHECKING:  # imported with the first function that is compiled
    from autodiff.executable import Executable
    from autodiff.plan import Plan

CACHE_SIZE = 128
"""Executables a compiled function keeps."""

RETRACE_WARNING = 8
"""How often a function may be compiled before it is said why."""

_FAST = 4
"""How many signatures a function's generated code knows."""

_MAGIC = b"autodiff function 1\n"

Item = TypeVar("Item")


class _Callable(Entry):
    """What functions that are called by signature share; `callpath` says where their calls lead."""

    def __init__(self, binder: Binder):
        self._binder = binder
        self._lead(lambda *args, **kwargs: self._dispatch(args, kwargs), None, False)

    def _dispatch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What calls do that no route is for."""
        raise NotImplementedError

    def _take(self, routes: Sequence[Route]) -> None:
        """Call by these routes first."""
        lead(self, self._binder.parameters, routes, self._dispatch)

    def _sign(self, leaves: Sequence[Any], structure: TreeDef) -> Signature:
        try:
            return self._binder.sign(leaves, structure)
        except TypeError as error:
            raise TypeError(placed(errors.user_line(), str(error))) from None

    def _sign_arrays(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Signature, list[Any]]:
        """The signature and leaves of arguments that have to be arrays."""
        leaves, structure = self._binder.flatten(args, kwargs)
        if _has_tensor(leaves):
            raise TypeError(
                placed(
                    errors.user_line(),
                    f"{self._binder.parameters.name}: an executable takes arrays, not tensors: call the compiled "
                    "function itself to trace or differentiate it",
                )
            )
        return self._sign(leaves, structure), leaves


class Lowered(_Callable):
    """One executable: a function for one signature, called with trees of arrays as the function itself is.

    `graph` is what was traced and `plan` what runs; both print.  It can be bound to its arrays, pickled, and saved to a
    file.
    """

    def __init__(self, binder: Binder, signature: Signature, executable: Executable, result: TreeDef):
        super().__init__(binder)
        self._executable = executable
        self._hits = 0  # calls of it in a cache
        self._generated = False
        self._route = Route(signature, executable.caller, result)

    @property
    def graph(self) -> Graph | None:
        """What is computed; None in a process that did not compile it."""
        return self._executable.graph

    @property
    def plan(self) -> Plan:
        """What runs, step by step."""
        return self._executable.plan

    @property
    def isa(self) -> str:
        """The instruction set it runs on."""
        return self._executable.isa

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, which `load` reads."""
        with open(path, "wb") as file:
            file.write(_MAGIC)
            pickle.dump(self, file, protocol=5)

    def __reduce__(self) -> tuple[Any, ...]:
        return Lowered, (self._binder, self._route.signature, self._executable, self._route.result)

    def __repr__(self) -> str:
        return f"<executable of {self._binder.parameters.name}({self._route.signature})>"

    def _dispatch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves = self._accepted(args, kwargs)
        if not self._generated:
            self._generated = True
            self._take([self._route])
        return self.run(leaves)

    def _accepted(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """The leaves of arguments that have its signature."""
        signature, leaves = self._sign_arrays(args, kwargs)
        wanted = self._route.signature
        if signature != wanted:
            raise TypeError(
                placed(
                    errors.user_line(),
                    f"{self._binder.parameters.name}: this executable is for other arguments: "
                    f"{self._binder.difference(wanted, signature)}; call the compiled function itself for any",
                )
            )
        return leaves

    def run(self, leaves: Sequence[Any]) -> Any:
        """Call it with all leaves of the arguments, which have its signature."""
        traced = self._traced(leaves)
        try:
            outputs = self._executable.call(traced)
        except ValueError:
            self._explain(traced)
            raise
        return self._route.result.unflatten(outputs)

    def bind(self, /, *args: Any, out: Any = None, **kwargs: Any) -> Bound:
        """The executable with its arrays: what it returns is called without arguments, and costs the least.

        Each call computes with what the arrays hold at that time and overwrites the result's arrays.  Python floats and
        NumPy scalars keep the value that they are bound with: bind arrays of shape () for numbers that change.  One
        bound executable is for one call at a time: bind one for each thread.

        Args:
            *args: as in a call; arrays are contiguous.
            out: a tree like the result, with an array of the exact shape and dtype for each leaf, also for numbers,
                that shares no memory with the arguments; where an argument is donated, its own array.  New arrays if
                left out.
            **kwargs: as in a call.

        Returns:
            A function without arguments that returns `out`, always the same arrays; it also has them as `.out`.

        Raises:
            TypeError: for arguments of another signature.
            ValueError: for arrays that cannot be bound, naming them.

        >>> import numpy as np
        >>> import autodiff as ad
        >>> x = np.zeros(3)
        >>> gradient = ad.compile(ad.grad(lambda x: np.sum(x**3))).lower(x).bind(x)
        >>> x[:] = 1, 2, 3
        >>> gradient()
        array([ 3., 12., 27.])
        """
        from autodiff import binding

        leaves = self._accepted(args, kwargs)
        name, route = self._binder.parameters.name, self._route
        paths = self._binder.parameters.paths(route.signature.structure)
        return binding.bind(name, self._traced(paths), self._executable, self._traced(leaves), route.result, out)

    def _traced(self, leaves: Sequence[Item]) -> list[Item]:
        return [x for x, leaf in zip(leaves, self._route.signature.leaves, strict=True) if isinstance(leaf, Aval)]

    def _explain(self, traced: Sequence[Any]) -> None:
        """Raise what is wrong with donated arguments, if anything is, by their names."""
        if self._executable.donated:
            parameters = self._binder.parameters
            paths = self._traced(parameters.paths(self._route.signature.structure))
            donation.explain(parameters.name, paths, self._executable.donated, [np.asarray(x) for x in traced])


class Compiled(_Callable):
    """A function that is traced and compiled once for each signature it is called with.

    Any thread may call it.
    """

    def __init__(
        self, function: Callable[..., Any], static_argnums: Iterable[int] = (), donate_argnums: Iterable[int] = ()
    ):
        functools.update_wrapper(self, function, updated=())
        self._function = function
        super().__init__(Binder(Parameters(function), static_argnums, donate_argnums))
        self._cache: OrderedDict[Signature, Lowered] = OrderedDict()
        self._fast: list[Lowered] = []
        self._latest: Signature | None = None
        self._compiles = 0
        self._lock = threading.RLock()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<compiled {self._binder.parameters.name}>"

    def lower(self, /, *args: Any, **kwargs: Any) -> Lowered:
        """The executable for arguments like these, without running it.

        Args:
            *args: as in a call; of arrays only shape and dtype matter.
            **kwargs: likewise.

        Raises:
            TypeError: as a call would.
        """
        return self._lowered(self._sign_arrays(args, kwargs)[0])

    def _dispatch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves, structure = self._binder.flatten(args, kwargs)
        if state.active() or _has_tensor(leaves):
            return inline(self._function, self._binder, leaves, structure)
        lowered = self._lowered(self._sign(leaves, structure))
        lowered._hits += 1
        hits = lowered._hits
        if hits == 2 or (hits >= 64 and hits & (hits - 1) == 0):  # it is not called just once, nor by generated code
            with self._lock:
                self._fast = [lowered, *[x for x in self._fast if x is not lowered]][:_FAST]
                self._take([x._route for x in self._fast])
        return lowered.run(leaves)

    def _lowered(self, signature: Signature) -> Lowered:
        with self._lock:
            found = self._cache.get(signature)
            if found is not None:
                self._cache.move_to_end(signature)
                return found
            self._warn_of_retracing(signature)
            found = self._cache[signature] = self._compile(signature)
            if len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
            return found

    def _compile(self, signature: Signature) -> Lowered:
        from autodiff.executable import compile_graph

        name = self._binder.parameters.name
        with collection_paused():
            graph, result = trace(self._function, name, signature.structure, signature.leaves)
            executable = compile_graph(graph, self._donations(signature, graph, result))
        return Lowered(self._binder, signature, executable, result)

    def _donations(self, signature: Signature, graph: Graph, result: TreeDef) -> dict[int, int]:
        """Which inputs' memory becomes which outputs."""
        if not signature.donated:
            return {}
        parameters = self._binder.parameters
        paths = [(name, path) for name, t in parameters.arguments(signature.structure) for path in t.paths()]
        traced = [i for i, leaf in enumerate(signature.leaves) if isinstance(leaf, Aval)]
        donated = [
            (*paths[i], graph.inputs[number].aval, number) for number, i in enumerate(traced) if i in signature.donated
        ]
        results = list(zip(result.paths(), [y.aval for y in graph.outputs], strict=True))
        return donation.match(parameters.name, donated, results)

    def _warn_of_retracing(self, signature: Signature) -> None:
        self._compiles += 1
        if self._latest is not None and self._compiles == RETRACE_WARNING + 1:
            warnings.warn(
                placed(
                    errors.user_line(),
                    f"{self._binder.parameters.name} is compiled for the {self._compiles}th time, because of "
                    f"{self._binder.difference(self._latest, signature)}; compiling takes far longer than running: "
                    "keep shapes and static values the same, or pass numbers that change as floats or arrays",
                ),
                RuntimeWarning,
                stacklevel=errors.stack_level(),
            )
        self._latest = signature


def load(path: str | os.PathLike[str]) -> Lowered:
    """Read an executable that `save` wrote.

    Like a pickle it can run code of its writer's choice: load only files that you trust.

    Raises:
        ValueError: if the file is of another kind.
    """
    with open(path, "rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError(f"{os.fspath(path)!r} is not an executable written by save")
        lowered = pickle.load(file)
    assert isinstance(lowered, Lowered)
    return lowered


def _has_tensor(leaves: Sequence[Any]) -> bool:
    return Tensor in map(type, leaves)
