"""Whether an array or object that has ended is valid, node by node.

Rules: here a verdict becomes True, or False for what only the end shows. Everything
within has been judged before: no member is looked at again, only what is known of it.
"""

from typing import Any

from gearshift.core.schema.canonical import identity_key
from gearshift.core.schema.issue import quoted
from gearshift.core.schema.node import CONTAINERS, Run
from gearshift.core.schema.streaming.cells import Cell, Frame
from gearshift.core.schema.streaming.plans import ArrayPlan, Logic, ObjectPlan


def key_of(value: Any, run: Run) -> Any:
    """Return the identity key of value, paid from the run."""
    key = identity_key(value)
    if type(value) in CONTAINERS:
        run.spend(1 + (len(key[1]) >> 4))
    return key


class Closing:
    """The end of one array or object."""

    __slots__ = ("_cells", "_frame", "_key", "_known", "_run")

    def __init__(self, frame: Frame, run: Run) -> None:
        self._frame = frame
        self._cells = frame.cells
        self._run = run
        self._key: Any = None
        self._known: dict[int, frozenset[Any]] = {}

    def settle(self, cell: Cell) -> bool:
        """Return the verdict of cell; nodes apply each other at most `schema_depth` deep."""
        if cell.verdict is None:
            logic: Logic | None = cell.plan.logic
            self._run.spend(2)
            cell.verdict = (
                self._sizes(cell)
                and (logic is None or self._logic(logic))
                and self._constants(cell)
                and (cell.plan.unevaluated is None or self._rest(cell))
            )
        return cell.verdict

    def _fail(self, keyword: str, message: str) -> bool:
        self._frame.reason = (keyword, message)
        return False

    def _sizes(self, cell: Cell) -> bool:
        plan, count = cell.plan, self._frame.count
        if isinstance(plan, ObjectPlan):
            names = self._frame.names
            if plan.required:
                self._run.spend(len(plan.required) >> 2)
                for name in plan.required:
                    if name not in names:
                        return self._fail("required", f"the property {quoted(name)} is missing")
            for name, others in plan.dependents:
                self._run.spend(1)
                if name in names:
                    self._run.spend(len(others))
                    for other in others:
                        if other not in names:
                            words = f"the property {quoted(other)} is missing, since {quoted(name)} is there"
                            return self._fail("dependentRequired", words)
            if count < plan.least:
                return self._fail("minProperties", f"expected at least {plan.least} properties, got {count}")
            return True
        assert isinstance(plan, ArrayPlan)
        if count < plan.least:
            return self._fail("minItems", f"expected at least {plan.least} items, got {count}")
        if plan.contains is not None and cell.matches < plan.contains.least:
            words = f"expected at least {plan.contains.least} items like its `contains`, found {cell.matches}"
            return self._fail("contains", words)
        return True

    def _logic(self, logic: Logic) -> bool:
        cells, settle = self._cells, self.settle
        self._run.spend(len(logic.every) + sum(len(form.nodes) for form in logic.forms))
        for node in logic.every:
            if not settle(cells[node.number]):
                return False
        for form in logic.forms:
            count = sum(settle(cells[node.number]) for node in form.nodes)
            if count == 0:
                return self._fail(form.keyword, "no form is left that it could have")
            if count > 1 and form.keyword == "oneOf":
                return self._fail("oneOf", f"matches {count} forms, but must match exactly one")
        for node in logic.nots:
            if settle(cells[node.number]):
                return self._fail("not", "has a form that `not` forbids")
        for rule in logic.conditionals:
            holds = settle(cells[rule.condition.number])
            keyword = "then" if holds else "else"
            branch = rule.then if holds else rule.otherwise
            is_dead = branch is not None and cells[branch.number].verdict is False
            if is_dead or (rule.then_never if holds else rule.otherwise_never):
                return self._fail(keyword, f"does not match `{keyword}`, now that `if` is decided")
            if branch is not None and not settle(cells[branch.number]):
                return False
        for name, nodes in logic.dependents.items():
            if name in self._frame.names:
                for node in nodes:
                    if not settle(cells[node.number]):
                        return False
        return True

    def _constants(self, cell: Cell) -> bool:
        for keyword, keys in cell.plan.constants:
            if self._key is None:
                self._key = key_of(self._frame.value, self._run)
            if self._key not in keys:
                return self._fail(keyword, "is not one of the values that are allowed")
        return True

    def _rest(self, cell: Cell) -> bool:
        if not cell.failed:
            return True
        evaluated = self._beside(cell)
        for which in cell.failed:
            if which not in evaluated:
                is_object = self._frame.is_object
                keyword = "unevaluatedProperties" if is_object else "unevaluatedItems"
                what = f"the property {quoted(which)}" if is_object else f"the item {which}"
                return self._fail(keyword, f"{what} is not allowed, since no other keyword speaks about it")
        return True

    def _evaluated(self, cell: Cell) -> frozenset[Any]:
        """Return the names or indexes that a valid cell has looked at."""
        if cell.plan.unevaluated is not None:
            frame = self._frame
            self._run.spend(frame.count)
            return frozenset(frame.names if frame.is_object else range(frame.count))
        known = self._known.get(id(cell))
        if known is None:
            known = self._known[id(cell)] = self._beside(cell)
        return known

    def _beside(self, cell: Cell) -> frozenset[Any]:
        """Return what the keywords of a cell looked at, apart from `unevaluated…`."""
        found = set[Any]() if cell.found is None else set(cell.found)
        logic: Logic | None = cell.plan.logic
        if logic is not None:
            for other in self._valid(logic):
                more = self._evaluated(other)
                self._run.spend(1 + len(more))
                found |= more
        return frozenset(found)

    def _valid(self, logic: Logic) -> list[Cell]:
        cells, settle = self._cells, self.settle
        nodes = [*logic.every]
        for form in logic.forms:
            nodes.extend(form.nodes)
        for rule in logic.conditionals:
            nodes.append(rule.condition)
            branch = rule.then if settle(cells[rule.condition.number]) else rule.otherwise
            nodes += () if branch is None else (branch,)
        for name, others in logic.dependents.items():
            if name in self._frame.names:
                nodes += others
        return [cell for node in nodes if settle(cell := cells[node.number])]
