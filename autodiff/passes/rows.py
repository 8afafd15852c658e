"""Which regions run row by row: softmax, layer norm and their like read a row once, for all of their stages.

A region of rows has a space whose leading dimensions count rows.  Its nodes compute a row's elements, or *numbers*, one
a row: what is reduced along the rows, and what becomes of that before it is spread over the row again.

*Policy.*  Where regions reduce a space along its rows, all regions over that space, and over its rows alone, with the
same lane width, may run together: stage levels keep them apart where a value goes from one to the other by another way
than these, as in `fuse`, and so does a value that is used other than where it was computed (a slice, another order).
A row has to stay in the cache from the first stage to the last: a program whose registers, times the bytes of a row,
take more than `MOST_BYTES` is not made, nor one that might need more than `MOST_PARTS` operands and registers.  In a
large space, only regions that share operands or results run together.

A program's nodes are in the order of passes over elements and over numbers in turn, as few as there can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from autodiff.ir import BOOL, Node, Shape, Value
from autodiff.passes.canonical import REDUCTIONS, reduced_group
from autodiff.passes.fuse import SMALL, Region
from autodiff.passes.order import in_order, owners, sources
from autodiff.passes.picked import GATHER, SCATTER_ADD, counts_rows
from autodiff.passes.views import View, dense, is_dense, squeezed, squeezed_strides

MOST_BYTES = 256 << 10
"""Bytes of a row's registers: they fit into the second level cache beside what a row reads and writes."""

MOST_ELEMENTS = 1 << 16
"""Elements of a row (AD_MAX_ROW in csrc/kernels.h)."""

MOST_PARTS = 240


class Kind(NamedTuple):
    """Which regions may run together: the space, how many of its dimensions count rows, the lane width."""

    space: Shape
    rows: int
    lane: int


def reduces_row(node: Node, space: Shape, rows: int) -> bool:
    """Whether a node reduces each row of a space to a number."""
    if node.op not in REDUCTIONS:
        return False
    shape = node.inputs[0].aval.shape
    return squeezed(shape) == space and reduced_group(shape, node.params["axes"]) == (rows, len(space) - rows, 0)


def follows(x: Value, view: View, space: Shape, rows: int) -> bool:
    """Whether a view shows each element what its own row holds of the root: that element, or the row's number."""
    shape, root = squeezed(x.aval.shape), squeezed(view.root.aval.shape)
    if view.offset or view.window:
        return False
    if shape == root:
        return is_dense(x.aval.shape, view.strides)
    spread = dense(space[:rows]) + (0,) * (len(space) - rows)
    return shape == space and root == space[:rows] and squeezed_strides(x.aval.shape, view.strides) == spread


def row_regions(regions: list[Region], views: Mapping[Value, View]) -> list[Region]:
    """Regions, with those joined that had better run row by row."""
    kinds = _kinds(regions)
    if not kinds:
        return regions
    regions = in_order(regions, views)
    made: list[Region] = []
    joined: set[int] = set()
    for kind, group in _groups(regions, views, kinds):
        for part in _connected(group, regions, views) if _size(kind.space) > SMALL else [group]:
            for piece in _pieces(part, regions, views):
                nodes = _arranged([node for i in piece for node in regions[i].nodes], kind, views)
                if len(piece) > 1 and nodes:
                    region = Region(nodes, kind.space, kind.lane)
                    region.rows = kind.rows
                    made.append(region)
                    joined.update(piece)
    return [region for i, region in enumerate(regions) if i not in joined] + made


def _kinds(regions: list[Region]) -> dict[tuple[Shape, int], Kind]:
    """By the space and lane of those that take part: the space itself, or that of its rows alone."""
    kinds: dict[tuple[Shape, int], Kind] = {}
    for region in regions:
        space, lane = region.space, region.lane
        if region.split is None or 0 in space:
            continue
        rows, reduced, inner = region.split
        row = _size(space[rows:])
        if rows and reduced and not inner and row <= MOST_ELEMENTS and row * lane <= MOST_BYTES:
            kinds.setdefault((space, lane), Kind(space, rows, lane))
    for kind in list(kinds.values()):
        kinds.setdefault((kind.space[: kind.rows], kind.lane), kind)
    return kinds


