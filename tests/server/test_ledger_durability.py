"""With a synchronous ledger nothing is told before it is on disk; a ledger that fails is told, and loses no answer."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import grpc
import grpc.aio
import pytest

from gearshift.core.config.model import ServerConfig
from gearshift.core.errors import LedgerError
from gearshift.core.ledger import LedgerStatus
from gearshift.core.provider import Chunk, ProviderCall
from gearshift.core.words import FailureKind
from gearshift.server.app import running_app
from gearshift.v1 import ops_pb2, router_pb2, router_pb2_grpc, task_pb2
from tests.support.blueprints import stage
from tests.support.running_server import BOUND_S, RunningServer, failure_of, of_stages, plain_call, running_server
from tests.support.scripted_provider import Script, ScriptedProvider, fails, says


def rows_in(path: Path) -> int:
    """Count the committed attempts by a connection of our own."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        ((count,),) = database.execute("select count(*) from attempts").fetchall()
        return int(count)
    finally:
        database.close()


async def test_answer_comes_after_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    config = of_stages(stage(0), path=str(path), durability="sync")
    provider = ScriptedProvider([says("hi")])
    async with running_server(config, providers={"p0": provider}) as server:
        await server.route(plain_call())
        assert rows_in(path) == 1
        async for message in server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call())):
            if message.events[-1].WhichOneof("kind") == "completed":
                assert rows_in(path) == 2
        await server.router.Embed(router_pb2.EmbedRequest(task=task_pb2.Task(id="search"), inputs=["a"]))
        assert rows_in(path) == 3
    assert rows_in(path) == 3


async def test_failure_comes_after_its_rows_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    config = of_stages(stage(0), path=str(path), durability="sync")
    failing = ScriptedProvider([fails(FailureKind.SERVER, status=500)])
    async with running_server(config, providers={"p0": failing}) as server:
        embedding = router_pb2.EmbedRequest(task=task_pb2.Task(id="search"), inputs=["a"])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.route(plain_call())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert rows_in(path) == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.router.Embed(embedding)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert rows_in(path) == 2


class FailingLedger:
    """A ledger whose store is full."""

    def __init__(self, server: RunningServer) -> None:
        self._inner = server.app.ledger
        server.app.ledger = self  # type: ignore[assignment]

    async def acknowledge(self) -> None:
        raise LedgerError("the ledger cannot be written: the disk is full; make room on it")

    def status(self) -> LedgerStatus:
        return LedgerStatus(pending=3, committed=0, dropped=2, is_failing=True, last_error="the disk is full")


async def test_synchronous_ledger_that_cannot_be_written_refuses_calls_and_says_why(tmp_path: Path) -> None:
    config = of_stages(stage(0), path=str(tmp_path / "ledger.db"), durability="sync")
    async with running_server(config, providers={"p0": ScriptedProvider([says("hi")])}) as server:
        real = server.app.ledger
        FailingLedger(server)
        for answering in (server.route(plain_call()), server.stream(plain_call())):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await answering
            failed = failure_of(caught.value)
            assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "LEDGER")
            assert "make room" in failed.message
        status = await server.ops.GetStatus(ops_pb2.GetStatusRequest())
        server.app.ledger = real
    assert list(status.warnings) == [
        "the ledger cannot be written: the disk is full",
        "2 ledger rows were dropped",
    ]
    assert (status.ledger_pending, status.ledger_dropped) == (3, 2)


class StuckLedger(FailingLedger):
    """Writes nothing, and does not say so."""

    async def acknowledge(self) -> None:
        await anyio.sleep_forever()


