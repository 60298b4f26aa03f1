"""What is known about the embedded model's process, and what follows when it ends.

Rules: values and decisions only; no I/O but reading a process's memory.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from gearshift.core.embedded.weights import INSTALL

_MAX_DELAY_S = 30.0
_STEADY_S = 60.0
"""A process that served for so long has its earlier deaths forgotten."""


class ModelState(Enum):
    """Where the embedded model stands."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    """The last start did not succeed; another is tried later."""
    STOPPED = "stopped"


class Phase(Enum):
    """What a start is busy with."""

    CHECKING_WEIGHTS = "checking weights"
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of a start: seconds since it began, and how much of the phase is done (0 to 1) where that is known."""

    phase: Phase
    elapsed_s: float
    fraction: float | None = None


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A picture of the embedded model.

    Args:
        restarts: starts after the first that became ready.
        rss_bytes: resident memory with the mapped weights (253 MB); None when there is no process or it cannot be told.
        load_s: how long the current process took to load; None before.
        last_error: why the last start or process ended; empty when none did.

    """

    state: ModelState
    socket_path: Path
    pid: int | None = None
    restarts: int = 0
    rss_bytes: int | None = None
    load_s: float | None = None
    last_error: str = ""


class RestartPolicy:
    """How long to wait before the next start: none after the first death in service, else from 0.5 s doubling to 30 s."""

    def __init__(self) -> None:
        self._deaths = 0

    def next_delay(self, *, served_s: float) -> float:
        """Note a death after `served_s` of being ready (0: it never was) and give the seconds to wait."""
        if served_s >= _STEADY_S:
            self._deaths = 0
        self._deaths += 1
        if self._deaths == 1 and served_s > 0:
            return 0.0
        return min(_MAX_DELAY_S, 0.5 * 2.0 ** min(self._deaths - 1, 10))


def explain_exit(code: int | None, *, was_ready: bool, failure: str, log: Sequence[str]) -> str:
    """Say why the process ended and what to do, from its exit status, its own words and its last log lines."""
    if code is None:
        return "the embedded model did not load in time; the machine may be too busy: raise start_timeout_s"
    if "No module named" in failure:
        return f"the embedded model's runtime is not installed: {INSTALL}"
    if failure:
        why = next((line.split(": ", 1)[-1] for line in log if "error loading model" in line), failure)
        return f"the embedded model could not be loaded: {why}; check model_path, or leave it out for the default model"
    when = "ended while serving" if was_ready else "ended before it was ready"
    if code == -signal.SIGKILL:
        return f"the embedded model's process {when}: killed, most likely for memory (it needs up to 900 MB)"
    if code == -signal.SIGILL:
        return f"the embedded model's process {when}: this processor lacks instructions that llama.cpp's wheel needs"
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    return f"the embedded model's process {when}: {how}" + (f" ({log[-1]})" if log else "")


def resident_bytes(pid: int) -> int | None:
    """Give the resident memory of a process, or None where /proc does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