def _takes_part(region: Region, kind: Kind) -> bool:
    """Whether all of a region's reductions are along the rows or over all rows."""
    rows, n = kind.rows, len(kind.space)
    if not region.lane:
        return True
    if region.space != kind.space:
        return region.split in (None, (0, rows, 0))
    return region.split in (None, (rows, n - rows, 0), (0, rows, n - rows), (0, n, 0))


def _sees_all(region: Region, views: Mapping[Value, View]) -> bool:
    """Whether a region looks through no windows, which steps of rows do not have."""
    return not any(x in views and views[x].window for node in region.nodes for x in node.inputs)


def _groups(
    regions: list[Region], views: Mapping[Value, View], kinds: Mapping[tuple[Shape, int], Kind]
) -> Iterator[tuple[Kind, list[int]]]:
    """Regions of one kind and stage: nothing between two of them is on a higher stage, so they can run together."""
    owner = owners(regions)
    indexed = _indexed(regions, views, kinds)
    found: list[Kind | None] = []
    stages: list[int] = []
    groups: dict[tuple[Kind, int], list[int]] = {}
    for i, region in enumerate(regions):
        kind = kinds.get((region.space, region.lane)) if region.lane else indexed.get(i)
        if kind is not None and not (_takes_part(region, kind) and _sees_all(region, views)):
            kind = None
        stage = 0
        for node in region.nodes:
            for k, x in enumerate(node.inputs):
                view = views.get(x)
                root = x if view is None else view.root
                j = owner.get(root)
                if j is None or j == i:
                    continue
                near = (
                    kind is not None
                    and found[j] == kind
                    and (k == 0 or i not in indexed)  # positions are read from memory
                    and _is_register(root, kind)
                    and (view is None or follows(x, view, kind.space, kind.rows))
                )
                stage = max(stage, stages[j] + (not near))
        found.append(kind)
        stages.append(stage)
        if kind is not None:
            groups.setdefault((kind, stage), []).append(i)
    for (kind, _), group in groups.items():
        yield kind, group


def _indexed(
    regions: list[Region], views: Mapping[Value, View], kinds: Mapping[tuple[Shape, int], Kind]
) -> dict[int, Kind]:
    """Which gathers and scatters are of one element of each row, of rows that are read anyway."""
    read = {(x, region.space) for region in regions if region.lane for x in sources(region, views)}
    read |= {(node, region.space) for region in regions if region.lane for node in region.nodes}
    indexed: dict[int, Kind] = {}
    for i, region in enumerate(regions):
        node = region.nodes[0]
        if node.op is not GATHER and node.op is not SCATTER_ADD:
            continue
        table, numbers = (node.inputs[0], node) if node.op is GATHER else (node, node.inputs[0])
        space = squeezed(table.aval.shape)
        kind = kinds.get((space, table.aval.dtype.itemsize))
        if kind is None or kind.space != space or table.aval.dtype == BOOL or kind.lane < 4:
            continue
        root = views[table].root if table in views else table
        of_rows = len(space) == kind.rows + 1 and table.aval.shape[-1] == space[-1]
        of_rows = of_rows and squeezed(numbers.aval.shape) == space[:-1]
        wanted = node.op is SCATTER_ADD or (root, space) in read
        if of_rows and wanted and counts_rows(node.inputs[1:], table.aval.shape):
            indexed[i] = kind
    return indexed


def _is_register(root: Value, kind: Kind) -> bool:
    """Whether what a region of this kind computes is in a register, and not reduced or converted to memory."""
    if root.aval.dtype != BOOL and root.aval.dtype.itemsize != kind.lane:
        return False
    return root.node.op not in REDUCTIONS or reduces_row(root.node, kind.space, kind.rows)


