"""The simulator: listeners, and which request goes to which provider.

Rules: it listens on loopback alone and keeps nothing but its account. Each connection has a task in one group that ends
with the simulator. What happens to a request is decided before its answer begins, from the seed, the provider, the model
and what is asked (or the header `x-simulate-key`), counted by how many times that came: never from the order in which
tasks happen to run, except where a plan asks for ordinals.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from msgspec import structs

from gearshift.core.errors import ConfigError
from gearshift.server.simulator.account import Account, Entry
from gearshift.server.simulator.answers import answer_to, limited, spoilt
from gearshift.server.simulator.ask import Ask
from gearshift.server.simulator.connection import BadHttpError, Connection, Received
from gearshift.server.simulator.draws import Draws
from gearshift.server.simulator.faults import Fault, FaultKind, Form, fault
from gearshift.server.simulator.fields import BadRequestError
from gearshift.server.simulator.plan import FaultPlan, ModelPlan, Plan, ProviderPlan, faults_of, load_plan, model_of
from gearshift.server.simulator.play import Play, Stage
from gearshift.server.simulator.tokens import prompt_tokens
from gearshift.server.simulator.vectors import vector_of
from gearshift.server.simulator.wire import Reply, Route, UsageStyle, Wire, encoded
from gearshift.server.simulator.wire_anthropic import AnthropicWire
from gearshift.server.simulator.wire_ollama import OllamaWire
from gearshift.server.simulator.wire_openai import OpenAiWire, VoyageWire

FAULT_HEADER = "x-simulate-fault"
"""The fault of one request, such as `cut@7`; `none` lets it be."""
KEY_HEADER = "x-simulate-key"
"""What draws go by instead of what is asked, such as a run's number."""

_WIRES: Mapping[str, Callable[[], Wire]] = {
    "openai": OpenAiWire,
    "anthropic": AnthropicWire,
    "ollama": OllamaWire,
    "voyage": VoyageWire,
}
_MOST_CONNECTIONS = 8192
_MOST_KEYS = 100_000
_BACKLOG = 1024
_CREATED = 1_767_225_600
"""When answers say they were made: always the same time, so that equal answers have equal bytes."""


@dataclass(slots=True)
class _Provider:
    """A provider and what it remembers."""

    name: str
    plan: ProviderPlan
    wire: Wire
    faults: tuple[tuple[FaultPlan, Fault], ...]
    url: str = ""
    requests: int = 0
    repeats: OrderedDict[str, int] = field(default_factory=OrderedDict[str, int])
    port: int = 0
    listener: asyncio.Server | None = None
    held: socket.socket | None = None
    """Its port while nothing listens there."""
    connections: set[Connection] = field(default_factory=set[Connection])

    def repeat(self, key: str) -> int:
        """Count a request by its key."""
        count = self.repeats.pop(key, 0) + 1
        self.repeats[key] = count
        if len(self.repeats) > _MOST_KEYS:
            self.repeats.popitem(last=False)
        return count


_Opened = MemoryObjectSendStream[tuple[Connection, _Provider | None]]
_Arrivals = MemoryObjectReceiveStream[tuple[Connection, _Provider | None]]


