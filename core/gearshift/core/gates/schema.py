"""Whether the answer is JSON, and fits its schema.

Rules: the one validator of core/schema judges; a tool call's arguments must be a JSON object.
"""

from __future__ import annotations

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, failed, passed
from gearshift.core.schema import CheckLimitError, DocumentError, parse_document


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
