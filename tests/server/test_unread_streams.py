"""A reader that stops reading stops its provider, before much has piled up."""

from __future__ import annotations

import anyio
import grpc.aio
import pytest

from gearshift.clients import background, call, dial
from gearshift.server.router_service import TIMEOUT_METADATA
from gearshift.v1 import router_pb2
from tests.support.flooding_provider import KERNEL, flooding
from tests.support.running_server import from_yaml, plain_call, running_server
from tests.support.served_config import one_openai

_MB = 1_000_000


@pytest.mark.parametrize("size", [64, 4096])
async def test_our_client_s_unread_stream_stops_its_provider_within_a_megabyte(size: int) -> None:
    async with flooding(size) as flood, running_server(from_yaml(one_openai(flood.url))) as server:
        async with (
            dial(server.address) as client,
            client.stream_route(background().with_timeout(30), call("greet", "hello")) as stream,
        ):
            await stream.receive()
            await flood.stopped()
            assert flood.written <= _MB + 2 * KERNEL
        await server.seen.wait()


async def test_a_foreign_client_s_unread_stream_stops_its_provider_within_eight_megabytes() -> None:
    async with flooding(4096) as flood, running_server(from_yaml(one_openai(flood.url))) as server:
        stream = server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()), timeout=30)
        await stream.read()
        await flood.stopped()
        assert flood.written <= 8 * _MB + 2 * KERNEL
        stream.cancel()
        await server.seen.wait()


async def test_a_reader_that_reads_on_gets_everything() -> None:
    async with flooding(4096) as flood, running_server(from_yaml(one_openai(flood.url))) as server:
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
    async with flooding(4096) as flood, running_server(from_yaml(one_openai(flood.url))) as server:
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
