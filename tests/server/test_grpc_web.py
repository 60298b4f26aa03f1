"""gRPC-Web on the HTTP port: what a browser gets is what a gRPC client gets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import aiohttp
import anyio
import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from gearshift.core.config.model import AccessConfig, KeyConfig, ServerConfig, TenantConfig
from gearshift.core.words import FailureKind
from gearshift.v1 import call_pb2, ops_pb2, router_pb2, stream_pb2
from tests.support.blueprints import stage
from tests.support.flooding_provider import KERNEL, flooding
from tests.support.grpc_web import BINARY, TEXT, Answer, Browser, WebStream, browser_at, framed
from tests.support.openai_bodies import openai_stream
from tests.support.running_server import (
    BOUND_S,
    RunningServer,
    failure_of,
    from_yaml,
    of_stages,
    plain_call,
    running_server,
)
from tests.support.scripted_provider import Script, ScriptedProvider, fails, says
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai

HTTP = ServerConfig(port=0, http_port=0, grace_s=5, max_message_bytes=65_536)
AT_ONCE = "stream: {hold_back_tokens: 0, hold_back_ms: 0}"
ROUTE, STREAM = "RouterService/Route", "RouterService/StreamRoute"
CALLER, OPS = "gs_app_" + "1f" * 32, "gs_ops_" + "2e" * 32
ACCESS = AccessConfig(
    keys=(
        KeyConfig(id="app", sha256=hashlib.sha256(CALLER.encode()).hexdigest(), tenant="acme"),
        KeyConfig(id="ops", sha256=hashlib.sha256(OPS.encode()).hexdigest(), tenant="default", role="ops"),
    ),
    tenants={"acme": TenantConfig()},
)


def asking(prompt: str = "hello") -> router_pb2.RouteRequest:
    return router_pb2.RouteRequest(call=plain_call(prompt))


def streaming(prompt: str = "hello") -> router_pb2.StreamRouteRequest:
    return router_pb2.StreamRouteRequest(call=plain_call(prompt))


def text_of(answer: Answer) -> str:
    return router_pb2.RouteResponse.FromString(answer.messages[0]).answer.text


def events_in(message: bytes | None) -> list[stream_pb2.Event]:
    return list(router_pb2.StreamRouteResponse.FromString(message or b"").events)


def text_in(events: list[stream_pb2.Event]) -> str:
    return "".join(part.text for event in events for part in event.delta.parts)


async def delta_of(stream: WebStream) -> str:
    """Read on until there is text."""
    while not (text := text_in(events_in(await stream.read()))):
        pass
    return text


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(BOUND_S):
        while not is_so():
            await anyio.sleep(0.005)


@pytest.mark.parametrize("said", [BINARY, TEXT, "application/grpc-web", "application/grpc-web-text; charset=utf-8"])
async def test_calls_and_streams_are_answered(said: str) -> None:
    provider = ScriptedProvider([says("hi"), says("one ", "two")])
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        answer = await browser.call(ROUTE, asking(), said=said)
        assert (answer.status, text_of(answer), answer.failed.code) == (200, "hi", grpc.StatusCode.OK)
        assert answer.headers["Content-Type"] == said.partition(";")[0]
        assert answer.headers["Cache-Control"] == "no-store"
        streamed = await browser.call(STREAM, streaming(), said=said)
        events = [event for message in streamed.messages for event in events_in(message)]
        assert (text_in(events), streamed.failed.code) == ("one two", grpc.StatusCode.OK)
        assert events[-1].WhichOneof("kind") == "completed"
        assert (await browser.call("OpsService/GetStatus", ops_pb2.GetStatusRequest(), said=said)).messages
        health = await browser.call("grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest(), said=said)
        assert health_pb2.HealthCheckResponse.FromString(health.messages[0]).status == 1


async def test_answer_has_the_very_bytes_that_grpc_gives() -> None:
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": ScriptedProvider([says("hi")])}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        request = ops_pb2.ListChainsRequest()
        plain = await server.ops.ListChains(request)
        assert (await browser.call("OpsService/ListChains", request)).messages == [plain.SerializeToString()]


async def test_events_arrive_while_the_model_writes() -> None:
    going_on = asyncio.Event()
    frames = openai_stream(["one ", "two ", "three"])
    slow = Reply.sse(*frames[:2], going_on, *frames[2:])
    for said in (BINARY, TEXT):
        going_on.clear()
        async with (
            scripted(slow) as upstream,
            running_server(one_openai(upstream.url, more=AT_ONCE)) as server,
            browser_at(server.app.http_port) as browser,
            browser.stream(STREAM, streaming(), said=said) as stream,
        ):
            assert await delta_of(stream) == "one "
            going_on.set()
            rest = list[stream_pb2.Event]()
            while (message := await stream.read()) is not None:
                rest += events_in(message)
            assert text_in(rest) == "two three"
            assert stream.trailers is not None
            assert stream.trailers.code is grpc.StatusCode.OK


# -- Statuses ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ends:
    """A call that fails."""

    code: grpc.StatusCode
    script: Script = says("hi")
    request: router_pb2.RouteRequest = field(default_factory=asking)
    access: AccessConfig = AccessConfig()
    key: str = ""
    timeout: str = ""


class _BugError(Exception):
    pass


def bug() -> Script:
    return replace(says("hi"), failure=_BugError("of our own"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


ENDS = {
    "a wrong field": Ends(code=grpc.StatusCode.INVALID_ARGUMENT, request=router_pb2.RouteRequest()),
    "a chain whose stages have all failed": Ends(
        code=grpc.StatusCode.UNAVAILABLE, script=fails(FailureKind.SERVER, status=500)
    ),
    "no key": Ends(code=grpc.StatusCode.UNAUTHENTICATED, access=ACCESS),
    "a wrong key": Ends(code=grpc.StatusCode.UNAUTHENTICATED, access=ACCESS, key=CALLER[:-1] + "0"),
    "an unknown prompt": Ends(
        code=grpc.StatusCode.FAILED_PRECONDITION,
        request=router_pb2.RouteRequest(call=plain_call(system=call_pb2.SystemPrompt(key="0" * 64))),
    ),
    "a fault of ours, without its text": Ends(code=grpc.StatusCode.INTERNAL, script=bug()),
    "a deadline": Ends(code=grpc.StatusCode.DEADLINE_EXCEEDED, script=replace(says("hi"), hangs=True), timeout="300m"),
}


@pytest.mark.parametrize("ends", [pytest.param(each, id=name) for name, each in ENDS.items()])
async def test_failures_are_told_as_grpc_tells_them(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    blueprint = of_stages(stage(0), server=HTTP, access=ends.access)
    headers = {"Authorization": f"Bearer {ends.key}"} if ends.key else {}
    metadata = (("authorization", f"Bearer {ends.key}"),) if ends.key else ()
    timeout = 0.3 if ends.timeout else BOUND_S
    headers["Grpc-Timeout"] = ends.timeout or f"{BOUND_S:.0f}S"
    async with (
        running_server(blueprint, providers={"p0": ScriptedProvider([ends.script])}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.router.Route(ends.request, timeout=timeout, metadata=metadata)
        told = failure_of(caught.value)
        answer = await browser.call(ROUTE, ends.request, **headers)
        assert (answer.status, answer.messages, answer.failed.code) == (200, [], ends.code)
        if ends.timeout:
            return  # gRPC's client has given up before the service could tell more
        assert answer.failed == told
        stream = router_pb2.StreamRouteRequest(call=ends.request.call)
        answer = await browser.call(STREAM, stream, **headers)
        assert (answer.failed.code, answer.failed.reason) == (ends.code, told.reason)
    assert "of our own" not in str(answer.trailers)
    assert CALLER not in caplog.text


async def test_crowded_service_says_when_to_come_again() -> None:
    provider = ScriptedProvider([replace(says("hi"), hangs=True)])
    config = ServerConfig(port=0, http_port=0, grace_s=5, max_calls=1)
    async with (
        running_server(of_stages(stage(0), server=config), providers={"p0": provider}) as server,
        browser_at(server.app.http_port) as browser,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(browser.call, STREAM, streaming())
        await provider.hanging.wait()
        failed = (await browser.call(ROUTE, asking())).failed
        assert (failed.code, failed.pushback) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "200")
        assert (await browser.call("OpsService/GetStatus", ops_pb2.GetStatusRequest())).messages
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("header", ["Grpc_Timeout", "Gearshift_Timeout_Ms"])
@pytest.mark.parametrize("method", [ROUTE, STREAM])
async def test_deadline_ends_a_call_and_its_model(header: str, method: str) -> None:
    provider = ScriptedProvider([replace(says("hi"), hangs=True)])
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        began = time.monotonic()
        request: Message = asking() if method == ROUTE else streaming()
        answer = await browser.call(method, request, **{header: "200m" if header == "Grpc_Timeout" else "200"})
        assert answer.failed.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0.1 < time.monotonic() - began < 2
        await until(lambda: provider.running == 0 and server.app.guard.in_flight == 0)


async def test_deadline_ends_calls_that_know_of_none() -> None:
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        for method in ("OpsService/WatchAttempts", "grpc.health.v1.Health/Watch"):
            failed = (await browser.call(method, framed(b""), Grpc_Timeout="100m")).failed
            assert (failed.code, failed.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE")


# -- What is sent ------------------------------------------------------------------------------------------------------

MESSAGE = asking().SerializeToString()
MALFORMED = {
    "nothing": (b"", BINARY, "at least 5 bytes"),
    "half a head": (b"\x00\x00", BINARY, "at least 5 bytes"),
    "less than it says": (framed(MESSAGE)[:-1], BINARY, f"says {len(MESSAGE)} bytes, and {len(MESSAGE) - 1} follow"),
    "more than it says": (framed(MESSAGE) + b"x", BINARY, f"and {len(MESSAGE) + 1} follow"),
    "two messages": (framed(MESSAGE) * 2, BINARY, "follow"),
    "trailers": (framed(MESSAGE, 0x80), BINARY, "its flag is 0x80"),
    "no protobuf": (framed(b"\xff" * 9), BINARY, "no message that this method takes"),
    "no base64": (b"!" * 12, TEXT, "must be base64"),
    "base64 in binary": (base64.b64encode(framed(MESSAGE)), BINARY, "its flag is 0x41"),
    "half of base64": (base64.b64encode(framed(MESSAGE))[:-1], TEXT, "base64"),
}


@pytest.mark.parametrize(("body", "said", "told"), [pytest.param(*each, id=name) for name, each in MALFORMED.items()])
async def test_malformed_bodies_are_refused_with_a_reason(body: bytes, said: str, told: str) -> None:
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": ScriptedProvider([says("hi")])}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        failed = (await browser.call(ROUTE, body, said=said)).failed
        assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert told in failed.message
        assert text_of(await browser.call(ROUTE, asking())) == "hi"


async def test_text_may_come_in_pieces_that_are_padded_each() -> None:
    whole = framed(MESSAGE)
    pieces = b"".join(base64.b64encode(whole[at : at + 7]) for at in range(0, len(whole), 7))
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": ScriptedProvider([says("hi")])}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        assert text_of(await browser.call(ROUTE, pieces, said=TEXT)) == "hi"


async def test_compressed_messages_and_unknown_methods_are_unimplemented() -> None:
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        assert (await browser.call(ROUTE, framed(MESSAGE, 1))).failed.code is grpc.StatusCode.UNIMPLEMENTED
        for method in ("RouterService/Rout", "OpsService/Route", "grpc.health.v1.Health/Nothing"):
            assert (await browser.call(method, asking())).failed.code is grpc.StatusCode.UNIMPLEMENTED
        # Reflection is both ways at once, which browsers cannot.
        for method in ("NoService/Route", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"):
            assert (await browser.call(method, asking())).status == 404


@pytest.mark.parametrize("said", [BINARY, TEXT])
@pytest.mark.parametrize("has_length", [True, False])
async def test_message_that_is_too_long_is_refused_before_it_is_read(said: str, has_length: bool) -> None:
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": ScriptedProvider([says("hi")])}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        for size, code in ((65_536, grpc.StatusCode.INVALID_ARGUMENT), (65_537, grpc.StatusCode.RESOURCE_EXHAUSTED)):
            packed = framed(b"\xff" * size)
            body = base64.b64encode(packed) if "text" in said else packed
            if has_length:
                answer = await browser.call(ROUTE, body, said=said)
            else:
                answer = await chunked(browser, body, said)
            assert answer.failed.code is code, size


async def chunked(browser: Browser, body: bytes, said: str) -> Answer:
    """Call without saying how long the body is."""

    async def pieces() -> AsyncGenerator[bytes]:
        for at in range(0, len(body), 10_000):
            yield body[at : at + 10_000]

    url = f"{browser.base}/gearshift.v1.{ROUTE}"
    async with browser.session.post(url, data=pieces(), headers={"Content-Type": said}) as response:
        answer = Answer(response.status, dict(response.headers))
        stream = WebStream(response, is_text="text" in said)
        while (message := await stream.read()) is not None:
            answer.messages.append(message)
        answer.trailers = stream.trailers
        return answer


@pytest.mark.parametrize("value", ["1", "1s", "-1S", "123456789m", "S", "1 S"])
async def test_timeout_that_cannot_be_read_is_refused(value: str) -> None:
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        failed = (await browser.call(ROUTE, asking(), Grpc_Timeout=value)).failed
        assert (failed.code, failed.fields) == (grpc.StatusCode.INVALID_ARGUMENT, {"grpc-timeout": "cannot be read"})


# -- Keys --------------------------------------------------------------------------------------------------------------


async def test_keys_are_asked_for_as_over_grpc() -> None:
    provider = ScriptedProvider([says("hi")])
    async with (
        running_server(of_stages(stage(0), server=HTTP, access=ACCESS), providers={"p0": provider}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        caller, ops = {"Authorization": f"Bearer {CALLER}"}, {"Authorization": f"bearer {OPS}"}
        assert text_of(await browser.call(ROUTE, asking(), **caller)) == "hi"
        status = ops_pb2.GetStatusRequest()
        denied = (await browser.call("OpsService/GetStatus", status, **caller)).failed
        assert denied.code is grpc.StatusCode.PERMISSION_DENIED
        assert (await browser.call("OpsService/GetStatus", status, **ops)).messages
        for key, cause in (("", "missing"), ("Bearer gs_app_ä", "missing"), (f"Bearer {CALLER}0", "unknown")):
            refused = await browser.call(ROUTE, asking(), **({"Authorization": key} if key else {}))
            assert refused.failed.code is grpc.StatusCode.UNAUTHENTICATED, cause
        assert server.app.guard.refusals.by_cause == {"missing": 2, "unknown": 1}
        health = await browser.call("grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest())
        assert health.failed.code is grpc.StatusCode.OK  # access.open_health
        assert [seen[0].resolution.tenant for seen in server.seen.ended] == ["acme"]


async def test_every_method_of_the_contract_is_served_and_none_without_a_key() -> None:
    async with (
        running_server(of_stages(stage(0), server=HTTP, access=ACCESS), providers={}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        for service in (
            router_pb2.DESCRIPTOR.services_by_name["RouterService"],
            ops_pb2.DESCRIPTOR.services_by_name["OpsService"],
        ):
            for method in service.methods:
                failed = (await browser.call(f"{service.name}/{method.name}", framed(b""))).failed
                assert failed.code is grpc.StatusCode.UNAUTHENTICATED, method.full_name


# -- Leaving, not reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [BINARY, TEXT])
async def test_browser_that_leaves_stops_the_model_within_a_tenth_of_a_second(said: str) -> None:
    frames = openai_stream(["one ", "two "])
    endless = Reply.sse(*frames[:2], asyncio.Event(), *frames[2:])
    took = list[float]()
    for _ in range(3):
        async with (
            scripted(endless) as upstream,
            running_server(one_openai(upstream.url, more=AT_ONCE)) as server,
            browser_at(server.app.http_port) as browser,
        ):
            async with browser.stream(STREAM, streaming(), said=said) as stream:
                await delta_of(stream)
                stream.response.close()
                left = time.monotonic()
            await upstream.wait_closed_early()
            took.append(time.monotonic() - left)
            await server.seen.wait()
            await until(lambda: server.app.guard.in_flight == 0)
    # The least of three: other programs share this machine.
    assert min(took) < 0.1, took


async def test_browser_that_leaves_before_the_answer_stops_a_unary_call() -> None:
    provider = ScriptedProvider([replace(says("hi"), hangs=True)])
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(browser.call, ROUTE, asking())
            await provider.hanging.wait()
            tasks.cancel_scope.cancel()
        await until(lambda: provider.running == 0 and server.app.guard.in_flight == 0)
        assert provider.closed_early == 1


async def open_raw(
    server: RunningServer, body: bytes, **headers: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a StreamRoute call; the caller reads nothing unless it asks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.app.http_port, limit=4096)
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"POST /gearshift.v1.{STREAM} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {BINARY}\r\n{lines}"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return reader, writer


@pytest.mark.parametrize("size", [64, 4096])
async def test_unread_stream_stops_its_provider_within_a_megabyte(size: int) -> None:
    async with flooding(size) as flood, running_server(from_yaml(one_openai(flood.url))) as server:
        _, writer = await open_raw(server, framed(streaming().SerializeToString()))
        await flood.stopped()
        assert flood.written <= 1_000_000 + 2 * KERNEL
        assert server.app.guard.in_flight == 1
        writer.transport.abort()
        await server.seen.wait()
        await until(lambda: server.app.guard.in_flight == 0)


async def test_reader_that_reads_on_gets_everything_in_order() -> None:
    async with (
        flooding(4096) as flood,
        running_server(from_yaml(one_openai(flood.url))) as server,
        browser_at(server.app.http_port) as browser,
    ):
        async with browser.stream(STREAM, streaming()) as stream:
            await delta_of(stream)
            await flood.stopped()
            stood, got, last = flood.written, 0, 0
            while got <= stood:
                for event in events_in(await stream.read()):
                    if event.WhichOneof("kind") == "delta":
                        assert event.delta.number > last
                        last = event.delta.number
                        got += sum(len(part.text) for part in event.delta.parts)
            assert flood.written > stood
        await server.seen.wait()


async def test_deadline_ends_an_unread_stream_and_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with flooding(4096) as flood, running_server(from_yaml(one_openai(flood.url))) as server:
        _, writer = await open_raw(server, framed(streaming().SerializeToString()), Grpc_Timeout="600m")
        await server.seen.wait()
        await until(lambda: server.app.guard.in_flight == 0)
        writer.transport.abort()
    assert [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


# -- Many --------------------------------------------------------------------------------------------------------------


async def test_two_hundred_browsers_stream_at_once() -> None:
    together = anyio.Event()
    provider = ScriptedProvider([replace(says("one ", "two "), waits_for=together)])
    async with (
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server,
        browser_at(server.app.http_port) as browser,
    ):
        answers = list[Answer]()

        async def ask() -> None:
            answers.append(await browser.call(STREAM, streaming()))

        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(ask)
            await until(lambda: server.app.guard.in_flight == 200)
            together.set()
    assert len(answers) == 200
    for answer in answers:
        assert text_in([event for message in answer.messages for event in events_in(message)]) == "one two "


# -- The service leaves ------------------------------------------------------------------------------------------------


async def test_running_streams_are_given_their_grace_and_new_calls_are_sent_away() -> None:
    going_on = anyio.Event()
    provider = ScriptedProvider([replace(says("one ", "two "), waits_for=going_on), says("hi")])
    answers = list[Answer]()

    async def ask(port: int) -> None:
        async with browser_at(port) as browser:
            answers.append(await browser.call(STREAM, streaming()))

    async def look(server: RunningServer) -> None:
        await until(lambda: server.app.guard.is_leaving)
        async with browser_at(server.app.http_port) as browser:
            assert (await browser.call(ROUTE, asking())).failed.code is grpc.StatusCode.UNAVAILABLE
            async with browser.session.get(f"{browser.base}/healthz") as response:
                assert response.status == 503
        going_on.set()

    async with (
        anyio.create_task_group() as tasks,
        running_server(of_stages(stage(0), server=HTTP), providers={"p0": provider}) as server,
    ):
        tasks.start_soon(ask, server.app.http_port)
        await provider.waiting.wait()
        tasks.start_soon(look, server)
    assert [answer.failed.code for answer in answers] == [grpc.StatusCode.OK]


async def test_stream_that_outlives_the_grace_is_cut() -> None:
    provider = ScriptedProvider([replace(says("hi"), hangs=True)])
    config = of_stages(stage(0), server=ServerConfig(port=0, http_port=0, grace_s=0.2))
    async with anyio.create_task_group() as tasks:
        began = 0.0
        async with running_server(config, providers={"p0": provider}) as server:
            port = server.app.http_port

            async def ask() -> None:
                async with browser_at(port) as browser:
                    with pytest.raises(aiohttp.ClientError):
                        await browser.call(STREAM, streaming())

            tasks.start_soon(ask)
            await provider.hanging.wait()
            began = time.monotonic()
        assert time.monotonic() - began < 3
    assert provider.running == 0


async def test_open_health_watch_does_not_hold_up_the_stop() -> None:
    async with anyio.create_task_group() as tasks:
        async with running_server(of_stages(stage(0), server=HTTP), providers={}) as server:
            port, begun = server.app.http_port, anyio.Event()

            async def watch() -> None:
                seen = list[int]()
                async with (
                    browser_at(port) as browser,
                    browser.stream("grpc.health.v1.Health/Watch", framed(b"")) as stream,
                ):
                    with suppress(aiohttp.ClientError):
                        while (message := await stream.read()) is not None:
                            seen.append(health_pb2.HealthCheckResponse.FromString(message).status)
                            begun.set()
                # It was told before it was cut.
                assert seen == [1, 2]

            tasks.start_soon(watch)
            await begun.wait()
            began = time.monotonic()
        assert time.monotonic() - began < 3
