"""Deadlines of calls whose upstream hangs: over a real socket, so that the adapter's own timeouts are in it."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from gearshift.v1 import answer_pb2, router_pb2, stream_pb2
from tests.support.openai_bodies import openai_stream
from tests.support.running_server import failure_of, plain_call, running_server
from tests.support.scripted_server import End, Reply, scripted
from tests.support.served_config import one_openai

HANGS = Reply.sse(*openai_stream(["Hel"], finish=None, usage=False, done=False)).ending(End.HANG)


async def test_stream_completes_before_its_deadline_is_told() -> None:
    events: list[stream_pb2.Event] = []
    async with scripted(HANGS) as upstream, running_server(one_openai(upstream.url)) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for message in server.router.StreamRoute(
                router_pb2.StreamRouteRequest(call=plain_call()), timeout=0.5
            ):
                events += message.events
        await upstream.wait_closed_early()
        await server.seen.wait()
    last = events[-1].completed.completion
    assert last.outcome == answer_pb2.OUTCOME_FAILED
    assert [attempt.failure for attempt in last.attempts] == [answer_pb2.FAILURE_KIND_TOTAL_TIMEOUT]
    # An attempt that took all the time there was: told as an exhausted chain, or as the deadline that it was.
    failed = failure_of(caught.value)
    assert (failed.code, failed.reason) in [
        (grpc.StatusCode.UNAVAILABLE, "CHAIN_EXHAUSTED"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE"),
    ]


async def test_deadline_that_has_passed_is_told_before_anything_is_spent() -> None:
    async with scripted(HANGS) as upstream, running_server(one_openai(upstream.url)) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.route(plain_call(), timeout=-1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert upstream.requests == []
