"""Calls on grpc.aio, so that anyio's scopes work around them.

Rules: the only file that awaits grpc. A cancelled scope around a unary call would let a bare CancelledError out
(https://github.com/grpc/grpc/issues/43502); the checkpoint after it gives anyio's own. A call that was cancelled by
anything but its task (its context, a closed channel) ends as CANCELLED.
"""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar, cast

import anyio.lowlevel
import grpc
import grpc.aio

from gearshift.clients._transport.status import (
    CANCELLED,
    credentials_from,
    metadata_for,
    rpc_error_from,
    timeout_for,
)
from gearshift.clients.context import Context
from gearshift.clients.errors import Code, RpcError
from gearshift.clients.options import Settings

Request = TypeVar("Request")
Response = TypeVar("Response")
Channel = grpc.aio.Channel


def open_channel(target: str, settings: Settings) -> Channel:
    """Make a channel, which connects with its first call; needs a running loop."""
    arguments = settings.channel_arguments()
    if settings.tls is None:
        return grpc.aio.insecure_channel(target, options=arguments)
    return grpc.aio.secure_channel(target, credentials_from(settings.tls), options=arguments)


async def unary(
    method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request, ctx: Context, settings: Settings
) -> Response:
    """Make one unary call.

    Raises:
        RpcError: it failed; before anything was sent if ctx has ended.

    """
    ctx.check()
    cancels_before = _cancels()
    timeout = timeout_for(ctx, settings.default_timeout)
    call = method(request, timeout=timeout, metadata=metadata_for(ctx, settings, timeout))
    release = _cancelled_with(ctx, call)
    try:
        return await call
    except asyncio.CancelledError:
        call.cancel()
        await anyio.lowlevel.checkpoint_if_cancelled()
        if _cancels() > cancels_before:
            raise
        raise RpcError(Code.CANCELLED, CANCELLED) from None
    except grpc.RpcError as error:
        raise rpc_error_from(error) from error
    finally:
        release()


class ServerStream(Generic[Response]):
    """One call that gives messages; it begins at once, and ends with `cancel` or its last message."""

    def __init__(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Any, Response],
        request: Any,
        ctx: Context,
        settings: Settings,
        *,
        endless: bool = False,
    ) -> None:
        ctx.check()
        timeout = timeout_for(ctx, None if endless else settings.default_timeout)
        self._call = method(request, timeout=timeout, metadata=metadata_for(ctx, settings, timeout))
        self._release = _cancelled_with(ctx, self._call)

    async def read(self) -> Response | None:
        """Wait for the next message; None is the end.

        Raises:
            RpcError: the call failed.

        """
        cancels_before = _cancels()
        try:
            message = await self._call.read()
        except asyncio.CancelledError:
            self.cancel()
            await anyio.lowlevel.checkpoint_if_cancelled()
            if _cancels() > cancels_before:
                raise
            raise RpcError(Code.CANCELLED, CANCELLED) from None
        except grpc.RpcError as error:
            self._release()
            raise rpc_error_from(error) from error
        if isinstance(message, type(grpc.aio.EOF)):
            self._release()
            return None
        return cast(Response, message)

    def cancel(self) -> None:
        """End the call; twice is fine."""
        self._release()
        self._call.cancel()


def _cancels() -> int:
    """How often the running task was asked to stop."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _cancelled_with(ctx: Context, call: grpc.aio.RpcContext) -> Any:
    """Cancel call when ctx is, from whichever thread; return what undoes it."""
    loop = asyncio.get_running_loop()
    return ctx.on_cancel(lambda: loop.call_soon_threadsafe(call.cancel))
