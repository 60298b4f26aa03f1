"""The store that a configuration names.

Rules: PostgreSQL's client is imported only when a URL names it.
"""

from __future__ import annotations

from typing import Literal

from gearshift.core.config.model import LedgerConfig
from gearshift.core.errors import LedgerError
from gearshift.core.ledger.buffered import BufferedLedger, Patience
from gearshift.core.ledger.sqlite_store import SqliteStore
from gearshift.core.ledger.store import Store

BUSY_S = 5.0
"""How long a write waits for another process that holds the file."""


def configured_store(config: LedgerConfig, path: str) -> Store:
    """Give the store, not yet opened.

    Args:
        config: what says which.
        path: the SQLite file, where it is one.

    Raises:
        LedgerError: the URL is none, or PostgreSQL's client is not installed.

    """
    if not config.url:
        return SqliteStore(path, is_synced=config.durability == "sync", busy_timeout_s=BUSY_S)
    if not config.url.startswith(("postgresql://", "postgres://")):
        raise LedgerError("ledger.url: must begin with postgresql://; for SQLite set `ledger.path` instead")
    try:
        from gearshift.core.ledger.postgres import PostgresStore
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise LedgerError("ledger.url: PostgreSQL needs asyncpg: pip install 'gearshift[postgres]'") from error
    return PostgresStore(config.url)


def configured_ledger(config: LedgerConfig, path: str) -> BufferedLedger:
    """Give the ledger, not yet started.

    Raises:
        LedgerError: as `configured_store` does.

    """
    then: Literal["fail", "serve"] = "serve" if config.when_unwritable == "serve" else "fail"
    patience = Patience(wait_s=config.sync_wait_s, then=then)
    return BufferedLedger(configured_store(config, path), max_pending=config.max_pending, patience=patience)
