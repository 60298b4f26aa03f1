"""Threads beside the event loop's do not interrupt it."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from gearshift.server.scheduling import spare_this_thread

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="batch threads are Linux's")


def test_other_threads_become_batch_threads_and_so_do_theirs() -> None:
    found: list[int] = []
    go, started = threading.Event(), threading.Event()

    def later() -> None:
        found.append(os.sched_getscheduler(0))

    def other() -> None:
        started.set()
        go.wait()
        found.append(os.sched_getscheduler(0))
        child = threading.Thread(target=later)
        child.start()
        child.join()

    thread = threading.Thread(target=other)
    thread.start()
    started.wait()
    spare_this_thread()
    go.set()
    thread.join()
    assert found == [os.SCHED_BATCH, os.SCHED_BATCH]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
