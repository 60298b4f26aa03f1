"""`gearshift serve --workers N`: one port, one voice, restarts, drains, no orphans."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import grpc
import httpx

from gearshift.v1 import call_pb2, ops_pb2, ops_pb2_grpc, router_pb2, router_pb2_grpc
from tests.support.openai_bodies import openai_answer, openai_stream
from tests.support.running_server import plain_call
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai
from tests.support.served_process import START_S, served
from tests.support.worker_team import (
    calling,
    channel,
    is_gone,
    kill,
    one_channel_each,
    status,
    team,
    until_serving,
)

OK = Reply.json(openai_answer("hello there"))
NOWHERE = "http://127.0.0.1:9"
AT_ONCE = "stream: {hold_back_tokens: 0, hold_back_ms: 0}"


def loads_grpc(pid: int) -> bool:
    return "cygrpc" in Path(f"/proc/{pid}/maps").read_text()


def counter(text: str, name: str) -> float:
    """Give the sum of a metric over its labels."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE))


async def test_workers_share_the_ports_and_speak_with_one_voice(tmp_path: Path) -> None:
    async with scripted(OK) as upstream, team(tmp_path, one_openai(upstream.url)) as process:
        async with one_channel_each(process.address) as channels:
            for number, made in enumerate(channels):
                for _ in range(number + 1):
                    await router_pb2_grpc.RouterServiceStub(made).Route(router_pb2.RouteRequest(call=plain_call()))
            for made in channels:
                ops = ops_pb2_grpc.OpsServiceStub(made)
                whole = await ops.GetStatus(ops_pb2.GetStatusRequest())
                assert sorted(each.calls_ended > 0 for each in whole.workers) == [True, True]
                stages = (await ops.ListStages(ops_pb2.ListStagesRequest())).stages
                assert {each.model: each.attempts for each in stages}["m-up"] == 3
                report = await ops.GetCostReport(ops_pb2.GetCostReportRequest())
                assert report.total.attempts + report.pending >= 0
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(6):  # whichever worker answers
                text = (await client.get(f"{process.http}/metrics", headers={"Connection": "close"})).text
                assert counter(text, "gearshift_calls_total") == 3
                assert counter(text, "gearshift_worker_up") == 2
        for each in (await status(process.address)).workers:
            assert loads_grpc(each.pid)
            assert each.resident_bytes < 200 * 2**20
        assert not loads_grpc(process.pid)
        process.send(signal.SIGTERM)
        assert await process.wait() == 0
    assert "Traceback" not in process.said


async def test_killed_worker_is_replaced_and_nobody_else_notices(tmp_path: Path) -> None:
    going_on = asyncio.Event()
    frames = openai_stream(["one ", "two ", "three"])
    slow = Reply.sse(*frames[:2], going_on, *frames[2:])
    async with (
        scripted(slow, *[OK] * 100_000) as upstream,
        team(tmp_path, one_openai(upstream.url, more=AT_ONCE)) as process,
        one_channel_each(process.address) as channels,
    ):
        request = router_pb2.StreamRouteRequest(call=plain_call())
        stream = router_pb2_grpc.RouterServiceStub(channels[0]).StreamRoute(request)
        with anyio.fail_after(START_S):
            first = await stream.read()
            await upstream.asked.wait()
        assert isinstance(first, router_pb2.StreamRouteResponse)
        before = await status(process.address)
        async with calling(process.address) as load:
            await load.more(50)
            kill(before.workers[1].pid)
            after = await until_serving(process.address, restarts=1)
            await load.more(50)
        # What ran in the killed worker may have failed; nothing else did.
        assert len(load.failed) <= 16
        assert after.workers[1].restarts == 1
        assert after.workers[1].pid != before.workers[1].pid
        assert after.workers[0].pid == before.workers[0].pid
        assert "SIGKILL" in after.workers[1].last_error
        going_on.set()
        events = list(first.events)
        with anyio.fail_after(START_S):
            while isinstance(each := await stream.read(), router_pb2.StreamRouteResponse):
                events += each.events
        assert events[-1].WhichOneof("kind") == "completed"
        assert "".join(part.text for event in events for part in event.delta.parts) == "one two three"


