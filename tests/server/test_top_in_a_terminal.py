"""`gearshift top` as a person has it: a screen that stays fresh, that outlives a restart of the service, and that q leaves."""

from __future__ import annotations

import os
import pty
import re
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from gearshift.core.blueprint import Blueprint
from gearshift.core.config.model import ServerConfig
from tests.support.blueprints import stage
from tests.support.running_server import RunningServer, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, says

fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")

COLUMNS, LINES = 120, 40
WAIT_S = 20.0
"""An interpreter's start on a busy machine, and what gRPC waits before it connects again."""
ENTERED, LEFT = "\x1b[?1049h", "\x1b[?1049l"


class Terminal:
    """What a command writes on a terminal, and a keyboard for it. Made by `terminal`."""

    def __init__(self, leader: int, follower: int) -> None:
        self.shown = ""
        self.process: subprocess.Popen[bytes] | None = None
        self._leader, self._follower = leader, follower
        self._changed = anyio.Event()

    def run(self, *words: str) -> None:
        """Start a command."""
        ends, environment = self._follower, {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
        command = [sys.executable, "-m", "gearshift.clients.cli", *words]
        self.process = subprocess.Popen(command, stdin=ends, stdout=ends, stderr=ends, env=environment)

    async def shows(self, pattern: str) -> None:
        """Wait until it is written, after what was waited for last."""
        with anyio.fail_after(WAIT_S):
            while not (found := re.search(pattern, self.shown)):
                self._changed = anyio.Event()
                await self._changed.wait()
        self.shown = self.shown[found.end() :]

    def press(self, key: str) -> None:
        """Press a key."""
        os.write(self._leader, key.encode())

    async def ended(self) -> int:
        """Wait for the command's end; give its exit code."""
        assert self.process is not None
        with anyio.fail_after(WAIT_S):
            return await anyio.to_thread.run_sync(self.process.wait)

    async def read(self) -> None:
        """Take down what is written, until the terminal is closed."""
        while True:
            try:
                data = await anyio.to_thread.run_sync(os.read, self._leader, 65536)
            except OSError:  # nobody has the other end any more
                return
            self.shown += data.decode(errors="replace")
            self._changed.set()


@asynccontextmanager
async def terminal() -> AsyncGenerator[Terminal]:
    """Give a terminal; what runs on it is ended with the block."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    made = Terminal(leader, follower)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.read)
            try:
                yield made
            finally:
                if made.process is not None and made.process.poll() is None:
                    made.process.kill()
                    made.process.wait()
                os.close(follower)
    finally:
        os.close(leader)


def on(port: int, ledger: Path) -> Blueprint:
    return of_stages(stage(0), path=str(ledger), server=ServerConfig(port=port, http=False, grace_s=1))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def recorded(server: RunningServer) -> None:
    await server.route(plain_call())
    await server.app.ledger.flush()


def answering() -> dict[str, ScriptedProvider]:
    return {"p0": ScriptedProvider([says("hi")])}


async def test_top_stays_fresh_outlives_a_restart_and_is_left_by_q(tmp_path: Path) -> None:
    port, ledger = free_port(), tmp_path / "ledger.db"
    async with terminal() as screen:
        async with running_server(on(port, ledger), providers=answering()) as server:
            await recorded(server)
            screen.run("top", "--interval", "0.2", "--target", f"127.0.0.1:{port}")
            await screen.shows(re.escape(ENTERED))
            await screen.shows(r"greet +1 +1 ")
            await recorded(server)
            await screen.shows(r"greet +2 +2 ")
        await screen.shows(r"! the server does not answer since \d\d:\d\d:\d\d UTC")
        # What was seen last still stands there.
        await screen.shows(r"greet +2 +2 ")
        async with running_server(on(port, ledger), providers=answering()) as server:
            await recorded(server)
            await screen.shows(r"greet +3 +3 ")
            screen.press("q")
            assert await screen.ended() == 0
            await screen.shows(re.escape(LEFT))


async def test_top_says_when_there_is_no_server(tmp_path: Path) -> None:
    async with terminal() as screen:
        screen.run("top", "--target", f"127.0.0.1:{free_port()}")
        assert await screen.ended() == 3
        await screen.shows("is the server running")
        assert ENTERED not in screen.shown
