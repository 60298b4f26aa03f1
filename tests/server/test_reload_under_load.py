"""Reloads while calls run: none is dropped, limits keep their levels, old connections are closed in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import anyio
import grpc.aio
import pytest

from gearshift.core.blueprint import Blueprint
from gearshift.core.buckets import TokenBucket
from gearshift.v1 import ops_pb2, router_pb2
from tests.support.openai_bodies import openai_answer, openai_stream
from tests.support.running_server import BOUND_S, RunningServer, from_yaml, plain_call, running_server
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai

RELOADS = 20
LIMITS = "access: {{tenants: {{default: {{limits: {{requests_per_minute: {rate}, burst_s: 60}}}}}}}}"


def reader(path: Path) -> Callable[[], Blueprint]:
    return lambda: from_yaml(path.read_text())


async def level(server: RunningServer) -> float:
    """Give what the tenant's limit has left."""
    admission = server.app.router.state.admission
    limits = server.app.router.blueprint.config.access.tenants["default"].limits
    now = asyncio.get_running_loop().time()
    (bucket,) = admission.shared_buckets("tenant", "default", limits, now)
    assert isinstance(bucket, TokenBucket)
    return bucket.level(now)


async def test_twenty_reloads_drop_no_call_and_keep_the_levels(tmp_path: Path) -> None:
    path = tmp_path / "gearshift.yaml"
    async with scripted(*[Reply.json(openai_answer("hi"))] * 200_000) as upstream:

        def write(number: int) -> None:
            more = LIMITS.format(rate=1_000_000 + number % 3) + f"\ngates: {{min_confidence: 0.8{number}}}"
            path.write_text(one_openai(upstream.url, more=more))

        write(0)
        async with running_server(from_yaml(path.read_text()), read=reader(path)) as server:
            answered, changed, failed, is_over = 0, 0, list[str](), False

            async def call() -> None:
                nonlocal answered
                while not is_over:
                    try:
                        await server.route(plain_call())
                        answered += 1
                    except grpc.aio.AioRpcError as error:
                        failed.append(str(error.details()))

            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(call)
                for number in range(1, RELOADS + 1):
                    before = answered
                    if number % 4 == 0:
                        path.write_text("providers: [")
                        with pytest.raises(grpc.aio.AioRpcError):
                            await server.ops.Reload(ops_pb2.ReloadRequest())
                    else:
                        write(number)
                        changed += (await server.ops.Reload(ops_pb2.ReloadRequest())).changed
                    with anyio.fail_after(BOUND_S):
                        while answered < before + 10:
                            await asyncio.sleep(0)
                is_over = True
            assert failed == []
            assert changed == RELOADS * 3 // 4
            with anyio.fail_after(BOUND_S):
                while server.app.retired.waiting:
                    await anyio.lowlevel.checkpoint()


async def test_taken_tokens_stay_taken_over_a_reload_that_changes_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "gearshift.yaml"
    async with scripted(*[Reply.json(openai_answer("hi"))] * 10) as upstream:
        path.write_text(one_openai(upstream.url, more=LIMITS.format(rate=6)))
        async with running_server(from_yaml(path.read_text()), read=reader(path)) as server:
            for _ in range(4):
                await server.route(plain_call())
            path.write_text(one_openai(upstream.url, more=LIMITS.format(rate=7)))
            assert (await server.ops.Reload(ops_pb2.ReloadRequest())).changed
            assert 3 <= await level(server) < 4.5
            path.write_text(one_openai(upstream.url, more=LIMITS.format(rate=7) + "\ntasks: {strict: false}"))
            await server.ops.Reload(ops_pb2.ReloadRequest())
            assert 3 <= await level(server) < 4.5


async def test_replaced_router_is_closed_when_its_last_call_has_ended(tmp_path: Path) -> None:
    going_on = asyncio.Event()
    frames = openai_stream(["one ", "two"])
    path = tmp_path / "gearshift.yaml"
    at_once = "stream: {hold_back_tokens: 0, hold_back_ms: 0}"
    async with scripted(Reply.sse(*frames[:2], going_on, *frames[2:])) as upstream:
        path.write_text(one_openai(upstream.url, more=at_once))
        async with running_server(from_yaml(path.read_text()), read=reader(path)) as server:
            stream = server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()))
            with anyio.fail_after(BOUND_S):
                first = await stream.read()
                await upstream.asked.wait()
            assert isinstance(first, router_pb2.StreamRouteResponse)
            path.write_text(one_openai(upstream.url, more=at_once + "\ntasks: {strict: true}"))
            assert (await server.ops.Reload(ops_pb2.ReloadRequest())).changed
            assert len(server.app.retired.waiting) == 1
            going_on.set()
            events = list(first.events)
            with anyio.fail_after(BOUND_S):
                while isinstance(each := await stream.read(), router_pb2.StreamRouteResponse):
                    events += each.events
                assert events[-1].WhichOneof("kind") == "completed"
                while server.app.retired.waiting:
                    await anyio.lowlevel.checkpoint()
