"""A ledger's buffer and the thread that writes it, whichever database is behind it.

Rules: the caller's path only appends to a buffer; the writer commits in groups, every 20 ms or 500 rows, at once when
somebody waits for a flush. What cannot be written is kept and tried again until the buffer is full; then new rows are
dropped, the oldest are kept, and every drop is counted. One event loop uses it; several processes may share a store.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Final, Literal, Self, TypeVar

import anyio

from gearshift.core.errors import LedgerError
from gearshift.core.ledger.base import LedgerStatus
from gearshift.core.ledger.listing import AttemptQuery, RecordedAttempt, read_attempts
from gearshift.core.ledger.outcomes import JudgedAttempt, read_outcomes
from gearshift.core.ledger.prune import Pruned, prune_some
from gearshift.core.ledger.report import CostQuery, CostReport, read_report, read_spent
from gearshift.core.ledger.row import LedgerRow, MachineTime, OutcomeReport
from gearshift.core.ledger.store import Item, Session, Store
from gearshift.core.ledger.traffic import TrafficPoint, TrafficQuery, read_traffic

GATHER_S: Final = 0.02
"""Leaves the writer 30 of the 50 ms that a kill may cost, to get a core, the interpreter, and to commit."""
GATHER_ROWS: Final = 500
COMMIT_ROWS: Final = 2000
"""Most rows in one commit, so that no commit is long."""
RETRY_S: Final = (0.1, 2.0)
"""First and longest wait between two tries of a failing store; it doubles."""
CLOSE_S: Final = 10.0
"""Longest wait for the writer at the end."""
DROP_SHADOW_S: Final = 1.0
"""How long after a drop no call is acknowledged: nobody can tell whose rows were dropped."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What a call that must be recorded does while the store cannot be written.

    Args:
        wait_s: how long it waits for the store, seconds; 0 gives up at the first failed commit.
        then: `fail` it, or `serve` it although its rows are not on disk yet.

    """

    wait_s: float = 0.0
    then: Literal["fail", "serve"] = "fail"


class BufferedLedger:
    """A ledger over a store; an async context manager that opens and closes it.

    Args:
        store: the database; the ledger opens and closes it.
        max_pending: most rows that wait, from 1.
        patience: what `flush` and `acknowledge` do while the store cannot be written.

    """

    def __init__(self, store: Store, *, max_pending: int = 100_000, patience: Patience | None = None) -> None:
        self._store = store
        self._outages: tuple[type[Exception], ...] = (LedgerError, *store.outage_error)
        self._max_pending = max_pending
        self._patience = patience or Patience()
        self._pending: deque[Item] = deque()
        self._batch: list[Item] = []  # taken from pending, not yet committed
        self._waiters: deque[_Waiter] = deque()
        self._accepted = 0
        self._settled = 0  # committed or refused, of those accepted
        self._refused = 0
        self._overflowed = 0
        self._unacknowledged = 0
        self._dropped_at = float("-inf")
        self._is_full = False
        self._is_failing = False
        self._is_broken = False
        self._last_error = ""
        self._is_idle = False
        self._is_over = False
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Open the store and start the writer.

        Raises:
            LedgerError: says what is wrong with the store and what to do.

        """
        await anyio.to_thread.run_sync(self._store.open)
        # A daemon, so that a process that forgets to close it still ends; a store survives that.
        self._thread = threading.Thread(target=self._run, name="gearshift-ledger", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        """Write what waits, within 10 s, and close the store; twice is fine."""
        self._closing.set()
        self._hurry.set()
        self._wake.set()
        thread = self._thread
        if thread is None:
            self._store.close()
            return
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(thread.join, CLOSE_S)
        if thread.is_alive():
            _log.error("the ledger's writer did not end in %.0f s; rows may be lost", CLOSE_S)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def append(self, rows: Sequence[LedgerRow]) -> None:
        """Take rows to be written soon; drops them, counted, when too many wait or it is closed."""
        self._accept(rows)

    def append_machine_time(self, times: Sequence[MachineTime]) -> None:
        """Take periods of own machines, as `append` does rows."""
        self._accept(times)

    async def flush(self) -> None:
        """Return when all rows that were appended before are committed.

        Raises:
            LedgerError: the store could not take them in time; they are kept and tried again.

        """
        target = self._accepted
        if self._settled >= target:
            return
        wait_s = self._patience.wait_s
        if self._is_over or self._thread is None or (self._is_failing and not wait_s):
            raise LedgerError(f"the ledger cannot be written: {self._last_error or 'it is not open'}")
        waiter = _Waiter(target)
        self._waiters.append(waiter)
        if self._is_over:  # the writer has looked at its waiters for the last time
            self._settle("it was closed")
        self._hurry.set()
        self._wake.set()
        try:
            with anyio.move_on_after(wait_s or None):
                await waiter.event.wait()
        finally:
            waiter.is_gone = True
        if waiter.error or not waiter.event.is_set():
            raise LedgerError(f"the ledger cannot be written: {waiter.error or self._last_error or 'it is too slow'}")

    async def acknowledge(self) -> None:
        """Flush; where calls are to be served all the same, return also when the rows could not be written in time.

        Raises:
            LedgerError: as `flush` does, or rows were dropped just now; where calls are to fail then.

        """
        try:
            if self._dropped_at > time.monotonic() - DROP_SHADOW_S:
                raise LedgerError(f"the ledger drops rows: {self._last_error or 'too many wait, or it is closed'}")
            await self.flush()
        except LedgerError as error:
            if self._patience.then == "fail":
                raise
            if not self._unacknowledged:
                _log.error("calls are answered before they are recorded: %s", error.message)
            self._unacknowledged += 1

    async def record_outcome(self, outcome: OutcomeReport) -> None:
        """Keep what a caller said; a later word on the same request replaces it.

        Raises:
            LedgerError: the store cannot take it now; it is kept and tried again, unless too many rows wait.

        """
        if not self._accept((outcome,)):
            raise LedgerError("the ledger cannot be written: too many rows wait, or it is closed")
        await self.flush()

    async def outcomes(self, limit: int) -> Sequence[JudgedAttempt]:
        """Give the attempts that callers judged, the latest words first.

        Raises:
            LedgerError: the store cannot be read.

        """
        return await self._read(lambda session: read_outcomes(session, limit))

    async def report(self, query: CostQuery) -> CostReport:
        """Sum the committed rows, in a thread and on a connection of its own.

        Raises:
            LedgerError: the store cannot be read.

        """
        pending = self.status().pending
        return await self._read(lambda session: read_report(session, query, pending=pending))

    async def attempts(self, query: AttemptQuery) -> Sequence[RecordedAttempt]:
        """Give committed attempts, as `report` does sums.

        Raises:
            LedgerError: the store cannot be read.

        """
        return await self._read(lambda session: read_attempts(session, query))

    async def traffic(self, query: TrafficQuery) -> Sequence[TrafficPoint]:
        """Give committed calls over time, as `report` does sums.

        Raises:
            LedgerError: the store cannot be read.
            ValueError: the period has too many steps.

        """
        return await self._read(lambda session: read_traffic(session, query))

    async def spent(
        self, *, since: float, tenant: str | None = None, task_id: str | None = None, until: float | None = None
    ) -> Decimal:
        """Give what committed attempts cost, USD, those of unknown price left out; for budgets, at the start.

        Args:
            since / until: seconds since the epoch; attempts that started at or after, and before.
            tenant / task_id: only this one; None is all.

        Raises:
            LedgerError: the store cannot be read.

        """
        return await self._read(
            lambda session: read_spent(session, since=since, until=until, tenant=tenant, task_id=task_id)
        )

    async def prune(self, before: float) -> Pruned:
        """Turn attempts of whole UTC days before a time into daily sums, in short commits that let others write.

        Raises:
            LedgerError: the store cannot be written; what was pruned before stays so.

        """
        done = Pruned()
        while True:
            step = await self._read(lambda session: prune_some(session, before), writes=True)
            done += step
            if step.is_last:
                return done

    async def _read(self, work: Callable[[Session], T], *, writes: bool = False) -> T:
        def run() -> T:
            with self._store.session(writes=writes) as session:
                return work(session)

        return await anyio.to_thread.run_sync(run)

    def status(self) -> LedgerStatus:
        """Give how it does."""
        return LedgerStatus(
            pending=len(self._pending) + len(self._batch),
            committed=self._settled - self._refused,
            dropped=self._overflowed + self._refused,
            unacknowledged=self._unacknowledged,
            is_failing=self._is_failing,
            last_error=self._last_error,
        )

    def _accept(self, items: Sequence[LedgerRow] | Sequence[MachineTime] | Sequence[OutcomeReport]) -> bool:
        count = len(items)
        if len(self._pending) + len(self._batch) + count > self._max_pending or self._closing.is_set():
            self._overflowed += count
            self._dropped_at = time.monotonic()
            if not self._is_full:
                self._is_full = True
                _log.warning("the ledger drops rows: %d wait, %s", len(self._pending), self._last_error or "too slow")
            return False
        self._pending.extend(items)
        self._accepted += count
        # Setting an event costs more than the append: only when the writer sleeps, or has enough.
        if self._is_idle:
            self._wake.set()
        elif len(self._pending) >= GATHER_ROWS:
            self._hurry.set()
        return True

    # Below: the writer's thread.

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._batch = self._take()
                if not self._write():
                    break
        finally:
            self._give_up()
            self._store.close()

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to write; False when it is closed and all is written."""
        while not self._pending:
            self._settle("")
            if self._closing.is_set():
                return False
            self._is_idle = True
            # Looked at again: an append that came before the flag did not wake.
            if not self._pending and not self._waiters:
                self._wake.wait()
            self._is_idle = False
            self._wake.clear()
        if not (self._waiters or self._closing.is_set() or len(self._pending) >= GATHER_ROWS):
            self._hurry.wait(GATHER_S)
        self._hurry.clear()
        return True

    def _take(self) -> list[Item]:
        return [self._pending.popleft() for _ in range(min(len(self._pending), COMMIT_ROWS))]

    def _write(self) -> bool:
        """Commit the batch, however long it takes; False when it is closed and the last try failed."""
        retry_s = RETRY_S[0]
        while True:
            is_last = self._closing.is_set()
            try:
                if self._is_broken:
                    self._store.reopen()
                    self._is_broken = False
                refused = self._store.write(self._batch, self._settled)
            except self._outages as error:
                self._fail(error)
                if is_last:
                    return False
                self._closing.wait(retry_s)
                retry_s = min(retry_s * 2, RETRY_S[1])
                continue
            self._succeed(refused)
            return True

    def _fail(self, error: Exception) -> None:
        sentence, is_broken = (error.message, True) if isinstance(error, LedgerError) else self._store.told(error)
        self._is_broken = self._is_broken or is_broken
        if not self._is_failing:
            _log.error("the ledger cannot be written, and will be tried again: %s", sentence)
        self._last_error = sentence
        self._is_failing = True
        if not self._patience.wait_s:
            self._settle(sentence)
            return
        while self._waiters and self._waiters[0].is_gone:  # they gave up; a long outage must not collect them
            self._waiters.popleft()

    def _succeed(self, refused: int) -> None:
        count = len(self._batch)
        if refused:
            _log.error("the ledger refused %d rows for what they hold", refused)
        self._refused += refused
        self._settled += count
        self._batch = []
        if self._is_failing:
            self._is_failing = False
            _log.warning("the ledger can be written again")
        if self._is_full:
            self._is_full = False
            _log.warning("the ledger takes rows again; %d were dropped since the start", self._overflowed)
        self._settle("")

    def _settle(self, error: str) -> None:
        """Wake those whose rows are settled; with an error, all."""
        while self._waiters and (error or self._waiters[0].target <= self._settled):
            self._waiters.popleft().wake(error)

    def _give_up(self) -> None:
        lost = len(self._batch) + len(self._pending)
        if lost:
            _log.error("the ledger was closed with %d rows that it could not write", lost)
            self._overflowed += lost
            self._batch = []
            self._pending.clear()
        self._is_over = True
        self._settle("it was closed")


class _Waiter:
    """A task that waits in `flush`, woken from the writer's thread."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.error = ""
        self.is_gone = False
        self.event = anyio.Event()
        self._loop = asyncio.get_running_loop()

    def wake(self, error: str) -> None:
        self.error = error
        try:
            self._loop.call_soon_threadsafe(self.event.set)
        except RuntimeError:  # the loop has gone, and its task with it
            _log.debug("a flush was not waited for")
