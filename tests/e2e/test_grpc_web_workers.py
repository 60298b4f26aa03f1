"""Browsers and `gearshift serve --workers N`: one HTTP port, calls on every worker, a drain that lets streams end."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import anyio
import grpc

from gearshift.v1 import router_pb2
from tests.support.grpc_web import Answer, browser_at
from tests.support.openai_bodies import openai_stream
from tests.support.running_server import plain_call
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai
from tests.support.worker_team import status, team

BOUND_S = 30.0
AT_ONCE = "stream: {hold_back_tokens: 0, hold_back_ms: 0}"
STREAM = "RouterService/StreamRoute"
ASKED = router_pb2.StreamRouteRequest(call=plain_call())


def text_of(answer: Answer) -> str:
    events = [event for each in answer.messages for event in router_pb2.StreamRouteResponse.FromString(each).events]
    return "".join(part.text for event in events for part in event.delta.parts)


async def test_browsers_are_answered_by_every_worker_and_running_streams_outlive_a_stop(tmp_path: Path) -> None:
    going_on = asyncio.Event()
    frames = openai_stream(["one ", "two ", "three"])
    going_on.set()
    reply = Reply.sse(*frames[:2], going_on, *frames[2:])
    answers = list[Answer]()
    async with (
        scripted(reply) as upstream,
        team(tmp_path, one_openai(upstream.url, more=AT_ONCE)) as process,
        anyio.create_task_group() as tasks,
    ):
        port = int(process.http.rpartition(":")[2])
        with anyio.fail_after(BOUND_S):
            while not all(each.calls_ended for each in (await status(process.address)).workers):
                async with browser_at(port) as browser:  # a connection of its own
                    assert text_of(await browser.call(STREAM, ASKED)) == "one two three"

        async def ask() -> None:
            async with browser_at(port) as browser:
                answers.append(await browser.call(STREAM, ASKED))

        going_on.clear()
        asked = len(upstream.requests)
        tasks.start_soon(ask)
        with anyio.fail_after(BOUND_S):
            while len(upstream.requests) == asked:
                await anyio.sleep(0.01)
        process.send(signal.SIGTERM)
        await process.says("stopping")
        going_on.set()
        assert await process.wait() == 0
    assert [(text_of(each), each.failed.code) for each in answers] == [("one two three", grpc.StatusCode.OK)]
