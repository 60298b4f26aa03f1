"""The ledger's SQLite file: opening, writing and reading it.

Rules: every failure to open is a LedgerError that says what to do; money is whole pico-USD, whose sums are exact.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from gearshift.core.catalogue.money import from_pico, to_pico
from gearshift.core.errors import LedgerError
from gearshift.core.ledger.checkpoint import LAST_RESORT_PAGES, Checkpointer
from gearshift.core.ledger.columns import (
    INSERT_OUTCOME,
    attempt_columns,
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
STATEMENT_ROWS: Final = 256
"""Most rows of one statement: 34 values each, of the 32,766 that SQLite takes."""

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
    hour=lambda seconds: f"strftime('%Y-%m-%dT%H', {seconds}, 'unixepoch')",
    floor=lambda number: f"CAST({number} AS INTEGER)",
    newline="char(10)",
)


_BUSY_STEP_S = 0.01


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
                self._write_ahead(connection)
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
        keyed = list(enumerate(items, row_id(self._writer, first)))
        with self._lock:
            refused = _write_all(self._opened(), keyed)
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

    def _write_ahead(self, connection: sqlite3.Connection) -> None:
        """Have the file logged ahead. Where several processes open a new one, SQLite does not wait for this by itself."""
        until = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
            time.sleep(_BUSY_STEP_S)

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


def _write_all(connection: sqlite3.Connection, keyed: list[tuple[int, Item]]) -> int:
    try:
        attempts = [attempt_values(each, key, to_pico) for key, each in keyed if type(each) is LedgerRow]
        if len(attempts) == len(keyed) <= STATEMENT_ROWS:
            # One statement is a commit of its own: what a busy event loop does meanwhile cannot hold it up any more.
            _insert_attempts(connection, attempts)
            return 0
        with _transaction(connection):
            for first in range(0, len(attempts), STATEMENT_ROWS):
                _insert_attempts(connection, attempts[first : first + STATEMENT_ROWS])
            for key, each in keyed:
                if type(each) is not LedgerRow:
                    _write_one(connection, each, key)
        return 0
    except _BAD_ITEM:
        with _transaction(connection):
            return sum(not _is_written(connection, each, key) for key, each in keyed)


def _insert_attempts(connection: sqlite3.Connection, attempts: Sequence[Sequence[Value]]) -> None:
    """Write rows in one statement.

    Every step of a statement lets go of the interpreter, and on a busy machine it takes up to 100 ms to have it back: a
    step for each row cost a batch of 40 rows 60 to 500 ms.
    """
    count = 1 << (len(attempts) - 1).bit_length()
    values = [value for row in attempts for value in row]
    values += [None] * ((count - len(attempts)) * len(_COLUMNS))
    connection.execute(_insert_statement(count), values)


@cache
def _insert_statement(count: int) -> str:
    """Give the statement for so many rows, of which those without an id are none: few statements, which SQLite keeps."""
    row = f"({', '.join('?' * len(_COLUMNS))})"
    names = ", ".join(_COLUMNS)
    return (
        f"WITH given ({names}) AS (VALUES {', '.join([row] * count)}) "
        f"INSERT INTO attempts ({names}) SELECT * FROM given WHERE id IS NOT NULL ON CONFLICT (id) DO NOTHING"
    )


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


_COLUMNS: Final = attempt_columns(SQLITE)
_INSERT_ATTEMPT: Final = insert_attempt(SQLITE)
_INSERT_MACHINE_TIME: Final = insert_machine_time(SQLITE)
