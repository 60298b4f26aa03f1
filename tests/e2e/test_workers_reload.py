"""Reloads of a team: by signal, RPC and file change, in all workers or in none, under load, over simulated providers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import grpc
import grpc.aio
import pytest

from gearshift.v1 import ops_pb2, ops_pb2_grpc, router_pb2, router_pb2_grpc
from tests.support.openai_bodies import openai_answer
from tests.support.running_server import plain_call
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai
from tests.support.served_process import START_S
from tests.support.worker_team import (
    calling,
    channel,
    kill,
    one_channel_each,
    status,
    team,
    until_serving,
)

OK = Reply.json(openai_answer("hello there"))
RELOADS = 20


def config(url: str, number: int) -> str:
    """Give a configuration that differs from the last one in limits and gates."""
    rate = f"requests_per_minute: {1_000_000 + number}"
    return one_openai(
        url,
        more=f"""
        access: {{tenants: {{default: {{limits: {{{rate}}}}}}}}}
        gates: {{min_confidence: 0.8{number:02d}}}
        """,
    )


async def revisions(address: str) -> set[str]:
    """Give the revisions that the workers serve."""
    whole = await status(address)
    assert not any("different configurations" in each for each in whole.warnings)
    return {whole.config_revision}


async def test_twenty_reloads_of_two_workers_under_load_drop_no_call(tmp_path: Path) -> None:
    async with (
        scripted(OK) as upstream,
        team(tmp_path, config(upstream.url, 0), "--log-level", "warning", "--no-http") as process,
        channel(process.address) as made,
    ):
        ops, path = ops_pb2_grpc.OpsServiceStub(made), tmp_path / "gearshift.yaml"
        seen = await revisions(process.address)
        last = ""
        async with calling(process.address, retrying=False) as load:
            for number in range(1, RELOADS + 1):
                if number % 4 == 0:
                    path.write_text(config(upstream.url, number) + "\nserverr: {}\n")
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await ops.Reload(ops_pb2.ReloadRequest(), timeout=START_S)
                    assert "serverr" in (caught.value.details() or "")
                else:
                    path.write_text(config(upstream.url, number))
                    reloaded = await ops.Reload(ops_pb2.ReloadRequest(), timeout=START_S)
                    # The file's own watch may have been faster.
                    last = reloaded.config_revision
                    assert last not in seen
                    seen.add(last)
                await load.more(10)
        assert load.failed == []
        assert len(seen) == 1 + RELOADS * 3 // 4
        async with one_channel_each(process.address) as channels:
            for each in channels:
                told = await ops_pb2_grpc.OpsServiceStub(each).GetStatus(ops_pb2.GetStatusRequest())
                assert told.config_revision == last
                assert not told.warnings
                assert all(one.restarts == 0 for one in told.workers)


async def test_file_change_and_hangup_reload_all_workers(tmp_path: Path) -> None:
    async with scripted(OK) as upstream, team(tmp_path, config(upstream.url, 0), "--no-http") as process:
        first = await revisions(process.address)
        other = tmp_path / "new.yaml"
        other.write_text(config(upstream.url, 1))
        os.replace(other, tmp_path / "gearshift.yaml")
        await process.says("it has changed")
        second = await revisions(process.address)
        assert second != first
        process.send(signal.SIGHUP)
        await process.says("nothing has changed")
        (tmp_path / "gearshift.yaml").write_text(config(upstream.url, 1) + "\nserverr: {}\n")
        process.send(signal.SIGHUP)
        await process.says("the configuration was not reloaded")
        assert await revisions(process.address) == second
        # A worker that is started while the file is broken serves the last good one.
        kill((await status(process.address)).workers[0].pid)
        await until_serving(process.address, restarts=1)
        assert await revisions(process.address) == second


async def test_ports_and_workers_are_not_reloaded_and_that_is_said(tmp_path: Path) -> None:
    async with scripted(OK) as upstream, team(tmp_path, config(upstream.url, 0), "--no-http") as process:
        more = config(upstream.url, 1) + "\nserver: {max_calls: 99, watch_config: true}\n"
        (tmp_path / "gearshift.yaml").write_text(more)
        await process.says("it has changed")
        assert "server: ports, workers and sizes are fixed at the start" in process.said
        assert any(each.startswith("server: ") for each in (await status(process.address)).warnings)


async def test_limits_are_kept_by_shares_and_their_levels_over_reloads_and_restarts(tmp_path: Path) -> None:
    def limited(number: int) -> str:
        return one_openai(
            upstream.url,
            more=f"""
            access: {{tenants: {{default: {{limits: {{requests_per_minute: 2, burst_s: 600}}}}}}}}
            gates: {{min_confidence: 0.8{number}}}
            """,
        )

    async def spent(channels: list[grpc.aio.Channel]) -> list[int]:
        """Call each worker more often than its part allows; give how many calls each answered."""
        answered: list[int] = []
        for made in channels:
            stub = router_pb2_grpc.RouterServiceStub(made)
            calls = [stub.Route(router_pb2.RouteRequest(call=plain_call()), timeout=1) for _ in range(15)]
            answered.append(sum([await each.code() is grpc.StatusCode.OK for each in calls]))
        return answered

    async with scripted(OK) as upstream, team(tmp_path, limited(0), "--no-http") as process:
        async with one_channel_each(process.address) as channels:
            # 20 at once, half of them each; 2 a minute after that.
            for each in await spent(channels):
                assert each in (10, 11)
            (tmp_path / "gearshift.yaml").write_text(limited(1))
            ops = ops_pb2_grpc.OpsServiceStub(channels[0])
            await ops.Reload(ops_pb2.ReloadRequest(), timeout=START_S)
            assert sum(await spent(channels)) <= 2
        await anyio.sleep(0.5)  # a kill may forget what a worker did in its last tenth of a second
        kill((await status(process.address)).workers[0].pid)
        await until_serving(process.address, restarts=1)
        async with one_channel_each(process.address) as channels:
            assert sum(await spent(channels)) <= 3
