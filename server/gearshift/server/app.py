"""The service, put together: the one file that knows the order of the layers.

    http port (metrics, health; gRPC-Web; OpenAI's API) ┐
    gRPC server ─ guard ─ RouterService, OpsService, health, reflection ─▶ Router ─▶ observers: ledger, metrics, log, trail
                                                                             └▶ embedded models' processes

Rules: what it starts it stops, in reverse; a reload builds a whole new router before it replaces the old one.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import grpc
from aiohttp import web
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_channelz.v1 import channelz, channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gearshift.core.blueprint import Blueprint
from gearshift.core.classifier import TaskClassifier
from gearshift.core.config.model import Config, ServerConfig
from gearshift.core.embedded.state import ProgressCallback
from gearshift.core.embedded.supervisor import AttachedModel, EmbeddedModel
from gearshift.core.errors import ConfigError
from gearshift.core.ledger import Ledger
from gearshift.core.ledger.opening import configured_ledger
from gearshift.core.observer import Observer
from gearshift.core.opening import admission_of, cache_stores_of, embedded_models
from gearshift.core.plugins import own_gates, own_observers
from gearshift.core.provider import Provider
from gearshift.core.router import Router
from gearshift.core.shared.admission import SharedAdmission
from gearshift.core.shared.store import SharedStore
from gearshift.core.shares import ShareAdmission
from gearshift.server.access import Access
from gearshift.server.budgets import Budgets
from gearshift.server.calibrating import calibrating, recalibrate
from gearshift.server.certificates import Certificates
from gearshift.server.following import Followed, following
from gearshift.server.guard import CallGuard
from gearshift.server.handlers import handlers_of
from gearshift.server.keyed import keyed
from gearshift.server.keyring import Keyring
from gearshift.server.logs import CallLog
from gearshift.server.metrics import Metrics
from gearshift.server.ops_service import OpsService
from gearshift.server.own_machines import OwnMachines
from gearshift.server.recording import LedgerObserver, retention
from gearshift.server.reflection import enable_reflection
from gearshift.server.reloading import reloadable
from gearshift.server.retiring import Retirement, retirement
from gearshift.server.router_service import RouterService
from gearshift.server.scheduling import sparing
from gearshift.server.telemetry.otlp import telemetry
from gearshift.server.trail import Trail
from gearshift.server.version import service_version
from gearshift.server.web.calling import Calling
from gearshift.server.web.grpc_web import grpc_web_routes
from gearshift.server.web.monitoring import monitoring_routes
from gearshift.server.web.openai.routes import openai_routes
from gearshift.server.web.pages import page_routes
from gearshift.server.web.port import http_port
from gearshift.server.web.taking import takes_calls
from gearshift.server.workers.exposing import whole_exposition
from gearshift.server.workers.member import Member
from gearshift.server.workers.ops import TeamOpsService
from gearshift.server.workers.prompts import TeamRouterService
from gearshift.v1 import ops_pb2, ops_pb2_grpc, router_pb2, router_pb2_grpc

_log = logging.getLogger(__name__)

_LAST_MESSAGES_S = 0.05
"""What statuses get to leave the process after the last call has ended."""
_CLEANUP_S = 5.0

SERVICES = (
    router_pb2.DESCRIPTOR.services_by_name["RouterService"].full_name,
    ops_pb2.DESCRIPTOR.services_by_name["OpsService"].full_name,
    health.SERVICE_NAME,
    channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name,
)


class App:
    """A running service.

    Args:
        read: reads the configuration again and gives what it comes to; for reloads.
        providers: adapters by provider name, in place of those that the configuration names.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        router: Router,
        ledger: Ledger,
        metrics: Metrics | None,
        trail: Trail,
        guard: CallGuard,
        models: Mapping[str, EmbeddedModel | AttachedModel],
        observers: tuple[Observer, ...],
        read: Callable[[], Blueprint] | None,
        providers: Mapping[str, Provider] | None,
        retired: Retirement,
    ) -> None:
        self.router = router
        self.keys = Keyring(blueprint.config.access)
        self.certificates = Certificates(blueprint.config.server.tls) if blueprint.config.server.tls else None
        self.ledger = ledger
        self.trail = trail
        self.metrics = metrics
        self.guard = guard
        self._models = models
        self._observers = observers
        self._read = read
        self._providers = providers
        self.budgets = Budgets(ledger, lambda: self.router.state.admission)
        self._started_at = time.time()
        self.retired = retired
        self._reloading = anyio.Lock()
        self.machines = OwnMachines(
            lambda: self.router, ledger, {name: each.base_url for name, each in models.items()}, self._sharers
        )
        self.port = 0
        self.http_port = 0
        self.is_serving = False

    @property
    def access(self) -> Access:
        """The keys in force."""
        return self.keys.access

    @property
    def sync_ledger(self) -> bool:
        """Whether a call completes only after its rows are on disk."""
        return self.router.blueprint.config.ledger.durability == "sync"

    @property
    def store(self) -> SharedStore | None:
        """The store that several processes share, where one is configured."""
        admission = self.router.state.admission
        return admission.store if isinstance(admission, SharedAdmission) else None

    def _sharers(self) -> int:
        """Give how many processes serve on the same machines, as far as this one knows."""
        admission = self.router.state.admission
        if isinstance(admission, ShareAdmission):
            return admission.alive
        return 1 if (store := self.store) is None else store.processes

    def status(self) -> ops_pb2.GetStatusResponse:
        """Give what is running."""
        ledger = self.ledger.status()
        warnings = [*self.router.blueprint.warnings, *self.keys.warnings(), *self.budgets.warnings()]
        if self.certificates is not None:
            warnings += self.certificates.warnings()
        if ledger.is_failing:
            warnings.append(f"the ledger cannot be written: {ledger.last_error}")
        if ledger.dropped:
            warnings.append(f"{ledger.dropped} ledger rows were dropped")
        if ledger.unacknowledged:
            warnings.append(f"{ledger.unacknowledged} calls were answered before their ledger rows were written")
        started = Timestamp()
        started.FromNanoseconds(int(self._started_at * 1e9))
        response = ops_pb2.GetStatusResponse(
            version=service_version(),
            started_at=started,
            config_revision=self.router.blueprint.revision,
            calls_in_flight=self.guard.in_flight,
            calls_ended=self.guard.ended,
            ledger_pending=ledger.pending,
            ledger_dropped=ledger.dropped,
            warnings=warnings,
        )
        store = self.store
        if store is not None:
            health = store.health
            if not store.is_up:
                told = f"the shared store is away ({health.reason}): limits are kept by this process's share"
                response.warnings.append(told)
            response.shared.CopyFrom(
                ops_pb2.SharedStatus(
                    state=health.state.value,
                    reason=health.reason,
                    processes=store.processes,
                    changes=health.changes,
                    round_trip_ms=health.round_trip_s * 1000,
                    since_seconds=max(0.0, time.monotonic() - health.since),
                )
            )
        for model in self._models.values():
            if isinstance(model, AttachedModel):
                continue  # its owner tells
            state = model.status()
            response.embedded.CopyFrom(
                ops_pb2.EmbeddedStatus(
                    state=state.state.value,
                    pid=state.pid or 0,
                    resident_bytes=state.rss_bytes or 0,
                    restarts=state.restarts,
                    last_error=state.last_error,
                )
            )
        return response

    async def reload(self) -> bool:
        """Read the configuration again and put it in force; an invalid one changes nothing.

        Raises:
            ConfigError: it is invalid.
        """
        if self._read is None:
            raise ConfigError(["this service was started without a file, so there is nothing to read again"])
        async with self._reloading:
            # In a thread, so that calls go on meanwhile.
            read = await anyio.to_thread.run_sync(self._read)
            old = self.router.blueprint
            blueprint = reloadable(old, read)
            are_new = self.reread()
            for warning in blueprint.warnings:
                if warning not in old.warnings:
                    _log.warning(warning)
            if blueprint.revision == old.revision:
                return are_new
            await self.switch(self.prepared(blueprint))
            return True

    def reread(self) -> bool:
        """Read keys and certificates again; tell whether they have changed."""
        are_new = self.keys.reread()
        if self.certificates is not None:
            are_new |= self.certificates.reread()
        return are_new

    def prepared(self, blueprint: Blueprint) -> Router:
        """Give a router that `switch` puts in force, or whose owner closes it; everything that can fail is done here.

        Raises:
            ConfigError: a plug-in cannot take the configuration.
        """
        return Router(
            blueprint,
            classifier=TaskClassifier.load(),
            gates=own_gates(),
            observers=self._observers,
            providers=self._providers,
            embedded={name: model.base_url for name, model in self._models.items()},
            state=self.router.state,
        )

    async def switch(self, router: Router) -> None:
        """Put a prepared router in force. Calls that run keep the old one, which is closed when they have ended."""
        old, blueprint = self.router, router.blueprint
        self.keys.configure(blueprint.config.access)
        self.router = router
        router.take_over()
        self.retired.retire(old, self.guard.next_era())
        _log.info("configuration reloaded", extra={"fields": {"revision": blueprint.revision}})
        await self.budgets.reseed(blueprint)
        await recalibrate(self.ledger, router)

    def followed(self) -> list[Followed]:
        """Give the files that are put in force when they change."""
        found: list[Followed] = [(lambda: self.keys.files, self.keys.follow)]
        if (certificates := self.certificates) is not None:
            found.append((lambda: certificates.files, certificates.follow))
        return found

    async def aclose(self) -> None:
        """Close the router in force."""
        await self.router.aclose()