class Simulator:
    """Simulated providers that run. Made by `running_simulator`."""

    def __init__(self, plan: Plan, host: str, log: Callable[[str], object] | None) -> None:
        self.account = Account()
        self.url = ""
        """Of the simulator itself, for `/account`; without a trailing slash."""
        self._plan = plan
        self._host = host
        self._log = log
        self._seed = Draws("simulator", plan.seed)
        self._count = 0
        self._connections: set[Connection] = set()
        self._playing = 0
        self._providers = {
            name: _Provider(name, each, _WIRES[each.wire](), faults_of(each)) for name, each in plan.providers.items()
        }
        self._listener: asyncio.Server | None = None
        self._held: socket.socket | None = None
        self._opened: _Opened | None = None

    @property
    def base_urls(self) -> Mapping[str, str]:
        """What clients are configured with, by provider: `…/v1` for OpenAI and Voyage, the bare address for others."""
        return {name: each.url + each.wire.base_path for name, each in self._providers.items()}

    @property
    def wires(self) -> Mapping[str, str]:
        """The wire format of each provider."""
        return {name: each.wire.name for name, each in self._providers.items()}

    def statistics(self) -> Mapping[str, int]:
        """Give the connections that are open and the replies that are being played."""
        return {"connections": len(self._connections), "playing": self._playing}

    async def down(self, name: str) -> None:
        """Let a provider refuse connections, and drop those it has.

        Raises:
            ValueError: there is no such provider, or it has no port of its own.
        """
        provider = self._own(name)
        if provider.listener is not None:
            provider.listener.close()
            provider.listener = None
        for connection in tuple(provider.connections):
            connection.drop()
        if provider.held is None:
            provider.held = _bound(self._host, provider.port)

    async def up(self, name: str) -> None:
        """Let a provider listen again.

        Raises:
            ValueError: as `down`.
        """
        provider = self._own(name)
        if provider.held is None:
            return
        held, provider.held = provider.held, None
        provider.listener = await self._listen(held, provider)

    def _own(self, name: str) -> _Provider:
        provider = self._providers.get(name)
        if provider is None:
            raise ValueError(f"there is no provider {name!r}")
        if provider.plan.port is None:
            raise ValueError(f"{name} has no port of its own, so it cannot refuse connections")
        return provider

    def bind(self, port: int) -> None:
        """Take every port, without listening yet.

        Raises:
            ConfigError: one is taken; those that were not are given back.
        """
        try:
            self._held = _bound(self._host, port)
            self.url = _url(self._host, self._held)
            for name, provider in self._providers.items():
                if provider.plan.port is None:
                    provider.url = f"{self.url}/p/{name}"
                else:
                    provider.held = _bound(self._host, provider.plan.port)
                    provider.port = provider.held.getsockname()[1]
                    provider.url = _url(self._host, provider.held)
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
        for name, provider in self._providers.items():
            if provider.plan.port is not None and not provider.plan.down:
                await self.up(name)

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        listeners = [self._listener, *(each.listener for each in self._providers.values())]
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
        for held in (self._held, *(each.held for each in self._providers.values())):
            if held is not None:
                held.close()

    async def _listen(self, held: socket.socket, own: _Provider | None) -> asyncio.Server:
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

    async def _serve(self, connection: Connection, own: _Provider | None) -> None:
        try:
            while (received := await connection.request()) is not None:
                if not await self._handle(connection, received, own):
                    return
        except BadHttpError as error:
            await _say(connection, 400, encoded({"error": str(error)}), keep_alive=False)
        finally:
            connection.close()

    async def _handle(self, connection: Connection, received: Received, own: _Provider | None) -> bool:
        """Answer a request; gives whether the connection goes on."""
        provider, path = own, received.path
        if own is None and path.startswith("/p/"):
            name, slash, rest = path[3:].partition("/")
            provider, path = self._providers.get(name), slash + rest
            if provider is not None and provider.plan.port is not None:
                provider = None
        if provider is None:
            return await self._control(connection, received)
        wire = provider.wire
        route = wire.route(received.method, path)
        if route is None:
            body = wire.refused(404, f"the simulated {wire.name} provider has no {received.method} {path}")
            return await _say(connection, 404, body, keep_alive=received.keep_alive)
        try:
            if route in (Route.CHAT, Route.EMBED):
                return await self._answer(connection, received, provider, wire.read(route, received.body))
            ask = wire.read(route, received.body) if route is Route.COUNT else None
        except BadRequestError as error:
            body = wire.refused(400, str(error))
            return await _say(connection, 400, body, keep_alive=received.keep_alive)
        body = wire.about(route, tuple(provider.plan.models), path, ask)
        return await _say(connection, 200, body, keep_alive=received.keep_alive)

    async def _control(self, connection: Connection, received: Received) -> bool:
        """Answer what is asked of the simulator itself."""
        status, document = await self._controlled(received.method, received.path)
        return await _say(connection, status, encoded(document), keep_alive=received.keep_alive)

    async def _controlled(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        match method, path.strip("/").split("/"):
            case "GET", [""]:
                return 200, {"simulator": self._plan.seed, "providers": dict(self.base_urls)}
            case "GET", ["account"]:
                return 200, self.account.document()
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

    # One answer

    async def _answer(self, connection: Connection, received: Received, provider: _Provider, ask: Ask) -> bool:
        plan, wire = provider.plan, provider.wire
        model = model_of(plan, ask.model)
        if model is None:
            body = wire.refused(404, f"The model `{ask.model}` does not exist.")
            return await _say(connection, 404, body, keep_alive=received.keep_alive)
        provider.requests += 1
        self._count += 1
        asked = Draws(ask.model, ask.form is Form.EMBED, ask.system, *ask.texts, ask.prefill)
        key = received.headers.get(KEY_HEADER) or asked.hex(16)
        repeat = provider.repeat(key)
        draws = self._seed.of(provider.name, ask.model, key, repeat)
        try:
            chosen = self._fault(received, provider, ask, repeat, draws)
        except ValueError as error:
            body = wire.refused(400, f"{FAULT_HEADER}: {error}")
            return await _say(connection, 400, body, keep_alive=received.keep_alive)
        applies = chosen is not None and chosen.applies(wire.name, ask.form, structured=ask.structured)
        entry = Entry(
            id=f"sim-{self._count:06d}",
            provider=provider.name,
            wire=wire.name,
            model=ask.model,
            form=ask.form.value,
            key=key,
            repeat=repeat,
            fault=str(chosen) if chosen is not None else "",
            applied=applies,
        )
        stage = Stage(
            connection=connection,
            wire=wire,
            entry=entry,
            fault=chosen if applies else None,
            latency=model.latency or plan.latency,
            rates=model.prices.rates,
            draws=draws,
            tokens_per_frame=plan.tokens_per_frame,
            write_bytes=plan.write_bytes,
            keep_alive=received.keep_alive,
        )
        play = Play(stage)
        self._playing += 1
        try:
            return await self._played(play, stage, received, provider, model, ask)
        finally:
            self._playing -= 1
            if not entry.end:
                entry.end = "simulator stopped"
                play.settle()
            self.account.add(entry)
            if self._log is not None:
                self._log(_line(entry))

    async def _played(
        self, play: Play, stage: Stage, received: Received, provider: _Provider, model: ModelPlan, ask: Ask
    ) -> bool:
        plan, entry, fault_ = provider.plan, stage.entry, stage.fault
        input_tokens = prompt_tokens(ask.characters, plan.characters_per_token)
        told = plan.usage != "none" and (fault_ is None or fault_.kind is not FaultKind.NO_USAGE)
        entry.usage_told = told
        try:
            if ask.form is Form.EMBED:
                length = ask.dimensions or model.dimensions
                vectors = [vector_of(text, min(length, 4096)) for text in ask.texts]
                body = stage.wire.vectors(ask, vectors, input_tokens if told else None)
                return await play.vectors(body, input_tokens)
            quality = plan.quality if model.quality is None else model.quality
            answer = answer_to(
                ask,
                self._plan.answers,
                provider=provider.name,
                headers=received.headers,
                quality=quality,
                draws=stage.draws,
            )
            if fault_ is not None:
                answer = limited(spoilt(answer, fault_, ask, stage.draws), ask)
        except (TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError, RecursionError) as error:
            # A schema may hold anything in any place.
            raise BadRequestError(f"no answer can be made up for this schema ({type(error).__name__})") from error
        entry.tokens, entry.right = len(answer.tokens), answer.right
        reply = Reply(
            ask=ask,
            answer=answer,
            input_tokens=input_tokens,
            usage=UsageStyle(plan.usage) if told else UsageStyle.NONE,
            logprobs=plan.logprobs and ask.logprobs,
            draws=stage.draws.of("id"),
            created=_CREATED,
        )
        return await (play.stream(reply) if ask.form is Form.STREAM else play.whole(reply))

    def _fault(self, received: Received, provider: _Provider, ask: Ask, repeat: int, draws: Draws) -> Fault | None:
        """Choose a request's fault.

        Raises:
            ValueError: the request's header names none.
        """
        # 1. What the request asks for; 2. the plan's first rule that holds and whose draw hits.
        if asked := received.headers.get(FAULT_HEADER, "").strip():
            if asked == "none":
                return None
            chosen = fault(asked)
            if chosen.kind is FaultKind.REFUSED:
                raise ValueError("a connection that stands can no longer be refused; see `down` in the plan")
            return chosen
        for number, (rule, each) in enumerate(provider.faults):
            if _holds(rule, ask, provider.requests, repeat) and draws.share("fault", number) < rule.probability:
                return each
        return None


def _holds(rule: FaultPlan, ask: Ask, ordinal: int, repeat: int) -> bool:
    return (
        rule.model in ("", ask.model)
        and rule.only in ("", ask.form.value)
        and (not rule.requests or ordinal in rule.requests)
        and (not rule.repeats or repeat in rule.repeats)
        and (not rule.contains or rule.contains in ask.prompt)
    )


@asynccontextmanager
async def running_simulator(
    plan: Plan | str | Path,
    *,
    port: int = 0,
    seed: int | None = None,
    host: str = "127.0.0.1",
    log: Callable[[str], object] | None = None,
) -> AsyncGenerator[Simulator]:
    """Run simulated providers until the block is left.

    Args:
        plan: a plan, or the path of a plan file.
        port: of the simulator; 0 takes a free one.
        seed: instead of the plan's.
        host: a loopback address.
        log: called with a line for each request that has ended.

    Raises:
        ConfigError: the plan is wrong, a port is taken, or the host is not this machine's loopback.
    """
    read = plan if isinstance(plan, Plan) else load_plan(plan)
    if seed is not None:
        read = structs.replace(read, seed=seed)
    if not _is_loopback(host):
        raise ConfigError([f"the simulator listens on loopback only, not on {host}"])
    simulator = Simulator(read, host, log)
    simulator.bind(port)
    opened, arrivals = anyio.create_memory_object_stream[tuple[Connection, _Provider | None]](_MOST_CONNECTIONS)
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


async def _say(connection: Connection, status: int, body: bytes, *, keep_alive: bool) -> bool:
    """Give a plain response that nobody bills."""
    words = {200: "OK", 400: "Bad Request", 404: "Not Found"}
    kind = "text/plain" if not body.startswith((b"{", b"[")) else "application/json"
    head = f"HTTP/1.1 {status} {words[status]}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    head += "\r\n" if keep_alive else "connection: close\r\n\r\n"
    return await connection.write(head.encode() + body) and keep_alive


def _line(entry: Entry) -> str:
    """Tell of a request in a line."""
    fault_ = f" {entry.fault}{'' if entry.applied else ' (does not apply)'}" if entry.fault else ""
    left = f" after {entry.left_after_ms:.0f} ms" if entry.left_after_ms is not None else ""
    tokens = f"{entry.output_tokens} of {entry.tokens} tokens, " if entry.tokens else ""
    cost = f"{entry.billed_usd.normalize():f}"
    return (
        f"{entry.id} {entry.provider}/{entry.model} {entry.form}{fault_}: {entry.status or 'no status'}, "
        f"{tokens}{entry.end}{left}, {cost} USD"
    )
