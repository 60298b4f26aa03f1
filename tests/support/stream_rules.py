"""The rules of the event contract, checked event by event, and the fold that a client makes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from gearshift.core.composer import digest_of
from gearshift.core.errors import RouteError
from gearshift.core.events import (
    AttemptStarted,
    Checkpoint,
    Completed,
    Delta,
    Event,
    ReasoningDelta,
    Retract,
    Started,
    Switch,
    TextDelta,
    ToolCallFragment,
)
from gearshift.core.words import CheckpointPolicy, Outcome, SwitchMode


class Replay:
    """Replays a stream as a client does; every broken rule is an AssertionError."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self.completed: Completed | None = None
        self.attempts: list[AttemptStarted] = []
        self.switches: list[Switch] = []
        self.retracts: list[Retract] = []
        self.checkpoints: list[int] = []
        self.error: RouteError | None = None
        self._live: list[Delta] = []
        self._highest = 0

    @property
    def text(self) -> str:
        """The text that stands."""
        return "".join(part.text for delta in self._live for part in delta.parts if isinstance(part, TextDelta))

    @property
    def reasoning(self) -> str:
        """The reasoning that stands."""
        return "".join(part.text for delta in self._live for part in delta.parts if isinstance(part, ReasoningDelta))

    @property
    def fragments(self) -> list[tuple[str, str, str]]:
        """The tool calls that stand: id, name, arguments."""
        calls: dict[tuple[int, int], list[str]] = {}
        for delta in self._live:
            for part in delta.parts:
                if isinstance(part, ToolCallFragment):
                    call = calls.setdefault((0, part.index), ["", "", ""])
                    call[0] += part.id
                    call[1] += part.name
                    call[2] += part.arguments
        return [(call[0], call[1], call[2]) for _, call in sorted(calls.items())]

    def apply(self, batch: Iterable[Event]) -> None:
        """Take one message."""
        events = list(batch)
        assert events, "an empty message"
        for place, event in enumerate(events):
            assert self.completed is None, "something follows completed"
            if isinstance(event, Started):
                assert self.started is None, "started twice"
                self.started = event
                continue
            assert self.started is not None, "something precedes started"
            match event:
                case AttemptStarted():
                    assert event.number == len(self.attempts) + 1
                    self.attempts.append(event)
                case Delta():
                    assert event.number > self._highest, "numbers must rise"
                    assert event.parts, "an empty delta"
                    assert event.passed_through <= event.number
                    self._highest = event.number
                    self._live.append(event)
                case Checkpoint():
                    assert self.started.checkpoints is CheckpointPolicy.WINDOWS
                    assert any(delta.number == event.through for delta in self._live), "a checkpoint names a live delta"
                    assert not self.checkpoints or event.through > self.checkpoints[-1], "checkpoints rise strictly"
                    self.checkpoints.append(event.through)
                case Retract():
                    assert event.after == 0 or any(delta.number == event.after for delta in self._live)
                    assert not self.checkpoints or event.after >= self.checkpoints[-1], "a commitment was broken"
                    assert any(delta.number > event.after for delta in self._live), "nothing to retract"
                    following = events[place + 1] if place + 1 < len(events) else None
                    assert isinstance(following, Delta | Completed), "a retract travels with what replaces it"
                    self._live = [delta for delta in self._live if delta.number <= event.after]
                    self.retracts.append(event)
                case Switch():
                    assert event.mode is not SwitchMode.FAIL
                    self.switches.append(event)
                case Completed():
                    self.completed = event

    def check_end(self) -> Completed:
        """Check what must hold once the stream has ended; give `completed`."""
        assert self.completed is not None, "a stream that started must complete"
        completion, calls = self.completed.completion, self.completed.tool_calls
        assert completion.digest == digest_of(self.text, calls), "replay and digest differ"
        if calls:
            assert self.fragments == [(call.id, call.name, call.arguments) for call in calls]
        numbers = [record.number for record in completion.attempts]
        # The answer to a repeated request id tells of attempts that another stream has shown.
        assert [attempt.number for attempt in self.attempts] in (numbers, [])
        served = [record for record in completion.attempts if record.served]
        if completion.outcome is Outcome.FAILED:
            assert not served
            assert self.error is not None, "a failed stream is followed by its status"
        else:
            assert len(served) == 1
        return self.completed


async def replayed(stream: AsyncGenerator[list[Event]]) -> Replay:
    """Read a stream to its end and check all of its rules."""
    replay = Replay()
    try:
        async for batch in stream:
            replay.apply(batch)
    except RouteError as error:
        replay.error = error
    replay.check_end()
    return replay
