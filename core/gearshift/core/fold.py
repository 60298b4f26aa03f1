"""Events folded into what they say: the answer.

Rules: pure; the one reducer of the core, used for unary answers and in-process streams. The clients have their own on the
wire's messages, tested against the same event sequences.
"""

from __future__ import annotations

from collections.abc import Iterable

from gearshift.core.answer import Answer
from gearshift.core.events import (
    Completed,
    Delta,
    Event,
    ReasoningDelta,
    Retract,
    Started,
    TextDelta,
    ToolCallFragment,
)
from gearshift.core.words import CheckpointPolicy


class Fold:
    """The sum of a stream's events so far."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self.completed: Completed | None = None
        self._live: list[Delta] = []

    def apply(self, events: Iterable[Event]) -> None:
        """Take events, in order."""
        for event in events:
            if isinstance(event, Delta):
                self._live.append(event)
            elif isinstance(event, Retract):
                self._live = [delta for delta in self._live if delta.number <= event.after]
            elif isinstance(event, Started):
                self.started = event
            elif isinstance(event, Completed):
                self.completed = event

    @property
    def text(self) -> str:
        """The text that stands."""
        return "".join([part.text for delta in self._live for part in delta.parts if isinstance(part, TextDelta)])

    @property
    def reasoning(self) -> str:
        """The reasoning that stands."""
        return "".join([part.text for delta in self._live for part in delta.parts if isinstance(part, ReasoningDelta)])

    def answer(self) -> Answer:
        """Give the answer of a stream that has completed."""
        assert self.started is not None and self.completed is not None
        return Answer(
            request_id=self.started.request_id,
            text=self.text,
            tool_calls=self.completed.tool_calls,
            reasoning=self.reasoning,
            resolution=self.started.resolution,
            completion=self.completed.completion,
        )


def replayed(answer: Answer) -> list[Event]:
    """Give an answer that is already there as events: started, one delta, completed."""
    completion = answer.completion
    events: list[Event] = [
        Started(
            request_id=answer.request_id,
            resolution=answer.resolution,
            plan=(completion.served_by,) if completion.served_by is not None else (),
            skipped=completion.skipped,
            cached=completion.cached,
            checkpoints=CheckpointPolicy.NONE,
            checkpoints_reason="the answer is already there",
        )
    ]
    fragments = [
        ToolCallFragment(index, call.id, call.name, call.arguments) for index, call in enumerate(answer.tool_calls)
    ]
    text = [TextDelta(answer.text)] if answer.text else []
    if text or fragments:
        events.append(Delta(1, (*text, *fragments)))
    events.append(Completed(completion=completion, tool_calls=answer.tool_calls))
    return events
