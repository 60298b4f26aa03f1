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
from gearshift.core.words import AttemptRole, CheckpointPolicy, Outcome, SwitchMode


class Replay:
    """Replays a stream as a client does; every broken rule is an AssertionError."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self.completed: Completed | None = None
        self.attempts: list[AttemptStarted] = []
        self.switches: list[Switch] = []
        self.retracts: list[Retract] = []
        self.checkpoints: list[int] = []
        self.committed = ""
        """The text up to the last checkpoint."""
        self.committed_in = 0
        """The attempt in which the first checkpoint came; 0 for none."""
        self.error: RouteError | None = None
        self._live: list[Delta] = []
        self._highest = 0
        self._retracted_in = 0
        """The attempt in which the last retract came."""

    @property
    def text(self) -> str:
        """The text that stands."""
        return "".join(part.text for delta in self._live for part in delta.parts if isinstance(part, TextDelta))

    @property
    def live(self) -> list[Delta]:
        """The deltas that stand."""
        return self._live

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
                    assert self._highest < event.number < 2**32, "numbers must rise"
                    assert event.parts, "an empty delta"
                    assert event.passed_through <= event.number
                    self._highest = event.number
                    self._live.append(event)
                case Checkpoint():
                    assert self.started.checkpoints is CheckpointPolicy.WINDOWS
                    assert any(delta.number == event.through for delta in self._live), "a checkpoint names a live delta"
                    assert not self.checkpoints or event.through > self.checkpoints[-1], "checkpoints rise strictly"
                    self._check_seam(event.through)
                    self.checkpoints.append(event.through)
                    self.committed = "".join(_text(delta) for delta in self._live if delta.number <= event.through)
                    self.committed_in = self.committed_in or len(self.attempts)
                case Retract():
                    assert event.after == 0 or any(delta.number == event.after for delta in self._live)
                    assert not self.checkpoints or event.after >= self.checkpoints[-1], "a commitment was broken"
                    assert any(delta.number > event.after for delta in self._live), "nothing to retract"
                    following = events[place + 1] if place + 1 < len(events) else None
                    assert isinstance(following, Delta | Completed), "a retract travels with what replaces it"
                    self._live = [delta for delta in self._live if delta.number <= event.after]
                    self.retracts.append(event)
                    self._retracted_in = len(self.attempts)
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
        assert self.text.startswith(self.committed), "what was committed does not stand"
        served = [record for record in completion.attempts if record.served]
        if served and self.attempts and served[0].number < self._retracted_in == len(self.attempts):
            last = self.attempts[-1].role is AttemptRole.ANSWER  # a check speaks for the answer before it
            assert not last or self.switches[-1].mode is SwitchMode.RESTORE, "an earlier answer came back unannounced"
        if completion.outcome is Outcome.FAILED:
            assert not served
            assert self.error is not None, "a failed stream is followed by its status"
        else:
            assert len(served) == (0 if completion.cached else 1)
        return self.completed

    def _check_seam(self, through: int) -> None:
        """Check that a checkpoint stands where another model can go on: between a word and the space behind it."""
        place = next(at for at, delta in enumerate(self._live) if delta.number == through)
        assert not _text(self._live[place])[-1:].isspace() and _text(self._live[place]), "a seam within white space"
        behind = "".join(_text(delta) for delta in self._live[place + 1 :])
        assert behind[:1].isspace(), "a seam within a word"


def _text(delta: Delta) -> str:
    return "".join(part.text for part in delta.parts if isinstance(part, TextDelta))


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
