"""What goes wrong with a schema or a document, as typed errors.

Rules: every message can be shown to a caller; it quotes at most a few
characters of what was sent. Pointers are JSON pointers (RFC 6901), "" is the root.
"""


class SchemaError(Exception):
    """Raised when a schema is not one that can be used, naming the place in it."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(f"{pointer or '(root)'}: {message}")
        self.pointer = pointer
        self.message = message


class SchemaLimitError(SchemaError):
    """Raised when a schema is larger, deeper or more entangled than the limits allow."""


class DocumentError(Exception):
    """Raised when a text is not one strict JSON document, or a value not a JSON value.

    `position` is the offset in characters, or None when it is not known.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message if position is None else f"{message} at character {position}")
        self.message = message
        self.position = position


class CheckLimitError(Exception):
    """Raised when checking a document would take more work than the limits allow."""
