"""The service with its ledger in PostgreSQL: recorded before it answers, reported, and told when it is away."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import anyio
import grpc
import pytest
from msgspec import structs

from gearshift.core.blueprint import Blueprint
from gearshift.core.config.model import LedgerConfig
from gearshift.v1 import ops_pb2
from tests.support.blueprints import stage
from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.running_server import failure_of, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, says


@pytest.fixture(scope="module")
def server() -> Generator[PostgresServer]:
    with postgres_server() as running:
        yield running


def config(server: PostgresServer, **ledger: object) -> Blueprint:
    made = of_stages(stage(0))
    section = LedgerConfig(url=server.url, durability="sync", sync_wait_s=0.3)
    return replace(made, config=structs.replace(made.config, ledger=structs.replace(section, **ledger)))


async def test_answers_are_recorded_and_reported_and_an_outage_is_told(server: PostgresServer) -> None:
    async with running_server(config(server), providers={"p0": ScriptedProvider([says("hi")])}) as running:
        await running.route(plain_call())
        assert server.run("SELECT outcome FROM attempts") == "accepted"
        report = await running.ops.GetCostReport(
            ops_pb2.GetCostReportRequest(group_by=[ops_pb2.COST_GROUP_PROVIDER, ops_pb2.COST_GROUP_OUTCOME])
        )
        assert [list(row.keys) for row in report.rows] == [["p0", "accepted"]]
        assert report.total.reported_usage.input_tokens == report.total.usage.input_tokens > 0
        assert (report.total.accepted, report.total.calls) == (1, 1)
        assert report.total.fallback_usd == "0"
        await anyio.to_thread.run_sync(server.stop)
        try:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await running.route(plain_call())
            assert (failure_of(caught.value).code, failure_of(caught.value).reason) == (
                grpc.StatusCode.UNAVAILABLE,
                "LEDGER",
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await running.ops.GetCostReport(ops_pb2.GetCostReportRequest())
            assert failure_of(caught.value).reason == "LEDGER"
            status = await running.ops.GetStatus(ops_pb2.GetStatusRequest())
            assert any("the ledger cannot be written" in each for each in status.warnings)
        finally:
            await anyio.to_thread.run_sync(server.start)
    assert server.run("SELECT COUNT(*) FROM attempts") == "2"


async def test_calls_go_on_without_the_database_where_that_is_declared(server: PostgresServer) -> None:
    serving = config(server, when_unwritable="serve", sync_wait_s=0.1)
    async with running_server(serving, providers={"p0": ScriptedProvider([says("hi")])}) as running:
        await anyio.to_thread.run_sync(server.stop)
        try:
            assert (await running.route(plain_call())).answer.text == "hi"
            status = await running.ops.GetStatus(ops_pb2.GetStatusRequest())
            assert "1 calls were answered before their ledger rows were written" in status.warnings
        finally:
            await anyio.to_thread.run_sync(server.start)
