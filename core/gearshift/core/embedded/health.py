"""Asking a llama.cpp server on a Unix socket whether it is well.

Rules: one request by hand, since the core's HTTP layer is for calls that are counted and limited.
"""

from __future__ import annotations

from pathlib import Path

import anyio

_POLL_S = 0.05
_REQUEST = b"GET /health HTTP/1.1\r\nHost: embedded\r\nConnection: close\r\n\r\n"


async def is_healthy(socket_path: Path) -> bool:
    """Tell whether a server answers there and has its model loaded; the enclosing deadline bounds the wait."""
    try:
        async with await anyio.connect_unix(socket_path) as stream:
            await stream.send(_REQUEST)
            answer = await stream.receive(64)
    except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
        return False
    return answer.split(b" ", 2)[1:2] == [b"200"]


async def until_healthy(socket_path: Path) -> None:
    """Wait until a server there is well; the enclosing deadline bounds the wait."""
    while not await is_healthy(socket_path):  # noqa: ASYNC110  another process has no event to wait for
        await anyio.sleep(_POLL_S)
