"""Asking a llama.cpp server on a Unix socket whether it is well.

Rules: one request by hand, since the core's HTTP layer is for calls that are counted and limited. Who runs the server says
by a file beside the socket that the last start failed, so that nobody waits for what will not come; why, it keeps to
itself, since that may name paths.
"""

from __future__ import annotations

from pathlib import Path

import anyio

from gearshift.core.errors import EmbeddedModelError

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


def note_failed(socket_path: Path, *, failed: bool) -> None:
    """Say that the last start failed, or that another one is tried."""
    note = _note(socket_path)
    if failed:
        note.touch()
    else:
        note.unlink(missing_ok=True)


async def until_started(socket_path: Path) -> None:
    """Wait until a server there is well; the enclosing deadline bounds the wait.

    Raises:
        EmbeddedModelError: its last start failed.

    """
    while not await is_healthy(socket_path):
        if _note(socket_path).exists():
            raise EmbeddedModelError("the embedded model could not be started; `gearshift status` shows why")
        await anyio.sleep(_POLL_S)


def _note(socket_path: Path) -> Path:
    return socket_path.with_name("failed")


async def until_healthy(socket_path: Path) -> None:
    """Wait until a server there is well; the enclosing deadline bounds the wait."""
    while not await is_healthy(socket_path):  # noqa: ASYNC110  another process has no event to wait for
        await anyio.sleep(_POLL_S)
