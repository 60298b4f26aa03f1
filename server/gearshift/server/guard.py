"""Around every handler of ours: errors become statuses, cancellation stays quiet, calls are counted.

Rules: one place that ends a call with a status. A handler writes with `context.write` and never yields. What a client
that has gone makes of a write is a cancellation. Nothing of an unknown error's text is told. Handlers are wrapped once, when
their service is added (handlers.py): an interceptor would have gRPC build a chain for every call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import anyio
import grpc
from google.protobuf.message import Message

from gearshift.core.errors import AccessError, RateLimitedError, RouteError
from gearshift.core.tracing import TRACE_HEADERS
from gearshift.server.handlers import handlers_of
from gearshift.server.refusals import Refusals
from gearshift.server.status import DEADLINE, INTERNAL, Status, lone, status_of

_log = logging.getLogger(__name__)

Handler = Callable[[Any, Any], Awaitable[Any]]
_LIMITED = "gearshift.v1.RouterService"
_PUSHBACK_S = 0.2


class Era:
    """The calls that began under one configuration."""

    __slots__ = ("_over", "running")

    def __init__(self) -> None:
        self.running = 0
        self._over: anyio.Event | None = None
        """Made by who waits."""

    async def over(self) -> None:
        """Wait until none runs; only once no more can begin."""
        while self.running:
            self._over = anyio.Event()
            await self._over.wait()

    def ended(self) -> None:
        """Hear that the last call has ended."""
        if self._over is not None:
            self._over.set()


class _Eras:
    """Whose calls are counted."""

    __slots__ = ("era",)

    def __init__(self) -> None:
        self.era = Era()


class Counted:
    """One call, counted while the block runs. Made by `CallGuard.counted`."""

    __slots__ = ("_era", "_guard")

    def __init__(self, guard: CallGuard, era: Era) -> None:
        self._guard = guard
        self._era = era

    def __enter__(self) -> None:
        self._guard.in_flight += 1
        self._era.running += 1

    def __exit__(self, *_: object) -> None:
        self._guard.ends(self._era)


class CallGuard:
    """Guards the handlers of our services and counts their calls; others (health, reflection) are added without it.

    Args:
        max_calls: calls of RouterService at once; more are RESOURCE_EXHAUSTED with pushback.
    """

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self.in_flight = 0
        self.ended = 0
        self.refusals = Refusals()
        self.traced: Callable[[Any], None] | None = None
        """Told the metadata of each call before it runs; None where calls are not traced."""
        self.is_leaving = False
        """Whether the service stops: new calls are refused as UNAVAILABLE, which clients may try elsewhere."""
        self._idle: anyio.Event | None = None
        """Made by who waits; nobody else has a use for it."""
        self._eras = _Eras()
        self._of_operators = _Eras()

    async def wait_idle(self) -> None:
        """Wait until no call runs."""
        while self.in_flight:
            if self._idle is None:
                self._idle = anyio.Event()
            await self._idle.wait()

    def next_era(self) -> Era:
        """Begin a new era of RouterService's calls, since they find another configuration from now on; gives the old one."""
        past, self._eras.era = self._eras.era, Era()
        return past

    def counted(self, headers: Mapping[str, str]) -> Counted:
        """Give a context manager that counts a call which came otherwise than over gRPC, and belongs to its caller's trace.

        Args:
            headers: what the caller sent; names are found in any case.

        Raises:
            RateLimitedError: more than `max_calls` run.
        """
        if self.in_flight >= self._max_calls:
            raise self._crowded()
        if self.traced is not None:
            self.traced([(name, headers[name]) for name in TRACE_HEADERS if name in headers])
        return Counted(self, self._eras.era)

    def _crowded(self) -> RateLimitedError:
        return RateLimitedError(
            f"more than {self._max_calls} calls at once; try again", retry_after_s=_PUSHBACK_S, limit="server.max_calls"
        )

    def ends(self, era: Era) -> None:
        """Count the end of a call."""
        self.in_flight -= 1
        self.ended += 1
        era.running -= 1
        if not era.running:
            era.ended()
        if self._idle is not None and self.in_flight == 0:
            self._idle.set()
            self._idle = None

    def over(self, server: grpc.aio.Server, kept: MutableMapping[str, Any] | None = None) -> grpc.aio.Server:
        """Give what generated code adds a service to in place of the server, so that its handlers are guarded.

        Args:
            kept: where each guarded handler is put by its path as well.
        """
        return handlers_of(server, self.guarded, kept)

    def guarded(self, service: str, handler: Any) -> Any:
        """Wrap a service's handler."""
        wrap = grpc.unary_unary_rpc_method_handler if handler.unary_unary else grpc.unary_stream_rpc_method_handler
        # Those who run a crowded service must still see into it.
        most = self._max_calls if service == _LIMITED else float("inf")
        eras = self._eras if service == _LIMITED else self._of_operators
        inner = self._guarded(handler.unary_unary or handler.unary_stream, most, eras)
        return wrap(inner, handler.request_deserializer, _serialized)

    def _guarded(self, inner: Handler, most: float, eras: _Eras) -> Handler:
        crowded = status_of(self._crowded())

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            if self.is_leaving:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the service is stopping")
            if self.in_flight >= most:
                context.set_trailing_metadata(crowded.metadata)
                await context.abort(crowded.code, crowded.message)
            if self.traced is not None:
                self.traced(context.invocation_metadata())
            self.in_flight += 1
            era = eras.era
            era.running += 1
            status: Status | None = None
            try:
                return await inner(request, context)
            except asyncio.CancelledError:
                raise
            except grpc.aio.AbortError:
                raise
            except grpc.aio.BaseError:
                # The client has gone while we wrote.
                raise asyncio.CancelledError from None
            except Exception as error:  # noqa: BLE001
                if isinstance(error, AccessError):
                    self.refusals.note(context.peer(), error)
                status = _told(error)
            finally:
                self.in_flight -= 1
                self.ended += 1
                era.running -= 1
                if not era.running:
                    era.ended()
                if self._idle is not None and self.in_flight == 0:
                    self._idle.set()
                    self._idle = None
            if status.metadata:
                context.set_trailing_metadata(status.metadata)
            try:
                await context.abort(status.code, status.message)
            except grpc.aio.AbortError:
                raise
            except grpc.aio.BaseError:
                # A message still waits for a reader that does not read, so that no status can follow it.
                raise asyncio.CancelledError from None

        return call


def _serialized(response: Message | bytes) -> bytes:
    """Serialise what a handler gave, unless it has done so itself."""
    return response if isinstance(response, bytes) else response.SerializeToString()


def _told(raised: Exception) -> Status:
    error = lone(raised)
    if isinstance(error, RouteError):
        return status_of(error)
    if isinstance(error, TimeoutError):
        return DEADLINE
    _log.error("a call failed by a fault of ours", exc_info=error)
    return INTERNAL