@asynccontextmanager
async def running_app(
    blueprint: Blueprint,
    *,
    read: Callable[[], Blueprint] | None = None,
    progress: ProgressCallback | None = None,
    own: tuple[Observer, ...] = (),
    providers: Mapping[str, Provider] | None = None,
    member: Member | None = None,
) -> AsyncGenerator[App]:
    """Serve while the block runs; leaving it drains within the configured grace.

    Args:
        blueprint: the configuration.
        read: reads the configuration again, for reloads.
        progress: told how the embedded model's start goes.
        own: observers besides the service's own.
        providers: adapters by provider name, in place of those that the configuration names.
        member: this process as one of several that share the ports and speak for each other.

    Raises:
        ConfigError: a port is in use, or a certificate cannot be read.
        LedgerError: the ledger cannot be opened.
        EmbeddedModelError: the embedded model cannot be started.
    """
    config = blueprint.config
    async with AsyncExitStack() as stack:
        ledger = configured_ledger(config.ledger, "" if config.ledger.url else ledger_path(config))
        await ledger.start()
        stack.push_async_callback(ledger.aclose)
        await stack.enter_async_context(retention(ledger, config.ledger.keep_days))
        models: Mapping[str, EmbeddedModel | AttachedModel]
        if member is None:
            models = await stack.enter_async_context(embedded_models(blueprint, progress))
        else:
            models = member.attached_models()
        admission = await stack.enter_async_context(admission_of(blueprint))
        if member is not None and member.admission is not None:
            admission = member.admission
        stores = await stack.enter_async_context(cache_stores_of(blueprint))
        metrics = Metrics() if config.telemetry.export_metrics == "prometheus" else None
        trail = Trail()
        observers: list[Observer] = [
            CallLog(log_calls=config.telemetry.log_chain_position),
            LedgerObserver(ledger, track_fallback_costs=config.telemetry.track_fallback_costs),
            trail,
            *own_observers(),
            *own,
        ]
        if metrics is not None:
            observers.append(metrics)
        traces = await stack.enter_async_context(
            telemetry(config.telemetry.otlp, service_version(), lambda: app.router.blueprint)
        )
        if traces is not None:
            observers.append(traces)
        router = Router(
            blueprint,
            classifier=TaskClassifier.load(),
            gates=own_gates(),
            observers=observers,
            providers=providers,
            embedded={name: model.base_url for name, model in models.items()},
            admission=admission,
            stores=stores,
        )
        guard = CallGuard(config.server.max_calls)
        guard.traced = traces.begin if traces is not None else None
        retired = await stack.enter_async_context(retirement())
        app = App(blueprint, router, ledger, metrics, trail, guard, models, tuple(observers), read, providers, retired)
        stack.push_async_callback(app.aclose)
        await stack.enter_async_context(app.machines.running(metrics))
        await stack.enter_async_context(calibrating(ledger, lambda: app.router))
        await stack.enter_async_context(router.state.flights)
        if metrics is not None:
            metrics.caches(lambda: app.router.state.caches)
            metrics.gauge("gearshift_calls_in_flight", "Calls that are running.", lambda: guard.in_flight)
            metrics.gauge("gearshift_ledger_pending", "Rows that wait to be written.", lambda: ledger.status().pending)
            metrics.gauge("gearshift_ledger_dropped", "Rows that were dropped.", lambda: ledger.status().dropped)
            metrics.counts(
                "gearshift_refused_keys",
                "Calls without a right key: missing, unknown, revoked or expired.",
                ("cause",),
                lambda: {(cause,): count for cause, count in guard.refusals.by_cause.items()},
            )
            metrics.levels(
                "gearshift_budget_left_usd",
                "What is left of budgets, USD; below 0 was spent too much.",
                ("of", "name", "period"),
                lambda: app.budgets.left(time.monotonic()),
            )
            if (certificates := app.certificates) is not None:
                left = lambda: certificates.expires_at - time.time()
                metrics.gauge("gearshift_certificate_seconds_left", "Until the TLS certificate runs out.", left)
            unrecorded = lambda: ledger.status().unacknowledged
            metrics.gauge("gearshift_ledger_unacknowledged", "Calls answered before they were recorded.", unrecorded)
            if (store := app.store) is not None:
                health = store.health
                metrics.gauge(
                    "gearshift_shared_up", "Whether the shared store is there (1) or away (0).", lambda: store.is_up
                )
                metrics.gauge("gearshift_shared_processes", "Processes that share limits.", lambda: store.processes)
                metrics.gauge(
                    "gearshift_shared_changes", "How often it went away or came back.", lambda: health.changes
                )
                metrics.gauge("gearshift_shared_round_trip_seconds", "Moving average.", lambda: health.round_trip_s)
        await stack.enter_async_context(app.budgets.seeding(blueprint))
        methods: dict[str, Any] = {}
        calling = Calling(methods)
        if config.server.http:
            # Around the gRPC server, so that it shows how that one leaves, and its calls are given their grace as well.
            app.http_port = await stack.enter_async_context(
                http_port(config.server, _routes(app, calling, member), app.certificates, reuse_port=member is not None)
            )
        await stack.enter_async_context(_serving(app, config.server, member, calling, methods))
        await stack.enter_async_context(following(*app.followed()))
        for warning in (*blueprint.warnings, *app.keys.warnings()):
            _log.warning(warning)
        yield app


