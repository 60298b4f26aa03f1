"""Moves what SQLite's write-ahead log holds into the file, beside the writer.

Rules: a thread and a connection of its own, so that no commit waits for the disk's sync; never blocks the writer
(passive); what fails here is left to the writer, which meets the same fault and tells of it. The connection stays open: of two
connections to a file SQLite cannot close the descriptor of one, since that would drop the other's locks, so that one would come
and never go (https://www.sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Final

ROWS: Final = 4000
COMMITS: Final = 800
"""After so many of either there is enough to move: some MiB. When all was moved, the next commit begins the log anew, for which
SQLite waits for the disk in the writer's own thread: the rarer the better, where a row may be no more than 50 ms late."""
LAST_RESORT_PAGES: Final = 16_000
"""64 MiB of log, at which SQLite makes the writer do it: readers held this up, or the disk is slow."""
_PASSES: Final = 5
_CLOSE_S: Final = 5.0

_log = logging.getLogger(__name__)


class Checkpointer:
    """A thread that checkpoints when it is told of enough commits.

    Args:
        connect: opens a connection to the file.

    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._rows = 0
        self._commits = 0
        self._wake = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="gearshift-ledger-checkpoint", daemon=True)
        self._thread.start()

    def committed(self, rows: int) -> None:
        """Count a commit; by the writer."""
        self._rows += rows
        self._commits += 1
        if self._rows >= ROWS or self._commits >= COMMITS:
            self._rows = self._commits = 0
            self._wake.set()

    def close(self) -> None:
        """End the thread, within 5 s."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        try:
            while not self._is_closing:
                # At the start too: what a killed process left is moved, and every file that this takes is open from then on.
                connection = connection or self._opened()
                if connection is not None:
                    try:
                        self._checkpoint(connection)
                    except sqlite3.Error as error:
                        _log.debug("the ledger's log is moved later: %s", error)
                        connection.close()
                        connection = None
                self._wake.wait()
                self._wake.clear()
        finally:
            if connection is not None:
                connection.close()

    def _opened(self) -> sqlite3.Connection | None:
        try:
            return self._connect()
        except sqlite3.Error as error:
            _log.debug("the ledger's log is moved later: %s", error)
            return None

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        """Move all of it: only then the log begins anew. What is written meanwhile is little, and moved at once."""
        for _ in range(_PASSES):
            _, written, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if self._is_closing or moved >= written:
                return
