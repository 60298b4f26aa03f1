"""The form of a conformance case, and a reducer so plain that it can be checked by eye.

Rules: everything here is JSON as protobuf maps it (camelCase, uint32 as numbers); nothing imports the client, so that
what a case expects never comes from what it judges.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent
VERSION: Final = 1
Json = dict[str, Any]

RULES: Final = (
    "before_started",
    "started_twice",
    "after_completed",
    "attempt_not_rising",
    "number_not_rising",
    "checkpoint_not_rising",
    "checkpoint_not_live",
    "retract_behind_checkpoint",
    "retract_not_live",
    "incomplete",
    "status_missing",
    "digest_mismatch",
)
"""The words for broken rules; the last three are found at the end of the stream."""

OK: Final[Json] = {"code": "OK", "message": "", "detailsBin": ""}


class BrokenRuleError(Exception):
    """Raised when an event breaks the contract; the message is the rule's word."""


class Reducer:
    """Folds events of one stream."""

    def __init__(self) -> None:
        self.started: Json | None = None
        self.completed: Json | None = None
        self.checkpoint = 0
        self._attempt = 0
        self._highest = 0
        self._live: list[tuple[int, int, Json]] = []  # number, attempt, delta

    def apply(self, event: Json) -> None:
        """Take one event."""
        kind = next(iter(event), "")
        value: Json = event.get(kind, {})
        if self.completed is not None:
            raise BrokenRuleError("after_completed")
        if kind == "started":
            if self.started is not None:
                raise BrokenRuleError("started_twice")
            self.started = value
            return
        if self.started is None:
            raise BrokenRuleError("before_started")
        live = [number for number, _, _ in self._live]
        match kind:
            case "attempt":
                if value.get("number", 0) <= self._attempt:
                    raise BrokenRuleError("attempt_not_rising")
                self._attempt = value["number"]
            case "delta":
                if value.get("number", 0) <= self._highest:
                    raise BrokenRuleError("number_not_rising")
                self._highest = value["number"]
                self._live.append((self._highest, self._attempt, value))
            case "checkpoint":
                through = value.get("through", 0)
                if through <= self.checkpoint:
                    raise BrokenRuleError("checkpoint_not_rising")
                if through not in live:
                    raise BrokenRuleError("checkpoint_not_live")
                self.checkpoint = through
            case "retract":
                after = value.get("after", 0)
                if after < self.checkpoint:
                    raise BrokenRuleError("retract_behind_checkpoint")
                if after and after not in live:
                    raise BrokenRuleError("retract_not_live")
                self._live = [each for each in self._live if each[0] <= after]
            case "completed":
                self.completed = value
            case _:
                pass

    def snapshot(self) -> Json:
        """Give what stands."""
        committed = [each for each in self._live if each[0] <= self.checkpoint]
        return {
            "text": _joined(self._live, "text"),
            "reasoning": _joined(self._live, "reasoning"),
            "toolCalls": self.tool_calls(),
            "live": [number for number, _, _ in self._live],
            "checkpoint": self.checkpoint,
            "committed": _joined(committed, "text"),
            "completed": self.completed is not None,
        }

    def tool_calls(self) -> list[Json]:
        """Give the calls: joined fragments until completed, then what completed says."""
        if self.completed is not None:
            return [
                {key: call.get(key, "") for key in ("id", "name", "arguments")}
                for call in self.completed.get("toolCalls", [])
            ]
        calls: dict[tuple[int, int], Json] = {}
        for _, attempt, delta in self._live:
            for part in delta.get("parts", []):
                if "toolCall" in part:
                    fragment = part["toolCall"]
                    call = calls.setdefault(
                        (attempt, fragment.get("index", 0)), {"id": "", "name": "", "arguments": ""}
                    )
                    call["id"] = call["id"] or fragment.get("id", "")
                    call["name"] = call["name"] or fragment.get("name", "")
                    call["arguments"] += fragment.get("arguments", "")
        return list(calls.values())

    def check_end(self) -> None:
        """Check what must hold when the stream has ended well."""
        if self.completed is None:
            raise BrokenRuleError("incomplete")
        completion = self.completed.get("completion", {})
        if completion.get("outcome") == "OUTCOME_FAILED":
            raise BrokenRuleError("status_missing")
        if completion.get("digest", "") != self.digest():
            raise BrokenRuleError("digest_mismatch")

    def digest(self) -> str:
        """Give the digest of what stands."""
        return digest(self.snapshot()["text"], self.completed.get("toolCalls", []) if self.completed else [])


