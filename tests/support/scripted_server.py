"""An HTTP server on loopback that plays a script byte for byte.

Rules: what a response writes is what the client's socket gets: no framing is added but what the script says, so chunk
boundaries, cuts, delays and nonsense can be exact. Nothing sleeps: a pause is an event that the test sets, and what
hangs ends with the test. Each connection takes the next response of the script for each request that it sends; a script
that has run out answers with its last response.

    async with scripted(Reply.json({"ok": True}), Reply.sse("data: [DONE]\n\n")) as server:
        ...  # server.url, server.requests, await server.closed_early.wait()
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum

import anyio

BOUND_S = 10.0
"""How long a test waits for anything before it fails."""


class End(Enum):
    """How a response ends."""

    CLEAN = "clean"
    """Complete; the connection stays open for the next request."""
    CLOSE = "close"
    """The connection is closed after the last byte, in order (FIN)."""
    BREAK = "break"
    """The connection is closed in order, without the end of a chunked body."""
    CUT = "cut"
    """The connection is reset (RST), without the end of a chunked body."""
    HANG = "hang"
    """Nothing more is sent and nothing is closed, until the client leaves or the test ends."""


Piece = bytes | asyncio.Event
"""Bytes to write at once, or an event to wait for before going on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One response.

    Args:
        status: such as 200; 0 writes no head at all: the pieces are everything.
        headers: beside the framing, which is added by `framing`.
        pieces: written one by one, each flushed; events pause.
        framing: `chunked` (each piece is one chunk), `length` (content-length), or `none` (until the close).
        end: how it ends.
        read_body: False answers as soon as the request's head has come.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    pieces: Sequence[Piece] = ()
    framing: str = "length"
    end: End = End.CLEAN
    read_body: bool = True

    @classmethod
    def json(cls, body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """Give a whole JSON answer."""
        return cls(
            status=status,
            headers={"content-type": "application/json", **(headers or {})},
            pieces=(json.dumps(body).encode(),),
        )

    @classmethod
    def text(cls, body: str, *, status: int = 200, content_type: str = "text/html") -> Reply:
        """Give a whole answer that is not JSON."""
        return cls(status=status, headers={"content-type": content_type}, pieces=(body.encode(),))

    @classmethod
    def sse(cls, *pieces: Piece | str, end: End = End.CLEAN, content_type: str = "text/event-stream") -> Reply:
        """Give a chunked stream; each piece is one chunk, in its own write."""
        return cls(
            headers={"content-type": content_type},
            pieces=tuple(piece.encode() if isinstance(piece, str) else piece for piece in pieces),
            framing="chunked",
            end=end,
        )

    @classmethod
    def raw(cls, *pieces: Piece, end: End = End.CLOSE) -> Reply:
        """Give exactly these bytes, status line and all."""
        return cls(status=0, pieces=pieces, framing="none", end=end)

    def ending(self, end: End) -> Reply:
        """Give the same with another end."""
        return replace(self, end=end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request that came; header names are lower-case; `connection` counts connections from 0."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> dict[str, object]:
        """The body, as JSON."""
        value: dict[str, object] = json.loads(self.body)
        return value


class ScriptedServer:
    """What a test sees of the server."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        self.url = ""
        """Base URL, without a trailing slash."""
        self.requests: list[Seen] = []
        self.connections = 0
        self.closed_early = asyncio.Event()
        """Set when the client left before a response had ended."""
        self.asked = asyncio.Event()
        """Set when the first request has come."""
        self._replies = list(replies)
        self._next = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._ended = asyncio.Event()
        self._serving = 0
        self._idle = asyncio.Event()

    async def wait_closed_early(self) -> None:
        """Wait until the client left early; bounded."""
        with anyio.fail_after(BOUND_S):
            await self.closed_early.wait()

    def _reply(self) -> Reply:
        reply = self._replies[min(self._next, len(self._replies) - 1)]
        self._next += 1
        return reply

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        number = self.connections
        self.connections += 1
        self._writers.add(writer)
        self._serving += 1
        try:
            while await self._request(reader, number) is not None:
                if not await self._play(self._reply(), reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed_early.set()
        finally:
            self._writers.discard(writer)
            writer.close()
            self._serving -= 1
            self._idle.set()

    async def _request(self, reader: asyncio.StreamReader, number: int) -> Seen | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        upcoming = self._replies[min(self._next, len(self._replies) - 1)]
        length = int(headers.get("content-length", "0"))
        body = await reader.readexactly(length) if upcoming.read_body else b""
        seen = Seen(method=method, path=path, headers=headers, body=body, connection=number)
        self.requests.append(seen)
        self.asked.set()
        return seen

    async def _play(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Write a response; gives whether the connection goes on."""
        if reply.status:
            writer.write(_head(reply))
        for piece in reply.pieces:
            if isinstance(piece, asyncio.Event):
                if not await self._wait(piece, reader, watched=reply.read_body):
                    return False
            elif piece:
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if reply.framing == "chunked" else piece)
                await writer.drain()
        if reply.framing == "chunked" and reply.end in (End.CLEAN, End.CLOSE):
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        if reply.end is End.HANG:
            await self._wait(self._ended, reader, watched=reply.read_body)
        if reply.end is End.CUT:
            reset = struct.pack("ii", 1, 0)  # linger on, for 0 s: the close is a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.transport.abort()
        return reply.end is End.CLEAN

    async def _wait(self, event: asyncio.Event, reader: asyncio.StreamReader, *, watched: bool) -> bool:
        """Wait for the event or for the client to leave, whichever comes first; False when it left.

        A client whose request was not read cannot be watched: reading would take the request.
        """
        left = False

        async def watch(scope: anyio.CancelScope) -> None:
            nonlocal left
            with suppress(ConnectionError):
                if await reader.read(1):
                    raise AssertionError("the client sent another request before its answer had ended")
            left = True
            self.closed_early.set()
            scope.cancel()

        if not watched:
            await event.wait()
        elif not event.is_set():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch, tasks.cancel_scope)
                await event.wait()
                tasks.cancel_scope.cancel()
        return not left

    async def end(self) -> None:
        """Let hanging responses go and wait until every connection's task has ended."""
        self._ended.set()
        with anyio.fail_after(BOUND_S):
            while self._serving:
                self._idle.clear()
                for writer in list(self._writers):
                    writer.transport.abort()
                await self._idle.wait()


def _head(reply: Reply) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} Scripted", *(f"{name}: {value}" for name, value in reply.headers.items())]
    if reply.framing == "chunked":
        lines.append("transfer-encoding: chunked")
    elif reply.framing == "length":
        lines.append(f"content-length: {sum(len(piece) for piece in reply.pieces if isinstance(piece, bytes))}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@asynccontextmanager
async def scripted(
    *replies: Reply, unix_path: str = "", tls: ssl.SSLContext | None = None
) -> AsyncGenerator[ScriptedServer]:
    """Run a server that plays these replies in order; on a Unix socket when a path is given."""
    server = ScriptedServer(replies or (Reply.json({}),))
    if unix_path:
        listener: asyncio.Server = await asyncio.start_unix_server(server.serve, unix_path)
        server.url = f"unix://{unix_path}"
    else:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
        scheme = "https" if tls else "http"
        server.url = f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await server.end()
        await listener.wait_closed()


def sse(events: Iterable[object], *, done: bool = True) -> list[str]:
    """Give each event as one SSE frame, with OpenAI's end mark."""
    frames = [f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events]
    return [*frames, "data: [DONE]\n\n"] if done else frames
