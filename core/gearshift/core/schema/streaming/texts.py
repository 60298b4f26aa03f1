"""A string that is still being written, against the nodes that may refuse it before its end.

Rules: only `maxLength` and strings in `enum` and `const` can, and logic over these. The
characters count as they mean, not as they are escaped.
"""

from collections.abc import Iterable
from typing import Final

from gearshift.core.schema.node import SchemaNode
from gearshift.core.schema.streaming.cells import COUNT, Cell, Duty, Frame, links_of
from gearshift.core.schema.streaming.planning import Plans
from gearshift.core.schema.streaming.plans import TextPlan, aliased
from gearshift.core.schema.streaming.prefixes import GOOD, Walk

TEXT_WORDS: Final = {
    "maxLength": "is longer than is allowed",
    "enum": "begins like none of the values that are allowed",
    "const": "does not begin like the value that is expected",
}
"""What to say of each keyword."""


class OpenText:
    """The cells of one string, for those duties that it may fail before its end."""

    __slots__ = ("_frame", "_length", "_limits", "_plans", "_walks")

    def __init__(self, duties: list[Duty], plans: Plans) -> None:
        self._plans = plans
        self._frame = Frame(None, False)
        self._length = 0
        self._limits: list[tuple[int, Cell]] = []
        """The longest that a string may be for each cell, the largest first."""
        self._walks: list[tuple[Cell, str, Walk]] = []
        for owner, asked, role, which in duties:
            node = aliased(asked)
            plan = plans.text(node)
            if plan is not None and role != COUNT and owner.verdict is None:
                self._enter(node, plan).watchers.append((owner, role, which))
        self._limits.sort(key=lambda item: -item[0])

    @property
    def length(self) -> int:
        """How many characters it has taken."""
        return self._length

    def _enter(self, node: SchemaNode, plan: TextPlan) -> Cell:
        cells = self._frame.cells
        cell = cells.get(node.number)
        if cell is not None:
            return cell
        cell = cells[node.number] = Cell(plan, self._frame)
        if plan.longest is not None:
            self._limits.append((plan.longest, cell))
        for keyword, texts in plan.lists:
            self._walks.append((cell, keyword, Walk(texts)))
        if plan.logic is not None:
            for target, role, which in links_of(plan.logic, cell):
                below = self._plans.text(target)
                if below is not None:
                    self._enter(target, below).watchers.append((cell, role, which))
        return cell

    def advance(self, piece: str) -> Iterable[tuple[int, Cell, str]]:
        """Return what fails in piece, in the order of its characters."""
        found: list[tuple[int, Cell, str]] = []
        limits = self._limits
        end = self._length + len(piece)
        while limits and end > limits[-1][0]:
            limit, cell = limits.pop()
            found.append((limit - self._length, cell, "maxLength"))
        self._length = end
        if self._walks:
            going: list[tuple[Cell, str, Walk]] = []
            for item in self._walks:
                cell, keyword, walk = item
                index = walk.advance(piece)
                if index == GOOD:
                    going.append(item)
                else:
                    found.append((index, cell, keyword))
            self._walks = going
        if len(found) > 1:
            found.sort(key=lambda item: item[0])
        return found
