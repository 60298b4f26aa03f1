"""Calls over time: how many, how long they took, what they cost and saved.

Rules: a call counts where its first attempt started, with all of its attempts; only committed attempts that were not
pruned count. Times are percentiles of a histogram whose bounds grow by a quarter, so that a million calls are read as a
few numbers: off by at most an eighth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from typing import Final

from gearshift.core.ledger.store import Dialect, Session, Value
from gearshift.core.words import CostGroup

MOST_STEPS: Final = 2_000
_GROWTH: Final = 1.25
_BOUNDS_MS: Final = tuple(accumulate(range(62), lambda bound, _: bound * _GROWTH, initial=1.0))
"""1 ms to 17 minutes."""

_KEYS: Final = {CostGroup.TASK: "task_id", CostGroup.TENANT: "tenant"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficQuery:
    """What to show.

    Args:
        since / until: seconds since the epoch; calls that began at or after, and before.
        step_s: length of one point, above 0; the period has at most `MOST_STEPS`.
        by: one line for each task or tenant; None is one line.
        tenant / task_id: only this one; None is all.
    """

    since: float
    until: float
    step_s: float
    by: CostGroup | None = None
    tenant: str | None = None
    task_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPoint:
    """Calls that began within one step.

    Args:
        key: the task or tenant; empty when there is one line.
        at: when the step began, seconds since the epoch.
        unserved: calls without an attempt whose answer was served.
        attempts: upstream calls of them all.
        p50_ms / p95_ms: from a call's first attempt, its waiting included, to its last one's end.
        first_token_p50_ms: of the served attempt; None where none told it.
        cost_usd: of all attempts of known price.
        saved_usd: what the served answers would have cost on the chains' strongest models, less what all attempts of
            these calls cost; None where no strongest model is known.
    """

    key: str
    at: float
    calls: int
    unserved: int
    attempts: int
    p50_ms: float
    p95_ms: float
    first_token_p50_ms: float | None
    tokens: int
    cost_usd: Decimal
    saved_usd: Decimal | None


def read_traffic(session: Session, query: TrafficQuery) -> list[TrafficPoint]:
    """Give the steps in which there was a call, by key and time.

    Raises:
        ValueError: the period has more steps than `MOST_STEPS`, or none.
    """
    if not 0 < (query.until - query.since) / query.step_s <= MOST_STEPS:
        raise ValueError(f"a period has 1 to {MOST_STEPS} steps")
    dialect = session.dialect
    calls, values = _calls(dialect, query)
    step = dialect.floor("(began - ?) / ?")
    names = f"grouped, {step}, {_bound('took_ms')}, {_bound('first_ms')}"
    money = [term for column in ("cost", "strongest", "compared") for term in dialect.sums(column)]
    sums = ", ".join(("COUNT(*)", "SUM(1 - served)", "SUM(attempts)", "SUM(tokens)", "COUNT(strongest)", *money))
    found = session.rows(
        f"SELECT {names}, {sums} FROM ({calls}) AS one GROUP BY 1, 2, 3, 4", [query.since, query.step_s, *values]
    )
    points: dict[tuple[str, int], _Point] = {}
    for key, at, took, first, *numbers in found:
        place = (str(key), int(float(str(at))))
        points.setdefault(place, _Point()).add(int(str(took)), int(str(first)), numbers, dialect)
    return [
        point.point(key, query.since + at * query.step_s) for (key, at), point in sorted(points.items()) if point.calls
    ]


def _calls(dialect: Dialect, query: TrafficQuery) -> tuple[str, list[Value]]:
    """Give a query of one row a call."""
    suffix = dialect.money_suffix
    key = f"{_KEYS[query.by]} AS grouped" if query.by is not None else "'' AS grouped"
    groups = f"{_KEYS[query.by]}, " if query.by is CostGroup.TASK else ""
    tests, values = ["started_at >= ?", "started_at < ?"], list[Value]([query.since, query.until])
    for column, value in (("tenant", query.tenant), ("task_id", query.task_id)):
        if value is not None:
            tests.append(f"{column} = ?")
            values.append(value)
    return (
        f"SELECT {key}, MIN(started_at) AS began, COUNT(*) AS attempts, "
        "MAX(CASE WHEN served THEN 1 ELSE 0 END) AS served, "
        "MAX(started_at * 1000 + total_ms) - MIN(started_at * 1000) + MAX(CASE WHEN number = 1 THEN queue_ms ELSE 0 END)"
        " AS took_ms, MAX(CASE WHEN served THEN first_token_ms END) AS first_ms, "
        f"SUM(input_tokens + output_tokens) AS tokens, SUM(cost_{suffix}) AS cost, "
        f"SUM(CASE WHEN served THEN strongest_{suffix} END) AS strongest, "
        f"CASE WHEN SUM(CASE WHEN served THEN strongest_{suffix} END) IS NOT NULL THEN SUM(cost_{suffix}) END AS compared "
        f"FROM attempts WHERE {' AND '.join(tests)} GROUP BY {groups}tenant, request_id"
    ), values


def _bound(column: str) -> str:
    """Give the number of the histogram's bound below which a time is; -1 for none."""
    tests = " ".join(f"WHEN {column} <= {bound:.6g} THEN {index}" for index, bound in enumerate(_BOUNDS_MS))
    return f"CASE WHEN {column} IS NULL THEN -1 {tests} ELSE {len(_BOUNDS_MS)} END"


class _Point:
    """A point in the making."""

    def __init__(self) -> None:
        self.calls = self.unserved = self.attempts = self.tokens = self.compared = 0
        self.took: dict[int, int] = {}
        self.first: dict[int, int] = {}
        self.cost, self.strongest, self.spent = Decimal(0), Decimal(0), Decimal(0)

    def add(self, took: int, first: int, numbers: Sequence[object], dialect: Dialect) -> None:
        """Add the calls of one place in the histograms."""
        calls, unserved, attempts, tokens, compared = (int(str(value)) for value in numbers[:5])
        self.calls += calls
        self.unserved += unserved
        self.attempts += attempts
        self.tokens += tokens
        self.compared += compared
        self.took[took] = self.took.get(took, 0) + calls
        if first >= 0:
            self.first[first] = self.first.get(first, 0) + calls
        amounts = [value if isinstance(value, int | Decimal) else 0 for value in numbers[5:]]
        width = len(amounts) // 3
        cost, strongest, spent = (dialect.money(amounts[at : at + width]) for at in range(0, 3 * width, width))
        self.cost += cost
        self.strongest += strongest
        self.spent += spent

    def point(self, key: str, at: float) -> TrafficPoint:
        """Give it."""
        return TrafficPoint(
            key=key,
            at=at,
            calls=self.calls,
            unserved=self.unserved,
            attempts=self.attempts,
            p50_ms=percentile(self.took, 0.5),
            p95_ms=percentile(self.took, 0.95),
            first_token_p50_ms=percentile(self.first, 0.5) if self.first else None,
            tokens=self.tokens,
            cost_usd=self.cost,
            saved_usd=self.strongest - self.spent if self.compared else None,
        )


def percentile(histogram: dict[int, int], share: float) -> float:
    """Give the time that a share of the calls stay within, milliseconds, by interpolation within its bounds."""
    wanted = share * sum(histogram.values())
    below = 0
    for index in sorted(histogram):
        count = histogram[index]
        if below + count >= wanted:
            low = 0.0 if index == 0 else _BOUNDS_MS[index - 1]
            high = _BOUNDS_MS[min(index, len(_BOUNDS_MS) - 1)]
            return low + (high - low) * (wanted - below) / count
        below += count
    return 0.0
