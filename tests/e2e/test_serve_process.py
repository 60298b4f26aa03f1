"""`gearshift serve`, as a process: starts, answers, drains, reloads, and says what is wrong and what to do."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import sys
import time
from pathlib import Path

import anyio
import grpc
import grpc.aio
import httpx
import pytest

from gearshift.v1 import ops_pb2, router_pb2
from tests.support.openai_bodies import openai_answer, openai_stream
from tests.support.running_server import failure_of, plain_call
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai
from tests.support.served_process import START_S, served, stubs

NOWHERE = "http://127.0.0.1:9"
OK = Reply.json(openai_answer("hello there"))


def written(folder: Path, text: str) -> Path:
    path = folder / "gearshift.yaml"
    path.write_text(text)
    return path


async def test_it_starts_answers_and_stops(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    async with scripted(OK) as upstream:
        path = written(tmp_path, one_openai(upstream.url))
        async with served(path, "--ledger", str(ledger)) as process:
            assert f"configured by {path}" in process.said
            async with stubs(process.address) as (router, ops):
                answer = (await router.Route(router_pb2.RouteRequest(call=plain_call()))).answer
                assert answer.text == "hello there"
                assert (await ops.GetStatus(ops_pb2.GetStatusRequest())).calls_ended == 1
                async with httpx.AsyncClient(trust_env=False) as client:
                    assert (await client.get(f"{process.http}/healthz")).text == "SERVING\n"
            process.send(signal.SIGTERM)
            assert await process.wait() == 0
            assert "stopping: calls that run may finish" in process.said
            assert '"logger":"gearshift.calls"' in process.said
    assert "Traceback" not in process.said
    # What was asked last is in the ledger: a stop loses nothing.
    database = sqlite3.connect(ledger)
    assert database.execute("select count(*) from attempts").fetchall() == [(1,)]
    database.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_running_stream_ends_well_after_a_stop_was_asked_for(tmp_path: Path, number: signal.Signals) -> None:
    going_on = asyncio.Event()
    frames = openai_stream(["one ", "two ", "three"])
    slow = Reply.sse(*frames[:2], going_on, *frames[2:])
    async with scripted(slow) as upstream:
        path = written(tmp_path, one_openai(upstream.url, more="stream: {hold_back_tokens: 0, hold_back_ms: 0}"))
        async with served(path, "--ledger", ":memory:") as process, stubs(process.address) as (router, _):
            call = router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()))
            with anyio.fail_after(START_S):
                message = await call.read()
                assert isinstance(message, router_pb2.StreamRouteResponse)
                await upstream.asked.wait()
            process.send(number)
            await process.says("stopping")
            going_on.set()
            events = list(message.events)
            while isinstance(each := await call.read(), router_pb2.StreamRouteResponse):
                events += each.events
            began = time.monotonic()
            assert await process.wait() == 0
            assert time.monotonic() - began < 20  # not the whole grace of 30 s
    assert events[-1].WhichOneof("kind") == "completed"
    text = "".join(part.text for event in events for part in event.delta.parts)
    assert text == "one two three"


async def test_hangup_reloads_and_an_invalid_file_changes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, one_openai(NOWHERE))
    strict = one_openai(NOWHERE, more="tasks: {strict: true, declared: {known: {type: generate}}}")
    async with served(path, "--ledger", ":memory:", "--no-http") as process, stubs(process.address) as (router, ops):

        async def revision() -> str:
            return (await ops.GetStatus(ops_pb2.GetStatusRequest())).config_revision

        first = await revision()
        process.send(signal.SIGHUP)
        await process.says("nothing has changed")
        assert await revision() == first

        written(tmp_path, strict)
        process.send(signal.SIGHUP)
        await process.says("it has changed")
        second = await revision()
        assert second != first

        written(tmp_path, strict + "\nserverr: {}\n")
        process.send(signal.SIGHUP)
        await process.says("the configuration was not reloaded")
        assert "serverr" in process.said
        assert await revision() == second
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await router.Explain(router_pb2.ExplainRequest(call=plain_call(task_id="unknown")))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        # What the command line asked stays in force over reloads: the port is not the file's.
        assert not process.address.endswith(":50051")


async def test_port_in_use_is_one_sentence_and_exit_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = written(tmp_path, one_openai(NOWHERE))
        arguments = ("--ledger", ":memory:", "--port", str(port))
        async with served(path, *arguments, wait=False) as process:
            assert await process.wait() == 1
    assert f"server.port: cannot listen on 127.0.0.1:{port}" in process.said
    assert "choose another with --port" in process.said
    assert "Traceback" not in process.said


GOOD = one_openai(NOWHERE)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(GOOD + "\nserverr: {}\n", ("serverr", "server"), id="an unknown field"),
        pytest.param(
            GOOD.replace("api_key: ''", "api_key: '${GEARSHIFT_TEST_NO_KEY}'"),
            ("GEARSHIFT_TEST_NO_KEY",),
            id="a missing key",
        ),
        pytest.param(
            GOOD.replace("m-up: {", "m-up: {like: m-two, ").replace(
                "\ndefaults:", "\n  m-two: {provider: up, like: m-up}\ndefaults:"
            ),
            ("like", "m-two"),
            id="a cycle of like",
        ),
        pytest.param(GOOD.replace("retry:", "version: 1\nretry:"), ("version", "twice"), id="a duplicate"),
        pytest.param(
            GOOD.replace("provider: up, model: m-up", "provider: pu, model: m-up"),
            ("pu", "up"),
            id="an unknown provider",
        ),
        pytest.param("providers: [", ("gearshift.yaml",), id="no YAML"),
    ],
)
async def test_wrong_configuration_is_told_with_its_line_and_exit_1(
    tmp_path: Path, text: str, told: tuple[str, ...]
) -> None:
    path = written(tmp_path, text)
    async with served(path, wait=False) as process:
        assert await process.wait() == 1
    assert process.said.startswith(f"gearshift serve: {path}:")
    place = process.said.removeprefix(f"gearshift serve: {path}:").split(":")[0]
    assert place.isdecimal()
    for word in told:
        assert word in process.said
    assert "Traceback" not in process.said


async def test_missing_file_and_bad_arguments_are_told(tmp_path: Path) -> None:
    async with served(tmp_path / "none.yaml", wait=False) as process:
        assert await process.wait() == 1
    assert f"{tmp_path / 'none.yaml'}: cannot be read: No such file" in process.said
    path = written(tmp_path, one_openai(NOWHERE))
    async with served(path, "--port", "99999", wait=False) as process:
        assert await process.wait() == 2
    assert "--port" in process.said and "99999" in process.said


async def test_ledger_that_cannot_be_written_is_one_sentence_and_exit_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = written(tmp_path, one_openai(NOWHERE))
    async with served(path, "--ledger", str(tmp_path / "file" / "ledger.db"), wait=False) as process:
        assert await process.wait() == 1
    assert process.said.count("gearshift serve: ") == 1
    assert "ledger.db" in process.said
    assert "Traceback" not in process.said


SMALL_FILES = (
    sys.executable,
    "-c",
    """import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (262144, 262144))
