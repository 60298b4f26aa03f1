"""The tables of the ledger, brought to the version that this code knows.

Rules: one transaction for all steps, under a lock; a database that a newer version wrote, or another program, is
refused and not touched. A step is `schema/sqlite/NNNN.sql` and `schema/postgres/NNNN.sql`, which say the same in each
one's words; a step that was released never changes, and none goes back.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final, Literal

from gearshift.core.errors import LedgerError
from gearshift.core.ledger.store import Session

SCHEMA_VERSION: Final = 4


def migrate(session: Session, tables: set[str], words: Literal["sqlite", "postgres"]) -> None:
    """Make or complete the tables, in a transaction that holds the database's lock.

    Args:
        session: the transaction.
        tables: those that the database has.
        words: whose steps.

    Raises:
        LedgerError: the database is of a newer version, or of another program.

    """
    if "schema_version" not in tables:
        if tables:
            setting = "`ledger.path` to another file" if words == "sqlite" else "`ledger.url` to another database"
            raise LedgerError(f"it is the database of another program; set {setting}")
        session.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
        session.execute("INSERT INTO schema_version VALUES (0)")
    (found,) = session.rows("SELECT max(version) FROM schema_version")
    version = int(str(found[0]))
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"a newer version wrote it (schema {version}, this one knows {SCHEMA_VERSION}); install that version or "
            f"set {'`ledger.path` to another file' if words == 'sqlite' else '`ledger.url` to another database'}"
        )
    for step in range(version + 1, SCHEMA_VERSION + 1):
        for statement in _statements(words, step):
            session.execute(statement)
    if version < SCHEMA_VERSION:
        session.execute("UPDATE schema_version SET version = ?", (SCHEMA_VERSION,))


def writer_number(session: Session, token: str) -> int:
    """Give the number of the writer with this token, a new one when the database does not know it."""
    session.execute("INSERT INTO writers (token) VALUES (?) ON CONFLICT (token) DO NOTHING", (token,))
    ((number,),) = session.rows("SELECT number FROM writers WHERE token = ?", (token,))
    return int(str(number))


def _statements(words: str, step: int) -> list[str]:
    # `executescript` would commit first; statements hold no semicolon of their own.
    text = files("gearshift.core.ledger").joinpath("schema", words, f"{step:04}.sql").read_text("utf-8")
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    return [statement for each in plain.split(";") if (statement := each.strip())]
