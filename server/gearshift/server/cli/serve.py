"""`gearshift serve`: run the service until it is told to stop.

Rules: what a person reads goes to standard error; the address is printed once calls are taken. SIGTERM and Ctrl-C drain,
SIGHUP, or a change of the file, reads the configuration again. With several workers this process is their supervisor and
loads no gRPC; hence the service itself is imported where it is run.
"""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from msgspec import structs

from gearshift.core.blueprint import Blueprint
from gearshift.core.config.model import Config
from gearshift.core.config.revision import config_revision
from gearshift.core.embedded import Phase, Progress, gemma_terms
from gearshift.core.errors import RouteError
from gearshift.server.cli.configured import CONFIG_VARIABLE, DEFAULT_FILE, Configured, configured
from gearshift.server.logs import configure_logs
from gearshift.server.version import service_version
from gearshift.server.watching import watch_file
from gearshift.server.web.taking import takes_calls

if TYPE_CHECKING:
    from gearshift.server.app import App

_log = logging.getLogger(__name__)

_LAST_PORT = 65_535
_MOST_WORKERS = 256

_EPILOG = f"""examples:
  gearshift serve                        on 127.0.0.1:50051, with {DEFAULT_FILE} or what is on this machine
  gearshift serve --config prod.yaml     a configuration of your own
  gearshift serve --port 0               a free port, printed on standard error
  gearshift serve --workers 4            four processes on the same ports, for as many cores
  gearshift serve --use-env-keys         use provider keys in the environment, at most 1 USD a day

signals:
  SIGTERM, SIGINT   stop taking calls, let those that run finish, then stop; with workers, a second one stops at once
  SIGHUP            read the configuration again; an invalid one changes nothing"""


class ServeCommand:
    """Runs the service."""

    name = "serve"
    help = "run the service"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_config_arguments(parser)
        parser.add_argument("--host", help="address to listen on (server.host, 127.0.0.1)")
        parser.add_argument("--port", type=_port, help="gRPC port; 0 takes a free one (server.port, 50051)")
        parser.add_argument("--http-port", type=_port, help="port of metrics and health (server.http_port, 9464)")
        parser.add_argument("--no-http", action="store_true", help="no HTTP port at all")
        parser.add_argument("--workers", type=_workers, help="processes that share the ports (server.workers, 1)")
        parser.add_argument("--ledger", help="SQLite file of the ledger; :memory: keeps nothing (ledger.path)")
        parser.add_argument(
            "--log-level", choices=["debug", "info", "warning", "error"], help="least level (telemetry.log_level)"
        )
        parser.epilog = _EPILOG

    def run(self, arguments: argparse.Namespace) -> int:
        """Serve until a signal comes."""
        try:
            found = configured(arguments.config, use_env_keys=arguments.use_env_keys, changed=asked_of(arguments))
            config = found.blueprint.config
            configure_logs(config.telemetry.log_level)
            if config.server.workers > 1:
                return anyio.run(_supervise, found)
            anyio.run(_serve, found, backend_options={"use_uvloop": config.server.uvloop})
        except RouteError as error:
            return failed("serve", error)
        except BaseExceptionGroup as group:
            from gearshift.server.status import lone

            inner = lone(group)
            if isinstance(inner, RouteError):
                return failed("serve", inner)
            raise
        return 0


COMMAND = ServeCommand()


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a configuration."""
    parser.add_argument(
        "--config",
        "-c",
        metavar="FILE",
        help=f"configuration file (${CONFIG_VARIABLE}, ./{DEFAULT_FILE}, or what is on this machine)",
    )
    parser.add_argument(
        "--use-env-keys",
        action="store_true",
        help="without a file: use provider keys in the environment, spending at most 1 USD a day",
    )


def _port(text: str) -> int:
    """Read a port, 0 to 65535."""
    return _whole(text, 0, _LAST_PORT)


def _workers(text: str) -> int:
    """Read a number of workers, 1 to 256."""
    return _whole(text, 1, _MOST_WORKERS)


def _whole(text: str, least: int, most: int) -> int:
    """Read a whole number in a range, or say which it must be in."""
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, not {text!r}")
    return int(text)


def asked_of(arguments: argparse.Namespace) -> Callable[[Config], Config]:
    """Give what puts the command line's wishes into a configuration."""

    def changed(config: Config) -> Config:
        server, ledger, telemetry = config.server, config.ledger, config.telemetry
        server = structs.replace(
            server,
            host=server.host if arguments.host is None else arguments.host,
            port=server.port if arguments.port is None else arguments.port,
            http_port=server.http_port if arguments.http_port is None else arguments.http_port,
            http=server.http and not arguments.no_http,
            workers=server.workers if arguments.workers is None else arguments.workers,
        )
        if arguments.ledger is not None:
            ledger = structs.replace(ledger, path=arguments.ledger)
        if arguments.log_level is not None:
            telemetry = structs.replace(telemetry, log_level=arguments.log_level)
        return structs.replace(config, server=server, ledger=ledger, telemetry=telemetry)

    return changed


def failed(command: str, error: RouteError) -> int:
    """Tell a person why a command failed; give the exit code."""
    print(f"gearshift {command}: {error}", file=sys.stderr)
    return 1


