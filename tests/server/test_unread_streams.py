"""A reader that stops reading stops its provider, before much has piled up."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import grpc.aio
import pytest

from gearshift.clients import background, call, dial
from gearshift.server.router_service import TIMEOUT_METADATA
from gearshift.v1 import router_pb2
from tests.support.openai_bodies import openai_stream
from tests.support.running_server import from_yaml, plain_call, running_server
from tests.support.served_config import one_openai

_TOTAL = 30_000_000
_MB = 1_000_000
_KERNEL = 64 * 1024
"""Send buffer of the provider's side."""
_QUIET_S = 0.4


@dataclass
class _Flood:
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
async def _flooding(size: int) -> AsyncGenerator[_Flood]:
    flood = _Flood()
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
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL)
    async with listener:
        flood.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield flood


@pytest.mark.parametrize("size", [64, 4096])
async def test_our_client_s_unread_stream_stops_its_provider_within_a_megabyte(size: int) -> None:
    async with _flooding(size) as flood, running_server(from_yaml(one_openai(flood.url))) as server:
        async with (
            dial(server.address) as client,
            client.stream_route(background().with_timeout(30), call("greet", "hello")) as stream,
        ):
            await stream.receive()
            await flood.stopped()
            assert flood.written <= _MB + 2 * _KERNEL
        await server.seen.wait()


async def test_a_foreign_client_s_unread_stream_stops_its_provider_within_eight_megabytes() -> None:
    async with _flooding(4096) as flood, running_server(from_yaml(one_openai(flood.url))) as server:
        stream = server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()), timeout=30)
        await stream.read()
        await flood.stopped()
        assert flood.written <= 8 * _MB + 2 * _KERNEL
        stream.cancel()
        await server.seen.wait()


async def test_a_reader_that_reads_on_gets_everything() -> None:
    async with _flooding(4096) as flood, running_server(from_yaml(one_openai(flood.url))) as server:
        async with dial(server.address) as client:
            got = 0
            async with client.stream_route(background().with_timeout(30), call("greet", "hello")) as stream:
                await stream.receive()
                await flood.stopped()
                stood = flood.written
                async for event in stream:
                    got += sum(len(part.text) for part in event.delta.parts)
                    if got > stood:
                        break
            assert flood.written > stood
        await server.seen.wait()


async def test_a_deadline_that_passes_while_nobody_reads_ends_the_call_without_noise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server's own deadline is over, and the last message still waits for its reader."""
    metadata = ((TIMEOUT_METADATA, "700"),)
    async with _flooding(4096) as flood, running_server(from_yaml(one_openai(flood.url))) as server:
        request = router_pb2.StreamRouteRequest(call=plain_call())
        stream = server.router.StreamRoute(request, timeout=20, metadata=metadata)
        await stream.read()
        await server.seen.wait()
        with anyio.fail_after(5):
            while server.app.guard.in_flight:
                await anyio.sleep(0.01)
        with pytest.raises(grpc.aio.AioRpcError):
            while await stream.read() is not grpc.aio.EOF:
                pass
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
