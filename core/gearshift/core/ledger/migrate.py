"""The tables of the ledger's file, brought to the version that this code knows.

Rules: one transaction for all steps; a file that a newer version wrote, or another program, is refused and not touched.
A step is `schema/NNNN.sql`; a step that was released never changes.
"""

from __future__ import annotations

import sqlite3
from importlib.resources import files
from typing import Final

from gearshift.core.errors import LedgerError

SCHEMA_VERSION: Final = 1


def migrate(connection: sqlite3.Connection) -> None:
    """Make or complete the tables.

    Raises:
        LedgerError: the file is of a newer version, or of another program.
        sqlite3.Error: it cannot be read or written.

    """
    connection.execute("BEGIN IMMEDIATE")  # another process may open it at the same time
    try:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if "schema_version" not in names:
            if names:
                raise LedgerError("it is the database of another program; set `ledger.path` to another file")
            connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
            connection.execute("INSERT INTO schema_version VALUES (0)")
        (version,) = connection.execute("SELECT max(version) FROM schema_version").fetchone()
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"a newer version wrote it (schema {version}, this one knows {SCHEMA_VERSION}); install that version or "
                "set `ledger.path` to another file"
            )
        for step in range(version + 1, SCHEMA_VERSION + 1):
            for statement in _statements(step):
                connection.execute(statement)
        connection.execute("UPDATE schema_version SET version = ?", (SCHEMA_VERSION,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(step: int) -> list[str]:
    # `executescript` would commit first; statements hold no semicolon of their own.
    text = files("gearshift.core.ledger").joinpath("schema", f"{step:04}.sql").read_text("utf-8")
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    return [statement for each in plain.split(";") if (statement := each.strip())]