def progress_on(write: Callable[[str], object]) -> Callable[[Progress], None]:
    """Give what tells a person how the embedded model's start goes, a line a phase."""
    last: list[Phase] = []

    def tell(progress: Progress) -> None:
        if last == [progress.phase]:
            return
        last[:] = [progress.phase]
        write(f"embedded model: {progress.phase.value} ({progress.elapsed_s:.1f} s)\n")

    return tell


async def _serve(found: Configured) -> None:
    from gearshift.server.app import running_app

    write, told = sys.stderr.write, _Told()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        _introduce(found)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_heed, signals, told, tasks.cancel_scope)
            async with running_app(found.blueprint, read=found.read, progress=progress_on(write)) as app:
                told.app = app
                _tell(found, app.port, app.http_port)
                async with anyio.create_task_group() as reloads:
                    reloads.start_soon(_reload_when_asked, app, told)
                    if (file := _watched(found)) is not None:
                        reloads.start_soon(watch_file, file, told.reload)
                    # What is alive now stays: the collector need not look at it again.
                    gc.collect()
                    gc.freeze()
                    await told.stop.wait()
                    write("stopping: calls that run may finish\n")
                    reloads.cancel_scope.cancel()
            tasks.cancel_scope.cancel()


async def _supervise(found: Configured) -> int:
    """Run the workers, and be what joins them."""
    from gearshift.server.workers.ports import reserved
    from gearshift.server.workers.supervisor import Supervisor

    config = found.blueprint.config.server
    with (
        anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals,
        ExitStack() as stack,
    ):
        _introduce(found)
        port = stack.enter_context(reserved(config.host, config.port, "server.port", "choose another with --port"))
        http_port = 0
        if config.http:
            hint = "choose another, or http: false"
            http_port = stack.enter_context(reserved(config.http_host, config.http_port, "server.http_port", hint))

        def on_ports(blueprint: Blueprint) -> Blueprint:
            """Put in what the ports came to, so that a reload finds them unchanged."""
            asked = blueprint.config.server
            server = structs.replace(
                asked,
                port=port if asked.port == config.port else asked.port,
                http_port=http_port if config.http and asked.http_port == config.http_port else asked.http_port,
            )
            whole = structs.replace(blueprint.config, server=server)
            return replace(blueprint, config=whole, revision=config_revision(whole))

        read = found.read
        supervisor = Supervisor(
            on_ports(found.blueprint),
            None if read is None else lambda: on_ports(read()),
            config.workers,
            serving=lambda: _tell(found, port, http_port),
            progress=progress_on(sys.stderr.write),
        )
        code = 1
        async with anyio.create_task_group() as tasks:
            if (file := _watched(found)) is not None:
                tasks.start_soon(watch_file, file, supervisor.reload_quietly)
            code = await supervisor.run(signals)
            tasks.cancel_scope.cancel()
        return code


def _watched(found: Configured) -> Path | None:
    """Give the file whose changes are put in force; None where there is none, or nobody asked for it."""
    return Path(found.source) if found.read is not None and found.blueprint.config.server.watch_config else None


class _Told:
    """What signals act on."""

    def __init__(self) -> None:
        self.app: App | None = None
        self.stop = anyio.Event()
        self.again = anyio.Event()
        """Set when the configuration is to be read again."""

    async def reload(self) -> None:
        """Have the configuration read again."""
        self.again.set()


async def _heed(signals: AsyncIterator[signal.Signals], told: _Told, whole: anyio.CancelScope) -> None:
    """Do what signals ask; a stop that comes while the service still starts ends the start."""
    async for number in signals:
        app = told.app
        if number == signal.SIGHUP:
            told.again.set()
        elif app is None:
            sys.stderr.write("stopped before it served\n")
            whole.cancel()
            return
        else:
            told.stop.set()
            return


def _introduce(found: Configured) -> None:
    write = sys.stderr.write
    write(f"gearshift {service_version()}, configured by {found.source}\n")
    for notice in found.notices:
        write(f"  {notice}\n")
    if any(spec.kind == "embedded" for spec in found.blueprint.providers.values()):
        terms = gemma_terms()
        write(f"  {terms.model}: {terms.notice}\n")


def _tell(found: Configured, port: int, http_port: int) -> None:
    server = found.blueprint.config.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    sys.stderr.write(f"serving on {host}:{port}\n")
    if http_port:
        scheme = "https" if server.http_tls else "http"
        address = f"{scheme}://{f'[{server.http_host}]' if ':' in server.http_host else server.http_host}:{http_port}"
        sys.stderr.write(f"metrics on {address}/metrics\n")
        if takes_calls(server) and server.pages:
            sys.stderr.write(f"chat on {address}/, dashboard on {address}/ops\n")
    for warning in found.blueprint.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    sys.stderr.flush()


async def _reload_when_asked(app: App, told: _Told) -> None:
    """Read the configuration again when that is asked for; once for all who ask while it is read."""
    while True:
        await told.again.wait()
        told.again = anyio.Event()
        await _reload(app)


async def _reload(app: App) -> None:
    try:
        changed = await app.reload()
    except RouteError as error:
        _log.error("the configuration was not reloaded: %s", error)
    else:
        _log.info("the configuration was read again: %s", "it has changed" if changed else "nothing has changed")
