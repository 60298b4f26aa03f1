"""What is different for tenants and tasks whose calls go on in another chain when their budget is spent.

Rules: spending that no budget holds is counted all the same: it is owed by all budgets of whose it is, so that a month knows
what was spent after a day had run out. A budget may run out between planning a call and reserving for it, by other calls or
by other processes: such a call is planned once more. Nothing of this is in the way of calls where nobody has such a chain.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import Protocol

from gearshift.core.admission import Admission
from gearshift.core.answer import Answer, Completion, EmbedAnswer
from gearshift.core.blueprint import Blueprint
from gearshift.core.config.model import STOP
from gearshift.core.errors import RateLimitedError, RouteError
from gearshift.core.events import Completed, Event
from gearshift.core.flight import Horizon
from gearshift.core.observer import CallContext, Observer
from gearshift.core.request import EmbedRequest, Request
from gearshift.core.spending import limits_of


class Answering(Protocol):
    """Answers a unary call, through whatever layers its task has."""

    def __call__(self, request: Request, ends_by: float | None, horizon: Horizon | None = None) -> Awaitable[Answer]:
        """Answer the call."""
        ...


class Streaming(Protocol):
    """Answers a streamed call, through whatever layers its task has."""

    def __call__(
        self, request: Request, ends_by: float | None, horizon: Horizon | None = None
    ) -> AsyncGenerator[list[Event]]:
        """Answer the call, one list of events an upstream read."""
        ...


class Embedding(Protocol):
    """Turns texts into vectors."""

    def __call__(self, request: EmbedRequest, ends_by: float | None = None) -> Awaitable[EmbedAnswer]:
        """Answer the call."""
        ...


def goes_on(blueprint: Blueprint) -> bool:
    """Tell whether the calls of some tenant or task go on when its budget is spent."""
    tenants, tasks = blueprint.config.access.tenants.values(), blueprint.tasks.values()
    return any(tenant.on_exhausted != STOP for tenant in tenants) or any(task.on_exhausted != STOP for task in tasks)


class OnceMore:
    """The layer that has a call planned once more when its tenant's or task's budget ran out after it was planned."""

    def __init__(self, blueprint: Blueprint, answering: Answering, streaming: Streaming, embedding: Embedding) -> None:
        tenants, tasks = blueprint.config.access.tenants, blueprint.tasks
        self._tenants = frozenset(name for name, tenant in tenants.items() if tenant.on_exhausted != STOP)
        self._tasks = frozenset(name for name, task in tasks.items() if task.on_exhausted != STOP)
        self._answering = answering
        self._streaming = streaming
        self._embedding = embedding

    async def answer(self, request: Request, ends_by: float | None, horizon: Horizon | None = None) -> Answer:
        """Answer a unary call; arguments and errors as `Router.route`."""
        try:
            return await self._answering(request, ends_by, horizon)
        except RateLimitedError as error:
            if not self._may_help(request, error):
                raise
        return await self._answering(request, ends_by, horizon)

    async def embed(self, request: EmbedRequest, ends_by: float | None = None) -> EmbedAnswer:
        """Turn texts into vectors; arguments and errors as `Router.embed`."""
        try:
            return await self._embedding(request, ends_by)
        except RateLimitedError as error:
            if not self._may_help(request, error):
                raise
        return await self._embedding(request, ends_by)

    async def stream(
        self, request: Request, ends_by: float | None, horizon: Horizon | None = None
    ) -> AsyncGenerator[list[Event]]:
        """Answer a streamed call; arguments and errors as `Router.stream`."""
        is_shown, held = False, list[Event]()
        try:
            async with aclosing(self._streaming(request, ends_by, horizon)) as batches:
                async for batch in batches:
                    if not is_shown and _is_refusal(batch):
                        held = batch
                        continue
                    is_shown = True
                    yield batch
        except RouteError as error:
            if not held or not isinstance(error, RateLimitedError) or not self._may_help(request, error):
                if held:
                    yield held
                raise
        else:
            return
        async with aclosing(self._streaming(request, ends_by, horizon)) as batches:
            async for batch in batches:
                yield batch

    def _may_help(self, request: Request | EmbedRequest, error: RateLimitedError) -> bool:
        """Tell whether a budget was what the call lacked, and another plan may do without it."""
        return (request.tenant in self._tenants or request.task.id in self._tasks) and "cost of " in error.limit


class ExhaustedSpending(Observer):
    """Counts what calls cost that their tenant's or task's budget does not hold."""

    def __init__(self, blueprint: Blueprint, admission: Admission) -> None:
        self._blueprint = blueprint
        self._admission = admission

    def call_ended(self, context: CallContext, completion: Completion, error: str) -> None:
        """Take the call's cost from the budgets that did not hold it."""
        if not context.unheld:
            return
        cost = float(sum(each.cost_usd for each in completion.attempts if each.cost_usd is not None))
        if not cost:
            return
        now = time.monotonic()
        for kind, name in context.unheld:
            for bucket in self._admission.shared_buckets(kind, name, limits_of(kind, name, self._blueprint), now):
                if bucket.unit == "cost":
                    bucket.settle(0.0, cost, now)
        self._admission.changed()


def exhausted_spending(blueprint: Blueprint, admission: Admission) -> tuple[Observer, ...]:
    """Give what counts, where somebody's calls go on when a budget is spent."""
    return (ExhaustedSpending(blueprint, admission),) if goes_on(blueprint) else ()


def _is_refusal(batch: Sequence[Event]) -> bool:
    """Tell whether these are the events of a call for which nothing was tried."""
    if not isinstance(batch[-1], Completed):
        return False
    completion = batch[-1].completion
    return not completion.attempts and not completion.cached and completion.served_by is None
