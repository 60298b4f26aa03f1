"""What a ledger needs of the database behind it.

Rules: synchronous, for worker threads; a write is one commit, after whose failure the same items may be tried again and
are never written twice. SQL is written once, with `?` for values, in what SQLite and PostgreSQL both understand; what
they spell differently is a `Dialect`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Protocol

from gearshift.core.ledger.row import LedgerRow, MachineTime, OutcomeReport

Item = LedgerRow | MachineTime | OutcomeReport
Value = str | int | float | bool | Decimal | None

SEQUENCE_BITS: Final = 40
"""An id is the writer's number above so many bits of its own count: 8 million writers, a trillion rows each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a database spells what the other spells differently.

    Args:
        money_suffix: ends the name of a column of money.
        sums: the SELECT terms that sum an expression of money exactly.
        money: USD from the values of those terms, none of them null.
        stored: what is stored for an amount.
        amount: the amount that a column of money holds.
        day: the UTC day, "2026-11-23", of an expression of seconds since the epoch.
        hour: the UTC hour, "2026-11-23T14", of one.
        floor: the whole number below an expression that is never negative.
        newline: an expression of one line feed.

    """

    money_suffix: str
    sums: Callable[[str], Sequence[str]]
    money: Callable[[Sequence[int | Decimal]], Decimal]
    stored: Callable[[Decimal], Value]
    amount: Callable[[int | Decimal], Decimal]
    day: Callable[[str], str]
    hour: Callable[[str], str]
    floor: Callable[[str], str]
    newline: str


class Session(Protocol):
    """One transaction on a connection of its own. One thread uses it."""

    @property
    def dialect(self) -> Dialect:
        """How it spells."""
        ...

    def rows(self, sql: str, values: Sequence[Value] = ()) -> Sequence[Sequence[object]]:
        """Run a query and give all of its rows."""
        ...

    def execute(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Run a statement and give how many rows it changed."""
        ...

    def execute_many(self, sql: str, values: Iterable[Sequence[Value]]) -> None:
        """Run a statement for each of the values."""
        ...


class Store(Protocol):
    """A database. `open` to `close` belong to one thread at a time; sessions are anybody's."""

    @property
    def outage_error(self) -> tuple[type[Exception], ...]:
        """What its methods raise when it cannot be used now; everything else is a bug."""
        ...

    def open(self) -> None:
        """Open it, make or migrate its tables.

        Raises:
            LedgerError: says what is wrong and what to do.

        """
        ...

    def reopen(self) -> None:
        """Open it anew, after a fault that the old connection may not survive.

        Raises:
            LedgerError: as `open` does.

        """
        ...

    def write(self, items: Sequence[Item], first: int) -> int:
        """Write all items in one commit and give how many were refused for what they hold.

        Args:
            items: those of another try of the same commit are the same.
            first: how many items this writer wrote before them, since its start.

        """
        ...

    def session(self, *, writes: bool = False) -> AbstractContextManager[Session]:
        """Open a transaction: one snapshot, or one commit.

        Raises:
            LedgerError: it cannot be used now, and what to do.

        """
        ...

    def told(self, error: Exception) -> tuple[str, bool]:
        """Give what a failure means and what to do, and whether the connection may be broken."""
        ...

    def close(self) -> None:
        """Close it; twice is fine."""
        ...
