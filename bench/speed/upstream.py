"""A fake upstream in OpenAI's format, so lean that it is never the bottleneck.

Rules: bytes are built once; the body's model name says how to answer (messages.py). Whole: one write. Paced: a chunk
every PACE_S, by the clock, so that a late timer does not slow the stream. Burst: a write for each turn of the loop.

    python -m bench.speed.upstream PORT
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import cast

import uvloop

from bench.speed import messages

_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection, kept alive."""

    def __init__(self, whole: bytes, frames: list[bytes]) -> None:
        self._whole = whole
        self._frames = frames
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, mark, body = self._received.partition(b"\r\n\r\n")
        if not mark:
            return
        _, _, length = head.lower().partition(b"content-length:")
        if len(body) < int(length.partition(b"\r\n")[0]):
            return
        self._received = b""
        assert self._transport is not None
        if f'"{messages.PACED}'.encode() in body:
            self._transport.write(_STREAM_HEAD + self._frames[0])
            self._pace(1, self._loop.time())
        elif f'"{messages.BURST}'.encode() in body:
            self._transport.write(_STREAM_HEAD + self._frames[0])
            self._loop.call_soon(self._next, 1)
        else:
            self._transport.write(self._whole)

    def _pace(self, index: int, started: float) -> None:
        self._loop.call_at(started + index * messages.PACE_S, self._paced, index, started)

    def _paced(self, index: int, started: float) -> None:
        if self._transport is not None:
            self._transport.write(self._frames[index])
            if index + 1 < len(self._frames):
                self._pace(index + 1, started)

    def _next(self, index: int) -> None:
        if self._transport is not None:
            self._transport.write(self._frames[index])
            if index + 1 < len(self._frames):
                self._loop.call_soon(self._next, index + 1)


async def serve(port: int) -> None:
    """Serve until killed."""
    body = messages.whole_json()
    whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    frames = [b"%x\r\n%b\r\n" % (len(frame), frame) for frame in messages.sse_frames()]
    frames[-1] += _END
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(whole, frames), "127.0.0.1", port)
    gc.freeze()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
