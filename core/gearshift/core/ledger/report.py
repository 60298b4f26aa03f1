"""What a period cost, by task, model, tenant, position, day or task type.

Rules: sums are exact; attempts of unknown price are counted, not guessed; only committed rows count.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gearshift.core.answer import Usage
from gearshift.core.catalogue.money import from_pico
from gearshift.core.words import AttemptOutcome, CostGroup, UsageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class CostQuery:
    """What to sum.

    Args:
        group_by: one row for each combination; empty gives the total only.
        since / until: seconds since the epoch; attempts that started at or after, and before. None is no bound.
        tenant / task_id: only this one; None is all.

    """

    group_by: tuple[CostGroup, ...] = (CostGroup.TASK,)
    since: float | None = None
    until: float | None = None
    tenant: str | None = None
    task_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """One line.

    Args:
        keys: the values that it is grouped by, in the order of `group_by`; a model is "provider/model", a day
            "2026-11-23" in UTC.
        calls: requests with an attempt in it.
        usage: of all its attempts; its source is the least trusted of them.
        cost_usd: without the attempts of unknown price, which `unpriced` counts.
        estimated_usd: the part of cost_usd that rests on estimated usage.
        overhead_usd: cost of attempts whose answer was not served.
        strongest_usd: what the served usage would have cost on the chain's strongest model, where that is known.

    """

    keys: tuple[str, ...]
    calls: int
    attempts: int
    failed: int
    poor: int
    usage: Usage
    cost_usd: Decimal
    unpriced: int
    estimated_usd: Decimal
    overhead_usd: Decimal
    strongest_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """Rows, the dearest first, and their total; `pending` rows had not reached the store."""

    rows: tuple[CostRow, ...]
    total: CostRow
    pending: int


def read_report(connection: sqlite3.Connection, query: CostQuery, *, pending: int) -> CostReport:
    """Sum the ledger on a connection that nobody else uses meanwhile."""
    where, values = _where(query)
    connection.execute("BEGIN")  # one snapshot for the rows and their total
    try:
        groups = [_KEYS[each] for each in query.group_by]
        rows: list[CostRow] = []
        if groups:
            keys = ", ".join(groups)
            numbers = ", ".join(str(index + 1) for index in range(len(groups)))
            found = connection.execute(
                f"SELECT {keys}, {_SUMS} FROM attempts{where} GROUP BY {numbers}", values
            ).fetchall()
            rows = [_row(each, len(groups)) for each in found]
        total = _row(connection.execute(f"SELECT {_SUMS} FROM attempts{where}", values).fetchone(), 0)
    finally:
        connection.execute("ROLLBACK")
    rows.sort(key=lambda each: (-each.cost_usd, each.keys))
    return CostReport(rows=tuple(rows), total=total, pending=pending)


def _where(query: CostQuery) -> tuple[str, list[object]]:
    tests: list[str] = []
    values: list[object] = []
    for test, value in (
        ("started_at >= ?", query.since),
        ("started_at < ?", query.until),
        ("tenant = ?", query.tenant),
        ("task_id = ?", query.task_id),
    ):
        if value is not None:
            tests.append(test)
            values.append(value)
    return (f" WHERE {' AND '.join(tests)}" if tests else ""), values


def _row(values: Sequence[object], keys: int) -> CostRow:
    numbers = [int(value or 0) for value in values[keys:]]  # type: ignore[call-overload]
    calls, attempts, failed, poor, unpriced, source, *tokens = numbers[:12]
    money = [from_pico(high * _HALF + low) for high, low in zip(numbers[12::2], numbers[13::2], strict=True)]
    return CostRow(
        keys=tuple(str(value) for value in values[:keys]),
        calls=calls,
        attempts=attempts,
        failed=failed,
        poor=poor,
        usage=Usage(
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cache_write_tokens=tokens[2],
            cache_write_1h_tokens=tokens[3],
            cache_read_tokens=tokens[4],
            reasoning_tokens=tokens[5],
            source=UsageSource(source or UsageSource.REPORTED),
        ),
        cost_usd=money[0],
        unpriced=unpriced,
        estimated_usd=money[1],
        overhead_usd=money[2],
        strongest_usd=money[3],
    )


_KEYS: Final = {
    CostGroup.TASK: "task_id",
    CostGroup.MODEL: "provider || '/' || model",
    CostGroup.TENANT: "tenant",
    CostGroup.POSITION: "position",
    CostGroup.DAY: "strftime('%Y-%m-%d', started_at, 'unixepoch')",
    CostGroup.TASK_TYPE: "task_type",
}

# SQLite's sums are 64 bits, which pico-USD would fill at 9.2 million USD: each half is summed by itself.
_HALF: Final = 10**6


def _money(column: str, condition: str = "1") -> str:
    return f"SUM(CASE WHEN {condition} THEN {column} / {_HALF} END), SUM(CASE WHEN {condition} THEN {column} % {_HALF} END)"


_SUMS: Final = ", ".join(
    (
        "COUNT(DISTINCT tenant || char(10) || request_id)",
        "COUNT(*)",
        f"SUM(outcome = '{AttemptOutcome.FAILED.word}')",
        f"SUM(outcome = '{AttemptOutcome.POOR.word}')",
        "SUM(cost_pico IS NULL)",
        "MAX(CASE usage_source " + " ".join(f"WHEN '{each.word}' THEN {each.value}" for each in UsageSource) + " END)",
        "SUM(input_tokens)",
        "SUM(output_tokens)",
        "SUM(cache_write_tokens)",
        "SUM(cache_write_1h_tokens)",
        "SUM(cache_read_tokens)",
        "SUM(reasoning_tokens)",
        _money("cost_pico"),
        _money("cost_pico", f"usage_source = '{UsageSource.ESTIMATED.word}'"),
        _money("cost_pico", "NOT served"),
        _money("strongest_pico", "served"),
    )
)
