"""Reading what is left of a response: after a stream's end mark, and the body of an error.

Rules: neither makes things worse than they are. An end mark ends the answer, whatever the connection does after it; the body's own end usually follows at once,
and a response that was read to it gives its connection back to the pool.
"""

from __future__ import annotations

from contextlib import suppress

import anyio

from gearshift.core.failures import ProviderFailure
from gearshift.core.http import HttpResponse

DRAIN_S = 0.1
"""How long to wait for the end of the body; a new connection with TLS costs about as much."""


ERROR_LIMIT = 64 * 1024
"""Longest error body that is looked at, bytes."""


async def error_body(response: HttpResponse) -> bytes:
    """Give the body of an error answer; empty when it is too long or broke off, since the status tells enough."""
    try:
        return await response.read_all(ERROR_LIMIT)
    except ProviderFailure:
        return b""


async def drain(response: HttpResponse) -> None:
    """Read what is left after the end mark, briefly; whatever goes wrong no longer matters."""
    with suppress(ProviderFailure), anyio.move_on_after(DRAIN_S):
        while await response.read():
            pass
