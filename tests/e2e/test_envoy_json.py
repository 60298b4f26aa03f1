"""The shipped Envoy configuration with a real Envoy: JSON in, JSON or server-sent events out, and whom browsers let call."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml

from gearshift.v1 import router_pb2
from tests.support.envoy_proxy import SHIPPED, EnvoyProxy, envoy_proxy
from tests.support.grpc_web import BINARY, framed
from tests.support.openai_bodies import openai_answer, openai_stream
from tests.support.running_server import decoded, from_yaml, plain_call, running_server
from tests.support.scripted_server import Reply, ScriptedServer, scripted
from tests.support.served_config import one_openai

BOUND_S = 30.0
AT_ONCE = "stream: {hold_back_tokens: 0, hold_back_ms: 0}"
OK = Reply.json(openai_answer("hello there"))
OVERLOADED = Reply.json({"error": {"message": "overloaded"}}, status=503)
CALL: dict[str, Any] = {"call": {"task": {"id": "greet", "type": "TASK_TYPE_GENERATE"}, "prompt": "hello"}}
FRIEND, STRANGER = "https://chat.example.com", "https://evil.example"


@dataclass
class Setup:
    """A service behind an Envoy."""

    proxy: EnvoyProxy
    upstream: ScriptedServer
    client: httpx.AsyncClient

    def url(self, method: str) -> str:
        return f"http://{self.proxy.address}/gearshift.v1.{method}"

    async def post(self, method: str, body: object, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(self.url(method), json=body, headers=sent)


@asynccontextmanager
async def proxied(folder: Path, *replies: Reply, more: str = "", origins: Sequence[Any] = ()) -> AsyncGenerator[Setup]:
    async with (
        scripted(*replies) as upstream,
        running_server(from_yaml(one_openai(upstream.url, more=more))) as server,
        envoy_proxy([server.address], folder, origins=origins) as proxy,
        httpx.AsyncClient(trust_env=False, timeout=BOUND_S) as client,
    ):
        await proxy.wait_hosts(server.address)
        yield Setup(proxy, upstream, client)


async def test_json_is_answered_with_json(tmp_path: Path) -> None:
    async with proxied(tmp_path, OK) as setup:
        response = await setup.post("RouterService/Route", CALL)
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        answer: Any = response.json()["answer"]
        assert (answer["text"], answer["completion"]["servedBy"]["model"]) == ("hello there", "m-up")
        status = await setup.post("OpsService/GetStatus", {})
        assert status.json()["callsEnded"] == "1"
        assert (await setup.post("RouterService/Nothing", {})).status_code == 404


async def test_streams_are_server_sent_events_as_the_model_writes(tmp_path: Path) -> None:
    going_on = asyncio.Event()
    frames = openai_stream(["one ", "two ", "three"])
    slow = Reply.sse(*frames[:2], going_on, *frames[2:])
    texts, kinds = "", list[str]()
    async with (
        proxied(tmp_path, slow, more=AT_ONCE) as setup,
        setup.client.stream("POST", setup.url("RouterService/StreamRoute"), json=CALL) as response,
    ):
        assert response.headers["content-type"] == "text/event-stream"
        async for line in response.aiter_lines():
            assert line.startswith("data: ") or not line
            for event in json.loads(line.removeprefix("data: "))["events"] if line else ():
                kinds += event
                texts += "".join(part["text"] for part in event.get("delta", {}).get("parts", ()))
            if texts == "one ":
                # It came while the model was still writing.
                going_on.set()
    assert texts == "one two three"
    assert (kinds[0], kinds[-1]) == ("started", "completed")


async def test_reader_of_events_that_leaves_stops_the_model(tmp_path: Path) -> None:
    frames = openai_stream(["one ", "two "])
    endless = Reply.sse(*frames[:2], asyncio.Event(), *frames[2:])
    async with proxied(tmp_path, endless, more=AT_ONCE) as setup:
        async with setup.client.stream("POST", setup.url("RouterService/StreamRoute"), json=CALL) as response:
            async for line in response.aiter_lines():
                if "one " in line:
                    break
        await setup.upstream.wait_closed_early()


@pytest.mark.parametrize(
    ("method", "body", "left", "status", "code", "reason"),
    [
        pytest.param("Route", {}, "9S", 400, "INVALID_ARGUMENT", "INVALID_REQUEST", id="a wrong field"),
        pytest.param("StreamRoute", {}, "9S", 400, "INVALID_ARGUMENT", "INVALID_REQUEST", id="a wrong field, streamed"),
        pytest.param("Route", CALL, "9S", 503, "UNAVAILABLE", "CHAIN_EXHAUSTED", id="a chain that has failed"),
        pytest.param("Route", CALL, "1m", 504, "DEADLINE_EXCEEDED", "DEADLINE", id="the caller's deadline"),
    ],
)
async def test_failures_have_http_statuses_and_details_in_headers(
    tmp_path: Path, method: str, body: object, left: str, status: int, code: str, reason: str
) -> None:
    async with proxied(tmp_path, OVERLOADED) as setup:
        response = await setup.post(f"RouterService/{method}", body, grpc_timeout=left)
        assert response.status_code == status
        packed = response.headers["grpc-status-details-bin"]
        details = base64.b64decode(packed + "=" * (-len(packed) % 4))
        expected = grpc.StatusCode[code]
        failed = decoded(expected, response.headers["grpc-message"], [("grpc-status-details-bin", details)])
        assert (response.headers["grpc-status"], failed.reason) == (str(expected.value[0]), reason)


async def test_json_that_is_longer_than_the_buffers_reaches_the_service(tmp_path: Path) -> None:
    async with proxied(tmp_path, OK) as setup:
        long = {**CALL["call"], "prompt": "hello " * 200_000}
        response = await setup.post("RouterService/Route", {"call": long})
        # The model's context is too small for it, says the service.
        assert response.headers["grpc-status"] == str(grpc.StatusCode.FAILED_PRECONDITION.value[0])
        assert "tokens do not fit" in response.headers["grpc-message"]


@pytest.mark.parametrize("said", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_plain_forms_of_other_sites_have_no_effect(tmp_path: Path, said: str) -> None:
    async with proxied(tmp_path, OK) as setup:
        for method in ("POST", "GET", "PUT"):
            for body in (
                json.dumps(CALL).encode(),
                framed(router_pb2.RouteRequest(call=plain_call()).SerializeToString()),
            ):
                response = await setup.client.request(
                    method,
                    setup.url("RouterService/Route"),
                    content=body,
                    headers={"content-type": said, "origin": STRANGER},
                )
                assert response.status_code == 415
        assert setup.upstream.requests == []


async def asked(setup: Setup, origin: str) -> httpx.Response:
    """Ask, as a browser does, whether a page may call."""
    wish = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    return await setup.client.options(setup.url("RouterService/Route"), headers=wish)


async def test_browsers_are_given_no_leave_for_other_sites(tmp_path: Path) -> None:
    async with proxied(tmp_path, OK) as setup:
        before = await setup.proxy.stats("upstream_rq_total")
        response = await asked(setup, STRANGER)
        assert "access-control-allow-origin" not in response.headers, response.headers
        bare = await setup.client.options(setup.url("RouterService/Route"))
        assert bare.status_code == 415
        # Nor is a service troubled with it.
        assert await setup.proxy.stats("upstream_rq_total") == before


async def test_site_that_is_named_as_the_file_says_may_call(tmp_path: Path) -> None:
    found = re.search(r"To let one, name it: (.+)", SHIPPED.read_text())
    assert found is not None
    origins: Any = yaml.safe_load(found[1])
    async with proxied(tmp_path, OK, origins=origins) as setup:
        given = await asked(setup, FRIEND)
        assert (given.status_code, given.headers["access-control-allow-origin"]) == (200, FRIEND)
        assert "authorization" in given.headers["access-control-allow-headers"]
        refused = await asked(setup, STRANGER)
        assert "access-control-allow-origin" not in refused.headers
        answer = await setup.post("RouterService/Route", CALL, origin=FRIEND)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, FRIEND)
        assert "grpc-status-details-bin" in answer.headers["access-control-expose-headers"]
        message = framed(router_pb2.RouteRequest(call=plain_call()).SerializeToString())
        web = await setup.client.post(
            setup.url("RouterService/Route"), content=message, headers={"content-type": BINARY, "origin": FRIEND}
        )
        assert (web.status_code, web.headers["access-control-allow-origin"]) == (200, FRIEND)
