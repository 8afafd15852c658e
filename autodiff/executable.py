"""From a graph to a function of arrays: compiles it, and makes each call one call into the native library."""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from autodiff import ir
from autodiff._native import ffi, lib
from autodiff.ir import Array, Aval, Builder, Dtype, Graph, Node, Shape, Value
from autodiff.lower import lower
from autodiff.passes import ALL, optimise
from autodiff.passes.schedule import schedule
from autodiff.passes.steps import HostFunction
from autodiff.plan import Plan

_BEHAVED = 0x101
"""NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED, as in ndarray.flags.num."""

_SMALL = 2048
"""Bytes up to which arrays are copied to and from memory that the native library knows already."""

_POLL_FROM_WORK = 10_000_000
"""Elementary operations of a plan that are over before anyone would interrupt them."""

_FILE_MAGIC = b"autodiff executable 1\n"


class PlanError(RuntimeError):
    """Bytes that are not a valid plan, or that this version of the library cannot run."""


# ---- callbacks -----------------------------------------------------------------------------------------------------


class _Pending(threading.local):
    exception: BaseException | None = None


_pending = _Pending()


def _remember(kind: Any, exception: BaseException, traceback: Any) -> None:
    """Keep what a callback raised until the native call has returned."""
    _pending.exception = exception


@ffi.def_extern(error=1, onerror=_remember)  # type: ignore[untyped-decorator]
def _poll(context: Any) -> int:
    return 0  # being here is enough: Python runs signal handlers, and what they raise goes to _remember


def _memory(pointer: Any, shape: Shape, dtype: Dtype) -> Array:
    size = Aval(shape, dtype).size
    if not size:
        return np.empty(shape, dtype)
    return np.frombuffer(ffi.buffer(pointer, size * dtype.itemsize), dtype).reshape(shape)


@ffi.def_extern(error=1, onerror=_remember)  # type: ignore[untyped-decorator]
def _host(context: Any, number: int, inputs: Any, outputs: Any) -> int:
    host: HostFunction = ffi.from_handle(context)[number]
    name = getattr(host.function, "__qualname__", host.function)
    arrays = [_memory(inputs[i], *aval).copy() for i, aval in enumerate(host.inputs)]
    results = host.function(*arrays)
    if len(results) != len(host.outputs):
        raise TypeError(f"the host step {name} returned {len(results)} results instead of {len(host.outputs)}")
    for i, (result, (shape, dtype)) in enumerate(zip(results, host.outputs, strict=True)):
        array = np.asarray(result)
        if array.shape != shape or array.dtype != dtype:
            got, want = Aval(array.shape, array.dtype), Aval(shape, dtype)
            raise TypeError(f"the host step {name} returned {got} as result {i} instead of {want}")
        _memory(outputs[i], shape, dtype)[...] = array
    return 0


# ---- calls ---------------------------------------------------------------------------------------------------------


class _Call:
    """What one run needs of its own: the C struct, a workspace, and room for small arguments and results.

    An array is cheaper to copy than to point to, up to a size.
    """

    __slots__ = ("error", "handle", "inputs", "memory", "outputs", "run", "small_inputs", "small_outputs")

    def __init__(self, executable: Executable):
        self.inputs = ffi.new("void *[]", max(len(executable.inputs), 1))
        self.outputs = ffi.new("void *[]", max(len(executable.outputs), 1))
        self.error = ffi.new("ad_error *")
        self.handle = ffi.new_handle(executable.hosts)
        size = (executable.workspace + 63) // 64 * 64
        rooms = [(self.inputs, i, executable.inputs[i]) for i in executable.small_inputs]
        rooms += [(self.outputs, i, executable.outputs[i]) for i in executable.small_outputs]
        memory = np.empty(size + 64 + len(rooms) * _SMALL, np.uint8)
        address = int(ffi.cast("uintptr_t", ffi.from_buffer(memory)))
        self.memory = memory = memory[-address % 64 :]
        base = ffi.cast("char *", ffi.from_buffer(memory))
        views = []
        for n, (pointers, i, aval) in enumerate(rooms):
            begin = size + n * _SMALL
            views.append((i, memory[begin : begin + _bytes(aval)].view(aval.dtype).reshape(aval.shape)))
            pointers[i] = base + begin
        self.small_inputs = views[: len(executable.small_inputs)]
        self.small_outputs = views[len(executable.small_inputs) :]
        run = self.run = ffi.new("ad_run *")
        run.size = ffi.sizeof("ad_run")
        run.inputs = self.inputs
        run.outputs = self.outputs
        run.workspace = base
        run.workspace_size = size
        run.context = self.handle
        run.error = self.error
        if executable.hosts:
            run.host = lib._host
        if executable.hosts or executable.work > _POLL_FROM_WORK:
            run.poll = lib._poll


