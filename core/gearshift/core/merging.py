"""Embeddings of the same tenant and task that come at the same time, made as one call.

Rules: the first goes at once; while one of its kind is upstream, those that come wait together for a few milliseconds, or
until they fill a batch, and then go as one. What is merged is of one tenant, task, sensitivity and policy, and never
restricted. Each gets its own vectors, in its own order, and its share of the cost by characters; the attempts are told once,
as those of the first of them. Where one text is at fault, every call is made by itself, so that nobody suffers another's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field, replace
from decimal import ROUND_DOWN, Decimal

import anyio
from msgspec import structs

from gearshift.core.answer import Completion, EmbedAnswer, Usage
from gearshift.core.errors import ChainExhaustedError, InvalidRequestError, RouteError
from gearshift.core.flight import Flight, Flights, Horizon
from gearshift.core.request import EmbedRequest
from gearshift.core.words import FailureKind, Outcome

Run = Callable[[EmbedRequest, float], Awaitable[EmbedAnswer]]
"""Embeds a request until a point in time, seconds, monotonic."""

_OF_A_TEXT = (FailureKind.CONTEXT_LENGTH, FailureKind.INVALID_REQUEST, FailureKind.CONTENT_REFUSED)
"""Failures that one of the texts may be to blame for."""
_LEAST_USD = Decimal("1e-12")
"""The ledger's unit: shares are cut to it, and the first call bears the rest."""


@dataclass(slots=True)
class _Group:
    """Calls that will go together."""

    members: list[EmbedRequest] = field(default_factory=list[EmbedRequest])
    texts: int = 0
    is_full: anyio.Event = field(default_factory=anyio.Event)
    flight: Flight[EmbedAnswer] | None = None


class Merger:
    """Merges embeddings. Shared by all calls of a router.

    Args:
        wait_s: the longest that a call waits for others, seconds; 0 merges none.

    """

    def __init__(self, flights: Flights, wait_s: float) -> None:
        self._flights = flights
        self._wait_s = wait_s
        self._busy: Counter[Hashable] = Counter()
        self._groups: dict[Hashable, _Group] = {}

    async def embed(
        self,
        kind: Hashable,
        request: EmbedRequest,
        most: int,
        ends_at: float,
        run: Run,
        told: Callable[[Completion, str], None],
    ) -> EmbedAnswer:
        """Embed a request, with others of its kind if there are any.

        Args:
            kind: what may be merged.
            most: texts in one upstream call, from 1.
            ends_at: the caller's own end.
            told: tells the observers of a call that made no attempt of its own.

        """
        if not self._wait_s or not self._flights.is_open or len(request.inputs) >= most:
            return await run(request, ends_at)
        if not self._busy[kind]:
            return await self._alone(kind, request, ends_at, run)
        group = self._groups.get(kind)
        if group is None or group.texts + len(request.inputs) > most:
            group = self._begin(kind, most, ends_at, run)
        flight = group.flight
        assert flight is not None
        place, number = group.texts, len(group.members)
        group.members.append(request)
        group.texts += len(request.inputs)
        if group.texts >= most:
            group.is_full.set()
        until = Horizon(ends_at)
        flight.join(until)
        ended: tuple[Completion, str] | None = Completion(outcome=Outcome.FAILED), "CANCELLED"
        try:
            whole = await flight.wait(until)
            answer = _share(whole, group.members, number, place)
            ended = structs.replace(answer.completion, attempts=()), ""
            return answer
        except RouteError as raised:
            ended = Completion(outcome=Outcome.FAILED), raised.reason
            if len(group.members) == 1 or not _is_of_a_text(raised):
                raise
            ended = None
        finally:
            flight.leave()
            if number and ended is not None:
                told(*ended)
        return await run(request, ends_at)

    async def _alone(self, kind: Hashable, request: EmbedRequest, ends_at: float, run: Run) -> EmbedAnswer:
        self._busy[kind] += 1
        try:
            return await run(request, ends_at)
        finally:
            self._busy[kind] -= 1
            if not self._busy[kind]:
                del self._busy[kind]

    def _begin(self, kind: Hashable, most: int, ends_at: float, run: Run) -> _Group:
        group = self._groups[kind] = _Group()

        async def work(flight: Flight[EmbedAnswer]) -> EmbedAnswer:
            with anyio.move_on_after(self._wait_s):
                await group.is_full.wait()
            self._close(kind, group)
            merged = replace(group.members[0], inputs=tuple(text for member in group.members for text in member.inputs))
            return await self._alone(kind, merged, flight.horizon.ends_at, run)

        group.flight = self._flights.launch(work, ends_at, lambda _: self._close(kind, group))
        return group

    def _close(self, kind: Hashable, group: _Group) -> None:
        if self._groups.get(kind) is group:
            del self._groups[kind]


def _is_of_a_text(error: RouteError) -> bool:
    if isinstance(error, InvalidRequestError):
        return True
    return isinstance(error, ChainExhaustedError) and any(each.failure in _OF_A_TEXT for each in error.attempts)


def _share(whole: EmbedAnswer, members: list[EmbedRequest], number: int, place: int) -> EmbedAnswer:
    """Give one call's part of a merged answer."""
    request = members[number]
    if len(members) == 1:
        return whole
    sizes = [sum(map(len, member.inputs)) or 1 for member in members]
    done, cost = whole.completion, whole.completion.cost
    shares = [
        _part(each, sizes, number) for each in (cost.total_usd, cost.served_usd, cost.strongest_usd, cost.saved_usd)
    ]
    return replace(
        whole,
        request_id=request.request_id,
        embeddings=whole.embeddings[place : place + len(request.inputs)],
        completion=structs.replace(
            done,
            usage_served=_part_of_usage(done.usage_served, sizes, number),
            usage_total=_part_of_usage(done.usage_total, sizes, number),
            cost=structs.replace(
                cost, total_usd=shares[0], served_usd=shares[1], strongest_usd=shares[2], saved_usd=shares[3]
            ),
            notes=(
                *done.notes,
                f"one of {len(members)} calls that went upstream together; cost and usage are its share",
            ),
        ),
    )


def _part(amount: Decimal | None, sizes: list[int], number: int) -> Decimal | None:
    if amount is None:
        return None
    whole = Decimal(sum(sizes))
    parts = [(amount * size / whole).quantize(_LEAST_USD, rounding=ROUND_DOWN) for size in sizes]
    return parts[number] if number else amount - sum(parts[1:], Decimal(0))


def _part_of_usage(usage: Usage, sizes: list[int], number: int) -> Usage:
    parts = [usage.input_tokens * size // sum(sizes) for size in sizes]
    tokens = parts[number] if number else usage.input_tokens - sum(parts[1:])
    return structs.replace(usage, input_tokens=tokens)
