"""One connection of a client, byte by byte.

Rules: one task reads and writes it; what else happens on it (the client leaves, the socket takes more) is noted as it
happens, so that no second task watches. Everything is bounded: a head, a body, and what a client sends ahead. What was
written but not taken by the client's kernel can be told.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import anyio
import anyio.lowlevel

if sys.platform != "win32":
    import fcntl
    import termios

_HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 32 * 1024 * 1024
_AHEAD = 256 * 1024
"""Most that is taken of a client that sends while nobody reads, bytes."""
_FLUSH_TRIES, _FLUSH_STEP_S = 500, 0.002
"""How often, and how far apart, it is asked whether the client's kernel has taken what was written."""


class BadHttpError(Exception):
    """Raised when what came is no request that can be read; the connection is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request: header names in lower case; `path` without the query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool


class Connection(asyncio.Protocol):
    """A client's connection.

    Args:
        opened / closed: called when it stands and when it is gone.
    """

    def __init__(self, opened: Callable[[Connection], None], closed: Callable[[Connection], None]) -> None:
        self._opened = opened
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._changed = asyncio.Event()
        self._paused = False
        self._reading = True
        self.left_at: float | None = None
        """When the client was seen to have gone, `time.monotonic`; None while it is there."""
        self.dropped = False
        """The simulator dropped it."""
        self.gone = False
        """Nothing is left of the connection."""
        self.written = 0
        """Bytes given to the socket."""

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; writes wait until the socket took them whole."""
        # Another loop's transport need not be of asyncio's class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        """Keep what came; a client that sends far ahead waits."""
        self._buffer += data
        if len(self._buffer) > _AHEAD and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> bool | None:
        """Note that the client has gone: a client that waits for an answer keeps its side open."""
        self._leave()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing is left."""
        self.gone = True
        self._leave()
        self._closed(self)

    def pause_writing(self) -> None:
        """Note that the socket is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """Note that the socket took everything."""
        self._paused = False
        self._changed.set()

    def _leave(self) -> None:
        if self.left_at is None:
            self.left_at = time.monotonic()
        self._changed.set()

    # What its task calls

    @property
    def left(self) -> bool:
        """Whether the client has gone."""
        return self.left_at is not None

    async def request(self) -> Received | None:
        """Wait for the next request; None when the client leaves instead.

        Raises:
            BadHttpError: what came is no request, or too large.
        """
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _HEAD_LIMIT:
                raise BadHttpError("the head is too long")
            if not await self._more():
                return None
        lines = self._take(end + 4).decode("latin-1").strip().split("\r\n")
        method, _, rest = lines[0].partition(" ")
        target, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1."):
            raise BadHttpError("not HTTP/1.1")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        if headers.get("expect", "").lower() == "100-continue":
            await self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await self._body(headers)
        if body is None:
            return None
        asked = headers.get("connection", "").lower()
        keep_alive = asked != "close" and (version != "HTTP/1.0" or asked == "keep-alive")
        path = target.partition("?")[0]
        return Received(method=method, path=path, headers=headers, body=body, keep_alive=keep_alive)

    async def write(self, data: bytes) -> bool:
        """Write, and wait until the socket took it; False when the client has gone."""
        if self.left or self._transport is None:
            return False
        self._transport.write(data)
        self.written += len(data)
        while self._paused and not self.left:
            self._changed.clear()
            await self._changed.wait()
        if not self.left:
            await anyio.lowlevel.checkpoint()  # lets the loop see that the client has gone
        return not self.left

    async def say(self, status: int, body: bytes, *, keep_alive: bool) -> bool:
        """Give a plain response that nobody bills; gives whether the connection goes on."""
        kind = "application/json" if body.startswith((b"{", b"[")) else "text/plain"
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            f"content-type: {kind}",
            f"content-length: {len(body)}",
        ]
        if not keep_alive:
            lines.append("connection: close")
        return await self.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body) and keep_alive

    async def wait(self, seconds: float) -> bool:
        """Wait so long; False at once when the client leaves."""
        if seconds > 0:
            with anyio.move_on_after(seconds):
                while not self.left:
                    self._changed.clear()
                    await self._changed.wait()
        return not self.left

    async def flush(self) -> int:
        """Wait, not for long, until the client's kernel has taken what was written; gives the bytes that it has not."""
        # The system tells no one when the client's kernel has taken it, so it is asked.
        for _ in range(_FLUSH_TRIES):
            if self.left or not self._unacknowledged():
                break
            await anyio.sleep(_FLUSH_STEP_S)
        return self._unacknowledged()

    def reset(self) -> None:
        """Reset the connection; what the client's kernel has not taken is lost."""
        if self._transport is not None and not self.gone:
            linger = struct.pack("ii", 1, 0)  # on, for 0 s: the close is a reset
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()

    def close(self) -> None:
        """Close in order, after what was written; twice is fine."""
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        """Close at once; this is not the client's leaving."""
        self.dropped = True
        if self._transport is not None:
            self._transport.abort()

    def _unacknowledged(self) -> int:
        """Give the bytes that the client's kernel has not taken; 0 where the system does not tell."""
        transport = self._transport
        if transport is None or self.gone:
            return 0
        waiting = transport.get_write_buffer_size()
        if sys.platform == "win32":
            return waiting
        queued = bytearray(4)
        try:
            fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        except OSError:
            return waiting
        return waiting + int.from_bytes(queued, sys.byteorder)

    async def _more(self) -> bool:
        """Wait for more bytes; False when the client left."""
        if not self._reading and self._transport is not None and not self.gone:
            self._reading = True
            self._transport.resume_reading()
        before = len(self._buffer)
        while len(self._buffer) == before:
            if self.left:
                return False
            self._changed.clear()
            await self._changed.wait()
        return True

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _body(self, headers: Mapping[str, str]) -> bytes | None:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return await self._chunks()
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > BODY_LIMIT:
            raise BadHttpError("the body is too long")
        return await self._exactly(int(length))

    async def _exactly(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            if not await self._more():
                return None
        return self._take(size)

    async def _chunks(self) -> bytes | None:
        pieces: list[bytes] = []
        total = 0
        while True:
            while (end := self._buffer.find(b"\r\n")) < 0:
                if len(self._buffer) > _HEAD_LIMIT:
                    raise BadHttpError("a chunk has no size")
                if not await self._more():
                    return None
            try:
                size = int(self._take(end + 2).split(b";")[0], 16)
            except ValueError as error:
                raise BadHttpError("a chunk has no size") from error
            total += size
            if size < 0 or total > BODY_LIMIT:
                raise BadHttpError("the body is too long")
            chunk = await self._exactly(
                size + 2
            )  # trailers, which nobody sends, would stand before the last empty line
            if chunk is None:
                return None
            if size == 0:
                return b"".join(pieces)
            pieces.append(chunk[:size])
