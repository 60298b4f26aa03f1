"""The shipped Envoy configuration with a real Envoy, in front of two `gearshift serve`."""

from __future__ import annotations

import asyncio
import base64
import signal
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import grpc
import grpc.aio
import httpx
import pytest
import yaml
from anyio.abc import TaskGroup

from gearshift.v1 import ops_pb2, router_pb2, router_pb2_grpc
from tests.support.envoy_proxy import EnvoyProxy, envoy_proxy
from tests.support.loopback_tls import loopback_pem
from tests.support.openai_bodies import openai_answer, openai_stream
from tests.support.running_server import decoded, failure_of, plain_call
from tests.support.scripted_server import Reply, ScriptedServer, scripted
from tests.support.served_config import one_openai
from tests.support.served_process import ServedProcess, served, stubs

BOUND_S = 30.0
CALLERS = 8
PAGE = Path(__file__).parents[2] / "docs/deploy.md"
OK = Reply.json(openai_answer("hello there"))
STREAM = Reply.sse(*openai_stream(["one ", "two ", "three"]))


@dataclass
class Balanced:
    """Two services behind an Envoy."""

    proxy: EnvoyProxy
    services: list[ServedProcess]
    upstream: ScriptedServer
    channel: grpc.aio.Channel

    @property
    def router(self) -> router_pb2_grpc.RouterServiceAsyncStub:
        return router_pb2_grpc.RouterServiceStub(self.channel)

    async def route(self, metadata: tuple[tuple[str, str], ...] = ()) -> str:
        request = router_pb2.RouteRequest(call=plain_call())
        return (await self.router.Route(request, timeout=BOUND_S, metadata=metadata)).answer.text

    async def ended(self) -> list[int]:
        """Give how many calls each service has answered."""
        counts: list[int] = []
        for each in self.services:
            async with stubs(each.address) as (_, ops):
                counts.append((await ops.GetStatus(ops_pb2.GetStatusRequest())).calls_ended)
        return counts


class Load:
    """Callers that call on and on."""

    def __init__(self, setup: Balanced) -> None:
        self.answered = 0
        self.failed: list[grpc.aio.AioRpcError] = []
        self.failed_so_far = 0
        self._setup = setup
        self._is_over = False

    def start(self, tasks: TaskGroup) -> None:
        for _ in range(CALLERS):
            tasks.start_soon(self._call_on)

    def stop(self) -> None:
        self._is_over = True

    async def answers(self, count: int) -> None:
        """Wait for so many more answers."""
        wanted = self.answered + count
        with anyio.fail_after(BOUND_S):
            while self.answered < wanted:
                await anyio.sleep(0.01)

    async def _call_on(self) -> None:
        while not self._is_over:
            try:
                await self._setup.route()
                self.answered += 1
            except grpc.aio.AioRpcError as error:
                self.failed.append(error)


@asynccontextmanager
async def balanced(
    folder: Path, *replies: Reply, more: str = "", added: Mapping[str, Any] | None = None
) -> AsyncGenerator[Balanced]:
    async with scripted(*replies) as upstream:
        path = folder / "gearshift.yaml"
        path.write_text(one_openai(upstream.url, more=more))
        arguments = ("--ledger", ":memory:", "--no-http", "--log-level", "error")
        async with (
            served(path, *arguments) as one,
            served(path, *arguments) as other,
            envoy_proxy([one.address, other.address], folder, added) as proxy,
            grpc.aio.insecure_channel(proxy.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel,
        ):
            await proxy.wait_hosts(one.address, other.address)
            yield Balanced(proxy, [one, other], upstream, channel)


async def test_calls_are_spread_evenly_over_one_connection(tmp_path: Path) -> None:
    async with balanced(tmp_path, OK) as setup:
        for _ in range(20):
            assert await setup.route() == "hello there"
        assert await setup.ended() == [10, 10]


async def test_streams_pass_event_by_event_and_errors_with_their_details(tmp_path: Path) -> None:
    refused = Reply.json({"error": {"message": "overloaded"}}, status=503)
    going_on = asyncio.Event()
    frames = openai_stream(["one ", "two ", "three"])
    slow = Reply.sse(*frames[:2], going_on, *frames[2:])
    more = "stream: {hold_back_tokens: 0, hold_back_ms: 0}"
    async with balanced(tmp_path, slow, refused, more=more) as setup:
        call = setup.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()), timeout=BOUND_S)
        texts = ""
        async for message in call:
            texts += "".join(part.text for event in message.events for part in event.delta.parts)
            if texts == "one ":
                # It came while the model was still writing.
                going_on.set()
        assert texts == "one two three"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await setup.route()
        failed = failure_of(caught.value)
        assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "CHAIN_EXHAUSTED")


