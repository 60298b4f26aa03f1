"""The layer above the chain for tasks that keep their answers: look up, join who already asks, or run.

Rules: rights come first: a call is prepared, and refused, like any other before anything is looked up. Equal calls that
run at the same time are one flight: a thousand of them make one upstream call, and when it fails each hears of that
failure instead of trying again. A hit or a join is a call of its own for the observers, without attempts and without cost;
the attempts are told once, as those of the call that began the flight. Where processes share their answers, one of them makes
the call, and the flights of the others wait for its answer, hear of its failure, or take over (cache/leases.py).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import aclosing

import anyio
from msgspec import structs

from gearshift.core.answer import NO_USAGE, Answer, Completion
from gearshift.core.cache.answers import AnswerCache, unspent
from gearshift.core.cache.keys import response_key
from gearshift.core.cache.leases import Claim, Leases, Standing, heard, told_of
from gearshift.core.call import PreparedCall
from gearshift.core.chain import ChainRunner
from gearshift.core.errors import DeadlineError, RouteError
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
        leases: of calls that other processes may make as well; None where they share nothing.

    """

    def __init__(
        self,
        preparer: Preparer,
        runner: ChainRunner,
        cache: AnswerCache,
        flights: Flights,
        running: Running,
        leases: Leases | None = None,
    ) -> None:
        self._preparer = preparer
        self._runner = runner
        self._cache = cache
        self._flights = flights
        self._running = running
        self._leases = leases

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
        flight, is_first = self._flight(
            place, key, call, lambda flight: self._runner.answer(call, flight.horizon), _as_it_is
        )
        flight.join(until)
        completion, error = _LEFT
        try:
            answer = await flight.wait(until)
            if is_first and not flight.is_foreign:
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
            if not is_first or flight.is_foreign:
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
            place, key, call, lambda flight: flight.write(self._runner.stream(call, flight.horizon)), _as_a_stream
        )
        flight.join(until)
        completion, error = _LEFT
        try:
            async with aclosing(flight.read(until)) as batches:
                async for batch in batches:
                    own = batch if is_first and not flight.is_foreign else _own(batch, call)
                    if isinstance(own[-1], Completed):
                        completion, error = own[-1].completion, ""
                    yield own
        except RouteError as raised:
            error = raised.reason
            raise
        finally:
            flight.leave()
            if not is_first or flight.is_foreign:
                self._tell(call, completion, error)

    def _flight(
        self,
        place: Hashable,
        key: str,
        call: PreparedCall,
        run: Callable[[Flight[Answer]], Awaitable[Answer]],
        give: Callable[[Flight[Answer], Answer], Awaitable[Answer]],
    ) -> tuple[Flight[Answer], bool]:
        """Give the flight of equal calls, and whether this call begins it.

        Args:
            run: makes the call.
            give: gives the answer that another process has made.

        """
        flight = self._running.get(place)
        if flight is not None:
            self._cache.joined += 1
            return flight, False
        self._preparer.require_stage(call)
        declared = call.resolved.declared
        assert declared is not None and declared.cache is not None
        ttl_s, purges = declared.cache.ttl_minutes * 60, self._cache.purges

        leases = self._leases

        async def work(flight: Flight[Answer]) -> Answer:
            answer = await run(flight)
            # Kept before the flight is over: whoever asks meanwhile joins it, whoever asks later finds it.
            await self._cache.keep(key, call, answer, ttl_s, purges, time.monotonic())
            return answer

        async def shared(flight: Flight[Answer]) -> Answer:
            assert leases is not None
            claim = await self._claimed(leases, key, flight)
            if claim.standing is Standing.KEPT:
                found = self._cache.answer_of(claim.value, call, time.monotonic())
                if found is not None:
                    return await give(flight, found)
            flight.is_foreign = False
            failure: bytes | None = None
            try:
                answer = await run(flight)
                is_kept = await self._cache.keep(key, call, answer, ttl_s, purges, time.monotonic())
                failure = None if is_kept else b""
                return answer
            except RouteError as error:
                failure = told_of(error) or None
                raise
            finally:
                if claim.standing is Standing.MINE:
                    leases.release(key, claim.token, failure)

        def ended(flight: Flight[Answer]) -> None:
            if self._running.get(place) is flight:
                del self._running[place]

        work_of = work if leases is None else shared
        flight = self._running[place] = self._flights.launch(work_of, call.ends_at, ended)
        flight.is_foreign = leases is not None
        return flight, True

    async def _claimed(self, leases: Leases, key: str, flight: Flight[Answer]) -> Claim:
        """Wait until this process is to make the call, or its answer is there.

        Raises:
            DeadlineError: nobody who waits has any more time.
            RouteError: what the process failed with that was waited for.

        """
        waited_for, pause_s = b"", _FIRST_LOOK_S
        while True:
            claim = await leases.claim(key, waited_for, self._flights.aside)
            if claim.standing is Standing.FAILED:
                raise heard(claim.value)
            if claim.standing is not Standing.THEIRS:
                return claim
            waited_for = claim.token
            left_s = flight.horizon.ends_at - time.monotonic()
            if left_s <= 0:
                raise DeadlineError("the deadline has passed while another process made the call")
            await anyio.sleep(min(pause_s, left_s))
            pause_s = min(1.5 * pause_s, _LONGEST_LOOK_S)

    def _tell(self, call: PreparedCall, completion: Completion, error: str) -> None:
        """Tell the observers of a call that made no attempt of its own."""
        if completion.attempts:
            completion = structs.replace(completion, attempts=())
        if not error and not completion.cached:
            self._cache.count_saved(completion.cost)
        for _, call_ended in self._runner.heard_ends:
            call_ended(call.context, completion, error)


_FIRST_LOOK_S = 0.01
_LONGEST_LOOK_S = 0.1
"""Between two looks at what another process has made of a call."""
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


async def _as_it_is(flight: Flight[Answer], answer: Answer) -> Answer:
    return answer


async def _as_a_stream(flight: Flight[Answer], answer: Answer) -> Answer:
    async def events() -> AsyncGenerator[list[Event]]:
        yield replayed(answer)

    return await flight.write(events())


def _joined(completion: Completion) -> Completion:
    """Give the completion of one who joined: the same answer and attempts, paid by the call that began."""
    if completion.cached:  # another process had made it: nobody here pays
        return completion
    return structs.replace(
        completion, usage_total=NO_USAGE, cost=unspent(completion.cost), notes=(*completion.notes, JOINED)
    )