def _bytes(aval: Aval) -> int:
    return aval.size * aval.dtype.itemsize


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
        self._calls: list[_Call] = []  # not in use just now
        fresh = sorted({*range(len(self.outputs))} - {*self.donated.values()})
        small = [_bytes(x) <= _SMALL and i not in self.donated for i, x in enumerate(self.inputs)]
        self.small_inputs = [i for i, flag in enumerate(small) if flag]
        self._large_inputs = [(i, self.inputs[i].dtype) for i, flag in enumerate(small) if not flag]
        self.small_outputs = [i for i in fresh if _bytes(self.outputs[i]) <= _SMALL]
        self._large_outputs = [
            (i, self.outputs[i].shape, self.outputs[i].dtype) for i in fresh if _bytes(self.outputs[i]) > _SMALL
        ]

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

    def run_flat(self, arrays: Sequence[Array]) -> list[Array]:
        """Run on one array an input, of the input's shape and dtype, which the caller has checked.

        The results are fresh arrays, but for those in the memory of donated inputs: these are the donated arrays.
        """
        if len(arrays) != len(self.inputs):
            raise ValueError(f"an executable of {len(self.inputs)} arguments got {len(arrays)}")
        try:
            call = self._calls.pop()
        except IndexError:
            call = _Call(self)
        for i, room in call.small_inputs:
            room[...] = arrays[i]
        if self._large_inputs:
            arrays = list(arrays)  # which keeps alive what is copied
            for i, dtype in self._large_inputs:
                array = arrays[i]
                if array.flags.num & _BEHAVED != _BEHAVED or array.dtype != dtype:
                    array = arrays[i] = self._conform(array, i)
                call.inputs[i] = ffi.from_buffer(array)
        results: list[Any] = [None] * len(self.outputs)
        for i, shape, dtype in self._large_outputs:
            result = results[i] = np.empty(shape, dtype)
            call.outputs[i] = ffi.from_buffer(result)
        if self.donated:
            self._donate(call, arrays, results)
        status = lib.ad_plan_run(self._prepared, call.run)
        if status:
            raise self._exception(call, status)
        for i, room in call.small_outputs:
            results[i] = room.copy()
        self._calls.append(call)
        return results

    def _conform(self, array: Array, i: int) -> Array:
        if i in self.donated:
            raise ValueError(f"donated argument {i} has to be contiguous, aligned and of dtype {self.inputs[i].dtype}")
        return np.require(array, self.inputs[i].dtype, ["C_CONTIGUOUS", "ALIGNED"])

    def _donate(self, call: _Call, arrays: Sequence[Array], results: list[Any]) -> None:
        for i, j in self.donated.items():
            array = arrays[i]
            if not array.flags.writeable:
                raise ValueError(f"donated argument {i} is read-only")
            call.outputs[j] = call.inputs[i]
            results[j] = array
        # where one of two arguments is written to they may not overlap; small ones have been copied
        spans = sorted(
            [
                (int(ffi.cast("uintptr_t", call.inputs[i])), arrays[i].nbytes, i)
                for i, _ in self._large_inputs
                if arrays[i].nbytes
            ]
        )
        end, other = 0, -1
        for begin, size, i in spans:
            if begin < end and (i in self.donated or other in self.donated):
                raise ValueError(f"donated argument {i if i in self.donated else other} overlaps another argument")
            if begin + size > end:
                end, other = begin + size, i

    def _exception(self, call: _Call, status: int) -> BaseException:
        error, pending = call.error, _pending.exception
        _pending.exception = None
        line = self.plan.line(error.line)
        where = f" [{line}]" if line else ""
        if status == lib.AD_ERROR_INDEX:
            return IndexError(f"index {error.detail[0]} is out of bounds for axis with size {error.detail[1]}{where}")
        if status == lib.AD_ERROR_NEGATIVE_POWER:
            return ValueError(f"Integers to negative integer powers are not allowed.{where}")
        if status == lib.AD_INTERRUPTED:
            return pending or KeyboardInterrupt()
        if status == lib.AD_ERROR_HOST and pending is not None:
            return pending
        message = ffi.string(error.message).decode() if error.message else "the native library failed"
        return PlanError(f"{message}{where}")

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


