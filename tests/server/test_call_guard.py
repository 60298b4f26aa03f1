"""The guard: cancellation stays quiet, deadlines and faults get their codes, calls are counted."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import anyio
import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gearshift.core.config.model import ServerConfig
from gearshift.core.events import TextDelta
from gearshift.core.provider import Chunk, EmbedCall, EmbedResult, ProviderCall
from gearshift.core.words import AttemptOutcome, FailureKind
from gearshift.v1 import answer_pb2, call_pb2, ops_pb2, router_pb2
from tests.support.blueprints import stage
from tests.support.running_server import (
    BOUND_S,
    RunningServer,
    failure_of,
    of_stages,
    plain_call,
    running_server,
)
from tests.support.scripted_provider import Script, ScriptedProvider, fails, says

NO_HOLD = call_pb2.StreamPolicy(hold_back_tokens=0, hold_back_ms=0)
PIECE_BYTES = 4096


@dataclass
class Flood(ScriptedProvider):
    """Writes without end, as fast as it is read."""

    written: int = 0
    ended: anyio.Event = field(default_factory=anyio.Event)

    async def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
        try:
            while True:
                self.written += 1
                # Never the same twice: a repeating answer would be stopped.
                words = random.Random(self.written).randbytes(PIECE_BYTES // 2).hex()
                yield Chunk(parts=[TextDelta(words)], tokens=1)
                await asyncio.sleep(0)
        finally:
            self.ended.set()


async def idle(server: RunningServer) -> None:
    with anyio.fail_after(BOUND_S):
        await server.app.guard.wait_idle()
    assert server.app.guard.in_flight == 0


def hanging() -> tuple[ScriptedProvider, dict[str, ScriptedProvider]]:
    provider = ScriptedProvider([Script(hangs=True)])
    return provider, {"p0": provider}


async def test_unary_caller_that_leaves_closes_the_upstream(caplog: pytest.LogCaptureFixture) -> None:
    provider, providers = hanging()
    async with running_server(of_stages(stage(0)), providers=providers) as server:
        call = server.router.Route(router_pb2.RouteRequest(call=plain_call()))
        sending = asyncio.ensure_future(call)  # noqa: TID251
        with anyio.fail_after(BOUND_S):
            await provider.hanging.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await server.seen.wait()
        await idle(server)
    assert provider.closed_early == 1
    _, completion, error = server.seen.ended[0]
    assert error == "CANCELLED"
    assert completion.attempts[0].outcome is AttemptOutcome.CANCELLED
    assert noise(caplog) == []


async def test_stream_caller_that_leaves_while_we_wait_closes_the_upstream(caplog: pytest.LogCaptureFixture) -> None:
    provider, providers = hanging()
    async with running_server(of_stages(stage(0)), providers=providers) as server:
        call = server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()))
        with anyio.fail_after(BOUND_S):
            await call.read()
            await provider.hanging.wait()
        call.cancel()
        await server.seen.wait()
        await idle(server)
    assert provider.closed_early == 1
    assert server.seen.ended[0][2] == "CANCELLED"
    assert noise(caplog) == []


async def test_stream_caller_that_reads_nothing_holds_the_upstream_back_and_may_leave(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flood = Flood()
    async with running_server(of_stages(stage(0)), providers={"p0": flood}) as server:
        call = server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call(), stream=NO_HOLD))
        with anyio.fail_after(BOUND_S):
            await call.read()
            written = -1
            while written != flood.written:  # until the server is blocked in send
                written = flood.written
                await asyncio.sleep(0.1)
        # gRPC's own windows took some megabytes; nothing of ours is behind them.
        assert flood.written * PIECE_BYTES < 32 << 20
        call.cancel()
        with anyio.fail_after(BOUND_S):
            await flood.ended.wait()
        await server.seen.wait()
        await idle(server)
    assert server.seen.ended[0][2] == "CANCELLED"
    assert noise(caplog) == []


async def test_closed_channel_ends_its_calls(caplog: pytest.LogCaptureFixture) -> None:
    provider, providers = hanging()
    async with running_server(of_stages(stage(0)), providers=providers) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            other = RunningServer(server.app, server.address, channel, server.seen)
            call = other.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()))
            with anyio.fail_after(BOUND_S):
                await call.read()
                await provider.hanging.wait()
        await server.seen.wait()
        await idle(server)
    assert provider.closed_early == 1
    assert noise(caplog) == []


async def test_deadline_of_a_unary_call_is_told_and_recorded(caplog: pytest.LogCaptureFixture) -> None:
    provider, providers = hanging()
    async with running_server(of_stages(stage(0)), providers=providers) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.route(plain_call(), timeout=0.3)
        await server.seen.wait()
        await idle(server)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert provider.closed_early == 1
    assert len(server.seen.attempts) == 1
    assert noise(caplog) == []


async def test_calls_beyond_the_most_are_told_to_wait() -> None:
    provider, providers = hanging()
    config = of_stages(stage(0), server=ServerConfig(port=0, http=False, max_calls=1, grace_s=1))
    async with running_server(config, providers=providers) as server:
        call = server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()))
        with anyio.fail_after(BOUND_S):
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.route(plain_call())
        failed = failure_of(caught.value)
        assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert failed.quotas == ["server.max_calls"]
        assert "more than 1 calls at once" in failed.message
        assert failed.pushback == "200"
        assert server.app.guard.in_flight == 1
        # Who runs the service may still look.
        assert (await server.ops.GetStatus(ops_pb2.GetStatusRequest())).calls_in_flight == 2
        call.cancel()
        await idle(server)
        assert server.app.guard.ended == 2
        provider.scripts[:] = [says("hello")]
        assert (await server.route(plain_call())).answer.text == "hello"


async def test_fault_of_ours_is_internal_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ScriptedProvider):
        async def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
            raise KeyError("secret-of-a-bug")
            yield Chunk()

        async def embed(self, call: EmbedCall) -> EmbedResult:
            raise ExceptionGroup("several", [KeyError("secret-of-a-bug")])

    broken = Broken()
    async with running_server(of_stages(stage(0)), providers={"p0": broken}) as server:
        for answering in (server.route(plain_call()), server.stream(plain_call())):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answering
            assert caught.value.code() is grpc.StatusCode.INTERNAL
            assert "secret-of-a-bug" not in str(caught.value)
        await idle(server)
    assert [record for record in caplog.records if record.exc_info and "secret-of-a-bug" in str(record.exc_info[1])]


async def test_exhausted_chain_ends_a_stream_with_completed_and_then_its_status() -> None:
    provider = ScriptedProvider([fails(FailureKind.SERVER, status=500)])
    async with running_server(of_stages(stage(0)), providers={"p0": provider}) as server:
        events: list[str] = []
        outcome = None
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for message in server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call())):
                for event in message.events:
                    events.append(event.WhichOneof("kind") or "")
                    if events[-1] == "completed":
                        outcome = event.completed.completion.outcome
        assert events[0] == "started" and events[-1] == "completed"
        assert outcome == answer_pb2.OUTCOME_FAILED
        failed = failure_of(caught.value)
        assert (failed.code, failed.reason, failed.pushback) == (
            grpc.StatusCode.UNAVAILABLE,
            "CHAIN_EXHAUSTED",
            "-1",
        )
        assert "p0/m0" in failed.message


async def test_stop_ends_as_soon_as_the_last_call_has_though_a_health_watch_is_open() -> None:
    provider = ScriptedProvider([says("late")])
    config = of_stages(stage(0), server=ServerConfig(port=0, http=False, grace_s=60))
    with anyio.fail_after(5):
        async with running_server(config, providers={"p0": provider}) as server:
            stub: Any = health_pb2_grpc.HealthStub(server.channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            trail = server.ops.WatchAttempts(ops_pb2.WatchAttemptsRequest())
            await trail.wait_for_connection()
            assert (await server.route(plain_call())).answer.text == "late"
            await trail.read()


def noise(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Give what was logged above the ordinary."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
