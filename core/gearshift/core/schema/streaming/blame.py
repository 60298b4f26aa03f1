"""Why a value was refused, in words; asked only when a document is stopped."""

from typing import Any, Final

from gearshift.core.schema.errors import CheckLimitError
from gearshift.core.schema.issue import Report, listed, quoted
from gearshift.core.schema.limits import DEFAULT_LIMITS
from gearshift.core.schema.logic import AllOfKeyword, RefKeyword
from gearshift.core.schema.node import NULL, Keyword, Run, SchemaNode, fails
from gearshift.core.schema.scalars import EnumKeyword, TypeKeyword
from gearshift.core.schema.streaming.cells import Cell

_KIND_NAMES: Final = {dict: "object", list: "array", str: "string", float: "number", bool: "boolean", NULL: "null"}


def blame_value(node: SchemaNode, value: Any) -> tuple[str, str]:
    """Return the keyword that a scalar fails, and the message."""
    try:
        issues = node.explain(value, "", Report(Run(DEFAULT_LIMITS.work), 1))
    except CheckLimitError:
        issues = []  # the verdict is known; only the words are not
    return (issues[0].keyword, issues[0].message) if issues else ("schema", "does not match the schema")


def not_allowed(cell: Cell) -> str:
    """Say that a property is not allowed, and which still are."""
    free = [quoted(name) for name in cell.plan.properties if name not in cell.frame.names]
    return f"the property is not allowed; not yet used: {listed(free)}" if free else "the property is not allowed"


def blame_kind(node: SchemaNode, kind: type) -> tuple[str, str]:
    """Say why no value of a kind can be valid."""
    name = _KIND_NAMES[kind]
    kinds = (int, float) if kind is float else (kind,)
    for _ in range(64):
        if node.literal is False:
            return "false", "is not allowed"
        keyword = next(
            (each for each in node.keywords if all(each.checks().get(one) is fails for one in kinds)),
            None,
        )
        if isinstance(keyword, TypeKeyword):
            return "type", f"expected {' or '.join(keyword.types)}, got {name}"
        if isinstance(keyword, EnumKeyword):
            values = [quoted(value) for value in keyword.values]
            return keyword.keyword, f"expected {'one of ' if len(values) > 1 else ''}{listed(values)}, got {name}"
        if keyword is None:
            break
        if not isinstance(keyword, (RefKeyword, AllOfKeyword)):
            return keyword.name, f"no {name} is allowed"
        failing = _first_failing(keyword, kinds)
        if failing is None:
            break
        node = failing
    return "schema", f"no {name} is allowed"


def _first_failing(keyword: Keyword, kinds: tuple[type, ...]) -> SchemaNode | None:
    return next((node for node in keyword.in_place() if all(node.table[kind] is fails for kind in kinds)), None)
