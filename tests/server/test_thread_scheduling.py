"""Threads beside the event loop's do not interrupt it while the cores are the service's own."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from gearshift.server import scheduling
from gearshift.server.scheduling import OthersShare, Sparing, busy_s, schedule_other_threads, sparing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="batch threads are Linux's")

STAT = """cpu  500 0 300 9000 10 0 20 30 0 0
cpu0 100 5 50 4000 9 1 4 10 0 0
cpu1 400 0 250 5000 1 0 16 20 0 0
intr 12345
"""


@contextmanager
def other_thread() -> Generator[int]:
    """Give the number of a thread that waits while the block runs."""
    go, found, started = threading.Event(), list[int](), threading.Event()

    def wait() -> None:
        found.append(threading.get_native_id())
        started.set()
        go.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    started.wait()
    try:
        yield found[0]
    finally:
        go.set()
        thread.join()


@pytest.fixture(autouse=True)
def usual_threads() -> Generator[None]:
    yield
    schedule_other_threads(os.SCHED_OTHER)


def test_other_threads_become_batch_threads_and_so_do_theirs() -> None:
    found: list[int] = []
    go, started = threading.Event(), threading.Event()

    def other() -> None:
        started.set()
        go.wait()
        child = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
        child.start()
        child.join()

    thread = threading.Thread(target=other)
    thread.start()
    started.wait()
    schedule_other_threads(os.SCHED_BATCH)
    found.append(os.sched_getscheduler(thread.native_id or 0))
    go.set()
    thread.join()
    assert found == [os.SCHED_BATCH, os.SCHED_BATCH]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


async def test_what_the_configuration_says_is_done_at_once_and_undone_at_the_end() -> None:
    with other_thread() as thread:
        with sparing(True):
            assert os.sched_getscheduler(thread) == os.SCHED_BATCH
        assert os.sched_getscheduler(thread) == os.SCHED_OTHER
        with sparing(False):
            assert os.sched_getscheduler(thread) == os.SCHED_OTHER


async def test_the_loop_is_spared_while_others_leave_the_cores_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([None, 0.1, 0.1, 0.9, 0.0, 0.0])

    def told(_share: OthersShare) -> float | None:
        return next(shares)

    monkeypatch.setattr(OthersShare, "since_last", told)
    looks, seen = Sparing(always=False), list[tuple[bool, int]]()
    with other_thread() as thread:
        for _ in range(6):
            looks.look()
            seen.append((looks.spares, os.sched_getscheduler(thread)))
        looks.stop()
        assert os.sched_getscheduler(thread) == os.SCHED_OTHER
    quiet, busy = (True, os.SCHED_BATCH), (False, os.SCHED_OTHER)
    assert seen == [busy, quiet, quiet, busy, quiet, quiet]


def test_the_work_of_the_own_cores_is_read_from_the_kernel() -> None:
    assert busy_s(STAT, {0}, 0.01) == pytest.approx(1.7)
    assert busy_s(STAT, {0, 1}, 0.01) == pytest.approx(8.56)
    assert busy_s(STAT, {0, 2}, 0.01) is None
    assert busy_s("", {0}, 0.01) is None


def test_the_share_of_others_leaves_out_our_own_work(monkeypatch: pytest.MonkeyPatch) -> None:
    stat = [STAT, STAT.replace("cpu0 100", "cpu0 200")]
    monkeypatch.setattr(scheduling, "_stat", lambda: stat.pop(0))

    def first_core(_process: int) -> set[int]:
        return {0}

    monkeypatch.setattr(os, "sched_getaffinity", first_core)
    monkeypatch.setattr(time, "monotonic", iter([10.0, 12.0]).__next__)
    monkeypatch.setattr(time, "process_time", iter([1.0, 1.5]).__next__)
    share = OthersShare()
    assert share.since_last() is None
    assert share.since_last() == pytest.approx((100 / os.sysconf("SC_CLK_TCK") - 0.5) / 2)
