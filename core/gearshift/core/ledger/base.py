"""What the engine asks of a ledger, whichever store is behind it.

Rules: `append` never waits and never fails a call; `flush` returns only when what was appended before is durable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from gearshift.core.ledger.listing import AttemptQuery, RecordedAttempt
from gearshift.core.ledger.outcomes import JudgedAttempt
from gearshift.core.ledger.prune import Pruned
from gearshift.core.ledger.report import CostQuery, CostReport
from gearshift.core.ledger.row import LedgerRow, MachineTime, OutcomeReport
from gearshift.core.ledger.traffic import TrafficPoint, TrafficQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerStatus:
    """How the ledger does.

    Args:
        pending: rows that wait to be written.
        committed: rows that were written since the start.
        dropped: rows that were lost since the start, because the buffer was full (the newest are dropped, what waits is
            kept), or the store refused them for what they hold.
        unacknowledged: calls that were answered before their rows were written, since the start, although `durability`
            is `sync`: only where the configuration says `serve`.
        is_failing: whether the last write failed and is being tried again.
        last_error: the last failure, a sentence; empty when there was none, kept after it is over.

    """

    pending: int
    committed: int
    dropped: int
    unacknowledged: int = 0
    is_failing: bool = False
    last_error: str = ""


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

    def append_machine_time(self, times: Sequence[MachineTime]) -> None:
        """Take what own machines cost, as `append` does rows."""
        ...

    async def acknowledge(self) -> None:
        """Flush, or give up as the configuration says, before a call is completed.

        Raises:
            LedgerError: the store cannot take the rows now, and the call is to fail for it.

        """
        ...

    async def record_outcome(self, outcome: OutcomeReport) -> None:
        """Keep what a caller said; a later word on the same request replaces it.

        Raises:
            LedgerError: the store cannot take it now, and it was not kept.

        """
        ...

    async def outcomes(self, limit: int) -> Sequence[JudgedAttempt]:
        """Give the attempts that callers judged, the latest words first.

        Raises:
            LedgerError: the store cannot be read.

        """
        ...

    async def report(self, query: CostQuery) -> CostReport:
        """Sum the committed rows.

        Raises:
            LedgerError: the store cannot be read.

        """
        ...

    async def attempts(self, query: AttemptQuery) -> Sequence[RecordedAttempt]:
        """Give committed attempts, the latest first.

        Raises:
            LedgerError: the store cannot be read.

        """
        ...

    async def traffic(self, query: TrafficQuery) -> Sequence[TrafficPoint]:
        """Give committed calls over time.

        Raises:
            LedgerError: the store cannot be read.
            ValueError: the period has too many steps.

        """
        ...

    async def spent(
        self, *, since: float, tenant: str | None = None, task_id: str | None = None, until: float | None = None
    ) -> Decimal:
        """Give what committed attempts of known price cost, USD; times are seconds since the epoch, None is all.

        Raises:
            LedgerError: the store cannot be read.

        """
        ...

    async def prune(self, before: float) -> Pruned:
        """Turn attempts of whole UTC days before a time, seconds since the epoch, into daily sums.

        Raises:
            LedgerError: the store cannot be written.

        """
        ...

    def status(self) -> LedgerStatus:
        """Give how it does."""
        ...

    async def aclose(self) -> None:
        """Write what waits, within bounds, and close; twice is fine."""
        ...
