"""What stops a document while it streams."""

from dataclasses import dataclass
from typing import Final

JSON: Final = "json"
"""The keyword of what no schema is needed to refuse: text that is not one strict JSON document."""


@dataclass(frozen=True, slots=True)
class StreamIssue:
    """Why a document can no longer become valid."""

    pointer: str
    """JSON pointer to the value; "" is the document."""

    keyword: str
    """The keyword that failed, such as `maxItems`; `json` where the text is not strict JSON."""

    message: str
    """What is wrong, without the place. It may quote a little of the document."""

    offset: int
    """Characters of the document before the offending one; all of them where it ended too early."""

    def __str__(self) -> str:
        return f"{self.pointer or '(root)'}: {self.message} (character {self.offset})"


class Stop(Exception):
    """Raised inside the checker, never out of it, when the document can no longer become valid."""

    def __init__(self, keyword: str, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.keyword = keyword
        self.message = message
        self.index = index
        """The offending character of the string that is open, from 0; None for the character being read."""
