"""What is wrong with a document, in words that a model can act on.

Rules: a message is one short clause; values that are quoted are cut. The pointer
is into the document.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gearshift.core.schema.kinds import is_array, is_object, kind_of

if TYPE_CHECKING:
    from gearshift.core.schema.node import Run

MAX_QUOTED: Final = 60
MAX_LISTED: Final = 8


@dataclass(frozen=True, slots=True)
class SchemaIssue:
    """One thing that is wrong with a document."""

    pointer: str
    """JSON pointer to the value; "" is the document."""

    keyword: str
    """The keyword that failed, such as `required`."""

    message: str
    """What is wrong, without the place."""

    def __str__(self) -> str:
        return f"{self.pointer or '(root)'}: {self.message}"


class Report:
    """The explanation of one document: what was found, and the work that it may still take."""

    __slots__ = ("known", "limit", "run")

    def __init__(self, run: "Run", limit: int) -> None:
        self.run = run
        self.limit = limit
        self.known: dict[tuple[str, int], list[SchemaIssue]] = {}


def kind_name(value: Any) -> str:
    """Return what JSON Schema calls the type of value."""
    return _KIND_NAMES.get(kind_of(value), "something that is not JSON")


def quoted(value: Any) -> str:
    """Return value as JSON, cut to a readable length."""
    if is_object(value) or is_array(value):
        return f"this {kind_name(value)}" if value else json.dumps(value)
    shown: object = value[: MAX_QUOTED + 1] if type(value) is str else value
    text = json.dumps(shown, ensure_ascii=False)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def listed(texts: Iterable[str]) -> str:
    """Return texts as a list in words, cut to the first few."""
    every = list(texts)
    shown = ", ".join(every[:MAX_LISTED])
    return shown if len(every) <= MAX_LISTED else f"{shown} and {len(every) - MAX_LISTED} more"


def child_pointer(pointer: str, name: str | int) -> str:
    """Return the pointer to a member of the value at pointer."""
    return f"{pointer}/{name}" if isinstance(name, int) else f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"


_KIND_NAMES: Final[Mapping[type, str]] = {
    dict: "object",
    list: "array",
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
