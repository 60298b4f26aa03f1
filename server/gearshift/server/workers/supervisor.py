"""The supervisor: keeps N workers serving one port, and is the middle of their bus.

Rules: loads no gRPC. A worker that dies is started again, after a wait that grows; when none has served yet, or so many
starts in a row fail that nobody serves, it gives up. SIGTERM and Ctrl-C drain, a second one ends at once; SIGHUP reloads.
Workers are ended by their process ids, and end by themselves when this process does.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from gearshift.core.blueprint import Blueprint
from gearshift.core.config.model import Config
from gearshift.core.embedded.state import ProgressCallback, resident_bytes
from gearshift.core.errors import ConfigError
from gearshift.core.opening import EmbeddedModels, embedded_models
from gearshift.server.reloading import reloadable
from gearshift.server.workers.backoff import GIVE_UP, Backoff
from gearshift.server.workers.figures import Family, Sample, counted, summed
from gearshift.server.workers.link import Link
from gearshift.server.workers.messages import (
    SUPERVISOR,
    Answers,
    Ask,
    Failed,
    Part,
    Ready,
    Reply,
    Start,
    Team,
    Tell,
    ToSupervisor,
)
from gearshift.server.workers.setup import packed
from gearshift.server.workers.status import EmbeddedRow, ReloadResult, SupervisorStatus, WorkerRow
from gearshift.server.workers.switchboard import Switchboard

_log = logging.getLogger(__name__)

START_S: Final = 60.0
"""How long a worker may take to serve."""
_PREPARE_S: Final = 10.0
_LOOK_S: Final = 5.0
_SILENCES: Final = 3
"""So many questions in a row without an answer, each `_LOOK_S` after the last: the worker hangs."""
_OVERTIME_S: Final = 15.0
"""What a worker gets beyond the grace to write its ledger and leave."""


class _Worker:
    """One place in the team, and the process that fills it."""

    def __init__(self, number: int, backoff: Backoff) -> None:
        self.number = number
        self.backoff = backoff
        self.process: anyio.abc.Process | None = None
        self.link: Link[ToSupervisor] | None = None
        self.state = "starting"
        self.starts = 0
        self.started_at = 0.0
        self.ready_at = 0.0
        self.revision = ""
        self.last_error = ""
        self.books = b""


class Supervisor:
    """Runs the workers.

    Args:
        blueprint: the configuration, with ports that are numbers (`ports.reserved`).
        read: reads it again, for reloads; None where there is no file.
        size: how many workers.
        serving: called once all of them serve.

    """

    def __init__(
        self,
        blueprint: Blueprint,
        read: Callable[[], Blueprint] | None,
        size: int,
        *,
        serving: Callable[[], None],
        progress: ProgressCallback | None = None,
    ) -> None:
        self._blueprint = blueprint
        self._config = packed(blueprint.config)
        self._file = read
        self._size = size
        self._serving = serving
        self._progress = progress
        self._board = Switchboard()
        chance = random.Random()
        self._workers = [_Worker(number, Backoff(chance)) for number in range(size)]
        self._models: EmbeddedModels = {}
        self._figures: dict[int, list[Family]] = {}
        self._gone: list[Family] = []
        self._reloading = anyio.Lock()
        self._again = anyio.Event()
        """Set when the configuration is to be read again."""
        self._reloads = anyio.CancelScope()
        self._stopping = anyio.Event()
        self._failures = 0
        self._has_served = False
        self._problems: list[str] = []
        self._killed = False
        self._lifeline = -1

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._blueprint.config

    async def run(self, signals: AsyncIterator[signal.Signals]) -> int:
        """Serve until a stop is asked for; give the exit code.

        Raises:
            ConfigError: no worker could start; why.
            EmbeddedModelError: the embedded model cannot be started.
        """
        with ExitStack() as stack:
            lifeline, kept = os.pipe()
            stack.callback(os.close, kept)
            stack.callback(os.close, lifeline)
            self._lifeline = lifeline
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._heed, signals, tasks.cancel_scope)
                tasks.start_soon(self._look_after)
                tasks.start_soon(self._reload_when_asked)
                async with embedded_models(self._blueprint, self._progress) as models:
                    self._models = models
                    async with anyio.create_task_group() as keepers:
                        for worker in self._workers:
                            keepers.start_soon(self._keep, worker)
                tasks.cancel_scope.cancel()
        if self._problems:
            raise ConfigError(self._problems)
        return 1 if self._killed else 0

    async def reload(self) -> bool:
        """Read the configuration again and put it in force in all workers, or in none; tell whether it has changed.

        Raises:
            ConfigError: it is wrong, or a worker cannot take it.
        """
        if self._file is None:
            raise ConfigError(["this service was started without a file, so there is nothing to read again"])
        async with self._reloading:
            old = self._blueprint
            # In a thread, so that the bus goes on meanwhile.
            blueprint = reloadable(old, await anyio.to_thread.run_sync(self._file))
            for warning in blueprint.warnings:
                if warning not in old.warnings:
                    _log.warning(warning)
            heard = await self._board.ask("reread", b"")
            if problems := [f"worker {each.worker}: {each.error}" for each in heard.parts if each.error]:
                raise ConfigError(problems)
            if blueprint.revision == old.revision:
                self._blueprint = replace(old, warnings=blueprint.warnings)
                return any(each.body for each in heard.parts)
            body = packed(blueprint.config)
            heard = await self._board.ask("prepare", body, within_s=_PREPARE_S)
            problems = [f"worker {each.worker}: {each.error}" for each in heard.parts if each.error]
            problems += [f"worker {number}: did not answer within {_PREPARE_S:g} s" for number in heard.missing]
            if problems:
                await self._board.ask("drop", b"")
                raise ConfigError(problems)
            # Who starts from here on serves the new one.
            self._blueprint, self._config = blueprint, body
            prepared = [each.worker for each in heard.parts]
            revisions = {each.body.decode() for each in heard.parts} or {blueprint.revision}
            heard = await self._board.ask("commit", heard.parts[0].body if heard.parts else b"", to=prepared)
            for number in (*heard.missing, *(each.worker for each in heard.parts if each.error)):
                if self._stopping.is_set():
                    break  # it is leaving, and finishes what runs
                # It has said that it can: one that then does not is no longer of the same mind as the others.
                self._end(self._workers[number], "it did not take a new configuration")
            for worker in self._workers:
                if worker.number in prepared:
                    worker.revision = min(revisions)
            return True

    def status(self) -> SupervisorStatus:
        """Give what runs."""
        now = time.time()
        return SupervisorStatus(
            workers=[
                WorkerRow(
                    number=each.number,
                    pid=each.process.pid if each.process is not None else 0,
                    state=each.state,
                    restarts=max(0, each.starts - 1),
                    up_s=now - each.started_at if each.process is not None else 0.0,
                    resident_bytes=(resident_bytes(each.process.pid) or 0) if each.process is not None else 0,
                    last_error=each.last_error,
                )
                for each in self._workers
            ],
            embedded=[
                EmbeddedRow(
                    state=state.state.value,
                    pid=state.pid or 0,
                    resident_bytes=state.rss_bytes or 0,
                    restarts=state.restarts,
                    last_error=state.last_error,
                )
                for state in (model.status() for model in self._models.values())
            ],
            warnings=list(self._blueprint.warnings),
        )

    async def _heed(self, signals: AsyncIterator[signal.Signals], whole: anyio.CancelScope) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                self._again.set()
            elif self._stopping.is_set():
                sys.stderr.write("stopping at once\n")
                for worker in self._workers:
                    self._kill(worker)
            else:
                if not self._has_served:
                    sys.stderr.write("stopped before it served\n")
                else:
                    sys.stderr.write("stopping: calls that run may finish\n")
                sys.stderr.flush()
                self._stop()
                if not any(worker.process is not None for worker in self._workers):
                    whole.cancel()

    async def _reload_and_log(self) -> None:
        try:
            changed = await self.reload()
        except ConfigError as error:
            _log.error("the configuration was not reloaded: %s", error)
        else:
            _log.info("the configuration was read again: %s", "it has changed" if changed else "nothing has changed")

    async def reload_quietly(self) -> None:
        """Have it reloaded because the file has changed."""
        self._again.set()

    async def _reload_when_asked(self) -> None:
        """Reload when that is asked for, once for all who ask meanwhile, until a stop is: no signal waits behind another."""
        with self._reloads:
            while True:
                await self._again.wait()
                self._again = anyio.Event()
                await self._reload_and_log()

    async def _look_after(self) -> None:
        """End workers that hang, so that they are replaced: the kernel goes on giving them connections."""
        silences = [0] * self._size
        while not self._stopping.is_set():
            await anyio.sleep(_LOOK_S)
            # Any answer will do, also that it does not know the question.
            heard = await self._board.ask("alive", b"", within_s=_LOOK_S)
            for worker in self._workers:
                is_silent = worker.number in heard.missing
                silences[worker.number] = silences[worker.number] + 1 if is_silent else 0
                if silences[worker.number] == _SILENCES and not self._stopping.is_set():
                    self._end(worker, "it hangs: it answers no question")

    def _stop(self) -> None:
        self._stopping.set()
        self._reloads.cancel()
        for worker in self._workers:
            self._terminate(worker)

    def _give_up(self, problems: list[str]) -> None:
        if not self._problems:
            self._problems = problems
        self._stop()

    async def _keep(self, worker: _Worker) -> None:
        """Fill one place until a stop is asked for."""
        while not self._stopping.is_set():
            failed = await self._run_once(worker)
            if self._stopping.is_set():
                return
            served_s = time.monotonic() - worker.ready_at if worker.ready_at else 0.0
            if not worker.ready_at:
                self._failures += 1
                if not self._has_served:
                    self._give_up(failed or [f"worker {worker.number} {worker.last_error}"])
                    return
                if self._failures >= GIVE_UP and not self._board.serving:
                    self._give_up([f"workers cannot be kept: {'; '.join(failed) or worker.last_error}"])
                    return
            delay_s = worker.backoff.next_delay(served_s)
            _log.error(
                "a worker has ended and is started again",
                extra={"fields": {"worker": worker.number, "why": worker.last_error, "in_s": round(delay_s, 3)}},
            )
            with anyio.move_on_after(delay_s):
                await self._stopping.wait()

    async def _run_once(self, worker: _Worker) -> list[str]:
        """Run one process to its end; gives why it could not start, where it said so."""
        worker.state, worker.ready_at = "starting", 0.0
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await anyio.open_process(
                    [sys.executable, "-m", "gearshift.server.workers", str(theirs.fileno()), str(self._lifeline)],
                    stdin=subprocess.DEVNULL,
                    stdout=None,
                    stderr=None,
                    pass_fds=(theirs.fileno(), self._lifeline),
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                worker.last_error = f"cannot be started: {error.strerror}"
                return []
        link: Link[ToSupervisor] = await Link.over(ours, ToSupervisor)  # type: ignore[arg-type]
        worker.process, worker.link = process, link
        worker.starts += 1
        worker.started_at = time.time()
        said: list[str] = []
        try:
            link.send(self._start_of(worker))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._hurry, worker)
                tasks.start_soon(self._bound, worker)
                await self._read(worker, link, said)
                await process.wait()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                await process.wait()
            link.close()
            worker.process, worker.link = None, None
            self._left(worker)
        worker.state = "stopped"
        worker.last_error = _why(process.returncode, said)
        return said

    async def _bound(self, worker: _Worker) -> None:
        """Once a stop was asked for, end a process that is not gone when its grace is over."""
        await self._stopping.wait()
        server = self.config.server
        await anyio.sleep(server.notice_s + server.grace_s + _OVERTIME_S)
        _log.error("a worker did not end within its grace", extra={"fields": {"worker": worker.number}})
        self._kill(worker)

    async def _hurry(self, worker: _Worker) -> None:
        await anyio.sleep(START_S)
        if not worker.ready_at:
            self._end(worker, f"it did not serve within {START_S:g} s")

    async def _read(self, worker: _Worker, link: Link[ToSupervisor], said: list[str]) -> None:
        async with anyio.create_task_group() as tasks:
            while (message := await link.receive()) is not None:
                match message:
                    case Ready():
                        await self._ready(worker, link, message)
                    case Failed():
                        said += message.problems
                    case Reply():
                        self._board.reply(worker.number, message)
                    case Ask():
                        tasks.start_soon(self._asked, worker, link, message)
                    case Tell():
                        self._told(worker, message)
            tasks.cancel_scope.cancel()

    async def _ready(self, worker: _Worker, link: Link[ToSupervisor], ready: Ready) -> None:
        worker.state, worker.ready_at, worker.revision = "serving", time.monotonic(), ready.revision
        self._failures = 0
        self._board.join(worker.number, link)
        is_first = not self._has_served and len(self._board.serving) == self._size
        self._has_served = self._has_served or is_first
        self._tell_team()
        if ready.revision != self._blueprint.revision:
            # The configuration changed while it started.
            self._end(worker, "it started with an old configuration")
        if is_first:
            self._serving()

    def _told(self, worker: _Worker, notice: Tell) -> None:
        if notice.what == "books":
            worker.books = notice.body
        elif notice.what == "farewell":
            self._figures[worker.number] = _families(notice.body)
        else:
            self._board.pass_on(worker.number, notice)

    async def _asked(self, worker: _Worker, link: Link[ToSupervisor], question: Ask) -> None:
        others = [number for number in self._board.serving if number != worker.number]
        parts: list[Part] = []
        missing: list[int] = []
        match question.what:
            case "reload":
                parts = [Part(SUPERVISOR, msgspec.msgpack.encode(await self._reloaded()))]
            case "figures":
                parts, missing = await self._all_figures(worker, question.body, others)
            case _:
                heard = await self._board.ask(question.what, question.body, to=others)
                parts, missing = heard.parts, heard.missing
                if question.what == "status":
                    parts = [Part(SUPERVISOR, msgspec.msgpack.encode(self.status())), *parts]
        link.send(Answers(question.id, parts, missing))

    async def _reloaded(self) -> ReloadResult:
        try:
            changed = await self.reload()
        except ConfigError as error:
            return ReloadResult(False, self._blueprint.revision, list(error.problems))
        return ReloadResult(changed, self._blueprint.revision)

    async def _all_figures(self, worker: _Worker, own: bytes, others: list[int]) -> tuple[list[Part], list[int]]:
        """Give what all others counted: of who does not answer what it told last, of who is dead what it had counted."""
        self._figures[worker.number] = _families(own)
        heard = await self._board.ask("figures", b"", to=others)
        for each in heard.parts:
            if not each.error:
                self._figures[each.worker] = _families(each.body)
        known = [families for number, families in self._figures.items() if number != worker.number]
        whole = [*known, self._gone, self._own_figures()]
        return [Part(SUPERVISOR, msgspec.msgpack.encode(families)) for families in whole], heard.missing

    def _own_figures(self) -> list[Family]:
        rows = self.status().workers
        labels = [(("worker", str(each.number)),) for each in rows]
        return [
            Family(
                "gearshift_worker_up",
                "Whether the worker takes calls.",
                "gauge",
                [
                    Sample("gearshift_worker_up", label, float(row.state == "serving"))
                    for label, row in zip(labels, rows, strict=True)
                ],
            ),
            Family(
                "gearshift_worker_restarts",
                "How often the worker was started again.",
                "counter",
                [
                    Sample("gearshift_worker_restarts_total", label, float(row.restarts))
                    for label, row in zip(labels, rows, strict=True)
                ],
            ),
            Family(
                "gearshift_worker_resident_bytes",
                "The worker's resident memory.",
                "gauge",
                [
                    Sample("gearshift_worker_resident_bytes", label, float(row.resident_bytes))
                    for label, row in zip(labels, rows, strict=True)
                ],
            ),
        ]

    def _left(self, worker: _Worker) -> None:
        self._board.leave(worker.number)
        self._gone = summed([self._gone, counted(self._figures.pop(worker.number, []))])
        self._tell_team()

    def _tell_team(self) -> None:
        # Not before all have served once: until then the limits are divided as if they did.
        if self._has_served:
            self._board.tell_all(Team(self._board.serving))

    def _start_of(self, worker: _Worker) -> Start:
        sockets: Mapping[str, str] = {name: model.base_url for name, model in self._models.items()}
        # Who joins counts itself; at the first start everybody counts everybody.
        alive = len(self._board.serving) + 1 if self._has_served else self._size
        return Start(worker.number, self._size, alive, self._config, dict(sockets), worker.books)

    def _end(self, worker: _Worker, why: str) -> None:
        _log.error("a worker is ended", extra={"fields": {"worker": worker.number, "why": why}})
        self._kill(worker)

    def _terminate(self, worker: _Worker) -> None:
        if worker.process is not None and worker.process.returncode is None:
            worker.process.terminate()

    def _kill(self, worker: _Worker) -> None:
        if worker.process is not None and worker.process.returncode is None:
            self._killed = self._killed or self._stopping.is_set()
            worker.process.kill()


def _families(body: bytes) -> list[Family]:
    return msgspec.msgpack.decode(body, type=list[Family])


def _why(code: int | None, said: list[str]) -> str:
    if said:
        return "; ".join(said)
    if code is None:
        return "ended"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
