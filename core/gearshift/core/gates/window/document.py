"""Whether a JSON answer can still fit its schema, as it is being written.

Rules: judged at every read, not by windows, since one character can settle it; it never stops a document that still has a
valid completion. Where the checker gives up (a hostile schema, prose that cannot be told from JSON) it says nothing, and
the schema gate decides at the end.
"""

from __future__ import annotations

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import failed
from gearshift.core.schema import Schema
from gearshift.core.schema.streaming import FenceFilter, StreamChecker


class DocumentWatch:
    """Watches one JSON answer.

    Args:
        schema: None asks for JSON of any kind.
        restricted: verdicts must not quote the answer.
    """

    def __init__(self, schema: Schema | None, *, restricted: bool) -> None:
        self._checker = StreamChecker(schema)
        self._bare = FenceFilter()
        self._restricted = restricted

    def feed(self, text: str) -> Verdict | None:
        """Take the next characters; give a hard failure once the document is irrevocably wrong."""
        issue = self._checker.feed(self._bare.feed(text))
        if issue is None or self._bare.gave_up or self._checker.gave_up:
            return None
        detail = f"fails {issue.keyword}" if self._restricted else f"{issue}"
        reason = f"schema_{issue.keyword}" if issue.keyword else "not_json"
        return failed("schema", reason, f"{detail}, seen while it was being written")
