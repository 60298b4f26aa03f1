"""The ledger's SQLite file: opening, writing and reading it.

Rules: synchronous, for worker threads; every failure to open is a LedgerError that says what to do; a write is one
commit, after whose failure the same items may be tried again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Final

from gearshift.core.catalogue.money import to_pico
from gearshift.core.errors import LedgerError
from gearshift.core.ledger.faults import sentence_of
from gearshift.core.ledger.migrate import migrate
from gearshift.core.ledger.report import CostQuery, CostReport, read_report
from gearshift.core.ledger.row import LedgerRow, OutcomeReport, verdicts_text

MEMORY: Final = ":memory:"

Item = LedgerRow | OutcomeReport
_Value = str | int | float | None

_LARGEST: Final = 2**63 - 1
_MOST_TOKENS: Final = 10**12  # keeps sums within 64 bits, whatever a provider reports
_BAD_ITEM: Final = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    ArithmeticError,
    ValueError,
)


class Store:
    """One SQLite file, or `:memory:`.

    Args:
        path: the file; missing folders are made.
        is_synced: whether a commit waits for the disk, so that it outlives a power cut and not only a kill.
        busy_timeout_s: how long a write waits for another process.

    """

    def __init__(self, path: str, *, is_synced: bool, busy_timeout_s: float) -> None:
        self._path = path
        self._is_synced = is_synced
        self._busy_timeout_s = busy_timeout_s
        self._connection: sqlite3.Connection | None = None
        # Only for `:memory:`, where reports share the writer's connection.
        self._lock = threading.Lock()

    def open(self) -> None:
        """Open the file, make or migrate its tables.

        Raises:
            LedgerError: says what is wrong with the file and what to do.

        """
        if not self._path:
            raise LedgerError("the ledger has no file: set `ledger.path`")
        try:
            self._make_file()
            connection = self._connect()
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"ledger {self._path}: {sentence_of(error)}") from error
        try:
            if self._path != MEMORY:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._is_synced else 'NORMAL'}")
            migrate(connection)
        except sqlite3.Error as error:
            connection.close()
            raise LedgerError(f"ledger {self._path}: {sentence_of(error)}") from error
        except LedgerError as error:
            connection.close()
            raise LedgerError(f"ledger {self._path}: {error.message}") from error
        self._connection = connection

    def reopen(self) -> None:
        """Open the file anew, after a fault that the old connection may not survive.

        Raises:
            LedgerError: as `open` does.

        """
        if self._path != MEMORY:  # which would be empty then
            self.close()
            self.open()

    def write(self, items: Sequence[Item]) -> int:
        """Write all items in one commit and give how many were refused for what they hold.

        Raises:
            sqlite3.Error: nothing was written; the same items may be tried again.

        """
        with self._lock, self._transaction() as connection:
            try:
                connection.executemany(
                    _INSERT_ATTEMPT, [_row_values(each) for each in items if type(each) is LedgerRow]
                )
                connection.executemany(
                    _INSERT_OUTCOME, [_outcome_values(each) for each in items if type(each) is OutcomeReport]
                )
                return 0
            except _BAD_ITEM:
                connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
                return sum(not _write_one(connection, each) for each in items)

    def report(self, query: CostQuery, *, pending: int) -> CostReport:
        """Sum what is committed.

        Raises:
            LedgerError: the file cannot be read.

        """
        try:
            if self._path == MEMORY:
                with self._lock:
                    return read_report(self._opened(), query, pending=pending)
            if not os.path.exists(self._path):
                raise LedgerError("the ledger cannot be read: its file is gone")
            with closing(self._connect()) as connection:
                connection.execute("PRAGMA query_only = ON")
                return read_report(connection, query, pending=pending)
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger cannot be read: {sentence_of(error)}") from error

    def close(self) -> None:
        """Close the file; twice is fine."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _make_file(self) -> None:
        if self._path == MEMORY:
            return
        path = Path(self._path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Corrections may be private: a new file is its owner's only, and SQLite gives its side files the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._path,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError("the ledger is not open")
        return self._connection

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        connection = self._opened()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _write_one(connection: sqlite3.Connection, item: Item) -> bool:
    try:
        if type(item) is LedgerRow:
            connection.execute(_INSERT_ATTEMPT, _row_values(item))
        elif type(item) is OutcomeReport:
            connection.execute(_INSERT_OUTCOME, _outcome_values(item))
        return True
    except _BAD_ITEM:
        return False


def _row_values(row: LedgerRow) -> tuple[_Value, ...]:
    call, attempt = row.call, row.attempt
    usage = attempt.usage
    return (
        call.request_id,
        call.tenant,
        call.task_id,
        call.task_type.word,
        call.declared,
        call.chain,
        attempt.stage.position,
        attempt.stage.provider,
        attempt.account,
        attempt.stage.model,
        attempt.number,
        attempt.role.word,
        attempt.cause.word,
        attempt.outcome.word,
        None if attempt.failure is None else attempt.failure.word,
        row.reason,
        min(usage.input_tokens, _MOST_TOKENS),
        min(usage.output_tokens, _MOST_TOKENS),
        min(usage.cache_write_tokens, _MOST_TOKENS),
        min(usage.cache_write_1h_tokens, _MOST_TOKENS),
        min(usage.cache_read_tokens, _MOST_TOKENS),
        min(usage.reasoning_tokens, _MOST_TOKENS),
        usage.source.word,
        _pico(attempt.cost_usd),
        attempt.queue_ms,
        attempt.first_token_ms,
        attempt.total_ms,
        verdicts_text(attempt.verdicts),
        attempt.served,
        attempt.started_at,
        _pico(row.strongest_usd),
        call.config_revision,
        call.stream,
    )


def _outcome_values(outcome: OutcomeReport) -> tuple[_Value, ...]:
    return (outcome.tenant, outcome.request_id, outcome.verdict.word, outcome.correction, outcome.reported_at)


def _pico(usd: Decimal | None) -> int | None:
    if usd is None:
        return None
    pico = to_pico(usd)
    return pico if abs(pico) <= _LARGEST else None  # over 9 million USD for one attempt: the usage is no usage


_COLUMNS: Final = (
    "request_id, tenant, task_id, task_type, declared, chain, position, provider, account, model, number, role, cause, "
    "outcome, failure, reason, input_tokens, output_tokens, cache_write_tokens, cache_write_1h_tokens, "
    "cache_read_tokens, reasoning_tokens, usage_source, cost_pico, queue_ms, first_token_ms, total_ms, verdicts, "
    "served, started_at, strongest_pico, config_revision, stream"
)
_INSERT_ATTEMPT: Final = f"INSERT INTO attempts ({_COLUMNS}) VALUES ({', '.join('?' * (_COLUMNS.count(',') + 1))})"
_INSERT_OUTCOME: Final = (
    "INSERT OR REPLACE INTO outcomes (tenant, request_id, verdict, correction, reported_at) VALUES (?, ?, ?, ?, ?)"
)
