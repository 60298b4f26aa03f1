"""RouterService: translate, delegate.

Rules: decides nothing. The caller's deadline encloses the whole call; a stream is written, never yielded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from contextlib import aclosing
from typing import Any, Protocol, TypeVar, cast

import anyio
import grpc

from gearshift.core.errors import LedgerError, RouteError
from gearshift.core.events import Completed
from gearshift.core.ledger import Ledger
from gearshift.core.request import StreamPolicy
from gearshift.core.router import Router
from gearshift.server.access import Access
from gearshift.server.deadline import Deadlines
from gearshift.server.wire import (
    call_from_wire,
    embed_answer_to_wire,
    embed_from_wire,
    events_to_wire,
    explanation_to_wire,
    outcome_from_wire,
    stream_policy_from_wire,
)
from gearshift.server.wire_answer import route_response
from gearshift.v1 import router_pb2, router_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
_DEFAULT_STREAM = StreamPolicy()
TIMEOUT_METADATA = "gearshift-timeout-ms"
"""Milliseconds until the caller's deadline when it sent the call."""
_COMPLETED_S = 0.02
"""What is left of a deadline for sending `completed` when the ledger was waited for in vain."""
A = TypeVar("A")


class Running(Protocol):
    """What the services stand on; a reload replaces its members at once."""

    @property
    def router(self) -> Router:
        """The router in force."""
        ...

    @property
    def access(self) -> Access:
        """The keys in force."""
        ...

    @property
    def ledger(self) -> Ledger:
        """Where attempts are recorded."""
        ...

    @property
    def sync_ledger(self) -> bool:
        """Whether a call completes only after its rows are on disk."""
        ...


class RouterService(router_pb2_grpc.RouterServiceServicer):
    """The service that applications call."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._deadlines = Deadlines()

    async def Route(self, request: router_pb2.RouteRequest, context: Context) -> bytes:  # type: ignore[override]
        """Answer one call whole; gives the RouteResponse serialised."""
        running = self._running
        metadata = context.invocation_metadata() or ()
        caller = running.access.caller(metadata)
        message = request.call
        call = call_from_wire(message, caller.tenant, None)
        with self._deadlines.within(time_left(context, metadata)) as deadline:
            answering = running.router.route(call, joinable=bool(message.request_id), ends_by=deadline.at)
            answer = await (recorded(running, answering) if running.sync_ledger else answering)
        return route_response(answer)

    async def StreamRoute(self, request: router_pb2.StreamRouteRequest, context: Context) -> None:  # type: ignore[override]
        """Answer one call as the model writes it."""
        running = self._running
        metadata = context.invocation_metadata() or ()
        caller = running.access.caller(metadata)
        asked = stream_policy_from_wire(request.stream) if request.HasField("stream") else _DEFAULT_STREAM
        call = call_from_wire(request.call, caller.tenant, asked)
        joinable = bool(request.call.request_id)
        with self._deadlines.within(time_left(context, metadata)) as deadline:
            async with aclosing(running.router.stream(call, joinable=joinable, ends_by=deadline.at)) as stream:
                async for events in stream:
                    refused: LedgerError | None = None
                    if running.sync_ledger and isinstance(events[-1], Completed):
                        refused = await acknowledged(running, deadline.at)
                    await context.write(events_to_wire(events))
                    if refused is not None:
                        raise refused

    async def Embed(self, request: router_pb2.EmbedRequest, context: Context) -> router_pb2.EmbedResponse:
        """Turn texts into vectors."""
        running = self._running
        metadata = context.invocation_metadata() or ()
        caller = running.access.caller(metadata)
        call = embed_from_wire(request, caller.tenant)
        with self._deadlines.within(time_left(context, metadata)) as deadline:
            answering = running.router.embed(call, joinable=bool(request.request_id), ends_by=deadline.at)
            answer = await recorded(running, answering)
        return embed_answer_to_wire(answer)

    async def Explain(self, request: router_pb2.ExplainRequest, context: Context) -> router_pb2.ExplainResponse:
        """Say what would be decided."""
        running = self._running
        caller = running.access.caller(context.invocation_metadata())
        asked = stream_policy_from_wire(request.stream) if request.HasField("stream") else _DEFAULT_STREAM
        call = call_from_wire(request.call, caller.tenant, asked)
        await running.router.find_prompt(call)
        return explanation_to_wire(running.router.explain(call))

    async def PutPrompt(self, request: router_pb2.PutPromptRequest, context: Context) -> router_pb2.PutPromptResponse:
        """Store a static system prompt."""
        running = self._running
        caller = running.access.caller(context.invocation_metadata())
        key = await running.router.store_prompt(caller.tenant, request.task_id, request.text, static=request.static)
        return router_pb2.PutPromptResponse(key=key, ttl_seconds=running.router.state.prompts.ttl_s)

    async def DeletePrompt(
        self, request: router_pb2.DeletePromptRequest, context: Context
    ) -> router_pb2.DeletePromptResponse:
        """Forget a stored system prompt."""
        running = self._running
        caller = running.access.caller(context.invocation_metadata())
        return router_pb2.DeletePromptResponse(deleted=await running.router.forget_prompt(caller.tenant, request.key))

    async def ReportOutcome(
        self, request: router_pb2.ReportOutcomeRequest, context: Context
    ) -> router_pb2.ReportOutcomeResponse:
        """Keep the caller's word on an answer."""
        running = self._running
        caller = running.access.caller(context.invocation_metadata())
        await running.ledger.record_outcome(outcome_from_wire(request, caller.tenant))
        return router_pb2.ReportOutcomeResponse()


async def acknowledged(running: Running, ends_at: float | None) -> LedgerError | None:
    """Wait for a stream's rows while there is time; gives why they are not on disk, to be told after `completed`."""
    end = float("inf") if ends_at is None else ends_at - _COMPLETED_S
    with anyio.CancelScope(deadline=end):
        try:
            await running.ledger.acknowledge()
        except LedgerError as error:
            return error
        return None
    return LedgerError("the ledger did not write the call's rows before the deadline")


async def recorded(running: Running, answering: Awaitable[A]) -> A:
    """Give the answer, or its failure; with a synchronous ledger only once its rows are on disk."""
    if not running.sync_ledger:
        return await answering
    try:
        answer = await answering
    except RouteError:
        await running.ledger.acknowledge()
        raise
    await running.ledger.acknowledge()
    return answer


def time_left(context: Context, metadata: Iterable[tuple[str, str | bytes]]) -> float | None:
    """Give the seconds until the caller's deadline; None when it set none.

    gRPC rounds the timeout that it sends up, by as much as a hundredth of it, so our clients send theirs beside it, to the
    millisecond: else `completed`, sent a margin before the deadline, would come after the client has left.
    """
    remaining = cast("float | None", context.time_remaining())
    for name, value in metadata:
        if name == TIMEOUT_METADATA and isinstance(value, str) and value.isascii() and value.isdecimal():
            exact = int(value[:12]) / 1000
            return exact if remaining is None else min(remaining, exact)
    return remaining
