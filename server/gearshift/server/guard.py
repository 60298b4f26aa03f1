"""The outermost interceptor: errors become statuses, cancellation stays quiet, calls are counted.

Rules: one place that ends a call with a status. A handler writes with `context.write` and never yields. What a client
that has gone makes of a write is a cancellation. Nothing of an unknown error's text is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import grpc

from gearshift.core.errors import RateLimitedError, RouteError
from gearshift.server.status import DEADLINE, INTERNAL, Status, lone, status_of

_log = logging.getLogger(__name__)

Handler = Callable[[Any, Any], Awaitable[Any]]
_OURS = "/gearshift.v1."
_LIMITED = "/gearshift.v1.RouterService/"
_PUSHBACK_S = 0.2


class CallGuard(grpc.aio.ServerInterceptor):
    """Guards the handlers of gearshift.v1 and counts their calls; others (health, reflection) pass.

    Args:
        max_calls: calls of RouterService at once; more are RESOURCE_EXHAUSTED with pushback.
    """

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self.in_flight = 0
        self.ended = 0
        self._idle = anyio.Event()
        self._idle.set()
        self._wrapped: dict[str, tuple[Any, Any]] = {}
        """By method: the handler and its wrapped one, which is made once and not for every call."""

    async def wait_idle(self) -> None:
        """Wait until no call runs."""
        await self._idle.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap a handler of ours."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(_OURS):
            return handler
        known = self._wrapped.get(method)
        if known is not None and known[0] is handler:
            return known[1]
        wrap = grpc.unary_unary_rpc_method_handler if handler.unary_unary else grpc.unary_stream_rpc_method_handler
        # Those who run a crowded service must still see into it.
        most = self._max_calls if method.startswith(_LIMITED) else float("inf")
        inner = self._guarded(handler.unary_unary or handler.unary_stream, most)
        wrapped = wrap(inner, handler.request_deserializer, handler.response_serializer)
        self._wrapped[method] = (handler, wrapped)
        return wrapped

    def _guarded(self, inner: Handler, most: float) -> Handler:
        crowded = status_of(
            RateLimitedError(
                f"more than {self._max_calls} calls at once; try again",
                retry_after_s=_PUSHBACK_S,
                limit="server.max_calls",
            )
        )

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            if self.in_flight >= most:
                context.set_trailing_metadata(crowded.metadata)
                await context.abort(crowded.code, crowded.message)
            if self.in_flight == 0:
                self._idle = anyio.Event()
            self.in_flight += 1
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
                status = _told(error)
            finally:
                self.in_flight -= 1
                self.ended += 1
                if self.in_flight == 0:
                    self._idle.set()
            if status.metadata:
                context.set_trailing_metadata(status.metadata)
            await context.abort(status.code, status.message)

        return call


def _told(raised: Exception) -> Status:
    error = lone(raised)
    if isinstance(error, RouteError):
        return status_of(error)
    if isinstance(error, TimeoutError):
        return DEADLINE
    _log.error("a call failed by a fault of ours", exc_info=error)
    return INTERNAL
