"""What a worker does: serves its share of the calls.

Rules: SIGTERM drains and ends it; so does the end of its supervisor. What it counted goes to the supervisor last of all,
after the last call has ended.
"""

from __future__ import annotations

import gc
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator
from typing import Final

import anyio
import anyio.to_thread
import msgspec
from msgspec import Struct

from gearshift.core.blueprint import Blueprint
from gearshift.core.catalogue import Catalogue
from gearshift.core.config.model import Config
from gearshift.core.errors import ConfigError, RouteError
from gearshift.core.router import Router
from gearshift.core.shares import ShareAdmission, ShareBooks
from gearshift.server.app import App, running_app
from gearshift.server.logs import configure_logs
from gearshift.server.metrics import Metrics
from gearshift.server.status import lone
from gearshift.server.workers.link import Link, read_frame
from gearshift.server.workers.member import Member
from gearshift.server.workers.messages import Failed, Ready, Start, Tell, ToWorker
from gearshift.server.workers.setup import unpacked

_log = logging.getLogger(__name__)

_BOOKS_S: Final = 0.1
"""How old what the supervisor knows of a worker's limits may be, where that costs no more than `_BOOKS_SHARE` of its CPU."""
_BOOKS_SHARE: Final = 0.01
_FLUSH_S: Final = 2.0


class Started(Struct):
    """What a worker was told first, decoded."""

    start: Start
    config: Config


def read_start(connected: socket.socket) -> Started:
    """Wait for what the supervisor says first.

    Raises:
        ConnectionError: the supervisor has gone.
    """
    start = msgspec.msgpack.decode(read_frame(connected), type=Start)
    return Started(start, msgspec.msgpack.decode(start.config, type=Config))


def serve_as_worker(connected: socket.socket, started: Started) -> int:
    """Serve until a stop is asked for; give the exit code."""
    config = started.config
    configure_logs(config.telemetry.log_level)
    return anyio.run(_work, connected, started.start, backend_options={"use_uvloop": config.server.uvloop})


async def _work(connected: socket.socket, start: Start) -> int:
    link: Link[ToWorker] = await Link.over(connected, ToWorker)  # type: ignore[arg-type]
    try:
        await _serve(link, start)
    except RouteError as error:
        return await _failed(link, error)
    except BaseExceptionGroup as group:
        inner = lone(group)
        if isinstance(inner, RouteError):
            return await _failed(link, inner)
        raise
    finally:
        link.close()
    return 0


async def _failed(link: Link[ToWorker], error: RouteError) -> int:
    problems = error.problems if isinstance(error, ConfigError) else [error.message]
    link.send(Failed(list(problems)))
    with anyio.move_on_after(_FLUSH_S):
        await link.flush()
    return 3


async def _serve(link: Link[ToWorker], start: Start) -> None:
    catalogue = Catalogue.load()
    blueprint = unpacked(start.config, catalogue)
    admission = None
    if blueprint.config.shared.redis is None:
        books = msgspec.msgpack.decode(start.books, type=ShareBooks) if start.books else None
        admission = ShareAdmission(start.number, start.size, start.alive, books)
    member = Member(link, start, admission)
    stop = anyio.Event()
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(member.run)
            tasks.start_soon(_heed, signals, stop)
            tasks.start_soon(_outlive, member, stop)
            metrics: Metrics | None = None
            async with running_app(blueprint, member=member) as app:
                metrics = app.metrics
                _Reloads(app, member, catalogue)
                if admission is not None:
                    tasks.start_soon(_keep_books, member, admission)
                gc.collect()
                gc.freeze()
                link.send(Ready(app.router.blueprint.revision))
                await stop.wait()
            if metrics is not None:
                link.send(Tell("farewell", msgspec.msgpack.encode(metrics.families())))
            with anyio.move_on_after(_FLUSH_S):
                await link.flush()
            tasks.cancel_scope.cancel()


async def _heed(signals: AsyncIterator[signal.Signals], stop: anyio.Event) -> None:
    async for _ in signals:
        stop.set()


async def _outlive(member: Member, stop: anyio.Event) -> None:
    """Stop when the supervisor has gone."""
    await member.ended.wait()
    if not stop.is_set():
        _log.warning("the supervisor has gone: this worker drains and ends")
        stop.set()


async def _keep_books(member: Member, admission: ShareAdmission) -> None:
    """Tell the supervisor what the limits have left, for who follows this worker should it die."""
    while True:
        began = time.monotonic()
        books = admission.books(began)
        if books.entries:
            member.tell("books", msgspec.msgpack.encode(books))
        await anyio.sleep(max(_BOOKS_S, (time.monotonic() - began) / _BOOKS_SHARE))


class _Reloads:
    """A reload's two steps in a worker: everything that can fail, then the change."""

    def __init__(self, app: App, member: Member, catalogue: Catalogue) -> None:
        self._app = app
        self._catalogue = catalogue
        self._prepared: tuple[Blueprint, Router] | None = None
        member.answers("prepare", self._prepare)
        member.answers("commit", self._commit)
        member.answers("drop", self._drop)
        member.answers("reread", self._reread)

    async def _prepare(self, body: bytes) -> bytes:
        await self._drop(b"")
        # In a thread, so that calls go on meanwhile.
        blueprint = await anyio.to_thread.run_sync(unpacked, body, self._catalogue)
        self._prepared = (blueprint, self._app.prepared(blueprint))
        return blueprint.revision.encode()

    async def _commit(self, body: bytes) -> bytes:
        if self._prepared is None or self._prepared[0].revision.encode() != body:
            raise ConfigError(["there is nothing to put in force"])
        _, router = self._prepared
        self._prepared = None
        await self._app.switch(router)
        return b""

    async def _drop(self, _body: bytes) -> bytes:
        if self._prepared is not None:
            _, router = self._prepared
            self._prepared = None
            await router.aclose()
        return b""

    async def _reread(self, _body: bytes) -> bytes:
        return b"1" if self._app.reread() else b""
