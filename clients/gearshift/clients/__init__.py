"""The Python client: dial, call, stream, close. Its synchronous twin is `gearshift.clients.sync`.

Names are imported when they are first used, so that the command line starts without grpc.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gearshift.clients.accumulator import Accumulator, digest
    from gearshift.clients.aio import AttemptWatch, Client, OpsClient, RouteStream, dial
    from gearshift.clients.calls import CallOptions, call, stream_policy
    from gearshift.clients.context import Context, background
    from gearshift.clients.errors import Code, Detail, QuotaViolation, RpcError, StreamProtocolError, Violation
    from gearshift.clients.messages import assistant, conversation, image, image_url, tool, tool_result, user
    from gearshift.clients.options import (
        Option,
        with_api_key,
        with_channel_options,
        with_default_timeout,
        with_keepalive,
        with_retry,
        with_round_robin,
        with_tls,
    )

__all__ = [
    "Accumulator",
    "AttemptWatch",
    "CallOptions",
    "Client",
    "Code",
    "Context",
    "Detail",
    "OpsClient",
    "Option",
    "QuotaViolation",
    "RouteStream",
    "RpcError",
    "StreamProtocolError",
    "Violation",
    "assistant",
    "background",
    "call",
    "conversation",
    "dial",
    "digest",
    "image",
    "image_url",
    "stream_policy",
    "tool",
    "tool_result",
    "user",
    "with_api_key",
    "with_channel_options",
    "with_default_timeout",
    "with_keepalive",
    "with_retry",
    "with_round_robin",
    "with_tls",
]

_HOME: Final = {
    "accumulator": ("Accumulator", "digest"),
    "aio": ("AttemptWatch", "Client", "OpsClient", "RouteStream", "dial"),
    "calls": ("CallOptions", "call", "stream_policy"),
    "context": ("Context", "background"),
    "errors": ("Code", "Detail", "QuotaViolation", "RpcError", "StreamProtocolError", "Violation"),
    "messages": ("assistant", "conversation", "image", "image_url", "tool", "tool_result", "user"),
    "options": (
        "Option",
        "with_api_key",
        "with_channel_options",
        "with_default_timeout",
        "with_keepalive",
        "with_retry",
        "with_round_robin",
        "with_tls",
    ),
}
_MODULE_OF: Final = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
