"""Streams over real sockets at both ends: what the client sees when an upstream dies or hangs in the middle."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from gearshift.clients import Accumulator, background, call, dial
from gearshift.v1 import answer_pb2, call_pb2, router_pb2, stream_pb2
from tests.support.openai_bodies import openai_stream
from tests.support.running_server import failure_of, plain_call, running_server
from tests.support.scripted_server import End, Reply, scripted
from tests.support.served_config import of_openai, one_openai

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
    failed = failure_of(caught.value)
    assert (failed.code, failed.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE")


async def test_deadline_that_has_passed_is_told_before_anything_is_spent() -> None:
    async with scripted(HANGS) as upstream, running_server(one_openai(upstream.url)) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.route(plain_call(), timeout=-1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert upstream.requests == []


async def test_upstream_that_dies_in_the_middle_is_seen_as_a_switch_and_its_words_are_taken_back() -> None:
    dies = Reply.sse(*openai_stream(["Hello ", "fro"], finish=None, usage=False, done=False), end=End.CUT)
    lives = Reply.sse(*openai_stream(["Good ", "morning"]))
    nothing_held = "stream: {hold_back_tokens: 0, hold_back_ms: 0}"
    async with (
        scripted(dies) as weak,
        scripted(lives) as strong,
        running_server(of_openai({"weak": weak.url, "strong": strong.url}, more=nothing_held)) as server,
        dial(server.address) as client,
    ):
        accumulator = Accumulator()
        kinds: list[str] = []
        switch = stream_pb2.Switch()
        async with client.stream_route(
            background().with_timeout(10), call("greet", "hello", task_type="generate")
        ) as stream:
            async for event in stream:
                kinds.append(event.WhichOneof("kind") or "")
                accumulator.apply(event)
                if kinds[-1] == "switch":
                    switch = event.switch
    assert accumulator.text == "Good morning"
    assert (switch.from_stage.model, switch.to_stage.model) == ("m-weak", "m-strong")
    assert switch.mode == call_pb2.SWITCH_MODE_REGENERATE
    assert kinds[0] == "started" and kinds[-1] == "completed"
    assert kinds.index("switch") < kinds.index("retract")
    first, second = server.seen.attempts
    assert first.failure is not None and first.failure.word == "connection"
    assert second.served
    assert first.usage.output_tokens > 0  # what was read of it is billed


async def test_client_that_leaves_closes_the_upstream_s_connection() -> None:
    async with scripted(HANGS) as upstream, running_server(one_openai(upstream.url)) as server:
        stream = server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()), timeout=10)
        await stream.read()
        await upstream.asked.wait()
        stream.cancel()
        await upstream.wait_closed_early()
        await server.seen.wait()
    assert server.seen.ended[0][2] == "CANCELLED"
