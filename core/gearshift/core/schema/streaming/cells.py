"""One value against one schema node while the value is still being written, and how failures travel.

Rules: three-valued (Kleene) logic. A cell's verdict is None while both are possible,
False from the first character that decides it, True only at the end of the value.
What can no longer be right is handed to those that depend on it, and so on to the
document, here and nowhere else.
"""

from collections.abc import Callable
from typing import Any, Final

from gearshift.core.schema.node import SchemaNode
from gearshift.core.schema.streaming.issue import Stop
from gearshift.core.schema.streaming.plans import Conditional, ContainerPlan, Logic, TextPlan

# What a failure means to who depends on the cell.
MUST: Final = 0
"""It fails too: `allOf`, a reference, a member, an item."""
COUNT: Final = 1
"""Nothing: an item that `contains` does not count."""
REST: Final = 2
"""It fails at its end if nothing else looked at this member: `unevaluated…`."""
BRANCH: Final = 3
"""It fails when this was the last branch of the form."""
CONDITION: Final = 4
"""It fails when neither way of the `if` is left."""
DEPENDENT: Final = 5
"""It fails when the property that asks for the schema is there."""

Duty = tuple["Cell", SchemaNode, int, Any]
"""A node that a value must be checked against: for whom, the node, what failure means to them, and which."""

Cause = Callable[[], tuple[str, str]]
"""Gives the keyword that failed, and the message."""


class Frame:
    """An array, object or string that is open, with a cell for each node that is applied to it."""

    __slots__ = (
        "cells",
        "count",
        "duties",
        "is_object",
        "key",
        "live",
        "names",
        "parent",
        "passed",
        "reason",
        "unique",
        "value",
    )

    def __init__(self, parent: "Frame | None", is_object: bool) -> None:
        self.parent = parent
        self.is_object = is_object
        self.cells: dict[int, Cell] = {}
        self.live: list[Cell] = []
        """Cells that want to know of every member or item."""
        self.duties: list[tuple[Cell, Cell, int, Any]] = []
        """Who asked for which cell, and the rest of the duty."""
        self.passed: list[tuple[Cell, int, Any]] = []
        """Duties that the kind of the value fulfilled."""
        self.names: set[str] = set()
        self.key: str | None = None
        """The name or index of the value within that is open or was last; None while a key is being written."""
        self.count = 0
        self.unique: list[Cell] = []
        self.value: Any = None
        """The value so far, where somebody needs it whole."""
        self.reason: tuple[str, str] = ("schema", "does not match the schema")

    @property
    def keeps(self) -> bool:
        """Whether the values within are needed whole."""
        return self.value is not None or bool(self.unique)


class Cell:
    """One open value against one node."""

    __slots__ = ("alive", "failed", "found", "frame", "matches", "plan", "seen", "verdict", "watchers")

    def __init__(self, plan: "ContainerPlan | TextPlan | None", frame: Frame) -> None:
        self.plan: Any = plan
        self.frame = frame
        self.verdict: bool | None = None
        self.watchers: list[tuple[Cell, int, Any]] = []
        self.alive: list[int] = []
        """Branches that may still hold, for each form."""
        self.matches = 0
        """Items that `contains` counts."""
        self.seen: set[Any] | None = None
        """Identity keys of the items, where they must be unique."""
        self.found: set[Any] | None = None
        """Names or indexes that this node looked at, where that counts."""
        self.failed: set[Any] | None = None
        """Names or indexes of values that `unevaluated…` does not allow, should nothing else look at them."""


def links_of(logic: Logic, cell: Cell) -> list[tuple[SchemaNode, int, Any]]:
    """Return what cell depends on, and how; sets up how many branches are left."""
    links: list[tuple[SchemaNode, int, Any]] = [(node, MUST, None) for node in logic.every]
    for index, form in enumerate(logic.forms):
        cell.alive.append(len(form.nodes))
        links.extend((node, BRANCH, index) for node in form.nodes)
    for index, rule in enumerate(logic.conditionals):
        for node in (rule.condition, rule.then, rule.otherwise):
            if node is not None:
                links.append((node, CONDITION, index))
    for name, nodes in logic.dependents.items():
        links.extend((node, DEPENDENT, name) for node in nodes)
    return links


def kill(cell: Cell, top: Cell, cause: Cause) -> None:
    """Note that cell can no longer be valid, and whatever follows from it.

    Raises:
        Stop: it follows that the document cannot be valid.

    """
    stack = [cell]
    form = ""
    while stack:
        cell = stack.pop()
        if cell.verdict is not None:
            continue
        cell.verdict = False
        if cell is top:
            keyword, message = cause()
            raise Stop(keyword, f"{message}; no other form of {form} is left" if form else message)
        for owner, role, which in cell.watchers:
            if owner.verdict is not None:
                continue
            if role == MUST:
                stack.append(owner)
            elif role == BRANCH:
                owner.alive[which] -= 1
                if owner.alive[which] == 0:
                    form = owner.plan.logic.forms[which].keyword
                    stack.append(owner)
            elif role == DEPENDENT:
                if which in owner.frame.names:
                    stack.append(owner)
            elif role == CONDITION:
                if no_way_left(owner.plan.logic.conditionals[which], owner.frame.cells):
                    stack.append(owner)
            elif role == REST:
                note_failed(owner, which)


def no_way_left(rule: Conditional, cells: dict[int, Cell]) -> bool:
    """Say whether neither `then` nor `else` can still be what decides."""

    def is_dead(node: SchemaNode | None, never: bool) -> bool:
        if node is None:
            return never
        cell = cells.get(node.number)
        return cell is not None and cell.verdict is False

    # Only the end of the value shows that a condition holds, so `then` counts until it or the condition is dead.
    return is_dead(rule.otherwise, rule.otherwise_never) and (
        is_dead(rule.then, rule.then_never) or is_dead(rule.condition, False)
    )


def note_failed(owner: Cell, which: Any) -> None:
    """Note that a member or item is not what `unevaluated…` asks for."""
    if owner.failed is None:
        owner.failed = set()
    owner.failed.add(which)
