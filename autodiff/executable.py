"""From a graph to a function of arrays: compiles it, and makes each call one call into the native library."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from autodiff import ir, threads
from autodiff._caller import Bound, Caller
from autodiff._native import ffi, lib
from autodiff.callbacks import pending
from autodiff.ir import FLOAT64, Array, Aval, Graph
from autodiff.lower import lower
from autodiff.passes import ALL, optimise
from autodiff.passes.schedule import schedule
from autodiff.passes.steps import HostFunction
from autodiff.plan import Plan

_BEHAVED = 0x101
"""NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED, as in ndarray.flags.num."""

_RELEASE_FROM_WORK = 50_000
"""Elementary operations of a plan that last long enough for other threads to be let in."""

_POLL_FROM_WORK = 10_000_000
"""Elementary operations of a plan that are over before anyone would interrupt them."""

_FILE_MAGIC = b"autodiff executable 1\n"


class PlanError(RuntimeError):
    """Bytes that are not a valid plan, or that this version of the library cannot run."""


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def _is_number(aval: Aval) -> bool:
    """Whether a Python float is passed."""
    return aval.weak and not aval.shape and aval.dtype == FLOAT64


def _bytes(aval: Aval) -> int:
    return aval.size * aval.dtype.itemsize


def _fail(plan: Plan, status: int, line: int, first: int, second: int, message: str | None) -> None:
    """Raise what a run's status means; `first` and `second` are its details."""
    exception = pending()
    written = plan.line(line)
    where = f" [{written}]" if written else ""
    if status == lib.AD_ERROR_INDEX:
        raise IndexError(f"index {first} is out of bounds for axis with size {second}{where}")
    if status == lib.AD_ERROR_NEGATIVE_POWER:
        raise ValueError(f"Integers to negative integer powers are not allowed.{where}")
    if status == lib.AD_INTERRUPTED:
        raise exception or KeyboardInterrupt()
    if status == lib.AD_ERROR_HOST and exception is not None:
        raise exception
    raise PlanError(f"{message or 'the native library failed'}{where}")