def _routes(app: App, calling: Calling, member: Member | None) -> list[web.AbstractRouteDef]:
    """Give what the HTTP port serves."""
    server = app.router.blueprint.config.server
    metrics = app.metrics
    whole = None
    if member is not None and metrics is not None:
        whole = whole_exposition(member, metrics, app.router.blueprint)
    routes: list[web.AbstractRouteDef] = [
        *monitoring_routes(metrics, lambda: app.is_serving, lambda: app.access, app.guard.refusals, whole)
    ]
    if takes_calls(server):
        routes += grpc_web_routes(calling, SERVICES, server.max_message_bytes)
        if server.pages:
            routes += page_routes()
        if server.openai.enabled:
            routes += openai_routes(app, calling)
    return routes


@asynccontextmanager
async def _serving(
    app: App, config: ServerConfig, member: Member | None, calling: Calling, methods: dict[str, Any]
) -> AsyncGenerator[None]:
    """Run the gRPC server while the block runs; its handlers go into `methods` as well."""
    server = grpc.aio.server(options=_options(config, shared=member is not None))
    routing = RouterService(app) if member is None else TeamRouterService(app, member)
    operating = OpsService(app) if member is None else TeamOpsService(app, member)
    router_pb2_grpc.add_RouterServiceServicer_to_server(routing, app.guard.over(server, methods))
    ops_pb2_grpc.add_OpsServiceServicer_to_server(operating, app.guard.over(server, methods))
    checks = health.aio.HealthServicer()
    refusals = app.guard.refusals
    health_key = keyed(lambda: app.access, lambda keys: keys.is_open or keys.config.open_health, refusals)
    health_pb2_grpc.add_HealthServicer_to_server(checks, handlers_of(server, health_key, methods))
    reflection_key = keyed(lambda: app.access, lambda keys: keys.is_open or keys.config.open_reflection, refusals)
    channels_key = keyed(lambda: app.access, lambda keys: keys.is_open, refusals, for_ops=True)
    channelz_pb2_grpc.add_ChannelzServicer_to_server(  # pyright: ignore[reportUnknownMemberType]
        channelz.aio.ChannelzServicer(), handlers_of(server, channels_key)
    )
    enable_reflection(server, SERVICES, reflection_key)
    app.port = _bind(server, config, app.certificates)
    await server.start()
    for name in ("", *SERVICES[:2]):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    app.is_serving = True
    try:
        with sparing(config.own_cores):
            yield
    finally:
        app.is_serving = False
        with anyio.CancelScope(shield=True):
            await checks.enter_graceful_shutdown()
            await anyio.sleep(config.notice_s)
            app.trail.close()
            await _drain(server, app.guard, config.grace_s, calling)