@pytest.mark.parametrize("ledger", [FailingLedger, StuckLedger])
async def test_stream_whose_rows_cannot_be_written_still_completes_before_it_fails(
    tmp_path: Path, ledger: type[FailingLedger]
) -> None:
    config = of_stages(stage(0), path=str(tmp_path / "ledger.db"), durability="sync")
    kinds: list[str | None] = []
    async with running_server(config, providers={"p0": ScriptedProvider([says("hi")])}) as server:
        real = server.app.ledger
        ledger(server)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for message in server.router.StreamRoute(
                router_pb2.StreamRouteRequest(call=plain_call()), timeout=0.5
            ):
                kinds += [event.WhichOneof("kind") for event in message.events]
        server.app.ledger = real
    assert kinds[0] == "started" and kinds[-1] == "completed"
    failed = failure_of(caught.value)
    assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "LEDGER")


async def test_ledger_that_cannot_be_opened_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "ledger.db", tmp_path):
        with pytest.raises(LedgerError) as caught:
            async with running_server(of_stages(stage(0), path=str(path)), providers={}):
                pass
        assert str(path) in caught.value.message


async def test_caller_that_left_has_its_row(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    provider = ScriptedProvider([Script(hangs=True)])
    async with running_server(of_stages(stage(0), path=str(path)), providers={"p0": provider}) as server:
        call = server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()))
        with anyio.fail_after(BOUND_S):
            await call.read()
            await provider.hanging.wait()
        call.cancel()
        await server.seen.wait()
    database = sqlite3.connect(path)
    rows = database.execute("select outcome, usage_source, served from attempts").fetchall()
    database.close()
    assert rows == [("cancelled", "estimated", 0)]


async def test_running_call_ends_well_and_is_recorded_when_the_service_stops(tmp_path: Path) -> None:
    class Waits(ScriptedProvider):
        going_on: anyio.Event

        async def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
            self.hanging.set()
            await self.going_on.wait()
            async for chunk in super().stream(call):
                yield chunk

    path = tmp_path / "ledger.db"
    provider = Waits([says("late")])
    provider.going_on = anyio.Event()
    given: list[str] = []

    async def ask(stub: router_pb2_grpc.RouterServiceAsyncStub) -> None:
        given.append((await stub.Route(router_pb2.RouteRequest(call=plain_call()))).answer.text)

    async def go_on(stub: router_pb2_grpc.RouterServiceAsyncStub) -> None:
        """Let the running call end once new ones are refused."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await stub.Explain(router_pb2.ExplainRequest(call=plain_call()))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        provider.going_on.set()

    serving = running_app(of_stages(stage(0), path=str(path)), providers={"p0": provider})
    with anyio.fail_after(BOUND_S):
        async with anyio.create_task_group() as tasks:
            app = await serving.__aenter__()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
                stub = router_pb2_grpc.RouterServiceStub(channel)
                tasks.start_soon(ask, stub)
                await provider.hanging.wait()
                tasks.start_soon(go_on, stub)
                await serving.__aexit__(None, None, None)
    assert given == ["late"]
    assert rows_in(path) == 1


async def test_call_that_outlasts_the_grace_is_cut_off_and_recorded(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    provider = ScriptedProvider([Script(hangs=True)])
    config = of_stages(stage(0), path=str(path), server=ServerConfig(port=0, http=False, grace_s=0.1))
    serving = running_app(config, providers={"p0": provider})
    with anyio.fail_after(BOUND_S):
        app = await serving.__aenter__()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
            stub = router_pb2_grpc.RouterServiceStub(channel)
            call = stub.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()))
            await call.read()
            await provider.hanging.wait()
            await serving.__aexit__(None, None, None)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert provider.closed_early == 1
    assert app.guard.in_flight == 0
    assert rows_in(path) == 1


async def test_stopped_service_leaves_no_thread_of_its_own_behind(tmp_path: Path) -> None:
    config = of_stages(stage(0), path=str(tmp_path / "ledger.db"))
    async with running_server(config, providers={"p0": ScriptedProvider([says("hi")])}) as server:
        await server.route(plain_call())
        assert any(thread.name == "gearshift-ledger" for thread in threading.enumerate())
    assert not any(thread.name == "gearshift-ledger" for thread in threading.enumerate())
