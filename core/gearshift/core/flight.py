"""A call that several callers share: run once, by nobody in particular, read by each at its own pace.

Rules: a flight belongs to the engine, in the task group of `Flights`, and not to its first caller: no member inherits
another's cancel, deadline or caps. It may go on until the latest deadline of its members, and is cancelled when the last
one leaves, which closes the upstream and bills what was used. What it writes stands once, in a log to which each reader
has a cursor: a slow reader blocks nobody, and the fastest one holds the upstream back when it is far ahead. Who joins late
is given what stands under the numbers of the first reader (streams.md 20), then the feed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Generic, Self, TypeVar

import anyio
from anyio.abc import TaskGroup
from msgspec import structs

from gearshift.core.answer import Answer, Completion
from gearshift.core.composer import digest_of
from gearshift.core.errors import ChainExhaustedError, DeadlineError
from gearshift.core.events import (
    Checkpoint,
    Completed,
    Delta,
    DeltaPart,
    Event,
    ReasoningDelta,
    Retract,
    TextDelta,
    ToolCallFragment,
)
from gearshift.core.fold import Fold
from gearshift.core.words import Outcome

A = TypeVar("A")

READ_AHEAD = 256
"""Messages that a flight writes beyond its fastest reader before it waits for it."""
_OWN_END_S = 0.02
"""How long after its own end a member waits for the flight's: the two are one where its deadline is the latest. Less than
the margin that is left for saying so (`COMPLETED_MARGIN_S`)."""


class Horizon:
    """Until when a flight may go on, seconds, monotonic; it only moves away."""

    __slots__ = ("_told", "ends_at")

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self._told: list[Callable[[float], None]] = []

    def attach(self, extend: Callable[[float], None]) -> None:
        """Have something told, now and whenever it moves."""
        self._told.append(extend)
        extend(self.ends_at)

    def close(self) -> None:
        """Tell nobody any more, and hold nobody."""
        self._told.clear()

    def extend(self, ends_at: float) -> None:
        """Let it go on for longer."""
        if ends_at > self.ends_at:
            self.ends_at = ends_at
            for extend in self._told:
                extend(ends_at)


class Flight(Generic[A]):
    """One run and those who wait for it. Made by `Flights`; its members are tasks of one loop."""

    def __init__(self, horizon: Horizon, ended: Callable[[Flight[A]], None]) -> None:
        self.horizon = horizon
        self.log: list[list[Event]] = []
        """Every message, in order; emptied when the flight has ended and nobody reads it any more."""
        self.result: A | None = None
        self.error: Exception | None = None
        self.is_over = False
        self.is_foreign = False
        """Whether another process makes the call, and this one only waits for what becomes of it."""
        self.members = 0
        self._ended = ended
        self._scope = anyio.CancelScope()
        self._has_completed = False
        self._news: anyio.Event | None = None
        self._furthest = 0
        self._caught_up: anyio.Event | None = None

    def __repr__(self) -> str:
        state = "over" if self.is_over else "running"
        return f"Flight({state}, members={self.members}, messages={len(self.log)})"

    def join(self, until: Horizon) -> None:
        """Become a member, who has time until then; every member calls `leave` once."""
        self.members += 1
        until.attach(self.horizon.extend)

    def leave(self) -> None:
        """Give up a member's place; the last one to leave ends what still runs."""
        self.members -= 1
        if self.members:
            return
        if self.is_over:
            self.log = []
        elif not self._has_completed:
            self._ended(self)  # nobody may join what is about to end
            self._scope.cancel()

    async def wait(self, until: Horizon) -> A:
        """Wait for the result, as long as the member has time.

        Raises:
            DeadlineError: the member's own deadline has passed.
            RouteError: the flight failed; every member hears of it, and none tries again for itself.

        """
        with _Alarm(until, self._tell) as alarm:
            while not self.is_over:
                if alarm.has_rung:
                    raise DeadlineError(_TOO_LATE)
                await self._heard()
        return self.outcome()

    def outcome(self) -> A:
        """Give the result of a flight that is over, or raise what it failed with."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        if self.result is None:
            raise ChainExhaustedError(
                "the service stops", attempts=(), completion=Completion(outcome=Outcome.FAILED), retry_after_s=1.0
            )
        return self.result

    async def read(self, until: Horizon) -> AsyncGenerator[list[Event]]:
        """Give what stands, then every message as it is written, as long as the member has time.

        Raises:
            DeadlineError: after `Completed`; the member's own deadline has passed, though the flight may go on.
            RouteError: after `Completed`; what the flight failed with.

        """
        log, cursor = self.log, len(self.log)
        self._read_to(cursor)
        standing = snapshot(log)
        if standing:
            yield standing
        with _Alarm(until, self._tell) as alarm:
            while True:
                if cursor < len(log):
                    batch = log[cursor]
                    cursor += 1
                    self._read_to(cursor)
                    yield batch
                elif self.is_over:
                    break
                elif alarm.has_rung and not self._has_completed:
                    if log:
                        yield [_cut_short(log)]
                    raise DeadlineError(_TOO_LATE)
                else:
                    await self._heard()
        self.outcome()

    # -- the run's side ----------------------------------------------------------------------------------------------

    async def fly(self, work: Callable[[Flight[A]], Awaitable[A]]) -> None:
        """Run to the end; what is raised is kept for the members."""
        try:
            with self._scope:
                self.result = await work(self)
        except Exception as error:  # noqa: BLE001 - told to every member, whose edge knows what may be said of it
            self.error = error
            self.result = None
        finally:
            self.is_over = True
            self.horizon.close()  # its result may be kept for long, and nothing else of the run
            if not self.members:
                self.log = []
            self._ended(self)
            self._tell()

    async def write(self, events: AsyncGenerator[list[Event]]) -> Answer:
        """Write a stream into the log; give what it comes to."""
        fold = Fold()
        async with aclosing(events) as batches:
            async for batch in batches:
                self.log.append(batch)
                fold.apply(batch)
                if fold.completed is not None:
                    self._has_completed = True
                self._tell()
                while len(self.log) - self._furthest > READ_AHEAD and not self._has_completed:
                    if self._caught_up is None:
                        self._caught_up = anyio.Event()
                    await self._caught_up.wait()
        return fold.answer()

    def _tell(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.set()

    def _read_to(self, cursor: int) -> None:
        if cursor > self._furthest:
            self._furthest = cursor
            waiting, self._caught_up = self._caught_up, None
            if waiting is not None:
                waiting.set()

    async def _heard(self) -> None:
        """Wait for news."""
        if self._news is None:
            self._news = anyio.Event()
        await self._news.wait()


class _Alarm:
    """Tells a member that its own time is over: one timer for as long as it waits, set again when it was given longer."""

    __slots__ = ("_loop", "_ring", "_timer", "_until", "has_rung")

    def __init__(self, until: Horizon, ring: Callable[[], None]) -> None:
        self.has_rung = False
        self._until = until
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._check()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        # The loop's time is the monotonic clock.
        at = self._until.ends_at + _OWN_END_S
        if self._loop.time() < at:
            self._timer = self._loop.call_at(min(at, self._loop.time() + _LONGEST_TIMER_S), self._check)
        else:
            self._timer, self.has_rung = None, True
            self._ring()


_LONGEST_TIMER_S = 86_400.0
"""A loop refuses timers that are for ever."""
_TOO_LATE = "the deadline has passed while the call was shared with others"


class Flights:
    """The task group that flights run in. Enter it where the service, or the router, begins; leaving it ends them all."""

    def __init__(self) -> None:
        self._tasks: TaskGroup | None = None
        self.running = 0

    @property
    def is_open(self) -> bool:
        """Whether it was entered."""
        return self._tasks is not None

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._tasks is not None
        tasks, self._tasks = self._tasks, None
        tasks.cancel_scope.cancel()
        # What the block raised is not the group's business: it would leave it as a group of one.
        await tasks.__aexit__(None, None, None)

    def launch(
        self, work: Callable[[Flight[A]], Awaitable[A]], ends_at: float, ended: Callable[[Flight[A]], None]
    ) -> Flight[A]:
        """Begin a flight; who calls this joins it before anything is awaited.

        Args:
            work: what is run; it is given the flight, to write into its log, and gives its result.
            ends_at: until when, unless a member has longer.
            ended: told, once or twice, when it is over, and before that when its last member has left and nobody may join.

        """
        if self._tasks is None:
            raise RuntimeError(
                "calls that are shared (a request id of the caller's, a task with a cache) need a router that was entered: "
                "`async with Router(...) as router`"
            )
        flight = Flight[A](Horizon(ends_at), ended)
        self._tasks.start_soon(self._fly, flight, work)
        return flight

    def aside(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run something beside the flights; it ends by itself, or with them."""
        assert self._tasks is not None

        async def run() -> None:
            await work()

        self._tasks.start_soon(run)

    async def _fly(self, flight: Flight[A], work: Callable[[Flight[A]], Awaitable[A]]) -> None:
        self.running += 1
        try:
            await flight.fly(work)
        finally:
            self.running -= 1