# ---- lazily computed values ----------------------------------------------------------------------------------------


class _Cache:
    """The executables used last, by the structure of what they compute."""

    def __init__(self, size: int):
        self.size = size
        self.lock = threading.Lock()
        self.table: OrderedDict[Any, Executable] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Executable]) -> Executable:
        with self.lock:
            known = self.table.get(key)
            if known is not None:
                self.table.move_to_end(key)
                return known
        made = make()
        with self.lock:
            self.table[key] = made
            while len(self.table) > self.size:
                self.table.popitem(last=False)
        return made


_evaluations = _Cache(256)


def evaluate(values: Sequence[Value]) -> list[Array]:
    """The NumPy values of nodes made outside `compile`; they are kept, and computing starts from what is known.

    Networks of the same structure, written in the same lines, share one executable, so that a loop compiles once.
    """
    wanted = list(dict.fromkeys([x for x in values if x.data is None]))
    if wanted:
        nodes, leaves = _cut(wanted)
        numbers: dict[Value, int] = {x: i for i, x in enumerate(leaves)}
        key: list[Any] = [x.aval[:2] for x in leaves]
        for node in nodes:
            key.append((node.op, node.line, *node.params.values(), *[numbers[x] for x in node.inputs]))
            for y in node.outputs:
                numbers[y] = len(numbers)
        key.append(tuple([numbers[x] for x in wanted]))

        def make() -> Executable:
            return compile_graph(_as_graph(nodes, leaves, wanted))

        arrays = [x.data for x in leaves if x.data is not None]
        for x, array in zip(wanted, _evaluations.get(tuple(key), make).run_flat(arrays), strict=True):
            x.data = array
    return [x.data for x in values if x.data is not None]


def _cut(wanted: Sequence[Value]) -> tuple[list[Node], list[Value]]:
    """The nodes that have to be computed, sorted; and the known values that they begin with."""
    seen: set[Node] = set()
    stack = [x.node for x in wanted]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        if node.op is ir.argument_op:
            raise ValueError(f"{node.aval} is an argument of a function that is being traced: it has no value yet")
        seen.add(node)
        stack.extend([x.node for x in node.inputs if x.data is None and x.node not in seen])
    nodes = sorted(seen, key=ir.serial)
    leaves = {x: None for node in nodes for x in node.inputs if x.data is not None}
    return nodes, list(leaves)


def _as_graph(nodes: list[Node], leaves: list[Value], wanted: Sequence[Value]) -> Graph:
    """The same nodes on arguments, so that what is cached keeps none of the user's arrays."""
    builder = Builder(intern=True)
    with ir.building(builder):
        env: dict[Value, Value] = {x: ir.argument(x.aval) for x in leaves}
        inputs = tuple(env.values())
        for node in nodes:
            builder.line = node.line
            new = builder.emit(node.op, tuple([env[x] for x in node.inputs]), node.params)
            for y, result in zip(node.outputs, new.outputs, strict=True):
                env.setdefault(y, result)
    return Graph(inputs, tuple([env[x] for x in wanted]), "lazy")
