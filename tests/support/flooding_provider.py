"""A provider on loopback that writes without end, as fast as it is read.

async with flooding(4096) as flood:
    ...  # flood.url; await flood.stopped(); flood.written
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from tests.support.openai_bodies import openai_stream

_TOTAL = 30_000_000
KERNEL = 64 * 1024
"""Send buffer of the provider's side."""
_QUIET_S = 0.4


@dataclass
class Flood:
    """A provider that writes without end; `written` counts characters of text."""

    url: str = ""
    written: int = 0
    last: float = 0.0

    async def stopped(self) -> None:
        """Wait until it could not write for a while."""
        with anyio.fail_after(20):
            while not self.written or time.monotonic() - self.last < _QUIET_S:
                await anyio.sleep(0.02)


@asynccontextmanager
async def flooding(size: int) -> AsyncGenerator[Flood]:
    """Run one whose deltas have `size` characters."""
    flood = Flood()
    chance = random.Random(size)
    texts = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz     ", k=size)) for _ in range(401)]
    frames = [openai_stream([text], finish=None, usage=False, done=False)[-1] for text in texts]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.set_write_buffer_limits(high=0)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            number = 0
            while flood.written < _TOTAL:
                frame = frames[number % len(frames)]
                writer.write(frame if isinstance(frame, bytes) else frame.encode())
                number += 1
                flood.written += size
                flood.last = time.monotonic()
                await writer.drain()
                if number % 16 == 0:
                    await asyncio.sleep(0)  # everything here runs in one loop
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    for each in listener.sockets:
        # Inherited by its connections: what lies in the provider's own kernel has not been taken by us.
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
    async with listener:
        flood.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield flood
