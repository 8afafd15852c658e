"""The order in which regions run: that of the program, as far as their dependencies allow."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Any

from autodiff.ir import Value
from autodiff.passes.fuse import Region
from autodiff.passes.views import View


def in_order(
    made: list[Region], views: Mapping[Value, View], overwrites: Mapping[Value, Value] | None = None
) -> list[Region]:
    """Topologically sorted; of those that could run next, the one that the program began first.

    `overwrites` maps values to the inputs in whose memory they had best be made: after all else that reads those, if
    it can be.
    """
    made.sort(key=_first_serial)
    owner = owners(made)
    needs: list[set[Any]] = []
    sorted_already = not overwrites
    readers: dict[Value, set[int]] = {x: set() for x in (overwrites or {}).values()}
    for i, region in enumerate(made):
        roots = sources(region, views)
        needed = {owner.get(x) for x in roots} - {None, i}
        sorted_already = sorted_already and all(j < i for j in needed if j is not None)
        needs.append(needed)
        for x in readers.keys() & roots:
            readers[x].add(i)
    if sorted_already:
        return made
    rather_after: dict[int, set[int]] = {}
    for y, x in (overwrites or {}).items():
        if y in owner:
            rather_after.setdefault(owner[y], set()).update(readers[x] - {owner[y]})
    return [made[i] for i in _sorted(needs, rather_after)]


def owners(made: list[Region]) -> dict[Value | None, int]:
    """Which region computes each value."""
    owner: dict[Value | None, int] = {}
    for i, region in enumerate(made):
        for node in region.nodes:
            owner[node] = i
            for result in node.results or ():
                owner[result] = i
    return owner


def sources(region: Region, views: Mapping[Value, View]) -> set[Value]:
    """The values that a region's nodes use, or look at."""
    return {views[x].root if x in views else x for node in region.nodes for x in node.inputs}


def _sorted(needs: list[set[int]], rather_after: dict[int, set[int]]) -> list[int]:
    """The lowest number next that needs nothing to come; one that had rather wait for others, if there is no other."""
    followers: list[list[int]] = [[] for _ in needs]
    for i, needed in enumerate(needs):
        for j in needed:
            followers[j].append(i)
    wishers: dict[int, list[int]] = {}
    for i, wished in rather_after.items():
        for j in wished:
            wishers.setdefault(j, []).append(i)
    wishes = {i: len(wished) for i, wished in rather_after.items()}
    waiting = [len(needed) for needed in needs]
    ready = [i for i, n in enumerate(waiting) if not n and not wishes.get(i)]  # sorted, hence a heap
    reluctant = [i for i, n in enumerate(waiting) if not n and wishes.get(i)]
    order: list[int] = []
    done: set[int] = set()
    while ready or reluctant:
        i = heappop(ready or reluctant)
        if i in done:
            continue
        done.add(i)
        order.append(i)
        for j in followers[i]:
            waiting[j] -= 1
            if not waiting[j]:
                heappush(reluctant if wishes.get(j) else ready, j)
        for j in wishers.get(i, ()):
            wishes[j] -= 1
            if not wishes[j] and not waiting[j]:
                heappush(ready, j)
    assert len(order) == len(needs), "regions depend on each other"
    return order


def _first_serial(region: Region) -> int:
    return region.nodes[0].serial
