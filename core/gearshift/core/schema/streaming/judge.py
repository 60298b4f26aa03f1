"""A document against a schema, event by event, as the reader meets them.

Rules: the reader tells of every key, value and end in order; each call raises Stop at
the first event that decides the document. Each value meets each node once, and all
work is taken from one budget at events of the document, so that neither the verdict
nor the limit depends on how the text was cut.
"""

from functools import partial
from typing import Any, Final

from gearshift.core.schema.issue import quoted
from gearshift.core.schema.kinds import kind_of
from gearshift.core.schema.node import Run, SchemaNode, fails, passes
from gearshift.core.schema.schema import Schema
from gearshift.core.schema.streaming.blame import blame_kind, blame_value, not_allowed
from gearshift.core.schema.streaming.cells import COUNT, MUST, REST, Cell, Duty, Frame, kill, links_of, note_failed
from gearshift.core.schema.streaming.closing import Closing, key_of
from gearshift.core.schema.streaming.issue import Stop
from gearshift.core.schema.streaming.planning import Plans, plans_of
from gearshift.core.schema.streaming.plans import ArrayPlan, Logic, ObjectPlan, aliased
from gearshift.core.schema.streaming.prefixes import GOOD, Walk
from gearshift.core.schema.streaming.texts import TEXT_WORDS, OpenText

_ENTER_COST: Final = 3


