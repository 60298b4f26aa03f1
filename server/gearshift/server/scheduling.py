"""Which thread has the core when several want it.

Rules: the event loop's thread answers calls; every other one (gRPC's poller and workers, the ledger's writer) brings it
work or takes some off its hands. Left alone, the kernel lets each of them interrupt the loop as soon as there is anything
to bring, seven times a call, and each time code and data are pushed out of the core's cache. As batch threads
(https://man7.org/linux/man-pages/man7/sched.7.html) they have their share of the core as before, but begin when the loop
waits or its slice is over, with all that has come meanwhile. Where other programs keep the cores busy they wait behind
those too, and a message with them; so the loop is spared only while the cores are the service's own, which is looked at
four times a second (`Sparing`), or said by the configuration. Linux only; elsewhere nothing changes.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")
_CORES = Path("/proc/stat")
_EVERY_S = 0.25
_MOST_OF_OTHERS = 0.2
"""Share of the cores' time that other programs may take before the loop is spared no more."""


def schedule_other_threads(policy: int) -> None:
    """Give all threads but this one a scheduling policy: SCHED_BATCH spares this one, SCHED_OTHER is the usual one."""
    own = threading.get_native_id()
    # Without /proc, or where a sandbox forbids it, things stay as they are. A thread may end meanwhile.
    with suppress(OSError):
        for thread in _THREADS.iterdir():
            if int(thread.name) != own:
                with suppress(OSError):
                    if os.sched_getscheduler(int(thread.name)) != policy:
                        os.sched_setscheduler(int(thread.name), policy, os.sched_param(0))


@contextmanager
def sparing(own_cores: bool | None) -> Generator[None]:
    """Spare the loop's thread while the block runs; what ends the service is not held up any more.

    Args:
        own_cores: True spares always, False never, None while other programs leave the cores alone.

    """
    if sys.platform != "linux" or own_cores is False:
        yield
        return
    looks = Sparing(always=own_cores is True)
    looks.look()
    try:
        yield
    finally:
        looks.stop()


class Sparing:
    """Looks four times a second whether the loop's thread is to be spared. Made and used on that thread."""

    def __init__(self, *, always: bool) -> None:
        self._always = always
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._share = OthersShare()
        self.spares = False

    def look(self) -> None:
        """Look, act, and look again soon: threads that were started meanwhile are taken along."""
        share = self._share.since_last()
        spares = self._always or (share is not None and share <= _MOST_OF_OTHERS)
        if spares or self.spares:
            schedule_other_threads(os.SCHED_BATCH if spares else os.SCHED_OTHER)
        self.spares = spares
        self._timer = self._loop.call_later(_EVERY_S, self.look)

    def stop(self) -> None:
        """Look no more; all threads are as they were."""
        if self._timer is not None:
            self._timer.cancel()
        if self.spares:
            schedule_other_threads(os.SCHED_OTHER)


class OthersShare:
    """The share of this process's cores that other programs take.

    Times are those of `/proc/stat` (https://man7.org/linux/man-pages/man5/proc_stat.5.html): what a core did but idling and
    waiting for disks, stolen time included.
    """

    def __init__(self) -> None:
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK")
        self._last: tuple[float, float, float] | None = None

    def since_last(self) -> float | None:
        """Give the share since the last call, 0 to 1; None at first, or where it cannot be told."""
        cores = os.sched_getaffinity(0)
        busy = busy_s(_stat(), cores, self._tick_s)
        if busy is None:
            return None
        now, own = time.monotonic(), time.process_time()
        last, self._last = self._last, (now, busy, own)
        if last is None or now <= last[0]:
            return None
        others = (busy - last[1]) - (own - last[2])
        return min(1.0, max(0.0, others / ((now - last[0]) * len(cores))))


def _stat() -> str:
    try:
        return _CORES.read_text("ascii")
    except OSError:
        return ""


def busy_s(stat: str, cores: set[int], tick_s: float) -> float | None:
    """Give the seconds that cores have worked, by the text of `/proc/stat`; None when it does not name them."""
    total, found = 0.0, 0
    for line in stat.splitlines():
        name, _, rest = line.partition(" ")
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, rest.split()[:8])
            total += (user + nice + system + irq + softirq + steal) * tick_s
            found += 1
    return total if found == len(cores) else None
