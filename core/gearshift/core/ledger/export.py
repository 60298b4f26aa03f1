"""The ledger's rows as they stand, page by page, and as CSV.

Rules: memory is bounded by a page; each page is a transaction of its own, so that nobody waits for a long export. Rows
come by their start. Money is exact decimal USD; an unknown price is empty, never zero.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, TextIO

from gearshift.core.catalogue.money import usd_text
from gearshift.core.ledger.columns import TOKEN_COLUMNS
from gearshift.core.ledger.store import Session, Store, Value

PAGE: Final = 5_000

MONEY_COLUMNS: Final = ("cost_usd", "strongest_usd", "repriced_usd")
TRUTH_COLUMNS: Final = ("declared", "served", "stream")
WHOLE_COLUMNS: Final = ("id", "position", "number", *TOKEN_COLUMNS)
NUMBER_COLUMNS: Final = ("queue_ms", "first_token_ms", "total_ms")
EXPORTED: Final = (
    "id", "started_at", "request_id", "tenant", "task_id", "task_type", "declared", "chain", "position", "provider",
    "account", "model", "number", "role", "cause", "outcome", "failure", "reason", *TOKEN_COLUMNS, "usage_source",
    "cost_usd", "strongest_usd", "repriced_usd", "queue_ms", "first_token_ms", "total_ms", "verdicts", "served",
    "stream", "config_revision",
)  # fmt: skip
"""The columns of an export; those not named above are text, and `started_at` is a time in UTC."""

Cell = str | int | float | bool | Decimal | datetime | None
Row = tuple[Cell, ...]


def exported_pages(store: Store, *, since: float | None = None, until: float | None = None) -> Iterator[list[Row]]:
    """Give all rows of a period, seconds since the epoch, in pages of at most `PAGE`.

    Raises:
        LedgerError: the store cannot be read.

    """
    after: tuple[float, int] | None = None
    while True:
        with store.session() as session:
            page = _page(session, after, since, until)
        if not page:
            return
        yield [_row(each, session) for each in page]
        after = (float(str(page[-1][1])), int(str(page[-1][0])))
        if len(page) < PAGE:
            return


def write_csv(pages: Iterator[list[Row]], file: TextIO) -> int:
    """Write pages as CSV with a heading, RFC 4180; give how many rows."""
    written = 0
    writer = csv.writer(file)
    writer.writerow(EXPORTED)
    for page in pages:
        writer.writerows([_text(cell) for cell in row] for row in page)
        written += len(page)
    return written


def _page(
    session: Session, after: tuple[float, int] | None, since: float | None, until: float | None
) -> Sequence[Sequence[object]]:
    suffix = session.dialect.money_suffix
    columns = ", ".join(f"{name.removesuffix('_usd')}_{suffix}" if name in MONEY_COLUMNS else name for name in EXPORTED)
    tests: list[str] = []
    values: list[Value] = []
    for test, value in (("started_at >= ?", since), ("started_at < ?", until)):
        if value is not None:
            tests.append(test)
            values.append(value)
    if after is not None:
        tests.append("(started_at, id) > (?, ?)")
        values += after
    where = f" WHERE {' AND '.join(tests)}" if tests else ""
    return session.rows(f"SELECT {columns} FROM attempts{where} ORDER BY started_at, id LIMIT {PAGE}", values)


def _row(values: Sequence[object], session: Session) -> Row:
    return tuple(_cell(name, value, session) for name, value in zip(EXPORTED, values, strict=True))


def _cell(name: str, value: object, session: Session) -> Cell:
    if value is None:
        return None
    if name == "started_at":
        return datetime.fromtimestamp(float(str(value)), UTC)
    if name in MONEY_COLUMNS and isinstance(value, int | Decimal):
        return session.dialect.amount(value)
    if name in TRUTH_COLUMNS:
        return bool(value)
    return value if isinstance(value, str | int | float) else str(value)


def _text(cell: Cell) -> str | int | float | None:
    if isinstance(cell, datetime):
        return cell.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return usd_text(cell) if isinstance(cell, Decimal) else cell
