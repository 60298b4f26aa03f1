"""A process that writes a ledger under load and is killed with SIGKILL, and what its store holds then.

    killed = run_and_kill(url_or_path, durability="sync", after_s=0.3)
    assert not killed.missing

The child prints a line for each call that it acknowledged, with the time; rows are found again by their request id. Run
as a module it is the child: python -m tests.support.ledger_killed STORE DURABILITY RATE PREFIX
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import anyio

_ROOT = Path(__file__).resolve().parents[2]
_START_S = 20.0
_MOMENT_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """What came of one kill.

    Args:
        acknowledged: calls that were told to their caller.
        missing: those of them without a row.
        lost_ms: how long before the kill the oldest of them was told; 0 when none is missing.
        stalled_ms: how much of that time the child was silent for more than 5 ms at a time: this machine did not let it run,
            and nobody could have written.
        rows / doubled: rows of the child, and how many of them stand there twice.
        integrity: what SQLite's check says, "ok" for PostgreSQL.

    """

    acknowledged: int
    missing: int
    lost_ms: float
    stalled_ms: float
    rows: int
    doubled: int
    integrity: str


def run_and_kill(store: str, *, durability: str, after_s: float, rate: int = 2000, prefix: str = "k") -> Killed:
    """Run the child, kill it after so many seconds of load, and read its store.

    Args:
        store: a path, or PostgreSQL's URL.
        rate: calls a second, of one or two attempts each.
        prefix: of the request ids, unique for each child of one store.

    """
    command = [sys.executable, "-m", "tests.support.ledger_killed", store, durability, str(rate), prefix]
    read, write = os.pipe()
    with subprocess.Popen([*command, str(write)], cwd=_ROOT, pass_fds=[write]) as child:
        os.close(write)
        try:
            with os.fdopen(read, "rb", buffering=0) as pipe:
                told = b""
                ends_at = time.monotonic() + _START_S
                while b"\n" not in told:
                    told += os.read(pipe.fileno(), 65536)
                    assert child.poll() is None and time.monotonic() < ends_at, "the child did not start"
                kill_at = time.monotonic() + after_s
                os.set_blocking(pipe.fileno(), False)
                while (left := kill_at - time.monotonic()) > 0:
                    time.sleep(min(0.01, left))
                    told += _available(pipe.fileno())
                killed_at = time.monotonic()
                child.send_signal(signal.SIGKILL)
                child.wait()
                os.set_blocking(pipe.fileno(), True)
                while more := os.read(pipe.fileno(), 65536):
                    told += more
        finally:
            child.kill()
    acknowledged = {
        name.decode(): float(at) for name, _, at in (each.partition(b" ") for each in told.splitlines()[1:])
    }
    return _read(store, prefix, acknowledged, killed_at)


def _available(pipe: int) -> bytes:
    try:
        return os.read(pipe, 1 << 20)
    except BlockingIOError:
        return b""


def _read(store: str, prefix: str, acknowledged: dict[str, float], killed_at: float) -> Killed:
    sql = f"SELECT request_id, number FROM attempts WHERE request_id LIKE '{prefix}-%'"
    if store.startswith("postgresql:"):
        from gearshift.core.ledger.postgres import PostgresStore

        with PostgresStore(store).session() as session:
            found = [(str(name), int(str(number))) for name, number in session.rows(sql)]
        integrity = "ok"
    else:
        with closing(sqlite3.connect(store)) as database:
            found = database.execute(sql).fetchall()
            integrity = str(database.execute("PRAGMA integrity_check").fetchone()[0])
    wanted = {(name, number): at for name, at in acknowledged.items() for number in _numbers(name)}
    missing = [at for key, at in wanted.items() if key not in set(found)] if set(wanted) - set(found) else []
    return Killed(
        acknowledged=len(acknowledged),
        missing=len(missing),
        lost_ms=max(0.0, (killed_at - min(missing)) * 1000) if missing else 0.0,
        stalled_ms=_silence(acknowledged.values(), min(missing), killed_at) * 1000 if missing else 0.0,
        rows=len(found),
        doubled=len(found) - len(set(found)),
        integrity=integrity,
    )


def _silence(told_at: Iterable[float], since: float, until: float) -> float:
    """Give how long nothing was told in a period, beyond a moment each time, seconds."""
    times = sorted([since, *(at for at in told_at if since < at < until), until])
    return sum(max(0.0, later - earlier - _MOMENT_S) for earlier, later in pairwise(times))


def _numbers(name: str) -> tuple[int, ...]:
    """Give the attempts of a call: every third has two."""
    return (1, 2) if int(name.rpartition("-")[2]) % 3 == 0 else (1,)


async def _load(store: str, durability: str, rate: int, prefix: str, pipe: int) -> None:
    from gearshift.core.config.model import LedgerConfig
    from gearshift.core.ledger.opening import configured_ledger
    from tests.support.ledger_rows import attempt, rows

    is_url = store.startswith("postgresql:")
    config = LedgerConfig(url=store if is_url else "", path="" if is_url else store, durability=durability)
    async with configured_ledger(config, config.path) as ledger, anyio.create_task_group() as tasks:
        await ledger.spent(since=0)  # everything is loaded
        os.write(pipe, b"started\n")

        async def call(number: int) -> None:
            name = f"{prefix}-{number}"
            ledger.append(rows(name, *(attempt(each) for each in _numbers(name))))
            if durability == "sync":
                await ledger.acknowledge()
            os.write(pipe, f"{name} {time.monotonic()}\n".encode())

        number, began = 0, time.monotonic()
        while True:
            due = int((time.monotonic() - began) * rate)
            while number < due:
                tasks.start_soon(call, number)
                number += 1
            await anyio.sleep(0.002)


if __name__ == "__main__":
    anyio.run(_load, sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
