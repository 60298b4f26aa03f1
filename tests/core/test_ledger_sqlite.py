"""The SQLite ledger: durable rows, bounded buffers, typed faults, and its thread."""

from __future__ import annotations

import gc
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from msgspec import structs

from gearshift.core.answer import Usage, Verdict
from gearshift.core.errors import LedgerError
from gearshift.core.ledger import CostQuery, Ledger, OutcomeReport, SqliteLedger
from gearshift.core.ledger.migrate import SCHEMA_VERSION
from gearshift.core.ledger.sqlite_store import SqliteStore as Store
from gearshift.core.ledger.store import SEQUENCE_BITS
from gearshift.core.words import AttemptOutcome, FailureKind, OutcomeVerdict, VerdictResult
from tests.support.ledger_rows import START, attempt, rows

WAIT_S = 20.0


@contextmanager
def reading(path: Path) -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def count(path: Path) -> int:
    with reading(path) as connection:
        return int(connection.execute("SELECT count(*) FROM attempts").fetchone()[0])


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the write lock, as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def until_committed(ledger: SqliteLedger, rows_committed: int) -> None:
    with anyio.fail_after(WAIT_S):
        while ledger.status().committed < rows_committed:
            await anyio.sleep(0.005)


async def test_flushed_rows_are_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "ledger.db"
    poor = attempt(
        outcome=AttemptOutcome.POOR,
        verdicts=(Verdict(gate="confidence", result=VerdictResult.LOW, confidence=0.6),),
        usage=Usage(
            input_tokens=9, output_tokens=2, cache_write_tokens=3, cache_write_1h_tokens=1, cache_read_tokens=4
        ),
        cost_usd=Decimal("0.000000000001"),
        served=False,
        detail="the answer said: secret",
    )
    failed = attempt(2, outcome=AttemptOutcome.FAILED, failure=FailureKind.OVERLOAD, cost_usd=None)
    async with SqliteLedger(str(path)) as ledger:
        ledger.append(rows("r1", poor, failed, strongest_usd=Decimal("0.5")))
        await ledger.flush()
        with reading(path) as connection:
            first, second = connection.execute("SELECT * FROM attempts ORDER BY id").fetchall()
    assert dict(first) == {
        "id": 1 << SEQUENCE_BITS,
        "request_id": "r1",
        "tenant": "acme",
        "task_id": "email",
        "task_type": "classify",
        "declared": 1,
        "chain": "classify",
        "position": 0,
        "provider": "anthropic",
        "account": "main",
        "model": "claude-haiku-5-5",
        "number": 1,
        "role": "answer",
        "cause": "first",
        "outcome": "poor",
        "failure": None,
        "reason": "confidence",
        "input_tokens": 9,
        "output_tokens": 2,
        "cache_write_tokens": 3,
        "cache_write_1h_tokens": 1,
        "cache_read_tokens": 4,
        "reasoning_tokens": 0,
        "usage_source": "reported",
        "cost_pico": 1,
        "queue_ms": 0.5,
        "first_token_ms": 12.5,
        "total_ms": 40.0,
        "verdicts": "confidence:low:0.600",
        "served": 0,
        "started_at": START,
        "strongest_pico": None,
        "config_revision": "c0ffee",
        "stream": 0,
        "repriced_pico": None,
    }
    assert (second["failure"], second["cost_pico"], second["first_token_ms"]) == ("overload", None, None)
    assert second["strongest_pico"] == 500_000_000_000


