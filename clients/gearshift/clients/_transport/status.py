"""What both ways share: grpc's errors as ours, the timeout and the credentials of a call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, cast

import grpc

from gearshift.clients._details import STATUS_KEY, read_details
from gearshift.clients.context import Context
from gearshift.clients.errors import Code, RpcError, StatusDetails
from gearshift.clients.options import Settings, Tls

NEVER_SENT = "the client is closed"
TIMEOUT_METADATA = "gearshift-timeout-ms"
"""Milliseconds until the deadline when the call is sent; the service believes it where it is the shorter."""
CANCELLED = "the call was cancelled: its context was, or its client was closed"


class _Ended(Protocol):
    """What grpc's errors of both kinds offer."""

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str | None: ...

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def rpc_error_from(error: grpc.RpcError) -> RpcError:
    """Give our error for grpc's."""
    ended = cast(_Ended, error)
    details = StatusDetails()
    for key, value in ended.trailing_metadata() or ():
        if key == STATUS_KEY and isinstance(value, bytes):
            details = read_details(value)
    number = ended.code().value[0]
    return RpcError(Code(number), ended.details() or "", details)


def timeout_for(ctx: Context, default: float | None) -> float | None:
    """Give the seconds that go on the wire: what is left of the context, else the default; None is without end."""
    remaining = ctx.remaining()
    return default if remaining is None else remaining


def credentials_from(tls: Tls) -> grpc.ChannelCredentials:
    """Give grpc's credentials."""
    return grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)


def metadata_for(ctx: Context, settings: Settings, timeout: float | None) -> tuple[tuple[str, str], ...]:
    """Give what is sent beside the request; the timeout too, since grpc rounds its own up by as much as a hundredth."""
    sent = (*settings.metadata(), *ctx.metadata)
    return sent if timeout is None else (*sent, (TIMEOUT_METADATA, str(max(0, int(timeout * 1000)))))
