"""What the engine asks of a ledger, whichever store is behind it.

Rules: `append` never waits and never fails a call; `flush` returns only when what was appended before is durable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gearshift.core.ledger.report import CostQuery, CostReport
from gearshift.core.ledger.row import LedgerRow, OutcomeReport


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerStatus:
    """How the ledger does.

    Args:
        pending: rows that wait to be written.
        committed: rows that were written since the start.
        dropped: rows that were lost since the start, because the buffer was full, or the store refused them.
        is_failing: whether the last write failed and is being tried again.
        last_error: the last failure, a sentence; empty when there was none, kept after it is over.

    """

    pending: int
    committed: int
    dropped: int
    is_failing: bool
    last_error: str


class Ledger(Protocol):
    """A durable store of attempts. Tasks of one event loop may share it."""

    def append(self, rows: Sequence[LedgerRow]) -> None:
        """Take rows to be written soon; drops them, counted, when too many wait."""
        ...

    async def flush(self) -> None:
        """Return when all rows that were appended before are committed.

        Raises:
            LedgerError: the store cannot take them now; they are kept and tried again.

        """
        ...

    async def record_outcome(self, outcome: OutcomeReport) -> None:
        """Keep what a caller said; a later word on the same request replaces it.

        Raises:
            LedgerError: the store cannot take it now, and it was not kept.

        """
        ...

    async def report(self, query: CostQuery) -> CostReport:
        """Sum the committed rows.

        Raises:
            LedgerError: the store cannot be read.

        """
        ...

    def status(self) -> LedgerStatus:
        """Give how it does."""
        ...

    async def aclose(self) -> None:
        """Write what waits, within bounds, and close; twice is fine."""
        ...