async def test_failed_chains_are_not_tried_again_whatever_the_caller_wishes(tmp_path: Path) -> None:
    async with balanced(tmp_path, Reply.json({"error": {"message": "overloaded"}}, status=503)) as setup:
        wishes = (("x-envoy-retry-grpc-on", "unavailable"), ("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "9"))
        for metadata in ((), wishes):
            asked = len(setup.upstream.requests)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await setup.route(metadata)
            assert failure_of(caught.value).reason == "CHAIN_EXHAUSTED"
            assert len(setup.upstream.requests) == asked + 1
        assert await setup.proxy.stats("upstream_rq_retry") == 0
        # Nor is a service left out because a provider is down.
        for _ in range(10):
            with pytest.raises(grpc.aio.AioRpcError):
                await setup.route()
        assert all((await setup.proxy.hosts()).values())


async def test_killed_service_fails_no_call_that_comes_after(tmp_path: Path) -> None:
    async with balanced(tmp_path, OK) as setup:
        for _ in range(4):
            await setup.route()
        first, second = setup.services
        first.process.kill()
        assert await first.wait() != 0
        for _ in range(40):
            assert await setup.route() == "hello there"
        await setup.proxy.wait_hosts(second.address)


async def test_kill_under_load_fails_what_ran_there_and_nothing_after(tmp_path: Path) -> None:
    async with balanced(tmp_path, OK) as setup:
        load = Load(setup)
        async with anyio.create_task_group() as callers:
            load.start(callers)
            await load.answers(50)
            setup.services[0].process.kill()
            await load.answers(50)
            load.failed_so_far = len(load.failed)
            await load.answers(100)
            load.stop()
    # What it had begun may have been paid for: it is the caller's to repeat, under its request id.
    assert len(load.failed) == load.failed_so_far <= CALLERS


async def test_drained_service_fails_no_call(tmp_path: Path) -> None:
    async with balanced(tmp_path, OK, more="server: {notice_s: 4}") as setup:
        load = Load(setup)
        async with anyio.create_task_group() as callers:
            load.start(callers)
            await load.answers(100)
            first, second = setup.services
            first.send(signal.SIGTERM)
            assert await first.wait() == 0
            await load.answers(100)
            await setup.proxy.wait_hosts(second.address)
            load.stop()
    assert not load.failed, f"{len(load.failed)} of {load.answered}: {load.failed[0]}"


async def test_cancelled_stream_stops_the_model(tmp_path: Path) -> None:
    frames = openai_stream(["one ", "two "])
    endless = Reply.sse(*frames[:2], asyncio.Event(), *frames[2:])
    more = "stream: {hold_back_tokens: 0, hold_back_ms: 0}"
    async with balanced(tmp_path, endless, more=more) as setup:
        call = setup.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()), timeout=BOUND_S)
        assert isinstance(await call.read(), router_pb2.StreamRouteResponse)
        await setup.upstream.asked.wait()
        call.cancel()
        await setup.upstream.wait_closed_early()


