"""Processes that the bench starts: listening before they are used, and ended by their own ids.

Rules: each is the leader of a session of its own, so that what it started ends with it; it gets no more of the
environment than it needs, since a proxy or a key of this machine has no business in a bench.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / ".bench"
_PASSED = ("PATH", "HOME", "LANG", "TMPDIR", "PYENV_ROOT")
_START_S = 90.0


@dataclass
class Process:
    """A process that will listen on a port of loopback; `log` takes what it says."""

    name: str
    command: list[str]
    port: int
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    folder: Path = ROOT
    _popen: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    async def start(self) -> None:
        """Start it, and wait until it listens.

        Raises:
            RuntimeError: it ended, or did not listen in time.
        """
        inherited = {name: os.environ[name] for name in _PASSED if name in os.environ}
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(  # noqa: ASYNC220 - the bench does nothing else meanwhile
                self.command,
                cwd=self.folder,
                env={**inherited, "NO_PROXY": "*", **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with anyio.move_on_after(_START_S):
            while self._popen.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                        return
                await anyio.sleep(0.02)
        code = self._popen.poll()
        how = f"ended with {code}" if code is not None else f"does not listen after {_START_S:g} s"
        raise RuntimeError(f"{self.name} {how}; it said:\n{self.said()[-2000:]}")

    @property
    def pid(self) -> int:
        """The id of the process, which runs."""
        assert self._popen is not None, "not started"
        return self._popen.pid

    def said(self) -> str:
        """Give what it has said."""
        return self.log.read_text("utf-8", "replace")

    def stop(self) -> None:
        """End it and what it started; twice is fine."""
        popen, self._popen = self._popen, None
        if popen is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(popen.pid, number)
            except ProcessLookupError:
                pass
            try:
                popen.wait(5)
                if number is signal.SIGTERM:
                    continue  # a child may still be there
            except subprocess.TimeoutExpired:
                pass


def free_port() -> int:
    """Give a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
