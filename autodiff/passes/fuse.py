"""Which nodes run together: elementwise nodes and the reductions of what they compute form regions.

*Policy.*  The nodes of a region have one iteration space (their shape, but for dimensions of size 1) and one lane width
(bytes of the numbers they work on), so each value between them stays in a register.  `stage` levels decide which nodes
may meet: a node is on the stage of the inputs it could take from a register, and one above all others.  Nodes of one
stage, space and width can run together whatever else the graph does (nothing between two of them can be on a higher
stage), so these are the regions, except that

- a reduction ends in the region of what it reduces, if that splits the space as the region's other reductions do
  (kept | reduced | kept), else on the next stage where one does;
- in a large space, nodes that share neither operands nor results stay apart, since together they would only hold more
  registers; in a small one (`SMALL`) they run together, since a step of its own would cost more;
- a region has at most `MOST_OPERANDS` operands in memory (`MOST_SMALL` in small spaces); a longer one is cut where that
  would be exceeded, and what lives across the cut is stored.

*Sinking.*  The levels place a node as early as possible: `1 - y * y`, which only the backward pass needs, in the
forward region that makes `y`.  A node that no other of its region needs moves to the region of its first consumer, if
then no more bytes have to be stored.

Regions run in the order of the program, as far as their dependencies allow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import heapify, heappop, heappush

from autodiff.ir import BOOL, OPS, Aval, Node, Shape, Value, argument_op, constant_op
from autodiff.passes.canonical import REDUCTIONS, reduced_group
from autodiff.passes.views import View, is_dense, squeezed

SMALL = 1024
"""Elements of a space that takes a step no longer to run than to begin."""

MOST_OPERANDS = 64
MOST_SMALL = 224

_FAR = 1 << 60
_CONVERT = OPS["convert"]


class Region:
    """Nodes that run together: one of any kind, or elementwise ones and reductions over the space of their operands."""

    __slots__ = ("lane", "nodes", "space", "split")

    def __init__(self, nodes: list[Node], space: Shape = (), lane: int = 0, split: tuple[int, int, int] | None = None):
        self.nodes = nodes
        self.space = space
        self.lane = lane  # 0: not a region of the tile machine
        self.split = split


def lane_of_mask(node: Node, hint: int) -> int:
    """The width of the lanes in which a bool is computed; `hint` where nothing but bools is involved."""
    dtype = node.inputs[-1].aval.dtype
    return hint if dtype == BOOL else dtype.itemsize


def regions(
    nodes: list[Node], outputs: Collection[Value], views: dict[Value, View], *, fuse: bool, sink: bool
) -> list[Region]:
    """The nodes that compute something, in the order they run in."""
    return _Fusion(nodes, outputs, views).run(sink) if fuse else list(_one_by_one(nodes, views))


def _one_by_one(nodes: list[Node], views: dict[Value, View]) -> Iterator[Region]:
    for node in nodes:
        if node in views or node.op is constant_op or node.op is argument_op:
            continue
        if node.op in REDUCTIONS:
            x = node.inputs[0].aval
            split = reduced_group(x.shape, node.params["axes"])
            yield Region([node], squeezed(x.shape), x.dtype.itemsize, split)
        elif node.op.elementwise:
            dtype = node.aval.dtype
            yield Region([node], squeezed(node.aval.shape), lane_of_mask(node, 1) if dtype == BOOL else dtype.itemsize)
        else:
            yield Region([node])


class _Fusion:
    def __init__(self, nodes: list[Node], outputs: Collection[Value], views: dict[Value, View]):
        self.views = views
        self.nodes = [n for n in nodes if n not in views and n.op is not constant_op and n.op is not argument_op]
        self.place: dict[Value, tuple[int, int]] = {}  # of values that are computed: stage, class (-1: of its own)
        self.classes: dict[tuple[Shape, int], int] = {}  # space and lane width
        self.lanes: list[int] = []  # the latter, by class
        self.class_of: dict[Aval, int] = {}
        self.splits: dict[tuple[int, int], tuple[int, int, int]] = {}  # how a stage's class is reduced
        self.reductions: dict[Node, int] = {}  # and their classes
        self.needed: dict[Value, int] = {}  # uses of a value by which it has to be in memory
        for y in outputs:
            root = views[y].root if y in views else y
            self.needed[root] = self.needed.get(root, 0) + 1

    def run(self, sink: bool) -> list[Region]:
        self.level()
        if sink and len(self.nodes) > 1:
            self.sink()
        return self.in_order(self.cut())

    # ---- stages ----

    def class_for(self, space: Shape, lane: int) -> int:
        known = self.classes.setdefault((space, lane), len(self.classes))
        if known == len(self.lanes):
            self.lanes.append(lane)
        return known

    def source(self, x: Value) -> tuple[Value, bool]:
        """The value in memory that `x` looks at, and whether a register that holds that holds `x` too."""
        view = self.views.get(x)
        if view is None:
            return x, True
        root: Value = view.root
        shape = x.aval.shape
        same = view.offset == 0 and squeezed(shape) == squeezed(root.aval.shape) and is_dense(shape, view.strides)
        return root, same

    def mask_hints(self) -> dict[Value, int]:
        """Widths that masks had best have, from where they are used: bools alone have none of their own."""
        hints: dict[Value, int] = {}
        for node in reversed(self.nodes):
            if not node.op.elementwise:
                continue
            dtype = node.aval.dtype
            lane = lane_of_mask(node, hints.get(node, 1)) if dtype == BOOL else dtype.itemsize
            for x in node.inputs:
                if x.aval.dtype == BOOL:
                    hints[self.source(x)[0]] = lane
        return hints

    def mask_lane(self, node: Node, hints: dict[Value, int]) -> int:
        for x in node.inputs:
            at = self.place.get(self.source(x)[0])
            if at is not None and at[1] >= 0 and x.aval.dtype == BOOL:
                return self.lanes[at[1]]
        return hints.get(node, 1)

    def level(self) -> None:
        place, views, needed, class_of = self.place, self.views, self.needed, self.class_of
        hints: dict[Value, int] | None = None
        for node in self.nodes:
            op = node.op
            if op in REDUCTIONS:
                self.level_reduction(node)
                continue
            cls = -1
            if op.elementwise:
                aval = node.aval
                known = class_of.get(aval)
                if known is None:
                    if aval.dtype == BOOL:
                        lane = lane_of_mask(node, 0)
                        if not lane:
                            hints = self.mask_hints() if hints is None else hints
                            lane = self.mask_lane(node, hints)
                        known = self.class_for(squeezed(aval.shape), lane)
                    else:
                        known = class_of[aval] = self.class_for(squeezed(aval.shape), aval.dtype.itemsize)
                cls = known
            stage = 0
            for x in node.inputs:
                same = True
                at = place.get(x)
                if at is None:
                    if x not in views:
                        continue
                    x, same = self.source(x)
                    at = place.get(x)
                    if at is None:
                        continue
                if at[1] == cls and same and cls >= 0:
                    if at[0] > stage:
                        stage = at[0]
                elif at[0] >= stage:
                    stage = at[0] + 1
            here = place[node] = (stage, cls)
            for x in node.inputs:
                at = place.get(x)
                if at is not None:
                    if at != here or cls < 0:
                        needed[x] = needed.get(x, 0) + 1
                elif x in views:
                    x, same = self.source(x)
                    if x in place and (place[x] != here or not same or cls < 0):
                        needed[x] = needed.get(x, 0) + 1
            if node.results is not None:
                for y in node.results:
                    place[y] = here

    def level_reduction(self, node: Node) -> None:
        x, same = self.source(node.inputs[0])
        shape, dtype = node.inputs[0].aval[:2]
        split = reduced_group(shape, node.params["axes"])
        at = self.place.get(x)
        lane = self.lanes[at[1]] if dtype == BOOL and at is not None and at[1] >= 0 else dtype.itemsize
        cls = self.class_for(squeezed(shape), lane)
        stage = 0
        if at is not None:
            stage = at[0] if at[1] == cls and same else at[0] + 1
        while self.splits.setdefault((stage, cls), split) != split:
            stage += 1
        if at is not None and (at != (stage, cls) or not same):
            self.needed[x] = self.needed.get(x, 0) + 1
        self.place[node] = (stage, -1)
        self.reductions[node] = cls

    # ---- sinking ----

    def sink(self) -> None:
        place, needed = self.place, self.needed
        first: dict[Value, list[int]] = {}  # of its uses from registers: the first stage and how many are on it
        limit: dict[Value, int] = {}  # the last stage on which a value is made early enough for its other uses
        for node in reversed(self.nodes):
            stage, cls = place[node]
            sources = [s for s in map(self.source, node.inputs) if s[0] in place]
            if cls >= 0 and needed.get(node) and node in first:
                target, n = first[node]
                if stage < target <= limit.get(node, _FAR) and needed[node] == n:
                    fresh = {x for x, _ in sources if not needed.get(x)}
                    if sum([_bytes(x.aval) for x in fresh]) <= _bytes(node.aval):
                        for x, same in sources:
                            if same and place[x] == (stage, cls):
                                needed[x] = needed.get(x, 0) + 1
                        needed[node] = 0
                        stage = target
                        place[node] = (stage, cls)
            if node in self.reductions:
                cls = self.reductions[node]
            for x, same in sources:
                if cls >= 0 and same and place[x][1] == cls:
                    known = first.get(x)
                    if known is None or stage < known[0]:
                        first[x] = [stage, 1]
                    elif stage == known[0]:
                        known[1] += 1
                else:
                    limit[x] = min(limit.get(x, _FAR), stage - 1)

    # ---- regions ----

    def cut(self) -> list[Region]:
        """Regions of groups of one stage, space and width."""
        groups: dict[tuple[int, int], list[Node]] = {}
        made: list[Region] = []
        for node in self.nodes:
            key = self.place[node]
            if key[1] < 0:
                cls = self.reductions.get(node)
                if cls is None:
                    made.append(Region([node]))
                    continue
                key = (key[0], cls)
            group = groups.get(key)
            if group is None:
                groups[key] = [node]
            else:
                group.append(node)
        classes = list(self.classes)
        for key, group in groups.items():
            space, lane = classes[key[1]]
            size = 1
            for d in space:
                size *= d
            parts = [group] if size <= SMALL or len(group) == 1 else self.connected(group)
            for part in parts:
                for piece in self.pieces(part, MOST_SMALL if size <= SMALL else MOST_OPERANDS):
                    reduces = not self.reductions.keys().isdisjoint(piece)
                    made.append(Region(piece, space, lane, self.splits[key] if reduces else None))
        return made

    def connected(self, group: list[Node]) -> list[list[Node]]:
        """The parts of a group that share operands or results."""
        parent = list(range(len(group)))
        seen: dict[Value, int] = {}
        for i, node in enumerate(group):
            for x in (node, *node.inputs):
                view = self.views.get(x)
                if view is not None:
                    x = view.root
                    if x in self.views:
                        continue  # a literal
                j = seen.setdefault(x, i)
                while parent[j] != j:
                    parent[j] = j = parent[parent[j]]
                k = i
                while parent[k] != k:
                    parent[k] = k = parent[parent[k]]
                parent[max(j, k)] = min(j, k)
        parts: dict[int, list[Node]] = {}
        for i, node in enumerate(group):
            while parent[i] != i:
                i = parent[i]
            parts.setdefault(i, []).append(node)
        return list(parts.values())

    def pieces(self, part: list[Node], most: int) -> Iterator[list[Node]]:
        """A part, cut where it would have more than `most` operands in memory."""
        if len(part) * 4 <= most:
            yield part
            return
        views, needed = self.views, self.needed
        uses: dict[Value, int] = {}
        operands: list[set[Value]] = []
        for node in part:
            roots = {views[x].root if x in views else x for x in node.inputs}
            operands.append(roots)
            for x in roots:
                uses[x] = uses.get(x, 0) + 1
        begin, loaded, kept, inside = 0, set[Value](), 0, set[Value]()
        for i, node in enumerate(part):
            roots = operands[i]
            new = roots - loaded - inside
            if i > begin and len(loaded) + len(new) + kept + 1 > most:
                yield part[begin:i]
                begin, loaded, kept, inside, new = i, set(), 0, set(), roots
            loaded |= new
            inside.add(node)
            kept += 1
            for x in roots:
                uses[x] -= 1
                if not uses[x] and x in inside and not needed.get(x):
                    kept -= 1
        yield part[begin:]

    # ---- order ----

    def in_order(self, made: list[Region]) -> list[Region]:
        """Topologically sorted; of those that could run next, the one that the program began first."""
        if len(made) == 1:
            return made
        owner: dict[Node, int] = {}
        for i, region in enumerate(made):
            for node in region.nodes:
                owner[node] = i
        followers: list[set[int]] = [set() for _ in made]
        for i, region in enumerate(made):
            for node in region.nodes:
                for x in node.inputs:
                    view = self.views.get(x)
                    j = owner.get((x if view is None else view.root).node)
                    if j is not None and j != i:
                        followers[j].add(i)
        waiting = [0] * len(made)
        for f in followers:
            for i in f:
                waiting[i] += 1
        ready = [(made[i].nodes[0].serial, i) for i, n in enumerate(waiting) if not n]
        heapify(ready)
        order: list[Region] = []
        while ready:
            _, i = heappop(ready)
            order.append(made[i])
            for j in followers[i]:
                waiting[j] -= 1
                if not waiting[j]:
                    heappush(ready, (made[j].nodes[0].serial, j))
        assert len(order) == len(made), "regions depend on each other"
        return order


def _bytes(aval: Aval) -> int:
    return aval.size * aval.dtype.itemsize
