"""What failures of SQLite and the file system mean to the one who runs the service.

Rule: each sentence says what to do, and holds neither a path nor the text of a row.
"""

from __future__ import annotations

import sqlite3
from typing import Final


def sentence_of(error: Exception) -> str:
    """Give what a failure of SQLite or the file system means, and what to do."""
    if isinstance(error, OSError):
        return f"{error.strerror or error}; make its folder writable or set `ledger.path` to another place"
    code = getattr(error, "sqlite_errorcode", None)
    return _SENTENCES.get(code & 0xFF if isinstance(code, int) else -1, str(error))


def needs_reopening(error: Exception) -> bool:
    """Say whether the connection may be broken, and not only the moment bad."""
    code = getattr(error, "sqlite_errorcode", None)
    return not isinstance(code, int) or code & 0xFF not in _PASSING


_PASSING: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

_SENTENCES: Final = {
    sqlite3.SQLITE_FULL: "the disk is full; free some room",
    sqlite3.SQLITE_IOERR: "the disk refuses to read or write; check its health, its room and its quota",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that it is a file in a folder that may be written to",
    sqlite3.SQLITE_PERM: "it may not be written to; check its owner and mode",
    sqlite3.SQLITE_READONLY: "it may not be written to; check its owner and mode, or whether the disk is read-only",
    sqlite3.SQLITE_BUSY: "another process holds it; stop that process or set `ledger.path` to another file",
    sqlite3.SQLITE_LOCKED: "another process holds it; stop that process or set `ledger.path` to another file",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away, and save what can be saved with `sqlite3 FILE .recover`",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database; set `ledger.path` to another file",
}
