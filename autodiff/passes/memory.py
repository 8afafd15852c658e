"""Which bytes of the workspace each value lies in: those of values that are needed no more are used again."""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import attrgetter
from typing import Any

from autodiff.passes.steps import ARENA, PROGRAMS, WRITE, Schedule, Step, Storage, last_reads, may_overwrite

ALIGNMENT = 64


def assign(schedule: Schedule, *, reuse: bool = True) -> int:
    """Give every storage of the arena its offset; how many bytes the arena has.

    Without `reuse` each has bytes of its own.
    """
    begins: list[list[Storage]] = [[] for _ in schedule.steps]
    ends: list[list[Storage]] = [[] for _ in schedule.steps]
    live: list[Storage] = []
    for i, step in enumerate(schedule.steps):
        for operand in step.operands:
            storage = operand[1].whole or operand[1]
            if storage.kind is ARENA:
                if storage.first < 0:
                    if not storage.size:
                        continue
                    storage.first = i
                    begins[i].append(storage)
                    live.append(storage)
                storage.last = i
    for storage in live:
        ends[storage.last].append(storage)
    arena = _Arena()
    for step, fresh, dying in zip(schedule.steps, begins, ends, strict=True):
        taken = _in_place(step, fresh, dying) if reuse and fresh and dying and step.kind in PROGRAMS else {}
        for storage in fresh:
            old = taken.get(storage)
            storage.offset = arena.take(storage.size) if old is None else old.offset
        if reuse:
            inherited = set(taken.values())
            for storage in dying:
                if storage not in inherited:
                    arena.give_back(storage.offset, storage.size)
    return arena.size


def _in_place(step: Step, fresh: list[Storage], dying: list[Storage]) -> dict[Storage, Storage]:
    """Results of a step that can lie where something lay that nothing reads after it."""
    reads = last_reads(step)
    free: dict[Any, list[Storage]] = {}  # by layout; those that are read the longest first
    for old in sorted([x for x in dying if x in reads], key=lambda x: reads[x][0], reverse=True):
        free.setdefault(reads[old][1:], []).append(old)
    if not free:
        return {}
    taken: dict[Storage, Storage] = {}
    wanted = set(fresh)
    for store in sorted([x for x in step.operands if x.role == WRITE and x.ref >= 0], key=attrgetter("ref")):
        if store.storage in wanted:
            known = free.get((store.dtype, store.strides))
            if known and may_overwrite(reads, store, known[-1]):
                taken[store.storage] = known.pop()
    return taken


class _Arena:
    """Takes the smallest hole that is large enough; joins holes that touch."""

    def __init__(self) -> None:
        self.size = 0
        self.holes: list[tuple[int, int]] = []  # size, offset; sorted
        self.by_begin: dict[int, int] = {}  # offset -> size
        self.by_end: dict[int, int] = {}  # end -> offset

    def take(self, size: int) -> int:
        size = _rounded(size)
        i = bisect_left(self.holes, (size, 0))
        if i < len(self.holes):
            found, offset = self.holes.pop(i)
            del self.by_begin[offset], self.by_end[offset + found]
            if found > size:
                self._add(offset + size, found - size)
            return offset
        last = self.by_end.get(self.size)
        if last is not None:  # grow the hole at the end
            self._remove(last)
            offset = last
        else:
            offset = self.size
        self.size = offset + size
        return offset

    def give_back(self, offset: int, size: int) -> None:
        size = _rounded(size)
        before, after = self.by_end.get(offset), self.by_begin.get(offset + size)
        if before is not None:
            self._remove(before)
            size += offset - before
            offset = before
        if after is not None:
            self._remove(offset + size)
            size += after
        self._add(offset, size)

    def _add(self, offset: int, size: int) -> None:
        insort(self.holes, (size, offset))
        self.by_begin[offset] = size
        self.by_end[offset + size] = offset

    def _remove(self, offset: int) -> None:
        size = self.by_begin.pop(offset)
        del self.by_end[offset + size]
        del self.holes[bisect_left(self.holes, (size, offset))]


def _rounded(size: int) -> int:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
