"""A compiled schema, as callers use it.

Rules: immutable; tasks and threads may share it. Checking does no I/O and ends
within the limits, with a verdict or a typed error.
"""

import hashlib
from typing import TYPE_CHECKING, Any

from gearshift.core.schema.errors import CheckLimitError
from gearshift.core.schema.issue import Report, SchemaIssue
from gearshift.core.schema.limits import SchemaLimits
from gearshift.core.schema.node import Run, SchemaNode

if TYPE_CHECKING:
    from gearshift.core.schema.streaming.planning import Plans


class Schema:
    """One JSON Schema, compiled."""

    __slots__ = ("canonical", "limits", "nodes", "plans", "root")

    def __init__(
        self, *, root: SchemaNode, nodes: tuple[SchemaNode, ...], canonical: str, limits: SchemaLimits
    ) -> None:
        self.root = root
        self.nodes = nodes
        """Every node, by number."""
        self.canonical = canonical
        """The schema as canonical JSON."""
        self.limits = limits
        self.plans: Plans | None = None
        """How to check a document while it streams; made, once, when one does."""

    @property
    def digest(self) -> str:
        """The SHA-256 of the canonical text, in hex."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    def is_valid(self, value: Any) -> bool:
        """Say whether a JSON value (of Python's own types, as `parse_document` gives it) is valid.

        Raises:
            CheckLimitError: it would take more work than the limits allow.
            DocumentError: value holds something that is not JSON.

        """
        try:
            return self.root.table[type(value)](value, Run(self.limits.work))
        except RecursionError as error:
            raise CheckLimitError("this document is nested too deeply for this schema") from error

    def check(self, value: Any) -> list[SchemaIssue]:
        """Return what is wrong with value, at most `limits.issues` of it; nothing when it is valid.

        Raises:
            CheckLimitError: it would take more work than the limits allow.
            DocumentError: value holds something that is not JSON.

        """
        if self.is_valid(value):
            return []
        report = Report(Run(self.limits.work), self.limits.issues)
        try:
            issues = self.root.explain(value, "", report)
        except (CheckLimitError, RecursionError):
            issues = []  # the verdict is known; only the words are not
        return issues or [SchemaIssue("", "schema", "does not match the schema")]

    def __repr__(self) -> str:
        return f"Schema({len(self.nodes)} nodes, {self.canonical[:60]})"
