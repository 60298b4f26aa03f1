"""A part of the bench as a process of its own, of which nothing is left, and what else the machine did meanwhile.

Rules: whatever a part started and left behind, orphans of killed processes too, comes to this process (a child subreaper, Linux
only), is told of and killed by its id. What other programs took of the cores is what was busy less what the part's
processes used; those that nobody waited for are counted as others'.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_END_S = 10.0
BUSY = 0.1
"""Share of the cores from which what others take is worth a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a part went.

    Args:
        code: the exit code; None when it was ended because it took too long.
        left: processes that it left behind; they are gone now.
        others: the share of the machine's cores that other programs took meanwhile, 0 to 1; None where nobody knows.
        load_before: the load average of one minute when it began.

    """

    code: int | None
    seconds: float
    left: tuple[str, ...]
    others: float | None
    load_before: float

    def told(self) -> str:
        """Say what else the machine did."""
        found = f"It took {self.seconds / 60:.1f} minutes; the load was {self.load_before:.1f} when it began"
        if self.others is None:
            return f"{found}."
        found += f", and other programs took {self.others:.0%} of the cores"
        return f"{found}: **times are not to be relied on**." if self.others > BUSY else f"{found}."


def run_apart(command: Sequence[str], folder: Path, environment: Mapping[str, str], most_s: float) -> Ran:
    """Run a command to its end, or for so long."""
    _adopt_orphans()
    load, began = os.getloadavg()[0], time.monotonic()
    busy, own = _busy_s(), _children_s()
    part = subprocess.Popen(command, cwd=folder, env=dict(environment), stdout=subprocess.DEVNULL)
    code: int | None = None
    left: list[str] = []
    try:
        with suppress(subprocess.TimeoutExpired):
            code = part.wait(most_s)
    finally:
        if part.returncode is None:
            _kill([*_family(part.pid)])
            part.wait()
        left = _sweep()
    seconds = time.monotonic() - began
    others = None
    if busy is not None and (now := _busy_s()) is not None:
        taken = (now - busy) - (_children_s() - own)
        others = max(0.0, taken / (seconds * (os.cpu_count() or 1)))
    return Ran(code=code, seconds=seconds, left=tuple(left), others=others, load_before=load)


def _adopt_orphans() -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _sweep() -> list[str]:
    """Kill what is left, until nothing is; give the commands."""
    found: list[str] = []
    ends_at = time.monotonic() + _END_S
    while (pids := _children(os.getpid())) and time.monotonic() < ends_at:
        for pid in pids:
            if (name := _command(pid)) and _state(pid) != "Z":
                found.append(name)
            _kill([*_family(pid)])
        for pid in pids:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
    return found


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    found: list[int] = []
    for task in tasks:
        with suppress(OSError):
            found += map(int, (task / "children").read_text("ascii").split())
    return found


def _family(pid: int) -> list[int]:
    return [pid, *(each for child in _children(pid) for each in _family(child))]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()[:120]
    except OSError:
        return ""


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def _busy_s() -> float | None:
    """Give the seconds that the cores were busy since the machine's start; None where that is not told."""
    try:
        fields = Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:8]
    except OSError:
        return None
    user, nice, system, _idle, _wait, irq, soft = map(int, fields)
    return (user + nice + system + irq + soft) * _TICK_S


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
