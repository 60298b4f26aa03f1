"""Repeats of a request id within a window: they join the running call or get its result.

Rules: only ids that callers chose are given here; a tenant never sees another's; a repeat must be the same call. When the
first caller leaves before the end, the next one runs the call itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio

from gearshift.core.errors import invalid

R = TypeVar("R")
A = TypeVar("A")

_MOST_KEPT = 10_000


@dataclass(slots=True)
class _Flight(Generic[R, A]):
    request: R
    started_at: float
    done: anyio.Event = field(default_factory=anyio.Event)
    answer: A | None = None


class Turn(Generic[A]):
    """One caller's part: either `answer` is there already, or it makes the answer and calls `give`."""

    def __init__(self, answer: A | None) -> None:
        self.answer = answer

    def give(self, answer: A) -> None:
        """Give the answer to those who wait."""
        self.answer = answer


class Repeats(Generic[R, A]):
    """Calls by tenant and request id. Shared by all calls of a router."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._flights: OrderedDict[tuple[str, str], _Flight[R, A]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, tenant: str, request_id: str, request: R, now: float) -> AsyncGenerator[Turn[A]]:
        """Take a turn at a request id.

        Raises:
            InvalidRequestError: the id was used for another call.

        """
        key = (tenant, request_id)
        while True:
            flight = self._flights.get(key)
            if flight is None or now - flight.started_at >= self._window_s:
                break
            if flight.request != request:
                raise invalid("call.request_id", f"{request_id} was used for another call within the last minutes")
            if flight.answer is not None:
                yield Turn(flight.answer)
                return
            await flight.done.wait()
        flight = _Flight[R, A](request, now)
        self._flights[key] = flight
        self._flights.move_to_end(key)
        while len(self._flights) > _MOST_KEPT:
            self._flights.popitem(last=False)
        turn = Turn[A](None)
        try:
            yield turn
        finally:
            flight.answer = turn.answer
            if turn.answer is None and self._flights.get(key) is flight:
                del self._flights[key]
            flight.done.set()
