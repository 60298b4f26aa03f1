"""Processes under test: started, pinned to a core, measured from /proc, and ended by their ids.

Rules: CPU is user + system time of all threads. A server's start is timed from the moment of its spawning to the first
answer that a client got from it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass
class Process:
    """A running process; `errors` is where its standard error goes."""

    name: str
    command: list[str]
    core: int
    port: int
    errors: Path | None = None
    spawned_at: float = 0.0
    _popen: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Spawn it on its core."""
        with open(self.errors or os.devnull, "wb") as errors:
            self.spawned_at = time.perf_counter()
            self._popen = subprocess.Popen(
                self.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
            )
        # At once: threads that it starts later are born on the same core.
        os.sched_setaffinity(self._popen.pid, {self.core})

    def wait_listening(self, seconds: float = 30.0) -> None:
        """Wait until its port takes connections.

        Raises:
            RuntimeError: it ended, or did not listen in time.
        """
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            if self.running.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.running.returncode}: {' '.join(self.command)}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.002)
        raise RuntimeError(f"{self.name} does not listen after {seconds:g} s")

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The process."""
        assert self._popen is not None, "not started"
        return self._popen

    def cpu_s(self) -> float:
        """Give the CPU that it has used so far, seconds."""
        text = Path(f"/proc/{self.running.pid}/stat").read_text("ascii")
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    def rss_mib(self) -> float:
        """Give its resident memory, MiB."""
        for line in Path(f"/proc/{self.running.pid}/status").read_text("ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def stop(self) -> None:
        """End it, harshly if it does not go by itself."""
        if self._popen is None:
            return
        self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(5)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen = None


def free_port() -> int:
    """Give a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def python(module: str, *arguments: object) -> list[str]:
    """Give the command that runs a module of this harness."""
    return [sys.executable, "-m", module, *map(str, arguments)]
