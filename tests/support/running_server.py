"""The real service on loopback, over scripted upstreams.

    async with running_server(yaml_config(chains="…")) as server:          # adapters over real HTTP
    async with running_server(of_stages(stage(0)), providers={"p0": …}) as server:   # the engine's behaviour alone

Both ports are free ones, the ledger is in memory unless a path is given. Open it in the test, never in a fixture.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from msgspec import structs

from gearshift.core.answer import AttemptRecord, Completion
from gearshift.core.blueprint import Blueprint, Stage
from gearshift.core.catalogue import Catalogue
from gearshift.core.config.build import build
from gearshift.core.config.load import parse_config
from gearshift.core.config.model import AccessConfig, LedgerConfig, ServerConfig
from gearshift.core.observer import CallContext, Observer
from gearshift.core.provider import Provider
from gearshift.server.app import App, running_app
from gearshift.v1 import call_pb2, ops_pb2_grpc, router_pb2, router_pb2_grpc, stream_pb2, task_pb2
from tests.support.blueprints import blueprint

Metadata = tuple[tuple[str, str | bytes], ...]

BOUND_S = 10.0
"""How long a test waits for anything before it fails."""


@dataclass
class CallsSeen(Observer):
    """What observers were told, and a way to wait for the end of a call."""

    ended: list[tuple[CallContext, Completion, str]] = field(default_factory=list[tuple[CallContext, Completion, str]])
    attempts: list[AttemptRecord] = field(default_factory=list[AttemptRecord])
    starting: anyio.Event = field(default_factory=anyio.Event)
    _ended: anyio.Event = field(default_factory=anyio.Event)

    def attempt_starting(self, context: CallContext, stage: object, account: str) -> None:
        self.starting.set()

    def attempt_ended(self, context: CallContext, attempt: AttemptRecord) -> None:
        self.attempts.append(attempt)

    def call_ended(self, context: CallContext, completion: Completion, error: str) -> None:
        self.ended.append((context, completion, error))
        self._ended.set()

    async def wait(self, calls: int = 1) -> None:
        """Wait until so many calls have ended."""
        with anyio.fail_after(BOUND_S):
            while len(self.ended) < calls:
                self._ended = anyio.Event()
                await self._ended.wait()


@dataclass
class RunningServer:
    """What a test sees of the service."""

    app: App
    address: str
    channel: grpc.aio.Channel
    seen: CallsSeen

    @property
    def router(self) -> router_pb2_grpc.RouterServiceAsyncStub:
        return router_pb2_grpc.RouterServiceStub(self.channel)

    @property
    def ops(self) -> ops_pb2_grpc.OpsServiceAsyncStub:
        return ops_pb2_grpc.OpsServiceStub(self.channel)

    async def route(
        self,
        call: call_pb2.Call,
        *,
        timeout: float = BOUND_S,  # noqa: ASYNC109  # the wire's deadline
        metadata: Metadata = (),
    ) -> router_pb2.RouteResponse:
        """Give a whole answer."""
        return await self.router.Route(router_pb2.RouteRequest(call=call), timeout=timeout, metadata=metadata)

    async def stream(
        self,
        call: call_pb2.Call,
        *,
        timeout: float = BOUND_S,  # noqa: ASYNC109  # the wire's deadline
        metadata: Metadata = (),
    ) -> list[stream_pb2.Event]:
        """Give the events of a whole stream."""
        request = router_pb2.StreamRouteRequest(call=call)
        given: list[stream_pb2.Event] = []
        async for message in self.router.StreamRoute(request, timeout=timeout, metadata=metadata):
            given += message.events
        return given


@asynccontextmanager
async def running_server(
    config: Blueprint | str,
    *,
    providers: Mapping[str, Provider] | None = None,
    read: Callable[[], Blueprint] | None = None,
    channel_options: Sequence[tuple[str, Any]] = (),
) -> AsyncGenerator[RunningServer]:
    """Serve a configuration, given as YAML or built."""
    made = from_yaml(config) if isinstance(config, str) else config
    seen = CallsSeen()
    async with running_app(made, read=read, own=(seen,), providers=providers) as app:
        address = f"127.0.0.1:{app.port}"
        # A channel of its own for each test: equal ones share their connection.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20)]
        async with grpc.aio.insecure_channel(address, options=[*options, *channel_options]) as channel:
            yield RunningServer(app, address, channel, seen)


def from_yaml(
    text: str, *, path: str = ":memory:", env: Mapping[str, str] | None = None, ports: tuple[int, int] = (0, 0)
) -> Blueprint:
    """Build a configuration on free ports, or those of gRPC and HTTP; sections that it has of its own stay."""
    loaded = parse_config(text, env or {})
    config = loaded.config
    server = structs.replace(config.server, port=ports[0], http_port=ports[1])
    ledger = config.ledger if config.ledger.path else structs.replace(config.ledger, path=path)
    return build(replace(loaded, config=structs.replace(config, server=server, ledger=ledger)), Catalogue.load())


def of_stages(
    *stages: Stage,
    path: str = ":memory:",
    durability: str = "async",
    server: ServerConfig | None = None,
    access: AccessConfig | None = None,
    **chosen: Any,
) -> Blueprint:
    """Give a configuration of scripted stages on free ports; `chosen` goes to `blueprints.blueprint`."""
    made = blueprint(*stages, **chosen)
    config = structs.replace(
        made.config,
        server=server or ServerConfig(port=0, http=False, grace_s=5),
        ledger=LedgerConfig(path=path, durability=durability),
        access=access or AccessConfig(),
    )
    return replace(made, config=config)


def plain_call(prompt: str = "hello", task_id: str = "greet", **fields: Any) -> call_pb2.Call:
    """Give a call of a `generate` task."""
    task = task_pb2.Task(id=task_id, type=task_pb2.TASK_TYPE_GENERATE)
    return call_pb2.Call(task=task, prompt=prompt, **fields)


def events_of(given: Sequence[stream_pb2.Event], kind: str) -> list[Any]:
    """Give the events of one kind."""
    return [getattr(event, kind) for event in given if event.WhichOneof("kind") == kind]


@dataclass(frozen=True)
class Failed:
    """How a call failed, decoded."""

    code: grpc.StatusCode
    message: str
    reason: str
    fields: dict[str, str]
    retry_after_s: float | None
    quotas: list[str]
    pushback: str | None
    details_bytes: int


def failure_of(error: grpc.aio.AioRpcError) -> Failed:
    """Decode a failed call's status."""
    return decoded(error.code(), error.details() or "", list(error.trailing_metadata()))


def decoded(code: grpc.StatusCode, message: str, metadata: Sequence[tuple[str, str | bytes]]) -> Failed:
    """Decode a status and its google.rpc details."""
    trailers = dict(metadata)
    raw = trailers.get("grpc-status-details-bin", b"")
    assert isinstance(raw, bytes)
    reason, fields, wait, quotas = "", dict[str, str](), None, list[str]()
    for packed in status_pb2.Status.FromString(raw).details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry, quota = error_details_pb2.RetryInfo(), error_details_pb2.QuotaFailure()
        if packed.Unpack(info):
            assert info.domain == "gearshift"
            reason = info.reason
        elif packed.Unpack(bad):
            fields = {each.field: each.description for each in bad.field_violations}
        elif packed.Unpack(retry):
            wait = retry.retry_delay.ToMicroseconds() / 1e6
        elif packed.Unpack(quota):
            quotas = [each.subject for each in quota.violations]
    pushback = trailers.get("grpc-retry-pushback-ms")
    assert pushback is None or isinstance(pushback, str)
    return Failed(code, message, reason, fields, wait, quotas, pushback, len(raw))
