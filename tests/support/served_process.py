"""The serve command as a process of its own, as a person starts it.

    async with served(path, "--ledger", ":memory:") as process:
        ...  # process.address; process.send(signal.SIGTERM); await process.wait()

It is killed when the block is left, should it still run.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import grpc.aio
from anyio.streams.text import TextReceiveStream

from gearshift.v1 import ops_pb2_grpc, router_pb2_grpc

START_S = 30.0
"""How long a test waits for a start, on a machine that does much else."""
_SERVING = re.compile(r"serving on (\S+):(\d+)")
_METRICS = re.compile(r"metrics on (\S+)/metrics")


class ServedProcess:
    """What a test sees of the process."""

    def __init__(self, process: anyio.abc.Process) -> None:
        self.process = process
        self.address = ""
        self.http = ""
        self.said = ""
        """Everything on standard error so far."""
        self._changed = anyio.Event()
        self._ended = anyio.Event()

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def says(self, text: str) -> None:
        """Wait until it has said this."""
        with anyio.fail_after(START_S):
            while text not in self.said:
                assert not self._ended.is_set(), f"it ended and never said {text!r}:\n{self.said}"
                self._changed = anyio.Event()
                await self._changed.wait()

    async def wait(self) -> int:
        """Wait for its end; give the exit code."""
        with anyio.fail_after(START_S):
            await self._ended.wait()
            return await self.process.wait()

    async def read(self) -> None:
        """Take down what it says."""
        assert self.process.stderr is not None
        async for text in TextReceiveStream(self.process.stderr, errors="replace"):
            self.said += text
            if found := _SERVING.search(self.said):
                self.address = f"{found[1]}:{found[2]}"
            if found := _METRICS.search(self.said):
                self.http = found[1]
            self._changed.set()
        self._ended.set()
        self._changed.set()


@asynccontextmanager
async def served(
    config: Path | None,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    prefix: Sequence[str] = (),
    wait: bool = True,
) -> AsyncGenerator[ServedProcess]:
    """Run `gearshift serve` on free ports; `prefix` is a command that runs the command after it."""
    command = [sys.executable, "-m", "gearshift.server", "serve", "--port", "0", "--http-port", "0"]
    if config is not None:
        command += ["--config", str(config)]
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
    async with await anyio.open_process(
        [*prefix, *command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**inherited, **(env or {})},
        cwd=cwd,
    ) as process:
        running = ServedProcess(process)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(running.read)
                try:
                    if wait:
                        await running.says("serving on ")
                        if "--no-http" not in arguments:
                            await running.says("/metrics")
                    yield running
                finally:
                    if process.returncode is None:
                        process.kill()
        finally:
            with anyio.CancelScope(shield=True):
                await process.wait()


@asynccontextmanager
async def stubs(
    address: str,
) -> AsyncGenerator[tuple[router_pb2_grpc.RouterServiceAsyncStub, ops_pb2_grpc.OpsServiceAsyncStub]]:
    """Give both services' stubs on a channel of their own."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield router_pb2_grpc.RouterServiceStub(channel), ops_pb2_grpc.OpsServiceStub(channel)