os.execv(sys.argv[1], sys.argv[1:])""",
)
"""Lets no file of the process grow beyond 256 KiB: what a full disk looks like to SQLite."""


async def test_full_disk_costs_no_answer_and_is_told(tmp_path: Path) -> None:
    async with scripted(OK) as upstream:
        path = written(tmp_path, one_openai(upstream.url))
        ledger = ("--ledger", str(tmp_path / "ledger.db"), "--log-level", "error")
        async with (
            served(path, *ledger, prefix=SMALL_FILES) as process,
            stubs(process.address) as (router, ops),
        ):
            warnings: list[str] = []
            for _ in range(60):
                for _ in range(50):
                    answer = (await router.Route(router_pb2.RouteRequest(call=plain_call()))).answer
                    assert answer.text == "hello there"
                warnings = list((await ops.GetStatus(ops_pb2.GetStatusRequest())).warnings)
                if warnings:
                    break
            assert any("the ledger cannot be written" in warning for warning in warnings)
            assert (await ops.GetStatus(ops_pb2.GetStatusRequest())).ledger_pending > 0
            await process.says("the ledger cannot be written, and will be tried again")


async def test_full_disk_under_sync_refuses_rather_than_forgets(tmp_path: Path) -> None:
    async with scripted(OK) as upstream:
        path = written(tmp_path, one_openai(upstream.url, more="ledger: {durability: sync}"))
        ledger = ("--ledger", str(tmp_path / "ledger.db"), "--log-level", "error")
        async with (
            served(path, *ledger, prefix=SMALL_FILES) as process,
            stubs(process.address) as (router, _),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                for _ in range(3000):
                    await router.Route(router_pb2.RouteRequest(call=plain_call()))
    failed = failure_of(caught.value)
    assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "LEDGER")
    assert "the ledger cannot be written" in failed.message


async def test_it_starts_without_any_network(tmp_path: Path) -> None:
    path = written(tmp_path, one_openai("https://api.invalid"))
    async with served(path, "--ledger", ":memory:") as process, stubs(process.address) as (router, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await router.Route(router_pb2.RouteRequest(call=plain_call()), timeout=START_S)
        failed = failure_of(caught.value)
        assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "CHAIN_EXHAUSTED")
        explained = await router.Explain(router_pb2.ExplainRequest(call=plain_call()))
        assert explained.chain == "generate"


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    path = written(tmp_path, one_openai(NOWHERE))
    async with served(path, "--ledger", str(tmp_path / "ledger.db")) as process:
        process.send(signal.SIGTERM)
        assert await process.wait() == 0
    assert sorted(os.listdir(tmp_path)) == ["gearshift.yaml", "ledger.db"]


async def test_stop_does_not_wait_behind_a_storm_of_hangups(tmp_path: Path) -> None:
    path = written(tmp_path, one_openai(NOWHERE))
    async with served(path, "--ledger", ":memory:", "--no-http") as process:
        for _ in range(300):
            process.send(signal.SIGHUP)
            await anyio.sleep(0.001)  # else the kernel makes one of them
        process.send(signal.SIGTERM)
        began = time.monotonic()
        assert await process.wait() == 0
        assert time.monotonic() - began < 5
    assert process.said.count("the configuration was read again") < 300