class Judge:
    """The schema's side of one document."""

    __slots__ = (
        "_duties",
        "_key_walks",
        "_letters",
        "_plans",
        "_run",
        "_texts",
        "_top",
        "_waiting",
        "frame",
        "has_key_rules",
        "has_text_rules",
        "keeps_text",
    )

    def __init__(self, schema: Schema | None, work: int) -> None:
        self._run = Run(work)
        self._plans: Plans | None = None if schema is None else plans_of(schema)
        root = Frame(None, False)
        self._top = Cell(None, root)
        self.frame: Frame | None = None
        """The innermost array or object that is open."""
        self._waiting: list[Duty] = []
        """What the next value must be checked against."""
        if schema is not None:
            self._waiting.append((self._top, schema.root, MUST, None))
        self._duties: list[Duty] = []
        """What the scalar that is open is checked against."""
        self.keeps_text = False
        """Whether the characters of the string that is open are needed at its end."""
        self.has_text_rules = False
        """Whether the string that is open can be decided before its end: then `text` is to be called."""
        self.has_key_rules = False
        """Whether the key that is open can be decided before its end: then `key_text` is to be called."""
        self._texts: OpenText | None = None
        self._key_walks: list[tuple[Cell, Walk]] | None = None
        self._letters = 0

    # Values

    def begin(self, kind: type) -> None:
        """Take note that a value of a kind begins; float stands for both kinds of numbers."""
        waiting = self._waiting
        frame = self.frame
        if frame is not None and not frame.is_object:
            frame.count += 1
            frame.key = str(frame.count - 1)
            if frame.live:
                waiting = self._of_item(frame)
        if not waiting:
            self._duties = waiting
            self.keeps_text = frame is not None and frame.keeps
            self.has_text_rules = False
            return
        self._waiting = []
        run = self._run
        run.left -= len(waiting)
        if run.left < 0:
            raise run.exhausted()
        duties: list[Duty] = []
        texts = False
        for duty in waiting:
            owner, node, role, which = duty
            if owner.verdict is not None:
                continue
            check = node.table[kind]
            is_open = kind is float and check is not node.table[int]  # it depends on whether the number is whole
            if check is fails and not is_open:
                self._failed(owner, role, which, node, kind)
            elif check is not passes or is_open or role == COUNT:
                duties.append(duty)
                if kind is str and self._plans is not None and check is not passes:
                    plan = self._plans.text(node)
                    if plan is not None:
                        texts = True
                        run.left -= self._plans.text_cost(plan)
        if run.left < 0:
            raise run.exhausted()
        self._duties = duties
        self.keeps_text = bool(duties) or (frame is not None and frame.keeps)
        self.has_text_rules = texts

    def _of_item(self, frame: Frame) -> list[Duty]:
        waiting: list[Duty] = []
        index = frame.count - 1
        self._run.left -= len(frame.live)
        for cell in frame.live:
            if cell.verdict is not None:
                continue
            plan: ArrayPlan = cell.plan
            if plan.most is not None and index >= plan.most:
                self._kill(cell, "maxItems", f"expected at most {plan.most} items")
                continue
            for node in plan.prefix[index] if index < len(plan.prefix) else plan.rest:
                waiting.append((cell, node, MUST, None))
            if plan.contains is not None:
                waiting.append((cell, plan.contains.node, COUNT, index))
            if plan.tracks:
                if plan.covers_all or index < len(plan.prefix):
                    self._found(cell, index)
                elif plan.unevaluated is not None:
                    waiting.append((cell, plan.unevaluated, REST, index))
        return waiting

    def end(self, value: Any) -> None:
        """Take the value of a scalar that has ended."""
        duties = self._duties
        if duties:
            run, kind = self._run, kind_of(value)
            verdicts = [owner.verdict is None and node.table[kind](value, run) for owner, node, _, _ in duties]
            if run.verdicts:
                run.verdicts.clear()  # they are kept by id, which the next value may have
            if self.has_text_rules and not all(verdicts):
                self._text_rest(value)
            for duty, verdict in zip(duties, verdicts, strict=True):
                owner, node, role, which = duty
                if owner.verdict is not None:
                    continue
                if verdict:
                    if role == COUNT:
                        self._count(owner, which)
                elif role == MUST:
                    kill(owner, self._top, partial(blame_value, node, value))
                elif role == REST:
                    note_failed(owner, which)
            self._duties = []
        self._texts = None
        frame = self.frame
        if frame is not None and frame.keeps:
            self._keep(frame, value)

    # Strings

    def text(self, piece: str) -> None:
        """Take the next characters of the string that is open, where it has text rules."""
        assert self._plans is not None
        if self._texts is None:
            self._texts = OpenText(self._duties, self._plans)
        before = self._texts.length
        for index, cell, keyword in self._texts.advance(piece):
            self._kill(cell, keyword, TEXT_WORDS[keyword], before + index)

    def _text_rest(self, value: str) -> None:
        done = 0 if self._texts is None else self._texts.length
        if done < len(value):
            self.text(value[done:])

    # Objects

    def key_begins(self) -> None:
        """Take note that the key of a member begins."""
        frame = self.frame
        assert frame is not None
        cost, closed = 1, False
        for cell in frame.live:
            if cell.verdict is None:
                cost += cell.plan.key_cost
                closed = closed or cell.plan.closed is not None
        self._run.spend(cost)
        self.has_key_rules = closed
        self._key_walks = None
        frame.key = None

    def key_text(self, piece: str) -> None:
        """Take the next characters of the key that is open, where it has key rules."""
        frame = self.frame
        assert frame is not None
        if self._key_walks is None:
            self._letters = 0
            self._key_walks = [
                (cell, Walk(cell.plan.closed))
                for cell in frame.live
                if cell.verdict is None and cell.plan.closed is not None
            ]
        before = self._letters
        self._letters += len(piece)
        dead: list[tuple[int, Cell]] = []
        going: list[tuple[Cell, Walk]] = []
        for cell, walk in self._key_walks:
            index = walk.advance(piece)
            if index == GOOD:
                going.append((cell, walk))
            else:
                dead.append((index, cell))
        self._key_walks = going
        for index, cell in sorted(dead, key=lambda item: item[0]):
            self._kill(cell, "additionalProperties", not_allowed(cell), before + index)

    def key(self, name: str) -> None:
        """Take a whole key; the value of its member comes next."""
        frame = self.frame
        assert frame is not None
        live = frame.live
        if self.has_key_rules and any(
            cell.plan.closed is not None and name not in cell.plan.properties for cell in live if cell.verdict is None
        ):
            done = 0 if self._key_walks is None else self._letters
            if done < len(name):
                self.key_text(name[done:])
        frame.key = name
        frame.names.add(name)
        frame.count += 1
        waiting: list[Duty] = []
        run = self._run
        for cell in live:
            if cell.verdict is not None:
                continue
            plan: ObjectPlan = cell.plan
            nodes, covered = plan.members(name, run)
            if not nodes:
                pass
            elif plan.closed is not None and name not in plan.properties:
                self._kill(cell, "additionalProperties", not_allowed(cell))
                continue
            else:
                for node in nodes:
                    waiting.append((cell, node, MUST, None))
            if plan.most is not None and frame.count > plan.most:
                self._kill(cell, "maxProperties", f"expected at most {plan.most} properties")
                continue
            if plan.names:
                self._name(cell, plan, name)
            if plan.logic is not None and (plan.logic.dependents or plan.logic.forbidden):
                self._depends(cell, plan.logic, name)
            if plan.tracks:
                if covered:
                    self._found(cell, name)
                elif plan.unevaluated is not None:
                    waiting.append((cell, plan.unevaluated, REST, name))
        self._waiting = waiting

    def _name(self, cell: Cell, plan: ObjectPlan, name: str) -> None:
        for node in plan.names:
            if not node.table[str](name, self._run):
                self._kill(cell, "propertyNames", f"the property name {quoted(name)} is not allowed")
        self._run.verdicts.clear()

    def _depends(self, cell: Cell, logic: Logic, name: str) -> None:
        if name in logic.forbidden:
            self._kill(cell, "dependentSchemas", f"the property {quoted(name)} is not allowed")
        for node in logic.dependents.get(name, ()):
            if cell.frame.cells[node.number].verdict is False:
                words = f"the property {quoted(name)} is not allowed, given what stands before it"
                self._kill(cell, "dependentSchemas", words)

    # Arrays and objects

    def open(self, is_object: bool) -> None:
        """Open the array or object that `begin` told of."""
        parent = self.frame
        frame = Frame(parent, is_object)
        kind = dict if is_object else list
        for owner, node, role, which in self._duties:
            if owner.verdict is not None:
                continue
            if node.table[kind] is passes:
                frame.passed.append((owner, role, which))
                continue
            cell = self._enter(frame, aliased(node))
            cell.watchers.append((owner, role, which))
            frame.duties.append((owner, cell, role, which))
        self._duties = []
        self._waiting = []
        if (parent is not None and parent.keeps) or any(cell.plan.constants for cell in frame.cells.values()):
            frame.value = {} if is_object else []
        self.frame = frame

    def _enter(self, frame: Frame, node: SchemaNode) -> Cell:
        cell = frame.cells.get(node.number)
        if cell is not None:
            return cell
        self._run.left -= _ENTER_COST
        if self._run.left < 0:
            raise self._run.exhausted()
        assert self._plans is not None
        plan = self._plans.object(node) if frame.is_object else self._plans.array(node)
        cell = frame.cells[node.number] = Cell(plan, frame)
        if plan.is_watching:
            frame.live.append(cell)
            if isinstance(plan, ArrayPlan) and plan.is_unique:
                cell.seen = set()
                frame.unique.append(cell)
        if plan.logic is not None:
            for target, role, which in links_of(plan.logic, cell):
                self._enter(frame, target).watchers.append((cell, role, which))
            for target in plan.logic.nots:
                self._enter(frame, target)
        return cell

    def close(self) -> None:
        """Close the innermost array or object."""
        frame = self.frame
        assert frame is not None
        parent = self.frame = frame.parent
        self._waiting = []
        if frame.duties:
            closing = Closing(frame, self._run)
            for owner, cell, role, which in frame.duties:
                if owner.verdict is not None:
                    continue
                if closing.settle(cell):
                    if role == COUNT:
                        self._count(owner, which)
                elif role == MUST:
                    kill(owner, self._top, lambda: frame.reason)
                elif role == REST:
                    note_failed(owner, which)
        for owner, role, which in frame.passed:
            if role == COUNT:
                self._count(owner, which)
        if parent is not None and parent.keeps:
            self._keep(parent, frame.value)

    def _keep(self, frame: Frame, value: Any) -> None:
        """Note a whole value where it is needed: to be compared with others, or as a part."""
        if frame.value is not None:
            if frame.is_object:
                frame.value[frame.key] = value
            else:
                frame.value.append(value)
        if frame.unique:
            key = key_of(value, self._run)
            for cell in frame.unique:
                if cell.verdict is None and cell.seen is not None:
                    self._run.spend(1)
                    if key in cell.seen:
                        self._kill(cell, "uniqueItems", "is the same as an item before; items must be unique")
                    cell.seen.add(key)

    def _count(self, owner: Cell, index: int) -> None:
        if owner.verdict is not None:
            return
        owner.matches += 1
        contains = owner.plan.contains
        if contains.most is not None and owner.matches > contains.most:
            self._kill(owner, "maxContains", f"expected at most {contains.most} items like its `contains`")
        if owner.plan.tracks and contains.marks_items:
            self._found(owner, index)

    def _found(self, cell: Cell, which: Any) -> None:
        if cell.found is None:
            cell.found = set()
        cell.found.add(which)

    # Failures

    def _failed(self, owner: Cell, role: int, which: Any, node: SchemaNode, kind: type) -> None:
        if role == MUST:
            kill(owner, self._top, partial(blame_kind, node, kind))
        elif role == REST:
            note_failed(owner, which)

    def _kill(self, cell: Cell, keyword: str, message: str, index: int | None = None) -> None:
        try:
            kill(cell, self._top, lambda: (keyword, message))
        except Stop as stop:
            stop.index = index
            raise
