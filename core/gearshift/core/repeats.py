"""Repeats of a request id within a window: they join the running call, or get its result.

Rules: only ids that callers chose are given here; a tenant never sees another's; a repeat must be the same call. The call
is a flight, so that it ends neither with its first caller nor with that one's deadline. A call that failed, or that
everybody has left, is forgotten: the next one makes it anew. So is a restricted one, once it has ended: nothing of it is
kept. What is kept is bounded in number and bytes; the oldest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gearshift.core.errors import invalid
from gearshift.core.flight import Flight

R = TypeVar("R")
A = TypeVar("A")

_MOST_KEPT = 10_000
MOST_BYTES = 64 * 1024 * 1024
"""Of all requests and results together."""


@dataclass(slots=True)
class _Kept(Generic[R, A]):
    request: R
    began: float
    flight: Flight[A]
    size: int = 0
    """0 while it runs."""


class Repeats(Generic[R, A]):
    """Calls by tenant and request id. Shared by all calls of a router.

    Args:
        window_s: how long a result is kept, seconds.
        size: tells the bytes of a request and its result; None where they are not to be kept.
        field: what the id is called in these requests, should it be refused.
        most_bytes: of all that is kept.

    """

    def __init__(
        self,
        window_s: float,
        size: Callable[[R, A], int | None],
        *,
        field: str = "call.request_id",
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._window_s = window_s
        self._size = size
        self._field = field
        self._most_bytes = most_bytes
        self._calls: OrderedDict[tuple[str, str], _Kept[R, A]] = OrderedDict()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"Repeats(calls={len(self._calls)}, bytes={self._bytes})"

    def flight(
        self,
        tenant: str,
        request_id: str,
        request: R,
        now: float,
        launch: Callable[[Callable[[Flight[A]], None]], Flight[A]],
    ) -> Flight[A]:
        """Give the flight of a request id, to be joined before anything is awaited; it may be over already.

        Args:
            launch: begins one; it is given what the flight tells its end to.

        Raises:
            InvalidRequestError: the id was used for another call.

        """
        key = (tenant, request_id)
        kept = self._calls.get(key)
        if kept is not None:
            if now - kept.began < self._window_s:
                if kept.request != request:
                    raise invalid(self._field, f"{request_id} was used for another call within the last minutes")
                return kept.flight
            self._forget(key)
        self._forget_old(now)

        def ended(flight: Flight[A]) -> None:
            kept = self._calls.get(key)
            if kept is None or kept.flight is not flight:
                return
            size = None if flight.result is None else self._size(request, flight.result)
            if size is None:
                self._forget(key)
                return
            self._bytes += size - kept.size
            kept.size = size
            while self._bytes > self._most_bytes:
                self._forget(next(iter(self._calls)))

        flight = launch(ended)
        self._calls[key] = _Kept(request, now, flight)
        while len(self._calls) > _MOST_KEPT:
            self._forget(next(iter(self._calls)))
        return flight

    def _forget_old(self, now: float) -> None:
        """Forget those whose window is over, oldest first: nobody may ask for them again, and they hold whole answers."""
        while self._calls:
            key = next(iter(self._calls))
            if now - self._calls[key].began < self._window_s:
                return
            self._forget(key)

    def _forget(self, key: tuple[str, str]) -> None:
        self._bytes -= self._calls.pop(key).size