async def test_metrics_never_fall_when_a_worker_dies(tmp_path: Path) -> None:
    async with (
        scripted(OK) as upstream,
        team(tmp_path, one_openai(upstream.url)) as process,
        httpx.AsyncClient(trust_env=False, headers={"Connection": "close"}) as client,
    ):
        async with one_channel_each(process.address) as channels:
            for made in channels:
                for _ in range(5):
                    await router_pb2_grpc.RouterServiceStub(made).Route(router_pb2.RouteRequest(call=plain_call()))
        assert counter((await client.get(f"{process.http}/metrics")).text, "gearshift_calls_total") == 10
        whole = await status(process.address)
        kill(whole.workers[0].pid)
        await until_serving(process.address, restarts=1)
        text = (await client.get(f"{process.http}/metrics")).text
        assert counter(text, "gearshift_calls_total") == 10
        assert counter(text, "gearshift_call_seconds_count") == 10
        assert counter(text, "gearshift_worker_restarts_total") == 1
        os.kill(whole.workers[1].pid, signal.SIGTERM)  # drained by hand: it says what it counted, and is replaced
        await until_serving(process.address, restarts=2)
        assert counter((await client.get(f"{process.http}/metrics")).text, "gearshift_calls_total") == 10


async def test_rows_of_all_workers_are_in_one_ledger_and_acknowledged_ones_outlive_a_kill(tmp_path: Path) -> None:
    config = "ledger: {durability: sync}"
    async with (
        scripted(OK) as upstream,
        team(tmp_path, one_openai(upstream.url, more=config), "--no-http", workers=3) as process,
    ):
        async with calling(process.address, clients=6) as load:
            await load.more(100)
            kill((await status(process.address)).workers[1].pid)
            await until_serving(process.address, workers=3, restarts=1)
            await load.more(100)
        process.send(signal.SIGTERM)
        assert await process.wait() == 0
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
        (rows,) = database.execute("select count(*) from attempts").fetchone()
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    # A call whose row was written may have lost its answer with its worker, never the other way round.
    assert load.answered <= rows <= load.answered + 24 * 4


async def test_running_stream_ends_well_after_a_stop_and_the_port_is_closed(tmp_path: Path) -> None:
    going_on = asyncio.Event()
    frames = openai_stream(["one ", "two ", "three"])
    async with (
        scripted(Reply.sse(*frames[:2], going_on, *frames[2:])) as upstream,
        team(tmp_path, one_openai(upstream.url, more=AT_ONCE)) as process,
        channel(process.address) as made,
    ):
        request = router_pb2.StreamRouteRequest(call=plain_call())
        stream = router_pb2_grpc.RouterServiceStub(made).StreamRoute(request)
        with anyio.fail_after(START_S):
            first = await stream.read()
            await upstream.asked.wait()
        assert isinstance(first, router_pb2.StreamRouteResponse)
        process.send(signal.SIGTERM)
        await process.says("stopping")
        host, _, port = process.address.rpartition(":")
        with anyio.fail_after(START_S):
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex((host, int(port))):
                        break
                await anyio.sleep(0.02)
        going_on.set()
        events = list(first.events)
        with anyio.fail_after(START_S):
            while isinstance(each := await stream.read(), router_pb2.StreamRouteResponse):
                events += each.events
        assert events[-1].WhichOneof("kind") == "completed"
        assert await process.wait() == 0
    assert "Traceback" not in process.said


async def test_second_signal_ends_at_once_and_says_so_by_its_exit_code(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with (
        scripted(Reply.sse(*openai_stream(["one "])[:2], never)) as upstream,
        team(tmp_path, one_openai(upstream.url, more=AT_ONCE)) as process,
        channel(process.address) as made,
    ):
        stream = router_pb2_grpc.RouterServiceStub(made).StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()))
        with anyio.fail_after(START_S):
            await stream.read()
        process.send(signal.SIGTERM)
        await process.says("stopping: calls")
        process.send(signal.SIGTERM)
        assert await process.wait() == 1
        stream.cancel()


