"""A stream's events as OpenAI's chunks.

Rules: pure. A chunk can never be taken back, so only text is written that no later event may retract:

    hold_all   nothing before the end
    continue   where checkpoints come, the text up to the last one; where none come, as `fail`
    fail       each delta, since this mode keeps what was sent

and should an event take back what was written all the same, that is an error, not a correction. Tool calls are written at
the end, whole, when they have passed their gates. `end` writes the finish and `[DONE]`, and is for streams that ended well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gearshift.core.answer import Usage
from gearshift.core.errors import RouteError
from gearshift.core.events import AttemptStarted, Checkpoint, Completed, Delta, Event, Retract, Started, TextDelta
from gearshift.core.words import AttemptRole, CheckpointPolicy
from gearshift.server.web.openai.answer import completion_id, extension, finish_of, model_of, state_body, usage_body
from gearshift.server.web.openai.settings import StreamMode

DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode


class Chunks:
    """One stream's chunks.

    Args:
        mode: what may be written before the end.
        created: seconds since the epoch.
        fingerprint: of the configuration that answers.
        include_usage: whether a last chunk tells the usage.
        single_call: the caller takes one call of a tool in a turn, so further ones are left out.
    """

    def __init__(
        self, mode: StreamMode, *, created: int, fingerprint: str, include_usage: bool, single_call: bool = False
    ) -> None:
        self._mode = mode
        self._single_call = single_call
        self._created = created
        self._fingerprint = fingerprint
        self._include_usage = include_usage
        self._started: Started | None = None
        self._completed: Completed | None = None
        self._model = ""
        self._live: list[tuple[int, str]] = []
        """Every live delta's number and text."""
        self._written: list[str] = []
        self._next = 0
        """The first of the live deltas that is not written."""
        self._committed = 0
        self._has_begun = False
        self._head = b""

    @property
    def completed(self) -> Completed | None:
        """How the stream ended, once it has."""
        return self._completed

    def take(self, events: Iterable[Event]) -> bytes:
        """Take the events of one upstream read; give what is to be written for them, which may be nothing.

        Raises:
            RouteError: what was written was taken back.
        """
        for event in events:
            if isinstance(event, Delta):
                text = "".join([part.text for part in event.parts if isinstance(part, TextDelta)])
                self._live.append((event.number, text))
            elif isinstance(event, Checkpoint):
                self._committed = event.through
            elif isinstance(event, Retract):
                self._retract(event.after)
            elif isinstance(event, AttemptStarted):
                if event.role is AttemptRole.ANSWER:
                    self._speaks(event.stage.model)
            elif isinstance(event, Started):
                self._started = event
                if event.cached and event.plan:
                    self._speaks(event.plan[0].model)
            elif isinstance(event, Completed):
                # Whether that is an answer is known when the stream has ended: a refusal comes after it.
                self._completed = event
        return b"" if self._completed is not None else self._due(self._limit())

    def end(self) -> bytes:
        """Give the rest of a stream that ended well, `[DONE]` included.

        Raises:
            RouteError: the final text is not a continuation of what was written.
        """
        started, completed = self._started, self._completed
        if started is None or completed is None:
            raise RouteError("the stream ended before its answer did")
        completion = completed.completion
        calls = completed.tool_calls[:1] if self._single_call else completed.tool_calls
        self._speaks(model_of(completion) or self._model)
        pieces = [self._due(None)]
        if not self._has_begun:
            pieces.append(self._begin())
        for index, call in enumerate(calls):
            function = {"name": call.name, "arguments": ""}
            first = {"index": index, "id": call.id, "type": "function", "function": function}
            pieces.append(self._chunk({"tool_calls": [first]}))
            pieces.append(self._chunk({"tool_calls": [{"index": index, "function": {"arguments": call.arguments}}]}))
        told = extension(started.request_id, started.resolution, completion)
        state = completion.provider_state
        delta = {} if state is None else {"gearshift": state_body(state)}
        pieces.append(self._chunk(delta, finish=finish_of(completion, calls), gearshift=told))
        if self._include_usage:
            pieces.append(self._usage(completion.usage_served))
        pieces.append(DONE)
        return b"".join(pieces)

    def _speaks(self, model: str) -> None:
        if model != self._model:
            self._model = model
            self._head = b""

    def _limit(self) -> int | None:
        """Give the number of the last delta that may be written; None when all may."""
        if self._mode == "hold_all":
            return 0
        started = self._started
        if self._mode == "continue" and started is not None and started.checkpoints is CheckpointPolicy.WINDOWS:
            return self._committed
        return None

    def _due(self, limit: int | None) -> bytes:
        texts: list[str] = []
        while self._next < len(self._live):
            number, text = self._live[self._next]
            if limit is not None and number > limit:
                break
            self._next += 1
            texts.append(text)
        text = "".join(texts)
        if not text:
            return b""
        self._written.append(text)
        begun = b"" if self._has_begun else self._begin()
        return begun + self._text_chunk(text)

    def _retract(self, after: int) -> None:
        kept = sum(number <= after for number, _ in self._live)
        del self._live[kept:]
        if kept < self._next and any(self._written):
            # Deltas came in order, so the last ones that were written are those that are gone.
            raise RouteError("what had been sent was taken back, which this protocol cannot say")
        self._next = min(self._next, kept)

    def _begin(self) -> bytes:
        self._has_begun = True
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def _text_chunk(self, text: str) -> bytes:
        """Give a chunk of text; what all of them have in common is written once."""
        if not self._head:
            whole = self._chunk({"content": ""})
            head, _, tail = whole.partition(b'"content":""')
            self._head, self._tail = head + b'"content":', tail
        return self._head + _encode(text) + self._tail

    _tail = b""

    def _chunk(
        self, delta: dict[str, Any], *, finish: str | None = None, gearshift: dict[str, Any] | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._event([choice], None, gearshift)

    def _usage(self, usage: Usage) -> bytes:
        return self._event([], usage_body(usage), None)

    def _event(
        self, choices: Sequence[dict[str, Any]], usage: dict[str, Any] | None, gearshift: dict[str, Any] | None
    ) -> bytes:
        started = self._started
        body: dict[str, Any] = {
            "id": completion_id(started.request_id if started is not None else ""),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "system_fingerprint": self._fingerprint,
            "choices": choices,
        }
        if self._include_usage:
            body["usage"] = usage
        if gearshift is not None:
            body["gearshift"] = gearshift
        return b"data: " + _encode(body) + b"\n\n"