async def _drain(server: grpc.aio.Server, guard: CallGuard, grace_s: float, calling: Calling) -> None:
    """Stop taking calls and give those that run `grace_s` to end.

    Health watches and reflection never end by themselves, so the server is stopped as soon as our own calls have ended.
    """
    # gRPC cancels what has arrived and was not begun when it stops, which clients do not try again: so new calls are refused
    # by us first, for as long as messages may be under way.
    guard.is_leaving = True
    await anyio.sleep(_LAST_MESSAGES_S)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.stop, grace_s)
        with anyio.move_on_after(grace_s):
            # A turn of the loop lets the server refuse new calls before the running ones are looked at.
            await anyio.lowlevel.checkpoint()
            await guard.wait_idle()
            await server.stop(_LAST_MESSAGES_S)
    calling.cancel()
    # stop() returns before cancelled handlers have cleaned up.
    with anyio.move_on_after(_CLEANUP_S):
        await guard.wait_idle()


def _options(config: ServerConfig, *, shared: bool) -> list[tuple[str, int]]:
    return [
        # Alone, a port that somebody else listens on is an error, not a silent half of the calls.
        ("grpc.so_reuseport", int(shared)),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_metadata_size", 32 * 1024),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        *([("grpc.max_connection_age_ms", round(config.connection_age_s * 1000))] if config.connection_age_s else []),
    ]


def _bind(server: grpc.aio.Server, config: ServerConfig, certificates: Certificates | None) -> int:
    host = f"[{config.host}]" if ":" in config.host else config.host
    address = f"{host}:{config.port}"
    try:
        if certificates is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, certificates.credentials())
    except RuntimeError as error:
        raise ConfigError(
            [f"server.port: cannot listen on {address}: it is in use or not this machine's; choose another with --port"]
        ) from error


def ledger_path(config: Config) -> str:
    """Give the ledger's file; the default stands in the user's state folder, which is made."""
    if config.ledger.path:
        return config.ledger.path
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    folder = Path(state) / "gearshift"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError([f"ledger.path: cannot make {folder} ({error.strerror}); set ledger.path"]) from error
    return str(folder / "ledger.db")