async def test_rows_are_committed_without_a_flush(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    async with SqliteLedger(str(path)) as ledger:
        ledger.append(rows())
        await until_committed(ledger, 1)
        assert count(path) == 1


async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    async with SqliteLedger(str(path)) as ledger:
        for index in range(5000):
            ledger.append(rows(f"r{index}"))
    assert count(path) == 5000
    assert ledger.status().pending == 0


async def test_rows_appended_before_the_start_are_kept(tmp_path: Path) -> None:
    ledger = SqliteLedger(str(tmp_path / "ledger.db"))
    ledger.append(rows())
    async with ledger:
        await ledger.flush()
        assert ledger.status().committed == 1


async def test_many_tasks_flush_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def call(name: str) -> None:
        ledger.append(rows(name))
        await ledger.flush()
        with reading(path) as connection:
            assert connection.execute("SELECT 1 FROM attempts WHERE request_id = ?", (name,)).fetchone()

    async with SqliteLedger(str(path), durability="sync") as ledger:
        with anyio.fail_after(WAIT_S):
            async with anyio.create_task_group() as tasks:
                for index in range(200):
                    tasks.start_soon(call, f"r{index}")


async def test_cancelled_flush_leaves_the_ledger_well() -> None:
    async with SqliteLedger(":memory:") as ledger:
        ledger.append(rows("r1"))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ledger.flush()
        ledger.append(rows("r2"))
        await ledger.flush()
        assert ledger.status().committed == 2


async def test_file_is_its_owners_only_and_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    for _ in range(2):
        async with SqliteLedger(str(path)) as ledger:
            ledger.append(rows())
    assert count(path) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_two_processes_may_share_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.db")
    async with SqliteLedger(path) as first, SqliteLedger(path) as second:
        for index in range(50):
            first.append(rows(f"a{index}"))
            second.append(rows(f"b{index}"))
        await first.flush()
        await second.flush()
        assert (await first.report(CostQuery())).total.attempts == 100


async def test_no_thread_is_left_and_closing_twice_is_fine() -> None:
    before = set(threading.enumerate())
    ledger = SqliteLedger(":memory:")
    await ledger.start()
    assert any(each.name == "gearshift-ledger" for each in threading.enumerate())
    await ledger.aclose()
    await ledger.aclose()
    assert not any(each.name == "gearshift-ledger" for each in set(threading.enumerate()) - before)
    gc.collect()  # an unclosed connection would warn here, which is an error


async def test_ledger_that_never_started_can_be_closed() -> None:
    await SqliteLedger(":memory:").aclose()


async def test_closed_ledger_drops_rows_and_refuses_outcomes() -> None:
    async with SqliteLedger(":memory:") as ledger:
        pass
    ledger.append(rows())
    assert ledger.status().dropped == 1
    await ledger.flush()  # nothing that was taken is missing
    with pytest.raises(LedgerError, match="closed"):
        await ledger.record_outcome(outcome("r1"))


def outcome(request_id: str, verdict: OutcomeVerdict = OutcomeVerdict.REJECTED, correction: str = "") -> OutcomeReport:
    return OutcomeReport(
        request_id=request_id, tenant="acme", verdict=verdict, correction=correction, reported_at=START
    )


async def test_later_word_on_an_answer_replaces_the_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ledger.db"
    caplog.set_level(logging.DEBUG)
    ledger: Ledger
    async with SqliteLedger(str(path)) as ledger:
        await ledger.record_outcome(outcome("r1"))
        await ledger.record_outcome(outcome("r1", OutcomeVerdict.CORRECTED, "secret correction"))
        with reading(path) as connection:
            found = [tuple(each) for each in connection.execute("SELECT * FROM outcomes")]
    assert found == [("acme", "r1", "corrected", "secret correction", START)]
    assert "secret correction" not in caplog.text


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(structs.replace(attempt(), queue_ms=float("nan")), id="a number that is none"),
        pytest.param(structs.replace(attempt(), number=2**70), id="a number beyond 64 bits"),
        pytest.param(structs.replace(attempt(), account="\ud800"), id="half a surrogate pair"),
        pytest.param(attempt(cost_usd=Decimal("NaN")), id="a cost that is none"),
    ],
)
async def test_row_that_cannot_be_stored_takes_no_other_with_it(bad: object) -> None:
    async with SqliteLedger(":memory:") as ledger:
        ledger.append(rows("r1", attempt(1), bad, attempt(3)))  # type: ignore[arg-type]
        await ledger.flush()
        status = ledger.status()
        assert (status.committed, status.dropped, status.pending) == (2, 1, 0)
        assert (await ledger.report(CostQuery())).total.attempts == 2


async def test_absurd_usage_is_stored_within_bounds() -> None:
    absurd = attempt(usage=Usage(input_tokens=10**30), cost_usd=Decimal(10**20))
    async with SqliteLedger(":memory:") as ledger:
        ledger.append(rows("r1", absurd, absurd))
        await ledger.flush()
        total = (await ledger.report(CostQuery())).total
    assert (total.usage.input_tokens, total.unpriced, total.cost_usd) == (2 * 10**12, 2, Decimal(0))


# Faults at the opening.


def make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE schema_version (version INTEGER)")
        connection.execute("INSERT INTO schema_version VALUES (?)", (SCHEMA_VERSION + 1,))
        connection.commit()


def make_foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")


def make_damaged(path: Path) -> None:
    store = Store(str(path), is_synced=False, busy_timeout_s=1)
    store.open()
    store.close()
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)


