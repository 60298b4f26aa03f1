"""Folds the events of a stream into the answer.

Rules, those of the contract: `started` is first; delta numbers rise strictly and are never reused; `retract` drops the
deltas after a live one, or all, but never one at or before a checkpoint; checkpoints name a live delta and rise;
nothing follows `completed`. Events that break them raise; kinds of a later contract are passed over. Call `finish` at
the end: it is what tells a whole answer from a partial. tests/conformance says the same for every language. No I/O here.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from gearshift.clients.errors import StreamProtocolError
from gearshift.v1 import answer_pb2, call_pb2, stream_pb2


@dataclass(frozen=True, slots=True)
class _Live:
    """A delta that stands: its parts, and the attempt that it came from."""

    attempt: int
    text: str
    reasoning: str
    fragments: tuple[stream_pb2.ToolCallFragment, ...]


class Accumulator:
    """The answer so far; feed it every event of one stream, in order."""

    def __init__(self) -> None:
        self._started: stream_pb2.Started | None = None
        self._completed: stream_pb2.Completed | None = None
        self._attempt = 0
        self._last_number = 0
        self._checkpoint = 0
        self._numbers: list[int] = []
        self._live: list[_Live] = []
        self._text: str | None = ""

    def __repr__(self) -> str:
        state = "completed" if self._completed else "running" if self._started else "new"
        return f"<Accumulator {state}, {len(self._live)} deltas, checkpoint {self._checkpoint}>"

    def apply(self, event: stream_pb2.Event) -> str | None:
        """Take in one event; return the text that it appended, None if it took text away (look at `text` then).

        Raises:
            StreamProtocolError: the event breaks the contract; the state is as before.

        """
        kind = event.WhichOneof("kind")
        if self._completed is not None:
            raise StreamProtocolError("after_completed", f"{kind or 'an event'} after completed")
        if kind == "started":
            if self._started is not None:
                raise StreamProtocolError("started_twice", "started twice")
            self._started = event.started
            return ""
        if self._started is None:
            raise StreamProtocolError("before_started", f"{kind or 'an event'} before started")
        match kind:
            case "attempt":
                return self._begin(event.attempt)
            case "delta":
                return self._append(event.delta)
            case "checkpoint":
                return self._commit(event.checkpoint.through)
            case "retract":
                return self._retract(event.retract.after)
            case "completed":
                self._completed = event.completed
            case _:
                pass
        return ""

    @property
    def text(self) -> str:
        """The text that stands."""
        if self._text is None:
            self._text = "".join(delta.text for delta in self._live)
        return self._text

    @property
    def reasoning(self) -> str:
        """The reasoning that stands, apart from the text."""
        return "".join(delta.reasoning for delta in self._live)

    @property
    def tool_calls(self) -> tuple[call_pb2.ToolCall, ...]:
        """The tool calls: a preview until completed, then final. Act on them only when `completed` is set."""
        if self._completed is not None:  # also when it has none: fragments of a failed call are not a call
            return tuple(self._completed.tool_calls)
        calls: dict[tuple[int, int], call_pb2.ToolCall] = {}
        for delta in self._live:
            for fragment in delta.fragments:
                found = calls.setdefault((delta.attempt, fragment.index), call_pb2.ToolCall())
                found.id = found.id or fragment.id
                found.name = found.name or fragment.name
                found.arguments += fragment.arguments
        return tuple(calls.values())

    @property
    def live(self) -> tuple[int, ...]:
        """The numbers of the deltas that stand, rising."""
        return tuple(self._numbers)

    @property
    def checkpoint(self) -> int:
        """The number of the last delta that will never be taken back; 0 is none."""
        return self._checkpoint

    @property
    def committed(self) -> str:
        """The text up to the checkpoint: what will never be taken back."""
        return "".join(delta.text for delta in self._live[: bisect.bisect_right(self._numbers, self._checkpoint)])

    @property
    def started(self) -> stream_pb2.Started | None:
        """The opening event, None before it."""
        return self._started

    @property
    def completed(self) -> stream_pb2.Completed | None:
        """The closing event, None before it: until then the text is a partial."""
        return self._completed

    def finish(self) -> answer_pb2.Answer:
        """Check what must hold when the stream has ended without an error, and give its answer.

        Raises:
            StreamProtocolError: there was no `completed` (rule "incomplete": the text is a partial), it says that the call
                failed although no status followed ("status_missing"), or its digest is of another text
                ("digest_mismatch").

        """
        if self._completed is None:
            raise StreamProtocolError("incomplete", "the stream ended without completed: its text is a partial")
        if self._completed.completion.outcome == answer_pb2.OUTCOME_FAILED:
            raise StreamProtocolError("status_missing", "the call failed, and no status followed")
        if not self.digest_matches():
            raise StreamProtocolError("digest_mismatch", "the text is not what the server says that it sent")
        return self.answer()

    def digest_matches(self) -> bool:
        """Whether the stream is complete and its text (or tool calls) is what the server says that it sent."""
        if self._completed is None:
            return False
        return self._completed.completion.digest == digest(self.text, self._completed.tool_calls)

    def answer(self) -> answer_pb2.Answer:
        """Give the answer as `route` would have; without `completed` it has no completion."""
        answer = answer_pb2.Answer(text=self.text, tool_calls=self.tool_calls, reasoning=self.reasoning)
        if self._started is not None:
            answer.request_id = self._started.request_id
            answer.resolution.CopyFrom(self._started.resolution)
        if self._completed is not None:
            answer.completion.CopyFrom(self._completed.completion)
        return answer

    def _begin(self, attempt: stream_pb2.AttemptStarted) -> str:
        if attempt.number <= self._attempt:
            message = f"attempt {attempt.number} after attempt {self._attempt}"
            raise StreamProtocolError("attempt_not_rising", message)
        self._attempt = attempt.number
        return ""

    def _append(self, delta: stream_pb2.Delta) -> str:
        if delta.number <= self._last_number:
            message = f"delta {delta.number} after delta {self._last_number}"
            raise StreamProtocolError("number_not_rising", message)
        text = "".join(part.text for part in delta.parts if part.HasField("text"))
        reasoning = "".join(part.reasoning for part in delta.parts if part.HasField("reasoning"))
        fragments = tuple(part.tool_call for part in delta.parts if part.HasField("tool_call"))
        self._last_number = delta.number
        self._numbers.append(delta.number)
        self._live.append(_Live(self._attempt, text, reasoning, fragments))
        if text:
            self._text = None
        return text

    def _commit(self, through: int) -> str:
        if through <= self._checkpoint:
            message = f"checkpoint {through} after checkpoint {self._checkpoint}"
            raise StreamProtocolError("checkpoint_not_rising", message)
        self._place_of(through, "checkpoint")
        self._checkpoint = through
        return ""

    def _retract(self, after: int) -> str | None:
        if after < self._checkpoint:
            message = f"retract to {after} behind checkpoint {self._checkpoint}"
            raise StreamProtocolError("retract_behind_checkpoint", message)
        kept = self._place_of(after, "retract") + 1 if after else 0
        changed = any(delta.text for delta in self._live[kept:])
        del self._numbers[kept:], self._live[kept:]
        if changed:
            self._text = None
        return None if changed else ""

    def _place_of(self, number: int, kind: str) -> int:
        """Find a live delta by its number."""
        place = bisect.bisect_left(self._numbers, number)
        if place == len(self._numbers) or self._numbers[place] != number:
            raise StreamProtocolError(f"{kind}_not_live", f"{kind} names delta {number}, which does not stand")
        return place


def digest(text: str, tool_calls: Iterable[call_pb2.ToolCall] = ()) -> str:
    """Give the digest of an answer: SHA-256, hex, of its text, or of the canonical JSON of its tool calls."""
    calls = [{"arguments": one.arguments, "id": one.id, "name": one.name} for one in tool_calls]
    if calls:
        text = json.dumps(calls, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
