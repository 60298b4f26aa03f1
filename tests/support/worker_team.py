"""A service of several workers, and what load on it looks like.

async with team(tmp_path, config, workers=2) as process: ...
async with calling(process.address, clients=4) as load: ...   # load.failed, load.answered
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import grpc.aio

from gearshift.v1 import ops_pb2, ops_pb2_grpc, router_pb2, router_pb2_grpc
from tests.support.running_server import plain_call
from tests.support.served_process import START_S, ServedProcess, served

RETRYING = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "waitForReady": True,
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
"""A standard retry policy."""


@asynccontextmanager
async def team(folder: Path, config: str, *arguments: str, workers: int = 2) -> AsyncGenerator[ServedProcess]:
    """Serve a configuration with several workers, on free ports."""
    path = folder / "gearshift.yaml"
    path.write_text(config)
    asked = ("--workers", str(workers), "--ledger", str(folder / "ledger.db"), *arguments)
    async with served(path, *asked) as process:
        yield process


def channel(address: str, *, retrying: bool = False) -> grpc.aio.Channel:
    """Give a channel with a connection of its own."""
    options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1)]
    if retrying:
        options.append(("grpc.service_config", RETRYING))
    return grpc.aio.insecure_channel(address, options=options)


async def status(address: str) -> ops_pb2.GetStatusResponse:
    """Ask whoever answers how the service is."""
    async with channel(address, retrying=True) as made:
        return await ops_pb2_grpc.OpsServiceStub(made).GetStatus(ops_pb2.GetStatusRequest(), timeout=START_S)


async def worker_of(made: grpc.aio.Channel) -> int:
    """Give the number of the worker that a channel is connected to."""
    whole = await ops_pb2_grpc.OpsServiceStub(made).GetStatus(ops_pb2.GetStatusRequest(), timeout=START_S)
    return next(each.number for each in whole.workers if each.answers)


@asynccontextmanager
async def one_channel_each(address: str, workers: int = 2) -> AsyncGenerator[list[grpc.aio.Channel]]:
    """Give a channel to each worker, by number; the kernel decides, so several are tried."""
    async with AsyncExitStack() as stack:
        found: dict[int, grpc.aio.Channel] = {}
        with anyio.fail_after(START_S):
            while len(found) < workers:
                made = channel(address)
                number = await worker_of(made)
                if number in found:
                    await made.close()
                else:
                    found[number] = await stack.enter_async_context(made)
        yield [found[number] for number in sorted(found)]


async def until_serving(address: str, workers: int = 2, restarts: int = 0) -> ops_pb2.GetStatusResponse:
    """Wait until all workers serve, after so many restarts."""
    with anyio.fail_after(START_S):
        while True:
            whole = await status(address)
            serving = [each for each in whole.workers if each.state == "serving"]
            if len(serving) == workers and sum(each.restarts for each in whole.workers) >= restarts:
                return whole
            await anyio.sleep(0.05)


@dataclass
class Load:
    """What came of the calls so far."""

    answered: int = 0
    failed: list[str] = field(default_factory=list[str])
    enough: anyio.Event = field(default_factory=anyio.Event)
    _wanted: int = 0

    async def more(self, calls: int) -> None:
        """Wait until so many more were answered."""
        self.enough, self._wanted = anyio.Event(), self.answered + calls
        with anyio.fail_after(START_S):
            await self.enough.wait()

    def count(self) -> None:
        self.answered += 1
        if self.answered >= self._wanted:
            self.enough.set()


@asynccontextmanager
async def calling(address: str, *, clients: int = 4, at_once: int = 4, retrying: bool = True) -> AsyncGenerator[Load]:
    """Call without a pause while the block runs, each client on a connection of its own; calls that run may end."""
    load, is_over = Load(), anyio.Event()

    async def call(stub: router_pb2_grpc.RouterServiceAsyncStub) -> None:
        while not is_over.is_set():
            try:
                await stub.Route(router_pb2.RouteRequest(call=plain_call()), timeout=START_S)
                load.count()
            except grpc.aio.AioRpcError as error:
                load.failed.append(f"{error.code().name}: {error.details()}")

    async with AsyncExitStack() as stack:
        stubs: list[router_pb2_grpc.RouterServiceAsyncStub] = []
        for _ in range(clients):
            made = await stack.enter_async_context(channel(address, retrying=retrying))
            stubs += [router_pb2_grpc.RouterServiceStub(made)] * at_once
        async with anyio.create_task_group() as tasks:
            for stub in stubs:
                tasks.start_soon(call, stub)
            try:
                yield load
            finally:
                is_over.set()


def kill(pid: int) -> None:
    """End a process as a crash would."""
    os.kill(pid, signal.SIGKILL)


async def is_gone(pid: int) -> bool:
    """Wait until a process is no more."""
    with anyio.move_on_after(START_S):
        while _state(pid) not in "ZX":
            await anyio.sleep(0.02)
        return True
    return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
