"""The embedded model's process, kept alive beside the service.

Rules: one process for the service and all its workers; it listens on a Unix socket in a private directory, whose path
stays the same over restarts. The process is restarted whenever it ends. `EmbeddedModel` owns the task group that watches
it and must be left by the task that entered it; any task may wait for `ready()`. Other processes only connect.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.abc
import anyio.from_thread
import anyio.to_thread
import msgspec

from gearshift.core.embedded import child
from gearshift.core.embedded.health import note_failed, until_healthy, until_started
from gearshift.core.embedded.settings import EmbeddedSettings, available_cores
from gearshift.core.embedded.state import (
    ModelState,
    Phase,
    Progress,
    ProgressCallback,
    RestartPolicy,
    Status,
    explain_exit,
    resident_bytes,
)
from gearshift.core.embedded.weights import INSTALL, Weights, prepare_weights, runtime_is_installed
from gearshift.core.errors import EmbeddedModelError

_SOCKET = "model.sock"
_STARTING_SOCKET = "start.sock"
"""Where a process listens until it has loaded; it is then renamed, so that whoever sees the socket gets an answer."""
_MAX_SOCKET_PATH = 103
"""Bytes; the shortest limit of the systems that have Unix sockets."""
_LOG_LINES = 200
_LOG_LINE_CHARS = 500


class EmbeddedModel:
    """A running model; `async with` starts it, and waits until it is ready unless `wait` is False.

    Raises:
        EmbeddedModelError: on entering, when the first start fails; says what to do.

    """

    def __init__(
        self, settings: EmbeddedSettings | None = None, *, progress: ProgressCallback | None = None, wait: bool = True
    ) -> None:
        self._settings = settings or EmbeddedSettings()
        self._progress = progress
        self._wait = wait
        self._state = ModelState.STARTING
        self._changed = anyio.Event()
        self._directory: Path | None = None
        self._process: anyio.abc.Process | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._starts = 0
        self._load_s: float | None = None
        self._ready_at = 0.0
        self._began_at = 0.0
        self._failure = ""
        self._last_error = ""
        self._log: deque[str] = deque(maxlen=_LOG_LINES)

    @property
    def socket_path(self) -> Path:
        """Where the model listens; the same over restarts, and there only while it can answer."""
        if self._directory is None:
            raise RuntimeError("the embedded model has not been entered")
        return self._directory / _SOCKET

    @property
    def base_url(self) -> str:
        """The socket as an account's base URL."""
        return f"unix://{self.socket_path}"

    @property
    def _starting_path(self) -> Path:
        return self.socket_path.with_name(_STARTING_SOCKET)

    def status(self) -> Status:
        """Give a picture of the process now."""
        pid = self._process.pid if self._process is not None else None
        return Status(
            state=self._state,
            socket_path=self.socket_path,
            pid=pid,
            restarts=max(0, self._starts - 1),
            rss_bytes=resident_bytes(pid) if pid is not None else None,
            load_s=self._load_s,
            last_error=self._last_error,
        )

    def log_lines(self) -> list[str]:
        """Give the last lines that llama.cpp logged, oldest first; they hold no prompts."""
        return list(self._log)

    async def ready(self) -> None:
        """Wait until the model answers.

        Raises:
            EmbeddedModelError: the last start failed, or the model was stopped; says what to do.

        """
        while self._state is ModelState.STARTING:
            await self._changed.wait()
        if self._state is not ModelState.READY:
            stopped = self._state is ModelState.STOPPED
            raise EmbeddedModelError("the embedded model was stopped" if stopped else self._last_error)

    async def __aenter__(self) -> Self:
        self._directory = _private_directory(self._settings.runtime_directory)
        tasks = anyio.create_task_group()
        try:
            await tasks.__aenter__()
            self._tasks = tasks
            tasks.start_soon(self._keep_running)
            if self._wait:
                await self.ready()
        except BaseException:
            await self.__aexit__(*sys.exc_info())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            if self._tasks is not None:
                tasks, self._tasks = self._tasks, None
                tasks.cancel_scope.cancel()
                # Only a cancellation is the group's business; another error of the block would come out wrapped.
                if isinstance(error, anyio.get_cancelled_exc_class()):
                    return await tasks.__aexit__(kind, error, trace)
                await tasks.__aexit__(None, None, None)
        finally:
            self._enter(ModelState.STOPPED)
            shutil.rmtree(self.socket_path.parent, ignore_errors=True)
        return None

    async def _keep_running(self) -> None:
        policy = RestartPolicy()
        while True:
            note_failed(self.socket_path, failed=False)
            self._enter(ModelState.STARTING)
            self._began_at = anyio.current_time()
            self._ready_at = 0.0
            try:
                await self._run_once(await self._prepare())
            except EmbeddedModelError as error:
                self._last_error = error.message
            except OSError as error:
                self._last_error = f"the embedded model's process cannot be started: {error}"
            served_s = anyio.current_time() - self._ready_at if self._ready_at else 0.0
            if not self._ready_at:
                note_failed(self.socket_path, failed=True)
                self._enter(ModelState.FAILED)
            else:
                self._enter(ModelState.STARTING)
            await anyio.sleep(policy.next_delay(served_s=served_s))

    async def _prepare(self) -> Weights:
        if not runtime_is_installed():
            raise EmbeddedModelError(f"the embedded model's runtime (xllamacpp) is not installed: {INSTALL}")
        self._report(Phase.CHECKING_WEIGHTS)
        settings = self._settings

        def tell(fraction: float) -> None:
            anyio.from_thread.run_sync(self._report, Phase.CHECKING_WEIGHTS, fraction)

        return await anyio.to_thread.run_sync(
            lambda: prepare_weights(
                cache_directory=settings.cache_directory,
                model_path=settings.model_path,
                sha256=settings.sha256,
                report=tell if self._progress else None,
            )
        )

    async def _run_once(self, weights: Weights) -> None:
        """Run one process to its end; leaves `_ready_at` at 0 when it never became ready."""
        self._failure = ""
        self._log.clear()
        self._report(Phase.STARTING)
        process = await anyio.open_process(
            self._command(weights),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._process = process
        try:
            with anyio.move_on_after(self._settings.start_timeout_s) as start:
                async with anyio.create_task_group() as readers:
                    readers.start_soon(self._follow_phases, process, start)
                    readers.start_soon(self._follow_log, process)
                    await process.wait()
        finally:
            await self._end(process)
            self._process = None
            for path in (self.socket_path, self._starting_path):
                path.unlink(missing_ok=True)  # callers wait for it to come back
        was_ready = self._ready_at > 0
        self._last_error = explain_exit(
            None if start.cancelled_caught else process.returncode,
            was_ready=was_ready,
            failure=self._failure,
            log=self.log_lines(),
        )

    def _command(self, weights: Weights) -> list[str]:
        settings, cores = self._settings, available_cores()
        # By path and with -P: the process loads neither the rest of gearshift nor what lies beside the script.
        command = [sys.executable, "-P", str(child.__file__)]
        options: dict[str, object] = {
            "model": weights.path,
            "name": weights.name,
            "socket": self._starting_path,
            "threads": settings.write_threads(cores),
            "batch-threads": settings.read_threads(cores),
            "context": settings.context_tokens,
            "slots": settings.slots,
            "batch": settings.batch_tokens,
            "parent-pid": os.getpid(),
        }
        return command + [f"--{name}={value}" for name, value in options.items()]

    async def _follow_phases(self, process: anyio.abc.Process, start: anyio.CancelScope) -> None:
        async for line in _lines(process.stdout):
            try:
                message = msgspec.json.decode(line, type=dict[str, str | float])
            except msgspec.DecodeError:
                continue  # not ours: llama.cpp writes to standard output now and then
            match message.get("phase"):
                case "loading":
                    self._report(Phase.LOADING)
                case "failed":
                    self._failure = str(message.get("error", ""))
                case "ready":
                    await until_healthy(self._starting_path)
                    self._starting_path.rename(self.socket_path)
                    start.deadline = float("inf")
                    self._load_s = float(message.get("load_s", 0.0))
                    self._starts += 1
                    self._ready_at = anyio.current_time()
                    self._report(Phase.READY)
                    self._enter(ModelState.READY)
                case _:
                    pass

    async def _follow_log(self, process: anyio.abc.Process) -> None:
        async for line in _lines(process.stderr):
            self._log.append(line.decode(errors="replace")[:_LOG_LINE_CHARS])

    async def _end(self, process: anyio.abc.Process) -> None:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.terminate()
                with anyio.move_on_after(self._settings.stop_timeout_s):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
            await process.aclose()

    def _enter(self, state: ModelState) -> None:
        self._state = state
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def _report(self, phase: Phase, fraction: float | None = None) -> None:
        if self._progress is not None:
            elapsed_s = anyio.current_time() - self._began_at
            self._progress(Progress(phase=phase, elapsed_s=elapsed_s, fraction=fraction))


class AttachedModel:
    """An embedded model that another process runs, known by its socket."""

    def __init__(self, socket_path: Path) -> None:
        self.socket_path = socket_path

    @property
    def base_url(self) -> str:
        """The socket as an account's base URL."""
        return f"unix://{self.socket_path}"

    async def ready(self) -> None:
        """Wait until the model answers; the enclosing deadline bounds the wait.

        Raises:
            EmbeddedModelError: the last start failed.

        """
        await until_started(self.socket_path)


def _private_directory(parent: Path | None) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="gearshift-", dir=parent))
    if len(bytes(directory / _SOCKET)) > _MAX_SOCKET_PATH:
        directory.rmdir()
        raise EmbeddedModelError(
            f"{directory} is too long for a Unix socket ({_MAX_SOCKET_PATH} bytes); name a shorter runtime directory"
        )
    return directory


async def _lines(stream: anyio.abc.ByteReceiveStream | None) -> AsyncGenerator[bytes]:
    held = b""
    if stream is None:
        return
    async for block in stream:
        *whole, held = (held + block).split(b"\n")
        for line in whole:
            yield line
        held = held[-_LOG_LINE_CHARS * 4 :]
    if held:
        yield held
