"""Which bytes of the workspace each value lies in: those of values that are needed no more are used again."""

from __future__ import annotations

from bisect import bisect_left, insort

from autodiff.passes.schedule import ARENA, READ, Schedule, Step, Storage, last_reads, may_overwrite

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
            storage = operand.storage
            if storage.kind == ARENA and storage.size:
                if storage.first < 0:
                    storage.first = i
                    begins[i].append(storage)
                    live.append(storage)
                storage.last = i
    for storage in live:
        ends[storage.last].append(storage)
    arena = _Arena()
    for step, fresh, dying in zip(schedule.steps, begins, ends, strict=True):
        taken = _in_place(step, fresh, dying) if reuse and fresh and dying and step.kind == "map" else {}
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
    taken: dict[Storage, Storage] = {}
    reads = last_reads(step)
    free = [s for s in dying if s in reads]
    for store in step.operands:
        if store.role == READ or store.storage not in fresh or not free:
            continue
        for old in free:
            if old.size == store.storage.size and may_overwrite(reads, store, old):
                taken[store.storage] = old
                free.remove(old)
                break
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
