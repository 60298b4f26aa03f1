"""The ledger in PostgreSQL, shared by all hosts: the one file that imports asyncpg.

Rules: asyncpg runs on event loops of worker threads, never on the caller's; every operation is bounded in time; every
failure to open is a LedgerError that says what to do, without the password. Money is NUMERIC, USD.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import asyncpg  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from gearshift.core.errors import LedgerError
from gearshift.core.ledger.buffered import BufferedLedger, Patience
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
from gearshift.core.ledger.migrate import migrate, writer_number
from gearshift.core.ledger.row import LedgerRow, MachineTime, OutcomeReport
from gearshift.core.ledger.store import Dialect, Item, Session, Value

CONNECT_S: Final = 3.0
COMMIT_S: Final = 5.0
"""Longest commit; one that takes longer is tried again, and writes no row twice."""
READ_S: Final = 120.0
"""Longest statement of a report, an export or a pruning."""

T = TypeVar("T")

_asyncpg: Any = asyncpg  # its types are those of defaults

_MIGRATION_LOCK: Final = int.from_bytes(hashlib.sha256(b"gearshift ledger: migration").digest()[:7], "big")
_CHANGE_LOCK: Final = int.from_bytes(hashlib.sha256(b"gearshift ledger: pruning").digest()[:7], "big")
_TWELVE: Final = Decimal("1e-12")


def _usd(amount: int | Decimal) -> Decimal:
    return Decimal(amount).quantize(_TWELVE)


POSTGRES: Final = Dialect(
    money_suffix="usd",
    sums=lambda expression: (f"SUM({expression})",),
    money=lambda sums: _usd(sums[0]),
    stored=lambda usd: usd,
    amount=_usd,
    day=lambda seconds: f"to_char(to_timestamp({seconds}) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    hour=lambda seconds: f"""to_char(to_timestamp({seconds}) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24')""",
    floor=lambda number: f"FLOOR({number})",
    newline="chr(10)",
)


class PostgresLedger(BufferedLedger):
    """A ledger in a PostgreSQL database; an async context manager that opens and closes it.

    Args:
        url: `postgresql://user:password@host:port/database`, with libpq's parameters.
        max_pending: most rows that wait, from 1.
        patience: what calls that must be recorded do while the database is away.

    """

    def __init__(self, url: str, *, max_pending: int = 100_000, patience: Patience | None = None) -> None:
        super().__init__(PostgresStore(url), max_pending=max_pending, patience=patience)