async def test_running_stream_outlives_the_drain_of_its_service(tmp_path: Path) -> None:
    going_on = asyncio.Event()
    frames = openai_stream(["one ", "two ", "three"])
    slow = Reply.sse(*frames[:2], going_on, *frames[2:])
    more = "stream: {hold_back_tokens: 0, hold_back_ms: 0}"
    async with balanced(tmp_path, slow, more=more) as setup:
        call = setup.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()), timeout=BOUND_S)
        kinds: list[str | None] = []
        async for message in call:
            kinds += [event.WhichOneof("kind") for event in message.events]
            if "delta" in kinds and not going_on.is_set():
                for each in setup.services:
                    each.send(signal.SIGTERM)
                for each in setup.services:
                    await each.says("stopping")
                going_on.set()
        assert kinds[-1] == "completed"
        for each in setup.services:
            assert await each.wait() == 0


async def test_services_with_tls_are_believed_by_their_certificate(tmp_path: Path) -> None:
    pem = loopback_pem()
    authority = tmp_path / "ca.pem"
    authority.write_text("-----BEGIN CERTIFICATE-----" + pem.read_text().partition("-----BEGIN CERTIFICATE-----")[2])
    page = PAGE.read_text().partition("```yaml\ntransport_socket:")[2].partition("```")[0]
    added = yaml.safe_load("transport_socket:" + page)
    believed = added["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
    believed["trusted_ca"]["filename"] = str(authority)
    believed["match_typed_subject_alt_names"] = [{"san_type": "IP_ADDRESS", "matcher": {"exact": "127.0.0.1"}}]
    more = f"server: {{tls: {{certificate: '{pem}', key: '{pem}'}}}}"
    async with balanced(tmp_path, OK, more=more, added=added) as setup:
        for _ in range(4):
            assert await setup.route() == "hello there"


# -- gRPC-Web -----------------------------------------------------------------------------------------------------------


def framed(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def frames_of(body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """Give the messages and the trailers of a gRPC-Web body."""
    messages: list[bytes] = []
    trailers: dict[str, str] = {}
    while body:
        flag, length = struct.unpack_from(">BI", body)
        held, body = body[5 : 5 + length], body[5 + length :]
        if flag & 0x80:
            lines = (line.partition(":") for line in held.decode().strip().split("\r\n"))
            trailers = {name.strip().lower(): value.strip() for name, _, value in lines}
        else:
            messages.append(held)
    return messages, trailers


async def test_browsers_call_and_stream_over_grpc_web(tmp_path: Path) -> None:
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "origin": "https://elsewhere.example"}
    refused = Reply.json({"error": {"message": "overloaded"}}, status=503)
    async with balanced(tmp_path, OK, STREAM, refused) as setup, httpx.AsyncClient(trust_env=False) as client:

        async def post(method: str, message: bytes) -> httpx.Response:
            url = f"http://{setup.proxy.address}/gearshift.v1.RouterService/{method}"
            return await client.post(url, content=framed(message), headers=headers, timeout=BOUND_S)

        unary = router_pb2.RouteRequest(call=plain_call()).SerializeToString()
        messages, trailers = frames_of((response := await post("Route", unary)).content)
        assert router_pb2.RouteResponse.FromString(messages[0]).answer.text == "hello there"
        assert trailers["grpc-status"] == "0"
        # Closed to other sites until one is named.
        assert "access-control-allow-origin" not in response.headers
        asked = router_pb2.StreamRouteRequest(call=plain_call()).SerializeToString()
        messages, trailers = frames_of((await post("StreamRoute", asked)).content)
        events = [event for each in messages for event in router_pb2.StreamRouteResponse.FromString(each).events]
        assert "".join(part.text for event in events for part in event.delta.parts) == "one two three"
        assert trailers["grpc-status"] == "0"
        response = await post("Route", unary)
        _, trailers = frames_of(response.content)
        told = {**response.headers, **trailers}
        packed = told["grpc-status-details-bin"]
        details = base64.b64decode(packed + "=" * (-len(packed) % 4))
        failed = decoded(grpc.StatusCode.UNAVAILABLE, "", [("grpc-status-details-bin", details)])
        assert (told["grpc-status"], failed.reason) == ("14", "CHAIN_EXHAUSTED")