class Executable:
    """A compiled graph: a function of arrays that is one call into the native library.

    Any number of threads may call it at once.  It can be pickled (host functions as pickle does it: by name) and saved.
    """

    def __init__(
        self,
        plan: Plan,
        inputs: Sequence[Aval],
        outputs: Sequence[Aval],
        donated: Mapping[int, int] | None = None,
        hosts: Sequence[HostFunction] = (),
        graph: Graph | None = None,
    ):
        self.plan = plan
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.donated = dict(donated or {})
        self.hosts = list(hosts)
        self.graph = graph
        """The optimised graph; None in a process that did not compile it."""
        prepared, error = ffi.new("ad_prepared **"), ffi.new("ad_error *")
        status = lib.ad_plan_load(plan.data, len(plan.data), prepared, error)
        if status == lib.AD_ERROR_MEMORY:
            raise MemoryError("no memory to load the plan")
        if status != lib.AD_OK:
            what = ffi.string(error.message).decode()
            raise PlanError(f"{what} (step {error.step}, part {error.detail[0]})")
        self._prepared = ffi.gc(prepared[0], lib.ad_plan_free, len(plan.data))
        self._check_fit()
        self.workspace: int = lib.ad_plan_workspace(self._prepared)
        """Bytes that each concurrent call works in."""
        self.work: int = lib.ad_plan_work(self._prepared)
        """An upper bound of a call's elementary operations."""
        self.isa: str = ffi.string(lib.ad_plan_isa(self._prepared)).decode()
        """The instruction set it was prepared for."""
        self.caller = self._make_caller()
        """The executable without `call`'s patience: it gives None for arguments that are not just as they should be."""

    def _check_fit(self) -> None:
        """Refuse a plan for other arrays than these: the native library is told where they are, not how long."""
        header, buffers = self.plan.header, self.plan.array("buffers")
        fits = len(self.hosts) == header["n_hosts"]
        for kind, count, avals in (
            (lib.AD_INPUT, header["n_inputs"], self.inputs),
            (lib.AD_OUTPUT, header["n_outputs"], self.outputs),
        ):
            used = buffers[buffers["kind"] == kind]
            have = np.array([_bytes(aval) for aval in avals], np.uint64)
            fits = fits and len(avals) == count and bool((used["size"] <= have[used["index"]]).all())
        for i, j in self.donated.items():
            fits = fits and 0 <= i < len(self.inputs) and 0 <= j < len(self.outputs)
            fits = (
                fits and self.inputs[i].shape == self.outputs[j].shape and self.inputs[i].dtype == self.outputs[j].dtype
            )
        if not fits:
            raise PlanError("the plan does not fit the arrays it is said to be for")

    def _make_caller(self) -> Caller:
        donors = {j: i for i, j in self.donated.items()}
        handle = ffi.new_handle(self.hosts)
        callbacks = bool(self.hosts)
        return Caller(
            run=_address(ffi.addressof(lib, "ad_plan_run")),
            prepared=_address(self._prepared),
            keep=(self._prepared, handle),
            fail=partial(_fail, self.plan),
            inputs=tuple([(*x[:2], _is_number(x), self.donated.get(i, -1)) for i, x in enumerate(self.inputs)]),
            outputs=tuple([(*y[:2], False, donors.get(j, -1)) for j, y in enumerate(self.outputs)]),
            workspace=self.workspace,
            pool=_address(threads.pool()) if lib.ad_plan_shared(self._prepared) else 0,
            host=_address(lib._host) if callbacks else 0,
            poll=_address(lib._poll) if callbacks or self.work > _POLL_FROM_WORK else 0,
            context=_address(handle),
            releases=callbacks or self.work > _RELEASE_FROM_WORK,
        )

    def call(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Run on one argument an input: arrays, or numbers where the shape is ().

        Arguments have the inputs' shapes, and may have to be converted to their dtypes and layout.  Numbers among the
        results are NumPy scalars, and what is made in the memory of a donated input is the donated array.

        Raises:
            ValueError: for a donated argument that cannot be written to.
        """
        results = self.caller.run(*arguments)
        if results is None:
            arrays = self._conform(arguments)
            results = self.caller.run(*arrays)
            if results is None:
                raise self._misfit(arrays)
        return results

    def run_flat(self, arrays: Sequence[Array]) -> list[Array]:
        """As `call`, with arrays of shape () for numbers."""
        return [np.asarray(y) for y in self.call(arrays)]

    def bind(self, inputs: Sequence[Array], outputs: Sequence[Array], out: Any) -> Bound:
        """A function without arguments that runs on these very arrays and returns `out`.

        The arrays are contiguous and aligned, of the inputs' and outputs' shapes and dtypes, and share no memory but
        that of donated inputs and their results.
        """
        return self.caller.bind(tuple(inputs), tuple(outputs), out)

    def _conform(self, arguments: Sequence[Any]) -> list[Any]:
        """The same arguments as the caller takes them."""
        conformed: list[Any] = []
        for i, (x, aval) in enumerate(zip(arguments, self.inputs, strict=True)):
            if _is_number(aval):
                conformed.append(float(x))
            elif i in self.donated:
                conformed.append(np.asarray(x))
            else:
                conformed.append(np.asarray(x, aval.dtype))
        return conformed

    def _misfit(self, arrays: Sequence[Any]) -> Exception:
        """Why the caller does not take these arguments."""
        for i, (x, aval) in enumerate(zip(arrays, self.inputs, strict=True)):
            if i in self.donated:
                if not x.flags.writeable:
                    return ValueError(f"donated argument {i} is read-only")
                if x.dtype != aval.dtype or x.flags.num & _BEHAVED != _BEHAVED:
                    return ValueError(f"donated argument {i} has to be contiguous, aligned and of dtype {aval.dtype}")
            if np.shape(x) != aval.shape:
                return ValueError(f"argument {i} has shape {np.shape(x)} instead of {aval.shape}")
        return ValueError(f"one of the donated arguments {list(self.donated)} overlaps another argument")

    def __repr__(self) -> str:
        return f"<Executable: {', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}; {self.plan!r}>"

    # ---- keeping ----

    def __getstate__(self) -> tuple[Any, ...]:
        return self.plan, self.inputs, self.outputs, self.donated, self.hosts

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a file that `Executable.load` reads, anywhere: instruction sets are chosen when it is loaded."""
        if self.hosts:
            names = ", ".join(str(getattr(h.function, "__qualname__", h.function)) for h in self.hosts)
            raise TypeError(f"an executable with host steps ({names}) cannot be saved, only pickled")
        import json

        about = {
            "inputs": [(x.shape, x.dtype.name, x.weak) for x in self.inputs],
            "outputs": [(x.shape, x.dtype.name, x.weak) for x in self.outputs],
            "donated": list(self.donated.items()),
        }
        with open(path, "wb") as file:
            file.write(_FILE_MAGIC + json.dumps(about).encode() + b"\n" + self.plan.data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Executable:
        """Read what `save` wrote.

        Raises:
            PlanError: the file is not such a file, or damaged.
        """
        import json

        with open(path, "rb") as file:
            data = file.read()
        head, _, plan = data.removeprefix(_FILE_MAGIC).partition(b"\n")
        try:
            if not data.startswith(_FILE_MAGIC):
                raise ValueError(path)
            about = json.loads(head)
            inputs, outputs = (
                [Aval(tuple(shape), np.dtype(dtype), weak) for shape, dtype, weak in about[side]]
                for side in ("inputs", "outputs")
            )
            donated = {int(i): int(j) for i, j in about["donated"]}
        except (ValueError, KeyError, TypeError) as error:
            raise PlanError(f"{os.fspath(path)!r} is not a saved executable") from error
        return cls(Plan(plan), inputs, outputs, donated)


def compile_graph(graph: Graph, donated: Mapping[int, int] | None = None, passes: Collection[str] = ALL) -> Executable:
    """Compile a graph whose arguments are all among its inputs.

    `donated` maps inputs to outputs of the same shape and dtype, which then are made in the memory of those inputs.
    `passes` are the optimisations to use, by name.
    """
    with ir.collection_paused():
        return _compile(graph, dict(donated or {}), passes)


def _compile(graph: Graph, donated: dict[int, int], passes: Collection[str]) -> Executable:
    for x in graph.free:
        raise ValueError(f"{x.aval} is used but is not an input of the graph: a value of another trace has leaked")
    for i, j in donated.items():
        if graph.inputs[i].aval[:2] != graph.outputs[j].aval[:2]:
            raise ValueError(f"input {graph.inputs[i].aval} cannot be donated to output {graph.outputs[j].aval}")
    if len(set(donated.values())) < len(donated):
        raise ValueError("two inputs are donated to one output")
    inputs, outputs = [x.aval for x in graph.inputs], [y.aval for y in graph.outputs]
    graph = optimise(graph, passes)
    steps = schedule(
        graph,
        donated,
        fuse="fuse" in passes,
        sink="sink" in passes,
        rows="rows" in passes,
        recompute="recompute" in passes,
        view="views" in passes,
    )
    plan = lower(steps, reuse="reuse" in passes)
    return Executable(plan, inputs, outputs, donated, steps.hosts, graph)
