"""Old attempts become daily sums: reports stay exact, single attempts are gone, and what callers said of them.

Rules: whole UTC days only; a few thousand rows a commit, so that nobody waits long for the lock; a row is summed and
deleted in the same commit, so that it is never counted twice, whoever else prunes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gearshift.core.ledger.columns import TOKEN_COLUMNS
from gearshift.core.ledger.store import Dialect, Session

DAY_S: Final = 86_400
ROWS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many attempts became sums; `is_last` when nothing is left to prune."""

    attempts: int = 0
    is_last: bool = False

    def __add__(self, other: Pruned) -> Pruned:
        """Give both; the end is the second's."""
        return Pruned(self.attempts + other.attempts, other.is_last)


def day_start(at: float) -> float:
    """Give the start of a time's UTC day, seconds since the epoch."""
    return at // DAY_S * DAY_S


def prune_some(session: Session, before: float) -> Pruned:
    """Prune the oldest few thousand attempts of whole days before a time, in a transaction that may write."""
    edge = day_start(before)
    found = session.rows(
        f"SELECT id, started_at FROM attempts WHERE started_at < ? ORDER BY started_at, id LIMIT {ROWS}", (edge,)
    )
    if len(found) < ROWS:
        # The last of the attempts that anything was said of by then goes with this commit.
        session.execute("DELETE FROM outcomes WHERE reported_at < ?", (edge,))
    if not found:
        return Pruned(0, True)
    last = (float(str(found[-1][1])), int(str(found[-1][0])))
    # Those that started at the same moment as the last: by their ids.
    chosen = "started_at < ? OR (started_at = ? AND id <= ?)"
    values = (last[0], last[0], last[1])
    session.execute(_summed(session.dialect, chosen), values)
    deleted = session.execute(f"DELETE FROM attempts WHERE {chosen}", values)
    return Pruned(deleted, len(found) < ROWS)


_KEYS: Final = (
    "tenant",
    "task_id",
    "task_type",
    "chain",
    "position",
    "provider",
    "account",
    "model",
    "outcome",
    "usage_source",
    "served",
)


def _summed(dialect: Dialect, chosen: str) -> str:
    suffix = dialect.money_suffix
    cost, repriced, strongest = f"cost_{suffix}", f"COALESCE(repriced_{suffix}, cost_{suffix})", f"strongest_{suffix}"
    compared = f"served AND {strongest} IS NOT NULL"
    # A call is counted where its first attempt is, so that sums over models count it once.
    sums = {
        "calls": "SUM(CASE WHEN number = 1 THEN 1 ELSE 0 END)",
        "attempts": "COUNT(*)",
        **{column: f"SUM({column})" for column in TOKEN_COLUMNS},
        "unpriced": f"SUM(CASE WHEN {cost} IS NULL THEN 1 ELSE 0 END)",
        "unpriced_repriced": f"SUM(CASE WHEN {repriced} IS NULL THEN 1 ELSE 0 END)",
        cost: f"COALESCE(SUM({cost}), 0)",
        f"repriced_{suffix}": f"COALESCE(SUM({repriced}), 0)",
        strongest: f"COALESCE(SUM(CASE WHEN served THEN {strongest} END), 0)",
        f"compared_{suffix}": f"COALESCE(SUM(CASE WHEN {compared} THEN {cost} END), 0)",
        f"compared_repriced_{suffix}": f"COALESCE(SUM(CASE WHEN {compared} THEN {repriced} END), 0)",
    }
    keys = ", ".join(_KEYS)
    added = ", ".join(f"{column} = daily.{column} + excluded.{column}" for column in sums)
    return (
        f"INSERT INTO daily (day_at, {keys}, {', '.join(sums)}) "
        f"SELECT {dialect.floor(f'started_at / {DAY_S}')} * {DAY_S}, {keys}, {', '.join(sums.values())} "
        f"FROM attempts WHERE {chosen} GROUP BY 1, {keys} "
        f"ON CONFLICT (day_at, {keys}) DO UPDATE SET {added}"
    )
