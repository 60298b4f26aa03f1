"""PostgreSQL that goes away, hangs or refuses: rows wait within their bound, none is written twice, calls are told."""

from __future__ import annotations

import time
from collections.abc import Generator

import anyio
import pytest

from gearshift.core.config.model import LedgerConfig
from gearshift.core.errors import LedgerError
from gearshift.core.ledger import BufferedLedger, Patience
from gearshift.core.ledger.opening import configured_ledger
from gearshift.core.ledger.postgres import PostgresLedger, sentence_of, shown
from tests.support.ledger_rows import rows
from tests.support.postgres_server import PostgresServer, postgres_server

AWAY_S = 3.0
WAIT_S = 20.0


@pytest.fixture(scope="module")
def module_server() -> Generator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def server(module_server: PostgresServer) -> PostgresServer:
    module_server.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return module_server


def names(server: PostgresServer) -> list[str]:
    return server.run("SELECT request_id FROM attempts").split()


async def until_committed(ledger: BufferedLedger, count: int) -> None:
    with anyio.fail_after(WAIT_S):
        while ledger.status().committed < count:
            await anyio.sleep(0.01)


async def test_nothing_is_lost_while_the_server_is_away(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with PostgresLedger(server.url) as ledger:
        wanted: list[str] = []

        def append(count: int) -> None:
            for _ in range(count):
                wanted.append(f"r{len(wanted)}")
                ledger.append(rows(wanted[-1]))

        append(100)
        await ledger.flush()
        await anyio.to_thread.run_sync(server.stop)
        ends_at = time.monotonic() + AWAY_S
        while time.monotonic() < ends_at:
            append(20)
            await anyio.sleep(0.02)
        status = ledger.status()
        assert (status.dropped, status.is_failing) == (0, True)
        assert status.pending == len(wanted) - 100
        assert "cannot be reached" in status.last_error or "broke off" in status.last_error
        with pytest.raises(LedgerError, match="the ledger cannot be read"):
            await ledger.spent(since=0)
        await anyio.to_thread.run_sync(server.start)
        append(100)
        await until_committed(ledger, len(wanted))
        assert sorted(names(server)) == sorted(wanted)
        assert not ledger.status().is_failing
    assert caplog.text.count("the ledger cannot be written, and will be tried again") == 1
    assert caplog.text.count("the ledger can be written again") == 1


async def test_full_buffer_keeps_the_oldest_rows_and_says_what_it_dropped(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with PostgresLedger(server.url, max_pending=500) as ledger:
        await anyio.to_thread.run_sync(server.stop)
        for index in range(2000):
            ledger.append(rows(f"r{index}"))
        status = ledger.status()
        assert (status.pending, status.dropped) == (500, 1500)
        await anyio.to_thread.run_sync(server.start)
        await until_committed(ledger, 500)
        assert sorted(names(server)) == sorted(f"r{index}" for index in range(500))
    assert caplog.text.count("the ledger drops rows") == 1


async def test_server_that_hangs_in_a_commit_writes_no_row_twice(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gearshift.core.ledger.postgres.COMMIT_S", 0.4)
    monkeypatch.setattr("gearshift.core.ledger.postgres.CONNECT_S", 0.4)
    async with PostgresLedger(server.url) as ledger:
        ledger.append(rows("first"))
        await ledger.flush()
        server.pause()
        try:
            # What was sent is carried out when the server goes on, and was tried again meanwhile.
            for index in range(50):
                ledger.append(rows(f"r{index}"))
            with anyio.fail_after(WAIT_S):
                while not ledger.status().is_failing:
                    await anyio.sleep(0.01)
            assert "in time" in ledger.status().last_error
        finally:
            server.resume()
        await until_committed(ledger, 51)
        assert sorted(names(server)) == sorted(["first", *(f"r{index}" for index in range(50))])


async def test_calls_that_must_be_recorded_wait_for_a_short_outage(server: PostgresServer) -> None:
    async with PostgresLedger(server.url, patience=Patience(wait_s=WAIT_S)) as ledger:
        await anyio.to_thread.run_sync(server.stop)
        ledger.append(rows("r1"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ledger.acknowledge)
            await anyio.to_thread.run_sync(server.start)
        assert names(server) == ["r1"]


async def test_calls_that_must_be_recorded_fail_after_their_wait(server: PostgresServer) -> None:
    async with PostgresLedger(server.url, patience=Patience(wait_s=0.3)) as ledger:
        await anyio.to_thread.run_sync(server.stop)
        try:
            ledger.append(rows("r1"))
            began = time.monotonic()
            with pytest.raises(LedgerError, match="the ledger cannot be written"):
                await ledger.acknowledge()
            assert 0.25 < time.monotonic() - began < 2
        finally:
            await anyio.to_thread.run_sync(server.start)
        await until_committed(ledger, 1)  # the row is kept all the same


async def test_calls_are_served_unrecorded_where_that_is_declared(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    config = LedgerConfig(url=server.url, durability="sync", sync_wait_s=0.2, when_unwritable="serve")
    async with configured_ledger(config, "") as ledger:
        await anyio.to_thread.run_sync(server.stop)
        try:
            for index in range(3):
                ledger.append(rows(f"r{index}"))
                await ledger.acknowledge()
        finally:
            await anyio.to_thread.run_sync(server.start)
        assert ledger.status().unacknowledged == 3
        await until_committed(ledger, 3)
    assert caplog.text.count("before they are recorded") == 1


async def test_call_whose_row_was_dropped_is_not_acknowledged(server: PostgresServer) -> None:
    async with PostgresLedger(server.url, max_pending=1, patience=Patience(wait_s=WAIT_S)) as ledger:
        ledger.append([*rows("r1"), *rows("r2")])
        with pytest.raises(LedgerError, match="drops rows"):
            await ledger.acknowledge()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        pytest.param("postgresql://postgres:hunter2@127.0.0.1:1/gearshift", "cannot be reached", id="nobody listens"),
        pytest.param("{server}/nowhere", "does not exist; create it", id="no such database"),
        pytest.param("mysql://somewhere", "must begin with postgresql://", id="another scheme"),
    ],
)
async def test_database_that_cannot_be_opened_says_what_to_do(server: PostgresServer, url: str, told: str) -> None:
    url = url.replace("{server}/nowhere", server.url_of("nowhere"))
    with pytest.raises(LedgerError) as caught:
        async with configured_ledger(LedgerConfig(url=url), ""):
            pass
    assert told in caught.value.message
    assert "hunter2" not in caught.value.message


async def test_user_without_rights_is_told_what_to_grant(server: PostgresServer) -> None:
    server.run("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(LedgerError, match="grant it CREATE"):
        async with PostgresLedger(server.url_of("gearshift", user="guest")):
            pass


async def test_read_only_server_is_told(server: PostgresServer) -> None:
    with pytest.raises(LedgerError, match="read-only"):
        async with PostgresLedger(server.url + "?options=-c%20default_transaction_read_only=on"):
            pass


async def test_processes_that_start_at_once_migrate_one_after_another(server: PostgresServer) -> None:
    ledgers = [PostgresLedger(server.url) for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for each in ledgers:
            tasks.start_soon(each.start)
    for index, each in enumerate(ledgers):
        each.append(rows(f"r{index}"))
    for each in ledgers:
        await each.flush()
        await each.aclose()
    assert sorted(names(server)) == ["r0", "r1", "r2", "r3"]


def test_password_is_never_shown() -> None:
    assert shown("postgresql://me:hunter2@db.example:5433/costs") == "postgresql://db.example:5433/costs"
    assert "hunter2" not in sentence_of(ValueError("hunter2"))
