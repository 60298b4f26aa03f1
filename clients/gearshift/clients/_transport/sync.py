"""Calls on blocking grpc; the twin of `aio.py`, kept by hand because it is where the two differ."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import grpc

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
Channel = grpc.Channel


def open_channel(target: str, settings: Settings) -> Channel:
    """Make a channel, which connects with its first call."""
    arguments = settings.channel_arguments()
    if settings.tls is None:
        return grpc.insecure_channel(target, options=arguments)
    return grpc.secure_channel(target, credentials_from(settings.tls), options=arguments)


def unary(
    method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request, ctx: Context, settings: Settings
) -> Response:
    """Make one unary call.

    Raises:
        RpcError: it failed; before anything was sent if ctx has ended.

    """
    ctx.check()
    timeout = timeout_for(ctx, settings.default_timeout)
    call = method.future(request, timeout=timeout, metadata=metadata_for(ctx, settings, timeout))
    release = ctx.on_cancel(call.cancel)
    try:
        return call.result()
    except grpc.FutureCancelledError:
        raise RpcError(Code.CANCELLED, CANCELLED) from None
    except grpc.RpcError as error:
        raise rpc_error_from(error) from error
    finally:
        release()
        call.cancel()  # of no effect on a call that has ended; KeyboardInterrupt leaves one that has not


class ServerStream(Generic[Response]):
    """One call that gives messages; it begins at once, and ends with `cancel` or its last message."""

    def __init__(
        self,
        method: grpc.UnaryStreamMultiCallable[Any, Response],
        request: Any,
        ctx: Context,
        settings: Settings,
        *,
        endless: bool = False,
    ) -> None:
        ctx.check()
        timeout = timeout_for(ctx, None if endless else settings.default_timeout)
        self._call = method(request, timeout=timeout, metadata=metadata_for(ctx, settings, timeout))
        self._release = ctx.on_cancel(self._call.cancel)

    def read(self) -> Response | None:
        """Wait for the next message; None is the end.

        Raises:
            RpcError: the call failed.

        """
        try:
            return next(self._call)
        except StopIteration:
            self._release()
            return None
        except grpc.RpcError as error:
            self._release()
            raise rpc_error_from(error) from error

    def cancel(self) -> None:
        """End the call; twice is fine."""
        self._release()
        self._call.cancel()