def make_text(path: Path) -> None:
    path.write_text("not a database" * 100)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        pytest.param(make_newer, "newer version", id="of a newer version"),
        pytest.param(make_foreign, "another program", id="of another program"),
        pytest.param(make_text, "not a SQLite", id="no database"),
        pytest.param(make_damaged, "damaged", id="damaged"),
        pytest.param(Path.mkdir, "directory", id="a folder"),
    ],
)
async def test_file_that_cannot_be_the_ledger_is_refused_untouched(
    tmp_path: Path, make: Callable[[Path], None], told: str
) -> None:
    path = tmp_path / "ledger.db"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(LedgerError) as caught:
        await SqliteLedger(str(path)).start()
    assert told in caught.value.message
    assert str(path) in caught.value.message
    if told != "directory":
        assert path.read_bytes()[100:] == before[100:]  # SQLite may set the flag of WAL in the header
    gc.collect()


async def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="ledger.path"):
        await SqliteLedger(str(tmp_path / "file" / "ledger.db")).start()
    with pytest.raises(LedgerError, match="set `ledger.path`"):
        await SqliteLedger("").start()


async def test_file_that_another_process_holds_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerError, match="another process holds it"):
            await SqliteLedger(str(path), busy_timeout_s=0.05).start()
        other.execute("ROLLBACK")


# Faults while it runs.


async def test_locked_file_keeps_rows_and_recovers_by_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ledger.db"
    async with SqliteLedger(str(path), busy_timeout_s=0.01) as ledger:
        with locked(path):
            ledger.append(rows("r1"))
            with pytest.raises(LedgerError, match="another process holds it"), anyio.fail_after(WAIT_S):
                await ledger.flush()
            status = ledger.status()
            assert (status.pending, status.dropped, status.is_failing) == (1, 0, True)
            with pytest.raises(LedgerError), anyio.fail_after(WAIT_S):
                await ledger.flush()  # at once, without waiting for the next try
        await until_committed(ledger, 1)
        status = ledger.status()
        assert (status.pending, status.is_failing) == (0, False)
        assert "another process" in status.last_error
    assert count(path) == 1
    assert caplog.text.count("cannot be written") == 1
    assert caplog.text.count("can be written again") == 1


async def test_full_buffer_drops_new_rows_and_counts_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ledger.db"
    async with SqliteLedger(str(path), max_pending=100, busy_timeout_s=0.01) as ledger:
        with locked(path):
            for index in range(250):
                ledger.append(rows(f"r{index}"))
            status = ledger.status()
            assert (status.pending, status.dropped) == (100, 150)
            with pytest.raises(LedgerError, match="too many rows wait"):
                await ledger.record_outcome(outcome("r1"))
        await until_committed(ledger, 100)
        ledger.append(rows("later"))
        await ledger.flush()
        assert (await ledger.report(CostQuery())).total.attempts == 101
    assert caplog.text.count("drops rows") == 1
    assert caplog.text.count("takes rows again") == 1


async def test_closing_a_ledger_that_cannot_write_ends_and_says_what_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(str(path), busy_timeout_s=0.01)
    await ledger.start()
    with locked(path), anyio.fail_after(WAIT_S):
        ledger.append(rows("r1"))
        await ledger.aclose()
    assert ledger.status().dropped == 1
    assert "1 rows that it could not write" in caplog.text


async def test_report_on_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    async with SqliteLedger(str(path)) as ledger:
        os.remove(path)
        with pytest.raises(LedgerError, match="gone"):
            await ledger.report(CostQuery())


FULL_DISK = """
import resource, sys
import anyio
from gearshift.core.errors import LedgerError
from gearshift.core.ledger import CostQuery, SqliteLedger
from tests.support.ledger_rows import rows

async def main(path):
    async with SqliteLedger(path) as ledger:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
        for index in range(2000):
            ledger.append(rows(f"r{index}"))
        try:
            await ledger.flush()
            sys.exit("the flush did not fail")
        except LedgerError as error:
            print(error.message)
        status = ledger.status()
        assert (status.pending, status.dropped, status.is_failing) == (2000, 0, True), status
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        with anyio.fail_after(20):
            while ledger.status().committed < 2000:
                await anyio.sleep(0.01)
        report = await ledger.report(CostQuery())
        assert report.total.attempts == report.total.calls == 2000, report
        assert not ledger.status().is_failing

anyio.run(main, sys.argv[1])
"""


def test_full_disk_keeps_rows_and_recovers_when_there_is_room(tmp_path: Path) -> None:
    # In a process of its own, since the limit on file sizes holds for all of it.
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "ledger.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 0, ended.stderr
    assert "the disk" in ended.stdout


KILLED = """
import os, signal, sys
import anyio
from gearshift.core.ledger import SqliteLedger
from tests.support.ledger_rows import rows

async def main(path):
    async with SqliteLedger(path, durability="sync") as ledger:
        for index in range(100):
            ledger.append(rows(f"r{index}"))
        await ledger.flush()
        os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main, sys.argv[1])
"""


def test_flushed_rows_outlive_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        capture_output=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == -9
    assert count(path) == 100
