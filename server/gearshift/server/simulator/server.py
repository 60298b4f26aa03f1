"""The simulator: its listeners, and which connection belongs to which provider.

Rules: it listens on loopback alone and keeps nothing but its account. Each connection has a task in one group that ends
with the simulator.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from msgspec import structs

from gearshift.core.errors import ConfigError
from gearshift.server.simulator.account import Account
from gearshift.server.simulator.connection import BadHttpError, Connection, Received
from gearshift.server.simulator.draws import Draws
from gearshift.server.simulator.plan import Plan, load_plan
from gearshift.server.simulator.provider import Books, SimulatedProvider
from gearshift.server.simulator.scripted import Script
from gearshift.server.simulator.wire import encoded

_MOST_CONNECTIONS = 8192
_BACKLOG = 1024


@dataclass(slots=True)
class _Address:
    """Where a provider is found."""

    provider: SimulatedProvider
    url: str = ""
    port: int = 0
    listener: asyncio.Server | None = None
    held: socket.socket | None = None
    """Its port while nothing listens there."""
    connections: set[Connection] = field(default_factory=set[Connection])

    @property
    def is_own(self) -> bool:
        """Whether it has a port of its own."""
        return self.provider.plan.port is not None


_Opened = MemoryObjectSendStream[tuple[Connection, _Address | None]]
_Arrivals = MemoryObjectReceiveStream[tuple[Connection, _Address | None]]


class Simulator:
    """Simulated providers that run. Made by `running_simulator`."""

    def __init__(
        self, plan: Plan, host: str, log: Callable[[str], object] | None, script: Script | None = None
    ) -> None:
        self.url = ""
        """Of the simulator itself, for `/account`; without a trailing slash."""
        self._plan = plan
        self._host = host
        self._books = Books(plan.answers, Draws("simulator", plan.seed), log, script)
        self._connections: set[Connection] = set()
        self._addresses = {
            name: _Address(SimulatedProvider(name, each, self._books)) for name, each in plan.providers.items()
        }
        self._listener: asyncio.Server | None = None
        self._held: socket.socket | None = None
        self._opened: _Opened | None = None

    @property
    def account(self) -> Account:
        """What was sent and would be billed, over all providers."""
        return self._books.account

    @property
    def base_urls(self) -> Mapping[str, str]:
        """What clients are configured with, by provider: `…/v1` for OpenAI and Voyage, the bare address for others."""
        return {name: each.url + each.provider.wire.base_path for name, each in self._addresses.items()}

    @property
    def wires(self) -> Mapping[str, str]:
        """The wire format of each provider."""
        return {name: each.provider.wire.name for name, each in self._addresses.items()}

    def statistics(self) -> Mapping[str, int]:
        """Give the connections that are open and the replies that are being played."""
        return {"connections": len(self._connections), "playing": self._books.playing}

    async def down(self, name: str) -> None:
        """Let a provider refuse connections, and drop those it has.

        Raises:
            ValueError: there is no such provider, or it has no port of its own.
        """
        address = self._own(name)
        if address.listener is not None:
            address.listener.close()
            address.listener = None
        for connection in tuple(address.connections):
            connection.drop()
        if address.held is None:
            address.held = _bound(self._host, address.port)

    async def up(self, name: str) -> None:
        """Let a provider listen again.

        Raises:
            ValueError: as `down`.
        """
        address = self._own(name)
        if address.held is None:
            return
        held, address.held = address.held, None
        address.listener = await self._listen(held, address)

    def _own(self, name: str) -> _Address:
        address = self._addresses.get(name)
        if address is None:
            raise ValueError(f"there is no provider {name!r}")
        if not address.is_own:
            raise ValueError(f"{name} has no port of its own, so it cannot refuse connections")
        return address

    def bind(self, port: int) -> None:
        """Take every port, without listening yet.

        Raises:
            ConfigError: one is taken; those that were not are given back.
        """
        try:
            self._held = _bound(self._host, port)
            self.url = _url(self._host, self._held)
            for name, address in self._addresses.items():
                own = address.provider.plan.port
                if own is None:
                    address.url = f"{self.url}/p/{name}"
                else:
                    address.held = _bound(self._host, own)
                    address.port = address.held.getsockname()[1]
                    address.url = _url(self._host, address.held)
        except ConfigError:
            self._release()
            raise

    async def start(self, tasks: anyio.abc.TaskGroup, opened: _Opened, arrivals: _Arrivals) -> None:
        """Listen on every port that is not to be down.

        The loop tells of a connection outside of any task, where none can be started: so it goes through a stream.
        """
        tasks.start_soon(self._accept, tasks, arrivals)
        self._opened = opened
        held, self._held = self._held, None
        assert held is not None
        self._listener = await self._listen(held, None)
        for name, address in self._addresses.items():
            if address.is_own and not address.provider.plan.down:
                await self.up(name)

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        listeners = [self._listener, *(each.listener for each in self._addresses.values())]
        for listener in listeners:
            if listener is not None:
                listener.close()
        self._release()
        for connection in tuple(self._connections):
            connection.drop()
        with anyio.CancelScope(shield=True):
            while self._connections:  # the loop closes them within a few rounds
                await anyio.lowlevel.checkpoint()

    def _release(self) -> None:
        """Give back the ports on which nothing listens."""
        for held in (self._held, *(each.held for each in self._addresses.values())):
            if held is not None:
                held.close()

    async def _listen(self, held: socket.socket, own: _Address | None) -> asyncio.Server:
        def opened(connection: Connection) -> None:
            if len(self._connections) >= _MOST_CONNECTIONS:
                connection.drop()
                return
            self._connections.add(connection)
            if own is not None:
                own.connections.add(connection)
            assert self._opened is not None
            self._opened.send_nowait((connection, own))

        def closed(connection: Connection) -> None:
            self._connections.discard(connection)
            if own is not None:
                own.connections.discard(connection)

        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Connection(opened, closed), sock=held, backlog=_BACKLOG)

    # One connection

    async def _accept(self, tasks: anyio.abc.TaskGroup, arrivals: _Arrivals) -> None:
        """Start a task for each connection."""
        async for connection, own in arrivals:
            tasks.start_soon(self._serve, connection, own)

    async def _serve(self, connection: Connection, own: _Address | None) -> None:
        try:
            while (received := await connection.request()) is not None:
                if not await self._handle(connection, received, own):
                    return
        except BadHttpError as error:
            await connection.say(400, encoded({"error": str(error)}), keep_alive=False)
        finally:
            connection.close()

    async def _handle(self, connection: Connection, received: Received, own: _Address | None) -> bool:
        """Answer a request; gives whether the connection goes on."""
        path = received.path
        if own is not None:
            return await own.provider.handle(connection, received, path)
        if path.startswith("/p/"):
            name, slash, rest = path[3:].partition("/")
            address = self._addresses.get(name)
            if address is not None and not address.is_own:
                return await address.provider.handle(connection, received, slash + rest)
        return await self._control(connection, received)

    async def _control(self, connection: Connection, received: Received) -> bool:
        """Answer what is asked of the simulator itself."""
        status, document = await self._controlled(received.method, received.path)
        return await connection.say(status, encoded(document), keep_alive=received.keep_alive)

    async def _controlled(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        match method, path.strip("/").split("/"):
            case "GET", [""]:
                return 200, {"simulator": self._plan.seed, "providers": dict(self.base_urls)}
            case "GET", ["account"]:
                return 200, {"playing": self._books.playing, **self.account.document()}
            case "POST", ["account", "reset"]:
                self.account.reset()
                return 200, self.account.document()
            case "POST", ["providers", name, "down" | "up" as state]:
                try:
                    await (self.down(name) if state == "down" else self.up(name))
                except ValueError as error:
                    return 400, {"error": str(error)}
                return 200, {"provider": name, "state": state}
            case _:
                return 404, {"error": f"nothing here: {method} {path}", "providers": dict(self.base_urls)}


@asynccontextmanager
async def running_simulator(
    plan: Plan | str | Path,
    *,
    port: int = 0,
    seed: int | None = None,
    host: str = "127.0.0.1",
    log: Callable[[str], object] | None = None,
    script: Script | None = None,
) -> AsyncGenerator[Simulator]:
    """Run simulated providers until the block is left.

    Args:
        plan: a plan, or the path of a plan file.
        port: of the simulator; 0 takes a free one.
        seed: instead of the plan's.
        host: a loopback address.
        log: called with a line for each request that has ended.
        script: asked for recorded answers before the plan makes one up.

    Raises:
        ConfigError: the plan is wrong, a port is taken, or the host is not this machine's loopback.
    """
    read = plan if isinstance(plan, Plan) else load_plan(plan)
    if seed is not None:
        read = structs.replace(read, seed=seed)
    if not _is_loopback(host):
        raise ConfigError([f"the simulator listens on loopback only, not on {host}"])
    simulator = Simulator(read, host, log, script)
    simulator.bind(port)
    opened, arrivals = anyio.create_memory_object_stream[tuple[Connection, _Address | None]](_MOST_CONNECTIONS)
    with opened, arrivals:
        async with anyio.create_task_group() as tasks:
            try:
                await simulator.start(tasks, opened, arrivals)
                yield simulator
            finally:
                await simulator.stop()
                tasks.cancel_scope.cancel()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: int) -> socket.socket:
    """Take a port without listening: connections to it are refused.

    Raises:
        ConfigError: it is taken.
    """
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setblocking(False)
    try:
        held.bind((host, port))
    except OSError as error:
        held.close()
        raise ConfigError([f"port {port} on {host}: {error.strerror or 'cannot be taken'}"]) from error
    return held


def _url(host: str, held: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{held.getsockname()[1]}"