class PostgresStore:
    """One database; its current schema, as the URL's user finds it, holds the tables."""

    # TimeoutError is asyncio's and an OSError; InterfaceError: the connection was closed by the other side.
    outage_error = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

    def __init__(self, url: str) -> None:
        self._url = url
        self._token = uuid.uuid4().hex
        self._writer = 0
        self._link: _Link | None = None

    def open(self) -> None:
        """Connect, make or migrate the tables.

        Raises:
            LedgerError: says what is wrong with the database and what to do.

        """
        name = shown(self._url)
        try:
            link = _Link(self._url, COMMIT_S)
        except (*self.outage_error, ValueError) as error:
            raise LedgerError(f"ledger {name}: {sentence_of(error)}") from error
        try:
            with link.transaction("BEGIN"):
                # Processes that start at the same time migrate one after another.
                link.rows(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
                tables = link.rows("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
                migrate(link, {str(table) for (table,) in tables}, "postgres")
                self._writer = writer_number(link, self._token)
        except self.outage_error as error:
            link.close()
            raise LedgerError(f"ledger {name}: {sentence_of(error)}") from error
        except LedgerError as error:
            link.close()
            raise LedgerError(f"ledger {name}: {error.message}") from error
        self._link = link

    def reopen(self) -> None:
        """Connect anew.

        Raises:
            LedgerError: as `open` does.

        """
        self.close()
        self.open()

    def write(self, items: Sequence[Item], first: int) -> int:
        """Write all items in one commit and give how many were refused for what they hold.

        Raises:
            asyncpg.PostgresError: nothing is known of the commit; the same items may be tried again.
            OSError: as above; the database is away.

        """
        if self._link is None:
            raise asyncpg.InterfaceError("the ledger is not open")
        link, start = self._link, row_id(self._writer, first)
        keyed = list(enumerate(items, start))
        try:
            with link.transaction("BEGIN"):
                rows = [attempt_values(each, key, POSTGRES.stored) for key, each in keyed if type(each) is LedgerRow]
                if rows:
                    link.execute(_INSERT_ATTEMPTS, list(zip(*rows, strict=True)))  # type: ignore[arg-type]
                for key, each in keyed:
                    if type(each) is not LedgerRow:
                        _write_one(link, each, key)
            return 0
        except _BAD_ITEM:
            with link.transaction("BEGIN"):
                return sum(not _is_written(link, each, key) for key, each in keyed)

    @contextmanager
    def session(self, *, writes: bool = False) -> Generator[Session]:
        """Open a transaction on a connection of its own; those that write take turns.

        Raises:
            LedgerError: the database cannot be used.

        """
        try:
            link = _Link(self._url, READ_S)
            try:
                if writes:
                    # Before the transaction, whose snapshot begins with its first statement.
                    link.rows(f"SELECT pg_advisory_lock({_CHANGE_LOCK})")
                with link.transaction(f"BEGIN ISOLATION LEVEL REPEATABLE READ {'' if writes else 'READ ONLY'}"):
                    yield link
            finally:
                link.close()
        except self.outage_error as error:
            raise LedgerError(
                f"the ledger cannot be {'written' if writes else 'read'}: {sentence_of(error)}"
            ) from error

    def told(self, error: Exception) -> tuple[str, bool]:
        """Give what a failure means and what to do; the connection is made anew after every one."""
        return sentence_of(error), True

    def close(self) -> None:
        """Close the connection; twice is fine."""
        if self._link is not None:
            self._link.close()
            self._link = None


class _Link:
    """A connection on an event loop of its own, for one thread at a time.

    Raises:
        OSError: the server cannot be reached in time; also asyncpg's errors when it refuses.

    """

    dialect = POSTGRES

    def __init__(self, url: str, statement_s: float) -> None:
        self._runner = asyncio.Runner()
        try:
            self._connection: Any = self._run(
                _asyncpg.connect(
                    url,
                    timeout=CONNECT_S,
                    command_timeout=statement_s,
                    # Poolers that hand a connection on after each transaction know no statement of ours.
                    statement_cache_size=0 if "pgbouncer" in url else 20,
                    server_settings={"application_name": "gearshift"},
                )
            )
        except BaseException:
            self._runner.close()
            raise

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        found: list[Any] = self._run(self._connection.fetch(_numbered(sql), *values))
        return [tuple(each) for each in found]

    def execute(self, sql: str, values: Sequence[Value] = ()) -> int:
        tag: str = self._run(self._connection.execute(_numbered(sql), *values))
        last = tag.rsplit(" ", 1)[-1]  # "DELETE 12"
        return int(last) if last.isdigit() else 0

    def execute_many(self, sql: str, values: Iterable[Sequence[Value]]) -> None:
        self._run(self._connection.executemany(_numbered(sql), values))

    @contextmanager
    def transaction(self, begin: str) -> Generator[Self]:
        self.execute(begin)
        try:
            yield self
        except BaseException:
            if not self._connection.is_closed() and self._connection.is_in_transaction():
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def close(self) -> None:
        """Break it off; nothing is in a transaction then, or it is to be rolled back."""
        try:
            self._connection.terminate()
        finally:
            self._runner.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


def shown(url: str) -> str:
    """Give a database's URL without its password."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"postgresql://{parts.hostname or 'local socket'}{port}{parts.path}"
    except ValueError:
        return "postgresql"


def sentence_of(error: Exception) -> str:
    """Give what a failure of PostgreSQL means, and what to do."""
    code = getattr(error, "sqlstate", None)
    if isinstance(code, str):
        for prefix, sentence in _SENTENCES:
            if code.startswith(prefix):
                return sentence
        return f"PostgreSQL refuses it ({type(error).__name__}, SQLSTATE {code}); see its log"
    if isinstance(error, TimeoutError):
        return "PostgreSQL does not answer in time; check that it runs and is not overloaded"
    if isinstance(error, OSError):
        return "PostgreSQL cannot be reached; check that it runs, its address and the network (`ledger.url`)"
    if isinstance(error, asyncpg.InterfaceError):
        return "the connection to PostgreSQL broke off"
    return "`ledger.url` is not a URL such as postgresql://user@host:5432/gearshift"


_SENTENCES: Final = (
    ("28", "PostgreSQL refuses the user or password of `ledger.url`"),
    ("3D000", "the database of `ledger.url` does not exist; create it with `createdb`"),
    ("42501", "the user of `ledger.url` may not use the tables; grant it CREATE and USAGE on the schema"),
    ("3F000", "the user of `ledger.url` has no schema for the tables; grant it CREATE and USAGE on one"),
    ("25006", "PostgreSQL is read-only, perhaps a standby; set `ledger.url` to the primary"),
    ("53100", "PostgreSQL's disk is full; free some room"),
    ("53300", "PostgreSQL has no connection left; raise max_connections or use a pooler"),
    ("53", "PostgreSQL lacks memory or another resource; see its log"),
    ("57P", "PostgreSQL is stopping or starting; it is tried again"),
    ("55P03", "another process holds a lock on the ledger's tables"),
    ("40", "another process changed the same rows at the same time; run it again"),
    ("08", "the connection to PostgreSQL broke off"),
)

_BAD_ITEM: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ArithmeticError, ValueError)


def _is_written(link: _Link, item: Item, key: int) -> bool:
    try:
        with _savepoint(link):
            _write_one(link, item, key)
        return True
    except _BAD_ITEM:
        return False


@contextmanager
def _savepoint(link: _Link) -> Generator[None]:
    link.execute("SAVEPOINT item")
    try:
        yield
    except _BAD_ITEM:
        link.execute("ROLLBACK TO SAVEPOINT item")
        raise


def _write_one(link: _Link, item: Item, key: int) -> None:
    match item:
        case LedgerRow():
            link.execute(_INSERT_ATTEMPT, attempt_values(item, key, POSTGRES.stored))
        case OutcomeReport():
            link.execute(INSERT_OUTCOME, outcome_values(item))
        case MachineTime():
            link.execute(_INSERT_MACHINE_TIME, machine_values(item, key, POSTGRES.stored))


def _numbered(sql: str) -> str:
    """Spell `?` as PostgreSQL does: $1, $2 and so on."""
    first, *rest = sql.split("?")
    return first + "".join(f"${index}{part}" for index, part in enumerate(rest, 1))


_TYPES: Final = {
    "id": "bigint",
    "declared": "boolean",
    "position": "integer",
    "number": "integer",
    "cost_usd": "numeric",
    "queue_ms": "float8",
    "first_token_ms": "float8",
    "total_ms": "float8",
    "served": "boolean",
    "started_at": "float8",
    "strongest_usd": "numeric",
    "stream": "boolean",
}

_COLUMNS: Final = attempt_columns(POSTGRES)
_INSERT_ATTEMPT: Final = insert_attempt(POSTGRES)
_INSERT_MACHINE_TIME: Final = insert_machine_time(POSTGRES)
# One statement for a whole batch: an array for each column.
_INSERT_ATTEMPTS: Final = (
    f"INSERT INTO attempts ({', '.join(_COLUMNS)}) SELECT * FROM unnest("
    + ", ".join(f"?::{_TYPES.get(name, 'bigint' if name.endswith('_tokens') else 'text')}[]" for name in _COLUMNS)
    + ") ON CONFLICT (id) DO NOTHING"
)
