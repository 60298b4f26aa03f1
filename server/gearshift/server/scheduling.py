"""Which thread has the core when several want it.

Rules: the event loop's thread answers calls; every other one (gRPC's poller and workers, the ledger's writer) brings it
work or takes some off its hands. Left alone, the kernel lets each of them interrupt the loop as soon as there is anything
to bring, seven times a call, and each time code and data are pushed out of the core's cache. As batch threads
(https://man7.org/linux/man-pages/man7/sched.7.html) they have their share of the core as before, but begin when the loop
waits or its slice is over, with all that has come meanwhile. Where other programs keep the cores busy they wait behind
those too, and a message with them, so that nobody is spared unless the configuration says that the cores are the
service's own. Linux only; elsewhere nothing changes.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")


def spare_this_thread() -> None:
    """Have all other threads of the process interrupt this one no more; call it once they have been started."""
    if sys.platform != "linux":
        return
    own = threading.get_native_id()
    # Without /proc, or where a sandbox forbids it, things stay as they are. A thread may end meanwhile.
    with suppress(OSError):
        for thread in _THREADS.iterdir():
            if int(thread.name) != own:
                with suppress(OSError):
                    os.sched_setscheduler(int(thread.name), os.SCHED_BATCH, os.sched_param(0))
