"""The layer above the chain for tasks that keep their answers: look up, join who already asks, or run.

Rules: rights come first: a call is prepared, and refused, like any other before anything is looked up. Equal calls that
run at the same time are one flight: a thousand of them make one upstream call, and when it fails each hears of that
failure instead of trying again. A hit or a join is a call of its own for the observers, without attempts and without cost;
the attempts are told once, as those of the call that began the flight.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import aclosing

from msgspec import structs

from gearshift.core.answer import NO_USAGE, Answer, Completion
from gearshift.core.cache.answers import AnswerCache, unspent
from gearshift.core.cache.keys import response_key
from gearshift.core.call import PreparedCall
from gearshift.core.chain import ChainRunner
from gearshift.core.errors import RouteError
from gearshift.core.events import Completed, Event, Started
from gearshift.core.flight import Flight, Flights, Horizon
from gearshift.core.fold import replayed
from gearshift.core.prepare import Preparer
from gearshift.core.request import Request
from gearshift.core.words import Outcome

JOINED = "an equal call was running already: this one joined it and cost nothing"

Running = dict[Hashable, Flight[Answer]]
"""Flights that may be joined, by key, policy and stream policy."""


class CachedRunner:
    """Answers calls of tasks with a cache. Shared by all calls of a router.

    Args:
        running: flights by key; handed over on a reload, like the cache.

    """

    def __init__(
        self, preparer: Preparer, runner: ChainRunner, cache: AnswerCache, flights: Flights, running: Running
    ) -> None:
        self._preparer = preparer
        self._runner = runner
        self._cache = cache
        self._flights = flights
        self._running = running

    async def answer(self, request: Request, ends_by: float | None, horizon: Horizon | None = None) -> Answer:
        """Answer a unary call; arguments and errors as `Router.route`."""
        call = self._preparer.prepare(request, ends_by)
        key = response_key(call)
        if key is None:
            self._preparer.require_stage(call)
            return await self._runner.answer(call, horizon)
        self._preparer.require_right(call)
        place = (key, request.policy, None)
        if place not in self._running:
            found = await self._cache.find(key, call, time.monotonic())
            if found is not None:
                self._tell(call, found.completion, "")
                return found
        until = horizon or Horizon(call.ends_at)
        flight, is_first = self._flight(place, key, call, lambda flight: self._runner.answer(call, flight.horizon))
        flight.join(until)
        completion, error = _LEFT
        try:
            answer = await flight.wait(until)
            if is_first:
                return answer
            answer = structs.replace(
                answer,
                request_id=request.request_id,
                resolution=call.resolved.resolution,
                completion=_joined(answer.completion),
            )
            completion, error = answer.completion, ""
            return answer
        except RouteError as raised:
            completion, error = Completion(outcome=Outcome.FAILED), raised.reason
            raise
        finally:
            flight.leave()
            if not is_first:
                self._tell(call, completion, error)

    async def stream(
        self, request: Request, ends_by: float | None, horizon: Horizon | None = None
    ) -> AsyncGenerator[list[Event]]:
        """Answer a streamed call; arguments and errors as `Router.stream`."""
        call = self._preparer.prepare(request, ends_by)
        key = response_key(call)
        if key is None:
            self._preparer.require_stage(call)
            async with aclosing(self._runner.stream(call, horizon)) as events:
                async for batch in events:
                    yield batch
            return
        self._preparer.require_right(call)
        place = (key, request.policy, call.stream)
        if place not in self._running:
            found = await self._cache.find(key, call, time.monotonic())
            if found is not None:
                self._tell(call, found.completion, "")
                yield replayed(found)
                return
        until = horizon or Horizon(call.ends_at)
        flight, is_first = self._flight(
            place, key, call, lambda flight: flight.write(self._runner.stream(call, flight.horizon))
        )
        flight.join(until)
        completion, error = _LEFT
        try:
            async with aclosing(flight.read(until)) as batches:
                async for batch in batches:
                    own = batch if is_first else _own(batch, call)
                    if isinstance(own[-1], Completed):
                        completion, error = own[-1].completion, ""
                    yield own
        except RouteError as raised:
            error = raised.reason
            raise
        finally:
            flight.leave()
            if not is_first:
                self._tell(call, completion, error)

    def _flight(
        self, place: Hashable, key: str, call: PreparedCall, run: Callable[[Flight[Answer]], Awaitable[Answer]]
    ) -> tuple[Flight[Answer], bool]:
        """Give the flight of equal calls, and whether this call begins it."""
        flight = self._running.get(place)
        if flight is not None:
            self._cache.joined += 1
            return flight, False
        self._preparer.require_stage(call)
        declared = call.resolved.declared
        assert declared is not None and declared.cache is not None
        ttl_s, purges = declared.cache.ttl_minutes * 60, self._cache.purges

        async def work(flight: Flight[Answer]) -> Answer:
            answer = await run(flight)
            # Kept before the flight is over: whoever asks meanwhile joins it, whoever asks later finds it.
            await self._cache.keep(key, call, answer, ttl_s, purges, time.monotonic())
            return answer

        def ended(flight: Flight[Answer]) -> None:
            if self._running.get(place) is flight:
                del self._running[place]

        flight = self._running[place] = self._flights.launch(work, call.ends_at, ended)
        return flight, True

    def _tell(self, call: PreparedCall, completion: Completion, error: str) -> None:
        """Tell the observers of a call that made no attempt of its own."""
        if completion.attempts:
            completion = structs.replace(completion, attempts=())
        if not error and not completion.cached:
            self._cache.count_saved(completion.cost)
        for _, call_ended in self._runner.heard_ends:
            call_ended(call.context, completion, error)


_LEFT = Completion(outcome=Outcome.FAILED), "CANCELLED"
"""Of a call whose caller left before its end."""


def _own(batch: list[Event], call: PreparedCall) -> list[Event]:
    """Give a message as it is for one who joined."""
    if not isinstance(batch[0], Started) and not isinstance(batch[-1], Completed):
        return batch
    own: list[Event] = []
    for event in batch:
        if isinstance(event, Started):
            event = structs.replace(event, request_id=call.request.request_id, resolution=call.resolved.resolution)
        elif isinstance(event, Completed):
            event = structs.replace(event, completion=_joined(event.completion))
        own.append(event)
    return own


def _joined(completion: Completion) -> Completion:
    """Give the completion of one who joined: the same answer and attempts, paid by the call that began."""
    return structs.replace(
        completion, usage_total=NO_USAGE, cost=unspent(completion.cost), notes=(*completion.notes, JOINED)
    )
