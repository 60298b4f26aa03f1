"""A Redis of the tests' own: Debian's redis-server on a free port, stopped by its process id.

    async with redis_server() as redis:
        … redis.url …
        redis.kill(); redis.freeze(); redis.thaw(); await redis.restart()

Missing, the test is skipped and says what to install; under CI=true it fails.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import anyio
import pytest

_STARTS_IN_S = 10.0


class RedisServer:
    """A running redis-server (or valkey-server)."""

    def __init__(self, program: str, folder: str, addresses: tuple[str, ...] = ()) -> None:
        self._program = program
        self._addresses = addresses
        self._folder = folder
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def is_running(self) -> bool:
        """Whether it was not killed."""
        return self._process is not None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(  # noqa: ASYNC220  # it returns at once
            [
                self._program,
                *("--port", str(self.port), "--bind", "127.0.0.1", *self._addresses),
                *("--save", "", "--appendonly", "no"),
                *(("--protected-mode", "no") if self._addresses else ()),
                *("--dir", self._folder, "--daemonize", "no", "--loglevel", "warning"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with anyio.fail_after(_STARTS_IN_S):
            while not await self._answers():
                assert self._process.poll() is None, "redis-server ended at its start"
                await anyio.sleep(0.02)

    async def restart(self) -> None:
        """Start it anew, empty."""
        self.kill()
        await self.start()

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """Let it hang."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    async def ttls(self) -> dict[str, int]:
        """Give every key's time to live, milliseconds; -1 is for ever."""
        from redis.asyncio import Redis

        client: Redis = Redis(host="127.0.0.1", port=self.port)
        try:
            return {str(key): int(await client.pttl(key)) for key in await client.keys("*")}  # pyright: ignore[reportUnknownMemberType]
        finally:
            await client.aclose()

    async def lose_everything(self) -> None:
        """Forget all keys, as one that evicts them does, without breaking a connection."""
        from redis.asyncio import Redis

        client: Redis = Redis(host="127.0.0.1", port=self.port)
        await client.flushall()  # pyright: ignore[reportUnknownMemberType]
        await client.aclose()

    async def follow(self, port: int | None) -> None:
        """Be a read-only replica of the server on a port; None makes it a master again."""
        from redis.asyncio import Redis

        client: Redis = Redis(host="127.0.0.1", port=self.port)
        await client.replicaof(*(("127.0.0.1", str(port)) if port is not None else ("NO", "ONE")))  # pyright: ignore[reportUnknownMemberType]
        await client.aclose()

    async def forget_scripts(self) -> None:
        """Forget the loaded scripts."""
        from redis.asyncio import Redis

        client: Redis = Redis(host="127.0.0.1", port=self.port)
        await client.script_flush()
        await client.aclose()

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    async def _answers(self) -> bool:
        try:
            stream = await anyio.connect_tcp("127.0.0.1", self.port)
        except OSError:
            return False
        async with stream:
            await stream.send(b"PING\r\n")
            return (await stream.receive()).startswith(b"+PONG")


def redis_program() -> str:
    """Give the path of redis-server, or skip the test."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        told = "needs redis-server: `make test-deps` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    return program


@asynccontextmanager
async def redis_server(*addresses: str) -> AsyncGenerator[RedisServer]:
    """Run a Redis while the block runs; it listens on these addresses of a test's network too."""
    program = redis_program()
    with tempfile.TemporaryDirectory(prefix="gearshift-redis-") as folder:
        server = RedisServer(program, folder, addresses)
        try:
            await server.start()
            yield server
        finally:
            server.kill()


def _free_port() -> int:
    for port in range(21_000 + os.getpid() % 5_000, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port")


@contextmanager
def started_redis() -> Generator[RedisServer]:
    """Run a Redis while the block runs, for tests that have no loop of their own."""
    program = redis_program()
    with tempfile.TemporaryDirectory(prefix="gearshift-redis-") as folder:
        server = RedisServer(program, folder)
        try:
            anyio.run(server.start)
            yield server
        finally:
            server.kill()
