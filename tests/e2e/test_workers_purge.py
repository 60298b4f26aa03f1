"""A purge speaks for all workers: it says so where one of them did not hear of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import grpc
import pytest

from gearshift.v1 import ops_pb2, ops_pb2_grpc
from tests.support.openai_bodies import openai_answer
from tests.support.running_server import failure_of
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai
from tests.support.served_process import START_S
from tests.support.worker_team import one_channel_each, team

TASKS = "tasks: {declared: {faq: {type: generate, temperature: 0, cache: {}}}}"


async def test_a_purge_that_one_worker_did_not_hear_of_says_so(tmp_path: Path) -> None:
    async with (
        scripted(Reply.json(openai_answer("hello there"))) as upstream,
        team(tmp_path, one_openai(upstream.url, more=TASKS)) as process,
        one_channel_each(process.address) as channels,
    ):
        ops = ops_pb2_grpc.OpsServiceStub(channels[0])
        workers = (await ops.GetStatus(ops_pb2.GetStatusRequest(), timeout=START_S)).workers
        other = next(each for each in workers if not each.answers)
        os.kill(other.pid, signal.SIGSTOP)
        try:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ops.PurgeCache(ops_pb2.PurgeCacheRequest(all=True), timeout=START_S)
        finally:
            os.kill(other.pid, signal.SIGCONT)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        failure = failure_of(caught.value)
        assert (failure.reason, str(other.number) in failure.message) == ("CACHE_STORE", True)
        assert (await ops.PurgeCache(ops_pb2.PurgeCacheRequest(all=True), timeout=START_S)).purged == 0
