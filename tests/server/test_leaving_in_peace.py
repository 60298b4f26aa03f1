"""What balancers are told before a service leaves: health, notice, the age of connections; and the command that asks."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import anyio
import anyio.to_thread
import grpc
import pytest

from gearshift.clients import background
from gearshift.clients.aio import dial
from gearshift.clients.cli import main
from gearshift.clients.errors import Code, RpcError
from gearshift.core.config.model import ServerConfig
from gearshift.v1 import router_pb2
from tests.support.blueprints import stage
from tests.support.openai_bodies import openai_answer, openai_stream
from tests.support.running_server import of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, says
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai
from tests.support.served_process import served, stubs

BOUND_S = 20.0


async def asked(address: str, *words: str) -> int:
    """Run `gearshift health`; give its exit code."""
    with anyio.fail_after(BOUND_S):
        return await anyio.to_thread.run_sync(main, ["health", "--target", address, *words])


async def test_health_says_not_serving_while_calls_are_still_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scripted(Reply.json(openai_answer("hello there"))) as upstream:
        config = tmp_path / "gearshift.yaml"
        config.write_text(one_openai(upstream.url, more="server: {notice_s: 60}"))
        async with served(config, "--ledger", ":memory:", "--no-http") as process:
            assert await asked(process.address) == 0
            process.send(signal.SIGTERM)
            await process.says("stopping")
            with anyio.fail_after(BOUND_S):
                while await asked(process.address, "--service", "gearshift.v1.RouterService") == 0:
                    await anyio.sleep(0.02)
            assert await asked(process.address, "--json") == 1
            assert capsys.readouterr().out.endswith('{"status": "NOT_SERVING"}\n')
            async with stubs(process.address) as (router, _):
                answer = (await router.Route(router_pb2.RouteRequest(call=plain_call()), timeout=BOUND_S)).answer
                assert answer.text == "hello there"
    assert await asked(process.address, "--timeout", "1") == 3


async def test_clients_ask_whether_it_serves_and_services_have_names() -> None:
    async with running_server(of_stages(stage(0)), providers={"p0": ScriptedProvider([says("hi")])}) as server:
        async with dial(server.address) as client:
            ctx = background().with_timeout(BOUND_S)
            assert await client.is_serving(ctx)
            assert await client.is_serving(ctx, service="gearshift.v1.OpsService")
            with pytest.raises(RpcError) as caught:
                await client.is_serving(ctx, service="nobody")
        assert caught.value.code is Code.NOT_FOUND


async def test_old_connections_are_replaced_and_their_streams_end_well() -> None:
    going_on = asyncio.Event()
    frames = openai_stream(["one ", "two ", "three"])
    slow = Reply.sse(*frames[:2], going_on, *frames[2:])
    more = "stream: {hold_back_tokens: 0, hold_back_ms: 0}\nserver: {connection_age_s: 0.2}"
    async with scripted(slow) as upstream, running_server(one_openai(upstream.url, more=more)) as server:
        with anyio.fail_after(BOUND_S):
            call = server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()))
            message = await call.read()
            assert isinstance(message, router_pb2.StreamRouteResponse)
            # The server has asked for a new connection, and the stream goes on on the old one.
            await server.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
            going_on.set()
            kinds = [event.WhichOneof("kind") for event in message.events]
            while isinstance(message := await call.read(), router_pb2.StreamRouteResponse):
                kinds += [event.WhichOneof("kind") for event in message.events]
        assert kinds[-1] == "completed"


def test_nothing_is_waited_for_unless_it_was_configured() -> None:
    assert (ServerConfig().notice_s, ServerConfig().connection_age_s) == (0, 0)
