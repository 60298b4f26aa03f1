"""Whether the answer is JSON, and fits its schema.

Rules: the one validator of core/schema judges; a tool call's arguments must be a JSON object.
"""

from __future__ import annotations

from typing import Final

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, failed, passed
from gearshift.core.schema import CheckLimitError, DocumentError, Schema, parse_document

_MEND: Final = "Write the whole document again, corrected, and nothing else."


_MOST_ISSUES: Final = 4


def complaint(text: str, schema: Schema | None) -> str:
    """Give what to tell a model whose document is wrong, so that it can mend it; empty when nothing is, or nothing can be told."""
    try:
        issues = schema.check(parse_document(text)) if schema is not None else []
    except DocumentError as error:
        return f"This cannot be read: {error}. {_MEND}"
    except CheckLimitError:
        return ""
    if not issues:
        return ""
    told = "; ".join(map(str, issues[:_MOST_ISSUES]))
    return f"This does not fit the schema: {told}. {_MEND}"


class SchemaGate:
    """Judges JSON documents and tool calls."""

    name = "schema"

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Judge a complete answer."""
        if candidate.tool_calls:
            return self._judge_tool_calls(candidate)
        if not candidate.is_json:
            return None
        try:
            value = parse_document(candidate.text)
        except DocumentError as error:
            return failed(self.name, "not_json", "the answer is not JSON" if candidate.restricted else f"{error}")
        if candidate.schema is None:
            return passed(self.name)
        try:
            issues = candidate.schema.check(value)
        except CheckLimitError:
            return failed(self.name, "too_costly", "the document could not be checked within the work limit")
        if not issues:
            return passed(self.name)
        first = issues[0]
        more = f" (and {len(issues) - 1} more)" if len(issues) > 1 else ""
        detail = f"fails {first.keyword}" if candidate.restricted else f"{first}"
        return failed(self.name, f"schema_{first.keyword}", f"{detail}{more}")

    def _judge_tool_calls(self, candidate: Candidate) -> Verdict:
        for call in candidate.tool_calls:
            try:
                arguments = parse_document(call.arguments or "{}")
            except DocumentError:
                return failed(self.name, "not_json", f"the arguments of {call.name} are not JSON")
            if not isinstance(arguments, dict):
                return failed(self.name, "not_an_object", f"the arguments of {call.name} are not an object")
        return passed(self.name)
