"""Which nodes run together: elementwise nodes and the reductions of what they compute form regions.

*Policy.*  The nodes of a region have one iteration space (their shape, but for dimensions of size 1) and one lane width
(bytes of the numbers they work on), so each value between them stays in a register.  `stage` levels decide which nodes
may meet: a node is on the stage of the inputs it could take from a register, and one above all others.  Nodes of one
stage, space and width can run together whatever else the graph does (nothing between two of them can be on a higher
stage), so these are the regions, except that

- a reduction ends in the region of what it reduces, if that splits the space as the region's other reductions do
  (kept | reduced | kept), else on the next stage where one does;
- a conversion to narrower numbers ends in the region that computes what it converts;
- in a large space, nodes that share neither operands nor results stay apart, since together they would only hold more
  registers; in a small one (`SMALL`) they run together, since a step of its own would cost more;
- a region has at most `MOST_OPERANDS` operands in memory and values in registers (`MOST_SMALL` in small spaces); a
  longer one is cut where that would be exceeded, and what lives across the cut is stored;
- single numbers do not run on the tile machine but as a program of their own, which has room for all there are (unless
  one is reduced, as happens where nothing is simplified).  A step of one operation takes 60 to 110 ns less there, one
  of thousands 30 times less, so how many there are is not asked.

*Sinking.*  The levels place a node as early as possible: `1 - y * y`, which only the backward pass needs, in the
forward region that makes `y`.  A node whose users are all in one later region, where they could take it from a
register, moves there, if then no more bytes have to be stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import heapify, heappop, heappush
from typing import Any

from autodiff.ir import BOOL, OPS, Aval, Node, Shape, Value, argument_op, constant_op
from autodiff.passes.canonical import REDUCTIONS, reduced_group
from autodiff.passes.views import View, is_dense, squeezed

SMALL = 1024
"""Elements of a space that takes a step no longer to run than to begin."""

MOST_OPERANDS = 64
MOST_SMALL = 224


_CONVERT = OPS["convert"]


class Region:
    """Nodes that run together: one of any kind, or elementwise ones and reductions over the space of their operands."""

    __slots__ = ("lane", "nodes", "rows", "space", "split")

    def __init__(self, nodes: list[Node], space: Shape = (), lane: int = 0, split: tuple[int, int, int] | None = None):
        self.nodes = nodes
        self.space = space
        self.lane = lane  # 0: not a region of the tile machine
        self.split = split
        self.rows = 0  # how many leading dimensions of the space count rows; 0: it is not one of rows (rows.py)


def lane_of_mask(node: Node, hint: int) -> int:
    """The width of the lanes in which a bool is computed; `hint` where nothing but bools is involved."""
    dtype = node.inputs[-1].aval.dtype
    return hint if dtype == BOOL else dtype.itemsize


def regions(
    nodes: list[Node],
    outputs: Collection[Value],
    views: dict[Value, View],
    *,
    fuse: bool,
    sink: bool,
) -> list[Region]:
    """The nodes that compute something, in any order."""
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
        self.hints: dict[Value, int] | None = None
        self.splits: dict[tuple[int, int], tuple[int, int, int]] = {}  # how a stage's class is reduced
        self.ends: dict[Node, int] = {}  # nodes that only store something of a region, and its class
        self.sources: dict[Node, tuple[Value, ...]] = {}  # what nodes that use views look at
        self.askew: dict[Node, set[Value]] = {}  # those of them that they do not see as a register holds them
        self.inner: dict[Value, int] = {}  # uses of a value from a register
        self.users: dict[Value, list[Node]] = {}  # the others, by which it has to be in memory
        self.outputs = {views[y].root if y in views else y for y in outputs}

    def run(self, sink: bool) -> list[Region]:
        self.level()
        if sink:
            self.sink()
        return self.cut()

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
        whole = view.offset == 0 and view.window is None and is_dense(shape, view.strides)
        return root, whole and squeezed(shape) == squeezed(root.aval.shape)

    def see(self, node: Node) -> tuple[Value, ...]:
        """What a node with views among its operands looks at."""
        sources: list[Value] = []
        for x in node.inputs:
            view = self.views.get(x)
            if view is None or view.root is x:  # in memory, or a literal
                sources.append(x)
                continue
            root, same = self.source(x)
            sources.append(root)
            if not same and root not in self.views:
                self.askew.setdefault(node, set()).add(root)
        result = self.sources[node] = tuple(sources)
        return result

    def operands(self, node: Node) -> tuple[Any, ...]:
        """What a node takes from registers or memory: each value once, but for views of it that differ."""
        if self.sources.get(node, node.inputs) == node.inputs:
            return node.inputs
        seen = [(x, *self.source(x)) for x in node.inputs]
        return tuple([root if same else self.views[x] for x, root, same in seen])

    def level(self) -> None:
        """Put each node on its stage, and count the uses of its operands."""
        place, inner, users, class_of, views = self.place, self.inner, self.users, self.class_of, self.views.keys()
        here, aval, known = (-1, -1), None, None  # of the node before: mostly those of the next
        for node in self.nodes:
            op = node.op
            sources = node.inputs if views.isdisjoint(node.inputs) else self.see(node)
            cls = -2  # as nothing else
            if op.elementwise:
                if op is _CONVERT and self.level_narrowing(node, sources):
                    continue
                if known is None or node.aval is not aval:
                    aval = node.aval
                    known = class_of.get(aval)
                cls = self.class_of_new(node) if known is None else known
            elif op in REDUCTIONS:
                self.level_reduction(node, sources)
                continue
            askew = self.askew.get(node, ()) if self.askew else ()
            stage = 0
            for x in sources:
                at = place.get(x)
                if at is not None:
                    if at[1] == cls and x not in askew:
                        if at[0] > stage:
                            stage = at[0]
                    elif at[0] >= stage:
                        stage = at[0] + 1
            if here[0] != stage or here[1] != cls:
                here = (stage, cls)
            place[node] = here
            for y in node.results or ():
                place[y] = here
            for x in sources:
                at = place.get(x)
                if at is None:
                    continue
                if (at is here or at == here) and cls >= 0 and x not in askew:
                    inner[x] = inner.get(x, 0) + 1
                else:
                    users.setdefault(x, []).append(node)

    def class_of_new(self, node: Node) -> int:
        """The class of an elementwise node: that of all with its aval, unless it is a mask."""
        aval = node.aval
        if aval.dtype != BOOL:
            cls = self.class_of[aval] = self.class_for(squeezed(aval.shape), aval.dtype.itemsize)
            return cls
        return self.class_for(squeezed(aval.shape), lane_of_mask(node, 0) or self.lane_of_logic(node))

    def lane_of_logic(self, node: Node) -> int:
        """Bools alone have no width of their own: that of their operands, or else the one they are wanted in."""
        for x in node.inputs:
            at = self.place.get(self.source(x)[0])
            if at is not None and at[1] >= 0:
                return self.lanes[at[1]]
        if self.hints is None:
            self.hints = self.mask_hints()
        return self.hints.get(node, 1)

    def mask_hints(self) -> dict[Value, int]:
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

    def level_reduction(self, node: Node, sources: tuple[Value, ...]) -> None:
        shape, dtype, _ = node.inputs[0].aval
        split = reduced_group(shape, node.params["axes"])
        at = self.place.get(sources[0])
        lane = self.lanes[at[1]] if dtype == BOOL and at is not None and at[1] >= 0 else dtype.itemsize
        cls = self.class_for(squeezed(shape), lane)
        stage = 0
        if at is not None:
            stage = at[0] if at[1] == cls and node not in self.askew else at[0] + 1
        while self.splits.setdefault((stage, cls), split) != split:
            stage += 1
        self.place[node] = (stage, -1)
        self.ends[node] = cls
        if at == (stage, cls) and node not in self.askew:
            self.inner[sources[0]] = self.inner.get(sources[0], 0) + 1
        elif at is not None:
            self.users.setdefault(sources[0], []).append(node)

    def level_narrowing(self, node: Node, sources: tuple[Value, ...]) -> bool:
        """Whether a conversion is to a narrower number than a region computes: that is stored converted."""
        own, dtype = node.inputs[0].aval.dtype, node.aval.dtype
        at = self.place.get(sources[0])
        if dtype == BOOL or dtype.itemsize >= own.itemsize or at is None or at[1] < 0 or node in self.askew:
            return False
        self.place[node] = (at[0], -1)
        self.ends[node] = at[1]
        self.inner[sources[0]] = self.inner.get(sources[0], 0) + 1
        return True

    # ---- sinking ----

    def sink(self) -> None:
        """Move nodes to their first users' regions, the last ones first."""
        place, inner, users = self.place, self.inner, self.users
        waiting = [(-x.node.serial, x.node) for x in users if place[x][1] >= 0 and not inner.get(x)]
        heapify(waiting)
        while waiting:
            _, node = heappop(waiting)
            if node not in users:
                continue
            stage, cls = here = place[node]
            target = self.first_stage_with_all_users(node, cls) if node not in self.outputs else 0
            if target <= stage:
                continue
            operands = [x for x in self.sources.get(node, node.inputs) if x in place]
            stored = {x for x in operands if not users.get(x) and x not in self.outputs}
            if sum([_bytes(x.aval) for x in stored]) > _bytes(node.aval):
                continue
            place[node] = (target, cls)
            inner[node] = len(users.pop(node))
            askew = self.askew.get(node, ())
            for x in operands:
                if place[x] == here and x not in askew:
                    inner[x] -= 1
                    users.setdefault(x, []).append(node)
                    if not inner[x]:
                        heappush(waiting, (-x.node.serial, x.node))

    def first_stage_with_all_users(self, node: Node, cls: int) -> int:
        """The stage of a node's users, if they could all take it from a register there; else 0."""
        stages = set()
        for user in self.users[node]:
            stage, its_class = self.place[user]
            if cls not in (its_class, self.ends.get(user)) or node in self.askew.get(user, ()):
                return 0
            stages.add(stage)
        return stages.pop() if len(stages) == 1 else 0

    # ---- regions ----

    def cut(self) -> list[Region]:
        """Regions of groups of one stage, space and width."""
        groups: dict[tuple[int, int], list[Node]] = {}
        made: list[Region] = []
        place = self.place
        for node in self.nodes:
            key = place[node]
            if key[1] < 0:
                cls = self.ends.get(node)
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
            if not space and key not in self.splits:
                made.append(Region(group, space, lane))
                continue
            size = 1
            for d in space:
                size *= d
            parts = [group] if size <= SMALL or len(group) == 1 else self.connected(group)
            for part in parts:
                for piece in self.pieces(part, MOST_SMALL if size <= SMALL else MOST_OPERANDS):
                    reduces = key in self.splits and any(node.op in REDUCTIONS for node in piece)
                    made.append(Region(piece, space, lane, self.splits[key] if reduces else None))
        return made

    def connected(self, group: list[Node]) -> list[list[Node]]:
        """The parts of a group that share operands or results."""
        parent = list(range(len(group)))
        seen: dict[Value, int] = {}
        for i, node in enumerate(group):
            for x in (node, *self.sources.get(node, node.inputs)):
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
        """A part, cut where it would have more than `most` operands in memory, or values in registers.

        What a piece loads is in registers from its beginning to its end, beside all that it computes.
        """
        if len(part) * 4 <= most:
            yield part
            return
        uses, users, outputs = self.inner, self.users, self.outputs
        held: dict[Any, int] = {}  # what this piece has in registers: uses to come, of what it computes
        begin = loaded = kept = peak = 0
        for i, node in enumerate(part):
            operands = self.operands(node)
            if kept >= peak:
                peak = kept + 1
            if loaded + len(operands) + peak > most and i > begin:
                new = [x for x in operands if x not in held]
                if loaded + len(new) + peak > most:
                    yield part[begin:i]
                    begin, loaded, kept, peak = i, 0, 0, 1
                    held.clear()
            for x in operands:
                left = held.get(x)
                if left is None:
                    held[x] = 0
                    loaded += 1
                elif left:
                    held[x] = left - 1
                    if left == 1 and x not in users and x not in outputs:
                        kept -= 1
            held[node] = uses.get(node, 0)
            kept += 1
        yield part[begin:]


def _bytes(aval: Aval) -> int:
    return aval.size * aval.dtype.itemsize
