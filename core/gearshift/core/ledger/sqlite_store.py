"""The ledger's SQLite file: opening, writing and reading it.

Rules: every failure to open is a LedgerError that says what to do; money is whole pico-USD, whose sums are exact.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from gearshift.core.catalogue.money import from_pico, to_pico
from gearshift.core.errors import LedgerError
from gearshift.core.ledger.checkpoint import LAST_RESORT_PAGES, Checkpointer
from gearshift.core.ledger.columns import (
    INSERT_OUTCOME,
    attempt_values,
    insert_attempt,
    insert_machine_time,
    machine_values,
    outcome_values,
    row_id,
)
from gearshift.core.ledger.faults import needs_reopening, sentence_of
from gearshift.core.ledger.migrate import migrate, writer_number
from gearshift.core.ledger.row import LedgerRow, MachineTime, OutcomeReport
from gearshift.core.ledger.store import Dialect, Item, Session, Value

MEMORY: Final = ":memory:"

# SQLite's sums are 64 bits, which pico-USD would fill at 9.2 million USD: each half is summed by itself.
_HALF: Final = 10**6

_BAD_ITEM: Final = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    ArithmeticError,
    ValueError,
)

SQLITE: Final = Dialect(
    money_suffix="pico",
    sums=lambda expression: (f"SUM(({expression}) / {_HALF})", f"SUM(({expression}) % {_HALF})"),
    money=lambda halves: from_pico(int(halves[0]) * _HALF + int(halves[1])),
    stored=to_pico,
    amount=lambda pico: from_pico(int(pico)),
    day=lambda seconds: f"strftime('%Y-%m-%d', {seconds}, 'unixepoch')",
    floor=lambda number: f"CAST({number} AS INTEGER)",
    newline="char(10)",
)


class SqliteStore:
    """One SQLite file, or `:memory:`.

    Args:
        path: the file; missing folders are made.
        is_synced: whether a commit waits for the disk, so that it outlives a power cut and not only a kill.
        busy_timeout_s: how long a write waits for another process.

    """

    outage_error = (sqlite3.Error, OSError)

    def __init__(self, path: str, *, is_synced: bool, busy_timeout_s: float) -> None:
        self._path = path
        self._is_synced = is_synced
        self._busy_timeout_s = busy_timeout_s
        self._connection: sqlite3.Connection | None = None
        self._checkpointer: Checkpointer | None = None
        self._token = uuid.uuid4().hex
        self._writer = 0
        # Only for `:memory:`, where sessions share the writer's connection.
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
                connection.execute(f"PRAGMA wal_autocheckpoint = {LAST_RESORT_PAGES}")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._is_synced else 'NORMAL'}")
            # Immediate: another process may open it at the same time.
            with _transaction(connection):
                session = _SqliteSession(connection)
                found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
                migrate(session, {str(name) for (name,) in found if not name.startswith("sqlite_")}, "sqlite")
                self._writer = writer_number(session, self._token)
        except sqlite3.Error as error:
            connection.close()
            raise LedgerError(f"ledger {self._path}: {sentence_of(error)}") from error
        except LedgerError as error:
            connection.close()
            raise LedgerError(f"ledger {self._path}: {error.message}") from error
        self._connection = connection
        if self._path != MEMORY:
            self._checkpointer = Checkpointer(self._connect)

    def reopen(self) -> None:
        """Open the file anew, after a fault that the old connection may not survive.

        Raises:
            LedgerError: as `open` does.

        """
        if self._path != MEMORY:  # which would be empty then
            self.close()
            self.open()

    def write(self, items: Sequence[Item], first: int) -> int:
        """Write all items in one commit and give how many were refused for what they hold.

        Raises:
            sqlite3.Error: nothing was written; the same items may be tried again.

        """
        start = row_id(self._writer, first)
        keyed = list(enumerate(items, start))
        rows = [(key, each) for key, each in keyed if type(each) is LedgerRow]
        with self._lock, _transaction(self._opened()) as connection:
            refused = _write_all(connection, keyed, rows)
        if self._checkpointer is not None:
            self._checkpointer.committed(len(keyed))
        return refused

    @contextmanager
    def session(self, *, writes: bool = False) -> Generator[Session]:
        """Open a transaction on a connection of its own.

        Raises:
            LedgerError: the file cannot be used.

        """
        try:
            if self._path == MEMORY:
                with self._lock, _transaction(self._opened(), writes=writes) as connection:
                    yield _SqliteSession(connection)
                return
            if not os.path.exists(self._path):
                raise LedgerError("the ledger cannot be read: its file is gone")
            with closing(self._connect()) as connection, _transaction(connection, writes=writes):
                if not writes:
                    connection.execute("PRAGMA query_only = ON")
                yield _SqliteSession(connection)
        except sqlite3.Error as error:
            raise LedgerError(
                f"the ledger cannot be {'written' if writes else 'read'}: {sentence_of(error)}"
            ) from error

    def told(self, error: Exception) -> tuple[str, bool]:
        """Give what a failure means and what to do, and whether the connection may be broken."""
        return sentence_of(error), needs_reopening(error)

    def close(self) -> None:
        """Close the file; twice is fine."""
        if self._checkpointer is not None:
            self._checkpointer.close()
            self._checkpointer = None
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


class _SqliteSession:
    dialect = SQLITE

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    def execute(self, sql: str, values: Sequence[Value] = ()) -> int:
        return self._connection.execute(sql, values).rowcount

    def execute_many(self, sql: str, values: Iterable[Sequence[Value]]) -> None:
        self._connection.executemany(sql, values)


@contextmanager
def _transaction(connection: sqlite3.Connection, *, writes: bool = True) -> Generator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _write_all(connection: sqlite3.Connection, keyed: list[tuple[int, Item]], rows: list[tuple[int, LedgerRow]]) -> int:
    try:
        connection.executemany(_INSERT_ATTEMPT, [attempt_values(each, key, to_pico) for key, each in rows])
        if len(rows) < len(keyed):
            for key, each in keyed:
                if type(each) is not LedgerRow:
                    _write_one(connection, each, key)
        return 0
    except _BAD_ITEM:
        connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        return sum(not _is_written(connection, each, key) for key, each in keyed)


def _is_written(connection: sqlite3.Connection, item: Item, key: int) -> bool:
    try:
        _write_one(connection, item, key)
        return True
    except _BAD_ITEM:
        return False


def _write_one(connection: sqlite3.Connection, item: Item, key: int) -> None:
    match item:
        case LedgerRow():
            connection.execute(_INSERT_ATTEMPT, attempt_values(item, key, to_pico))
        case OutcomeReport():
            connection.execute(INSERT_OUTCOME, outcome_values(item))
        case MachineTime():
            connection.execute(_INSERT_MACHINE_TIME, machine_values(item, key, to_pico))


_INSERT_ATTEMPT: Final = insert_attempt(SQLITE)
_INSERT_MACHINE_TIME: Final = insert_machine_time(SQLITE)
