"""The ledger in an SQLite file, written by a thread of its own.

Rules: the caller's path only appends to a buffer; the writer commits in groups, every 50 ms or 500 rows, at once when
somebody waits for a flush. What cannot be written is kept and tried again until the buffer is full; then new rows are
dropped and counted. One event loop uses it; several processes may share the file.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Literal, Self

import anyio

from gearshift.core.errors import LedgerError
from gearshift.core.ledger.base import LedgerStatus
from gearshift.core.ledger.faults import needs_reopening, sentence_of
from gearshift.core.ledger.report import CostQuery, CostReport
from gearshift.core.ledger.row import LedgerRow, OutcomeReport
from gearshift.core.ledger.store import Item, Store

GATHER_S: Final = 0.05
GATHER_ROWS: Final = 500
COMMIT_ROWS: Final = 2000
"""Most rows in one commit, so that no commit is long."""
RETRY_S: Final = (0.1, 2.0)
"""First and longest wait between two tries of a failing store; it doubles."""
CLOSE_S: Final = 10.0
"""Longest wait for the writer at the end."""

_log = logging.getLogger(__name__)


class SqliteLedger:
    """A ledger in one SQLite file; an async context manager that opens and closes it.

    Args:
        path: the file, or `:memory:`, which keeps nothing.
        durability: `async` may lose 50 ms of rows to kill -9, and more to a power cut; with `sync` the engine waits for
            `flush`, and every commit waits for the disk.
        max_pending: most rows that wait, from 1.
        busy_timeout_s: how long a write waits for another process that holds the file.

    """

    def __init__(
        self,
        path: str,
        *,
        durability: Literal["async", "sync"] = "async",
        max_pending: int = 100_000,
        busy_timeout_s: float = 5.0,
    ) -> None:
        self._store = Store(path, is_synced=durability == "sync", busy_timeout_s=busy_timeout_s)
        self._max_pending = max_pending
        self._pending: deque[Item] = deque()
        self._batch: list[Item] = []  # taken from pending, not yet committed
        self._waiters: deque[_Waiter] = deque()
        self._accepted = 0
        self._settled = 0  # committed or refused, of those accepted
        self._refused = 0
        self._overflowed = 0
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
        """Open the file and start the writer.

        Raises:
            LedgerError: says what is wrong with the file and what to do.

        """
        await anyio.to_thread.run_sync(self._store.open)
        # A daemon, so that a process that forgets to close it still ends; SQLite survives that.
        self._thread = threading.Thread(target=self._run, name="gearshift-ledger", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        """Write what waits, within 10 s, and close the file; twice is fine."""
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

    async def flush(self) -> None:
        """Return when all rows that were appended before are committed.

        Raises:
            LedgerError: the store cannot take them now; they are kept and tried again.

        """
        target = self._accepted
        if self._settled >= target:
            return
        if self._is_failing or self._is_over or self._thread is None:
            raise LedgerError(f"the ledger cannot be written: {self._last_error or 'it is not open'}")
        waiter = _Waiter(target)
        self._waiters.append(waiter)
        if self._is_over:  # the writer has looked at its waiters for the last time
            self._settle("it was closed")
        self._hurry.set()
        self._wake.set()
        await waiter.event.wait()
        if waiter.error:
            raise LedgerError(f"the ledger cannot be written: {waiter.error}")

    async def record_outcome(self, outcome: OutcomeReport) -> None:
        """Keep what a caller said; a later word on the same request replaces it.

        Raises:
            LedgerError: the store cannot take it now; it is kept and tried again, unless too many rows wait.

        """
        if not self._accept((outcome,)):
            raise LedgerError("the ledger cannot be written: too many rows wait, or it is closed")
        await self.flush()

    async def report(self, query: CostQuery) -> CostReport:
        """Sum the committed rows, in a thread and on a connection of its own.

        Raises:
            LedgerError: the file cannot be read.

        """
        pending = self.status().pending
        return await anyio.to_thread.run_sync(lambda: self._store.report(query, pending=pending))

    def status(self) -> LedgerStatus:
        """Give how it does."""
        return LedgerStatus(
            pending=len(self._pending) + len(self._batch),
            committed=self._settled - self._refused,
            dropped=self._overflowed + self._refused,
            is_failing=self._is_failing,
            last_error=self._last_error,
        )

    def _accept(self, items: Sequence[Item]) -> bool:
        count = len(items)
        if len(self._pending) + len(self._batch) + count > self._max_pending or self._closing.is_set():
            self._overflowed += count
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
                refused = self._store.write(self._batch)
            except (sqlite3.Error, LedgerError, OSError) as error:
                self._fail(error)
                if is_last:
                    return False
                self._closing.wait(retry_s)
                retry_s = min(retry_s * 2, RETRY_S[1])
                continue
            self._succeed(refused)
            return True

    def _fail(self, error: Exception) -> None:
        sentence = error.message if isinstance(error, LedgerError) else sentence_of(error)
        self._is_broken = self._is_broken or needs_reopening(error)
        if not self._is_failing:
            _log.error("the ledger cannot be written, and will be tried again: %s", sentence)
        self._last_error = sentence
        self._is_failing = True
        self._settle(sentence)

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
        self.event = anyio.Event()
        self._loop = asyncio.get_running_loop()

    def wake(self, error: str) -> None:
        self.error = error
        try:
            self._loop.call_soon_threadsafe(self.event.set)
        except RuntimeError:  # the loop has gone, and its task with it
            _log.debug("a flush was not waited for")
