"""The ledger in an SQLite file.

Rules: as `BufferedLedger`; several processes of one machine may share the file.
"""

from __future__ import annotations

from typing import Literal

from gearshift.core.ledger.buffered import BufferedLedger, Patience
from gearshift.core.ledger.sqlite_store import SqliteStore


class SqliteLedger(BufferedLedger):
    """A ledger in one SQLite file; an async context manager that opens and closes it.

    Args:
        path: the file, or `:memory:`, which keeps nothing.
        durability: `async` may lose 50 ms of rows to kill -9, and more to a power cut; with `sync` the engine waits for
            `acknowledge`, and every commit waits for the disk.
        max_pending: most rows that wait, from 1.
        busy_timeout_s: how long a write waits for another process that holds the file.
        patience: what calls that must be recorded do while the file cannot be written.

    """

    def __init__(
        self,
        path: str,
        *,
        durability: Literal["async", "sync"] = "async",
        max_pending: int = 100_000,
        busy_timeout_s: float = 5.0,
        patience: Patience | None = None,
    ) -> None:
        store = SqliteStore(path, is_synced=durability == "sync", busy_timeout_s=busy_timeout_s)
        super().__init__(store, max_pending=max_pending, patience=patience)