def digest(text: str, tool_calls: Sequence[Mapping[str, str]] = ()) -> str:
    """Give the digest as README.md says."""
    if tool_calls:
        whole = [{key: call.get(key, "") for key in ("arguments", "id", "name")} for call in tool_calls]
        text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def case(
    name: str,
    about: str,
    messages: Sequence[Sequence[Json]],
    *,
    status: Json | None = None,
    error: Json | None = None,
    snapshots: bool = True,
    drawn: bool = False,
    **said: Any,
) -> Json:
    """Give a stream's case.

    Args:
        name: unique, a few words.
        about: what it shows, a sentence.
        messages: the events of each message.
        status: how the stream ends; unset is OK.
        error: what the client must raise.
        snapshots: give what stands after each message too.
        drawn: nobody has thought of what it breaks: the reducer's word counts; `error` is that of the status.
        said: expectations written by hand, which must be what the reducer finds.

    """
    status = status or OK
    reducer, seen, broken = Reducer(), list[Json](), ""
    place: tuple[int, int] | None = None
    for at, events in enumerate(messages):
        for within, event in enumerate(events):
            try:
                reducer.apply(event)
            except BrokenRuleError as failure:
                broken, place = str(failure), (at, within)
                break
        if broken:
            break
        seen.append(reducer.snapshot())
    if not broken and status["code"] == "OK":
        try:
            reducer.check_end()
        except BrokenRuleError as failure:
            broken = str(failure)
    found: Json | None = None
    if broken:
        found = {"kind": "protocol", "rule": broken}
        found |= {"message": place[0], "event": place[1]} if place is not None else {}
    elif status["code"] != "OK":
        found = error if error is not None and error["kind"] == "status" else None
        assert found is not None, f"{name}: a stream that ends with a status expects it"
    wanted = error and {key: value for key, value in error.items() if key not in ("message", "event")}
    plain = found and {key: value for key, value in found.items() if key not in ("message", "event")}
    assert drawn or wanted == plain, f"{name}: expects {wanted}, the reducer finds {plain}"
    expected = reducer.snapshot()
    completion = (reducer.completed or {}).get("completion", {})
    expected["outcome"] = completion.get("outcome", "")
    expected["digest"] = reducer.digest()
    expected["digestMatches"] = reducer.completed is not None and completion.get("digest", "") == expected["digest"]
    expected["error"] = found
    for key, value in said.items():
        assert expected[key] == value, f"{name}: {key} is {expected[key]!r}, not {value!r}"
    made: Json = {"name": name, "about": about, "messages": [{"events": list(events)} for events in messages]}
    made["status"] = status
    if snapshots:
        made["snapshots"] = seen
    return made | {"expected": expected}


def text_of(about: str, cases: Iterable[Json]) -> str:
    """Write a file of cases, one line for each message, in an order that does not change."""
    lines = ["{", f'  "format": {VERSION},', f'  "about": {_line(about)},', '  "cases": [']
    cases = list(cases)
    for at, each in enumerate(cases):
        lines.append("    {")
        fields = list(each.items())
        for place, (key, value) in enumerate(fields):
            comma = "," if place < len(fields) - 1 else ""
            if key in ("messages", "snapshots") and value:
                rows = [f"        {_line(row)}" for row in value]
                lines += [f'      "{key}": [', ",\n".join(rows), f"      ]{comma}"]
            else:
                lines.append(f'      "{key}": {_line(value)}{comma}')
        lines.append("    }," if at < len(cases) - 1 else "    }")
    return "\n".join([*lines, "  ]", "}", ""])


def read(name: str) -> list[Json]:
    """Give the cases of a file."""
    whole = json.loads((FOLDER / name).read_text())
    assert whole["format"] == VERSION
    cases: list[Json] = whole["cases"]
    return cases


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)


def _joined(live: Sequence[tuple[int, int, Json]], kind: str) -> str:
    return "".join(part.get(kind, "") for _, _, delta in live for part in delta.get("parts", []))