def snapshot(log: Iterable[list[Event]]) -> list[Event]:
    """Give what stands after a log, under its own numbers: what is committed as one delta, each live delta as it is.

    What was retracted is left out with its retraction; the attempts and switches are told, since they are always sent.
    """
    events: list[Event] = []
    committed = 0
    for batch in log:
        for event in batch:
            if isinstance(event, Retract):
                events = [each for each in events if not (isinstance(each, Delta) and each.number > event.after)]
            elif isinstance(event, Checkpoint):
                committed = event.through
            else:
                events.append(event)
    if not committed:
        return events
    merged: list[Event] = []
    pieces: list[DeltaPart] = []
    place = 0
    for event in events:
        if isinstance(event, Delta) and event.number <= committed:
            pieces += event.parts
            place = len(merged)
        else:
            merged.append(event)
    standing = [*merged[:place], Delta(committed, _joined(pieces), committed), *merged[place:]]
    # After what follows it, as when it was given: a checkpoint stands at a seam.
    end = len(standing) - isinstance(standing[-1], Completed)
    return [*standing[:end], Checkpoint(committed), *standing[end:]]


def _joined(parts: Iterable[DeltaPart]) -> tuple[DeltaPart, ...]:
    """Give one part for each kind, and for each tool call, in the order in which they began."""
    joined: dict[object, DeltaPart] = {}
    for part in parts:
        if isinstance(part, ToolCallFragment):
            known = joined.get(part.index)
            joined[part.index] = (
                structs.replace(known, arguments=known.arguments + part.arguments)
                if isinstance(known, ToolCallFragment)
                else part
            )
        elif isinstance(part, TextDelta):
            known = joined.get(TextDelta)
            joined[TextDelta] = TextDelta(known.text + part.text) if isinstance(known, TextDelta) else part
        else:
            known = joined.get(ReasoningDelta)
            joined[ReasoningDelta] = (
                ReasoningDelta(known.text + part.text) if isinstance(known, ReasoningDelta) else part
            )
    return tuple(joined.values())


def _cut_short(log: Iterable[list[Event]]) -> Completed:
    """Give the end of a member's stream whose deadline has passed before the flight's."""
    fold = Fold()
    for batch in log:
        fold.apply(batch)
    return Completed(completion=Completion(outcome=Outcome.FAILED, digest=digest_of(fold.text, ())))
