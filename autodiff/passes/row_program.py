"""The program of a step of rows: as a region's, but what is reduced along the rows is used in the step itself."""

from __future__ import annotations

from autodiff.ir import INT64, Node, Shape, Value
from autodiff.passes.picked import GATHER, SCATTER_ADD
from autodiff.passes.program import ROLES_OF, Program
from autodiff.passes.rows import follows, reduces_row
from autodiff.passes.steps import POSITION, READ, Operand
from autodiff.passes.views import dense, squeezed_strides


class RowProgram(Program):
    """The program of a step of rows: what is reduced along the rows is used in the step itself."""

    def add(self, nodes: list[Node]) -> None:
        """Append the nodes of a region, in the order of its passes."""
        for node in nodes:
            if node.op is GATHER or node.op is SCATTER_ADD:
                self.index(node)
            else:
                super().add([node])

    def index(self, node: Node) -> None:
        """One element of each row, or a number put there among zeros."""
        x, *_, positions = node.inputs
        step, (storage, offset, strides, _) = self.step, self.places.access(positions)
        ref = self.refs[x] if x in self.refs else self.load(x)
        strides = self.over_space(squeezed_strides(positions.aval.shape, strides))
        key = (storage, offset, strides, POSITION)
        at = self.loads.get(key)
        if at is None:
            at = self.loads[key] = ~len(step.operands)
            step.operands.append(Operand(READ, storage, INT64, offset, strides, POSITION))
        self.refs[node] = len(step.instrs)
        self.places.owners[node] = step
        step.instrs.append(("pick" if node.op is GATHER else "place", node.aval.dtype, (ref, at), node.line))

    def over_space(self, strides: Shape) -> Shape:
        """A number a row does not move along it."""
        return strides + (0,) * (len(self.step.shape) - len(strides))

    def held(self, x: Value) -> int | None:
        """The register that holds a value of this region, or one that looks the same, or a number that is spread."""
        ref = self.refs.get(x)
        if ref is not None:
            return ref
        view = self.places.views.get(x)
        if view is None or view.root not in self.refs:
            return None
        return self.refs[view.root] if follows(x, view, self.step.shape, self.step.outer) else None

    def reduce(self, node: Node) -> None:
        """Along the row to a number, or over all rows to memory."""
        (x,) = node.inputs
        step, dtype = self.step, node.aval.dtype
        ref = self.refs[x] if x in self.refs else self.load(x)
        if reduces_row(node, step.shape, step.outer):
            self.refs[node] = len(step.instrs)
            self.places.owners[node] = step
            step.instrs.append((f"row_{ROLES_OF[node.op]}", dtype, (ref,), node.line))
            return
        kept = step.shape[step.outer :] if node.aval.size > 1 else ()
        strides = (0,) * (len(step.shape) - len(kept)) + dense(kept)
        step.operands.append(Operand(ROLES_OF[node.op], self.places.result(node), dtype, 0, strides, dtype, ref))
