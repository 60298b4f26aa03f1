"""A key for services that are not ours: health, reflection and channelz ask nobody who calls.

Rules: wraps a handler when its service is added; whether a key is needed is asked at each call, since keys and switches are
reloaded in place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import grpc

from gearshift.core.errors import AccessError, ForbiddenError
from gearshift.server.access import Access, require_ops
from gearshift.server.handlers import Wrap
from gearshift.server.refusals import Refusals
from gearshift.server.status import status_of


def keyed(
    access: Callable[[], Access], is_open: Callable[[Access], bool], refusals: Refusals, *, for_ops: bool = False
) -> Wrap:
    """Give what has a service's handlers ask for a key.

    Args:
        access: gives the keys in force.
        is_open: tells whether they leave this service open.
        refusals: told of calls without a right key.
        for_ops: whether the key must have the role `ops`.
    """

    async def check(context: Any) -> None:
        keys = access()
        if is_open(keys):
            return
        try:
            caller = keys.caller(context.invocation_metadata())
            if for_ops:
                require_ops(caller)
        except (AccessError, ForbiddenError) as error:
            if isinstance(error, AccessError):
                refusals.note(context.peer(), error)
            status = status_of(error)
            context.set_trailing_metadata(status.metadata)
            await context.abort(status.code, status.message)

    def wrap(service: str, handler: Any) -> Any:
        inner = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        async def unary(request: Any, context: Any) -> Any:
            await check(context)
            return await inner(request, context)

        async def yielding(request: Any, context: Any) -> Any:
            await check(context)
            async for message in inner(request, context):
                yield message

        maker = _MAKERS[bool(handler.request_streaming), bool(handler.response_streaming)]
        made = yielding if inspect.isasyncgenfunction(inner) else unary
        return maker(made, handler.request_deserializer, handler.response_serializer)

    return wrap


_MAKERS: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