def _connected(group: list[int], regions: list[Region], views: Mapping[Value, View]) -> list[list[int]]:
    """The parts of a group that share operands or results."""
    parent = {i: i for i in group}

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    seen: dict[Value, int] = {}
    for i in group:
        for x in {*sources(regions[i], views), *regions[i].nodes}:
            if x in views:
                continue  # a literal
            j, k = find(seen.setdefault(x, i)), find(i)
            parent[max(j, k)] = min(j, k)
    parts: dict[int, list[int]] = {}
    for i in group:
        parts.setdefault(find(i), []).append(i)
    return list(parts.values())


def _pieces(part: list[int], regions: list[Region], views: Mapping[Value, View]) -> Iterator[list[int]]:
    """A part, cut where its nodes might need too many operands and registers."""
    piece: list[int] = []
    loads, stores = set[Value](), 0
    for i in part:
        new, n = sources(regions[i], views), 2 * len(regions[i].nodes)
        if piece and len(loads | new) + stores + n > MOST_PARTS:
            yield piece
            piece, loads, stores = [], set(), 0
        if n + len(new) > MOST_PARTS:
            continue
        piece.append(i)
        loads |= new
        stores += n
    if piece:
        yield piece


def _arranged(nodes: list[Node], kind: Kind, views: Mapping[Value, View]) -> list[Node] | None:
    """The nodes in the order of passes; None if their rows had better not, or cannot, run in one program.

    What is computed in pass n over elements can be reduced in it; what becomes of the numbers is computed after pass n.
    """
    space, rows, lane = kind
    nodes = sorted(nodes, key=lambda node: node.serial)
    at: dict[Value, tuple[bool, int]] = {}  # whether it is a number, and after which pass it is known
    key: dict[Node, int] = {}
    for node in nodes:
        operands = node.inputs[:1] if node.op is GATHER or node.op is SCATTER_ADD else node.inputs
        inputs = [at[x] if x in at else _seen(x, at, views, space, rows) for x in operands]
        of_numbers = all(is_number for is_number, _ in inputs)
        reduces = node.op in REDUCTIONS or node.op is GATHER
        number = of_numbers and not reduces and node.op is not SCATTER_ADD
        number_pass = max(n for _, n in inputs)
        element_pass = max(n + is_number for is_number, n in inputs)
        if node.op in REDUCTIONS and not reduces_row(node, space, rows):
            if of_numbers and node.aval.size == 1 and squeezed(node.inputs[0].aval.shape) == space:
                return None  # its terms are elements, though all of a row are one number
            number = squeezed(node.inputs[0].aval.shape) != space
        at[node] = (number or reduces, number_pass if number else element_pass)
        key[node] = 2 * number_pass + 1 if number else 2 * element_pass
    nodes.sort(key=key.__getitem__)
    return nodes if _most_live(nodes, at, views) * _size(space[rows:]) * lane <= MOST_BYTES else None


def _seen(
    x: Value, at: dict[Value, tuple[bool, int]], views: Mapping[Value, View], space: Shape, rows: int
) -> tuple[bool, int]:
    """What an operand is that is a view, or comes from elsewhere."""
    view = views.get(x)
    if view is not None and view.root in at:
        return at[view.root]
    if squeezed(x.aval.shape) != space:
        return True, -1
    moves = view is None or any(squeezed_strides(x.aval.shape, view.strides)[rows:])
    return (False, 0) if moves else (True, -1)


def _most_live(nodes: list[Node], at: dict[Value, tuple[bool, int]], views: Mapping[Value, View]) -> int:
    """How many values of elements are needed at once."""
    last: dict[Value, int] = {}
    for i, node in enumerate(nodes):
        for x in (*node.inputs, node):
            root = views[x].root if x in views else x
            if not (root in at and at[root][0]) and root not in views:
                last[root] = i
    ends = [0] * (len(nodes) + 1)
    live = most = 0
    begun: set[Value] = set()
    for i, node in enumerate(nodes):
        for x in (*node.inputs, node):
            root = views[x].root if x in views else x
            if root in last and root not in begun:
                begun.add(root)
                live += 1
                ends[last[root]] += 1
        most = max(most, live)
        live -= ends[i]
    return most


def _size(shape: Shape) -> int:
    size = 1
    for d in shape:
        size *= d
    return size