async def test_no_worker_outlives_its_supervisor(tmp_path: Path) -> None:
    async with team(tmp_path, one_openai(NOWHERE, more="server: {grace_s: 1}")) as process:
        pids = [each.pid for each in (await status(process.address)).workers]
        process.send(signal.SIGKILL)
        await process.wait()
        for pid in pids:
            assert await is_gone(pid)


async def test_what_no_worker_can_start_with_is_one_sentence_and_exit_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = tmp_path / "gearshift.yaml"
        path.write_text(one_openai(NOWHERE))
        async with served(path, "--workers", "2", "--ledger", ":memory:", "--port", str(port), wait=False) as process:
            assert await process.wait() == 1
    assert f"server.port: cannot listen on 127.0.0.1:{port}" in process.said
    (tmp_path / "file").write_text("")
    ledger = str(tmp_path / "file" / "ledger.db")
    async with served(path, "--workers", "2", "--ledger", ledger, wait=False) as process:
        assert await process.wait() == 1
    assert process.said.count("gearshift serve: ") == 1
    assert "ledger.db" in process.said
    assert "Traceback" not in process.said


async def test_second_supervisor_does_not_join_a_taken_port_silently(tmp_path: Path) -> None:
    async with team(tmp_path, one_openai(NOWHERE), "--no-http") as process:
        port = process.address.rpartition(":")[2]
        asked = ("--workers", "2", "--ledger", ":memory:", "--no-http", "--port", port)
        async with served(tmp_path / "gearshift.yaml", *asked, wait=False) as second:
            assert await second.wait() == 1
        assert "it is in use" in second.said


async def test_prompt_stored_on_one_worker_is_found_on_another(tmp_path: Path) -> None:
    text = "You are a careful editor. " * 40
    async with (
        scripted(OK) as upstream,
        team(tmp_path, one_openai(upstream.url), "--no-http") as process,
        one_channel_each(process.address) as channels,
    ):
        first, second = (router_pb2_grpc.RouterServiceStub(made) for made in channels)
        key = (await first.PutPrompt(router_pb2.PutPromptRequest(task_id="greet", text=text))).key
        keyed = plain_call(system=call_pb2.SystemPrompt(key=key))
        assert (await second.Route(router_pb2.RouteRequest(call=keyed))).answer.text == "hello there"
        ops = ops_pb2_grpc.OpsServiceStub(channels[0])
        listed = await ops.ListCacheEntries(ops_pb2.ListCacheEntriesRequest())
        assert [each.key for each in listed.entries] == [key]
        assert (await first.DeletePrompt(router_pb2.DeletePromptRequest(key=key))).deleted
        for stub in (first, second):
            assert await stub.Route(router_pb2.RouteRequest(call=keyed)).code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_watchers_see_the_attempts_of_all_workers(tmp_path: Path) -> None:
    async with (
        scripted(OK) as upstream,
        team(tmp_path, one_openai(upstream.url), "--no-http") as process,
        one_channel_each(process.address) as channels,
    ):
        watch = ops_pb2_grpc.OpsServiceStub(channels[0]).WatchAttempts(ops_pb2.WatchAttemptsRequest())
        with anyio.fail_after(START_S):
            await watch.initial_metadata()
            for number, made in enumerate(channels):
                call = plain_call(request_id=f"on-{number}")
                await router_pb2_grpc.RouterServiceStub(made).Route(router_pb2.RouteRequest(call=call))
            seen: set[str] = set()
            while len(seen) < 2:
                each = await watch.read()
                assert isinstance(each, ops_pb2.WatchAttemptsResponse)
                seen.add(each.request_id)
        assert seen == {"on-0", "on-1"}
        watch.cancel()
