"""What a period cost: by task, model, tenant, position, day and more.

Rules: sums are exact; attempts of unknown price are counted, not guessed; only committed rows count. Pruned days count
whole, at their start, and a call of theirs counts where its first attempt was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Final

from gearshift.core.answer import Usage
from gearshift.core.ledger.columns import TOKEN_COLUMNS
from gearshift.core.ledger.store import Dialect, Session, Value
from gearshift.core.words import AttemptOutcome, CostGroup, UsageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class CostQuery:
    """What to sum.

    Args:
        group_by: one row for each combination; empty gives the total only.
        since / until: seconds since the epoch; attempts that started at or after, and before. None is no bound.
        tenant / task_id / provider / account / model: only this one; None is all.
        repriced: with the prices that `reprice` wrote, where it did.

    """

    group_by: tuple[CostGroup, ...] = (CostGroup.TASK,)
    since: float | None = None
    until: float | None = None
    tenant: str | None = None
    task_id: str | None = None
    provider: str | None = None
    account: str | None = None
    model: str | None = None
    repriced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """One line.

    Args:
        keys: the values that it is grouped by, in the order of `group_by`; a model is "provider/model", a day
            "2026-11-23" and an hour "2026-11-23T14" in UTC; a reason is why an attempt was left, and empty for pruned ones.
        calls: requests with an attempt in it.
        accepted / poor / failed / cancelled / stopped: attempts by how they ended.
        usage: of all its attempts; its source is the least trusted of them.
        reported / counted / estimated: the parts of `usage`, by how far they can be trusted.
        cost_usd: without the attempts of unknown price, which `unpriced` counts.
        estimated_usd: the part of cost_usd that rests on estimated usage.
        overhead_usd: cost of attempts whose answer was not served.
        fallback_usd: the part of overhead_usd of failed attempts.
        escalation_usd: the part of overhead_usd of attempts whose answer was poor, or stopped while it was written.
        strongest_usd: what the served usage would have cost on the chain's strongest model, where that is known.
        saved_usd: `strongest_usd`, less what the same served answers cost, less `overhead_usd`; below 0 is a loss. None
            where no strongest model is known.

    """

    keys: tuple[str, ...]
    calls: int
    attempts: int
    accepted: int
    failed: int
    poor: int
    cancelled: int
    stopped: int
    usage: Usage
    reported: Usage
    counted: Usage
    estimated: Usage
    cost_usd: Decimal
    unpriced: int
    estimated_usd: Decimal
    overhead_usd: Decimal
    fallback_usd: Decimal
    escalation_usd: Decimal
    strongest_usd: Decimal
    saved_usd: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRow:
    """Own machines of a provider: what they cost, and how much of it no attempt bears.

    Args:
        idle_usd: `paid_usd` less the cost of the provider's attempts: with the attempts' cost it makes the bill. Below 0
            when the attempts bear more than was paid.

    """

    provider: str
    busy_s: float
    paid_usd: Decimal
    idle_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """Rows, the dearest first, and their total; `pending` rows had not reached the store.

    `machines` is empty where own machines' time is not recorded, or the query chooses single tenants, tasks, accounts or
    models, whose share of idle time nobody can tell.
    """

    rows: tuple[CostRow, ...]
    total: CostRow
    pending: int
    machines: tuple[MachineRow, ...] = ()


def read_report(session: Session, query: CostQuery, *, pending: int) -> CostReport:
    """Sum the ledger in one snapshot."""
    dialect = session.dialect
    source, values = _source(dialect, query)
    keys = [_key(each, dialect) for each in query.group_by]
    # The database sums the smallest groups, without conditions, which is much faster; they are joined here.
    names = ", ".join((*keys, "outcome", "usage_source", "served"))
    numbers = ", ".join(str(index + 1) for index in range(len(keys) + 3))
    sums: dict[tuple[str, ...], _Sum] = {}
    total = _Sum()
    for each in session.rows(
        f"SELECT {names}, {', '.join(_sums(dialect))} FROM ({source}) AS one GROUP BY {numbers}", values
    ):
        place = tuple(str(value) for value in each[: len(keys)])
        for one in (sums.setdefault(place, _Sum()), total):
            one.add(each[len(keys) :], dialect)
    if keys:
        for place, calls in _calls(session, keys, source, values):
            sums[place].calls += calls
    total.calls += sum(calls for _, calls in _calls(session, [], source, values))
    rows = [each.row(place) for place, each in sums.items() if keys]
    rows.sort(key=lambda each: (-each.cost_usd, each.keys))
    machines = () if query.tenant or query.task_id or query.account or query.model else _machines(session, query)
    return CostReport(rows=tuple(rows), total=total.row(()), pending=pending, machines=machines)


def _calls(
    session: Session, keys: Sequence[str], source: str, values: Sequence[Value]
) -> list[tuple[tuple[str, ...], int]]:
    """Count the different calls of each group; one with attempts in two groups counts in both."""
    names = "".join(f"{each}, " for each in keys)
    grouped = f" GROUP BY {', '.join(str(index + 1) for index in range(len(keys)))}" if keys else ""
    found = session.rows(f"SELECT {names}COUNT(DISTINCT request) FROM ({source}) AS one{grouped}", values)
    return [(tuple(str(value) for value in each[:-1]), int(str(each[-1]))) for each in found]


def read_spent(
    session: Session, *, since: float, until: float | None, tenant: str | None, task_id: str | None
) -> Decimal:
    """Sum what attempts of known price cost, USD."""
    dialect = session.dialect
    source, values = _source(dialect, CostQuery(since=since, until=until, tenant=tenant, task_id=task_id))
    (found,) = session.rows(f"SELECT {', '.join(dialect.sums('cost'))} FROM ({source}) AS one", values)
    return dialect.money([_number(each) for each in found])


def _machines(session: Session, query: CostQuery) -> tuple[MachineRow, ...]:
    dialect = session.dialect
    where, values = _where("started_at", {"provider": query.provider}, query)
    suffix = dialect.money_suffix
    paid_column = f"COALESCE(repriced_{suffix}, cost_{suffix})" if query.repriced else f"cost_{suffix}"
    sums = ", ".join(dialect.sums(paid_column))
    found = session.rows(
        f"SELECT provider, SUM(busy_s), {sums} FROM machine_time{where} GROUP BY provider ORDER BY provider", values
    )
    rows: list[MachineRow] = []
    for provider, busy_s, *money in found:
        its = CostQuery(since=query.since, until=query.until, provider=str(provider), repriced=query.repriced)
        source, its_values = _source(dialect, its)
        (borne,) = session.rows(f"SELECT {', '.join(dialect.sums('cost'))} FROM ({source}) AS one", its_values)
        paid = dialect.money([_number(each) for each in money])
        rows.append(
            MachineRow(
                provider=str(provider),
                busy_s=float(str(busy_s)),
                paid_usd=paid,
                idle_usd=paid - dialect.money([_number(each) for each in borne]),
            )
        )
    return tuple(rows)


def _source(dialect: Dialect, query: CostQuery) -> tuple[str, list[Value]]:
    """Give a query of single attempts and of the daily sums of pruned ones, in the same columns."""
    suffix = dialect.money_suffix
    cost = f"COALESCE(repriced_{suffix}, cost_{suffix})" if query.repriced else f"cost_{suffix}"
    chosen = {
        "tenant": query.tenant,
        "task_id": query.task_id,
        "provider": query.provider,
        "account": query.account,
        "model": query.model,
    }
    where, values = _where("started_at", chosen, query)
    daily_where, _ = _where("day_at", chosen, query)
    keys = "tenant, task_id, task_type, chain, position, provider, account, model, outcome, usage_source, served"
    tokens = ", ".join(TOKEN_COLUMNS)
    request = f"tenant || {dialect.newline} || request_id"
    single = (
        f"SELECT started_at, {keys}, reason, {tokens}, {request} AS request, 0 AS calls, 1 AS attempts, {cost} AS cost, "
        f"CASE WHEN {cost} IS NULL THEN 1 ELSE 0 END AS unpriced, CASE WHEN served THEN strongest_{suffix} END AS strongest, "
        f"CASE WHEN served AND strongest_{suffix} IS NOT NULL THEN {cost} END AS compared FROM attempts{where}"
    )
    kind = "repriced" if query.repriced else "cost"
    pruned = (
        f"SELECT day_at, {keys}, '', {tokens}, NULL, calls, attempts, {kind}_{suffix}, "
        f"{'unpriced_repriced' if query.repriced else 'unpriced'}, strongest_{suffix}, "
        f"{'compared_repriced' if query.repriced else 'compared'}_{suffix} FROM daily{daily_where}"
    )
    return f"{single} UNION ALL {pruned}", [*values, *values]


def _where(time: str, chosen: dict[str, str | None], query: CostQuery) -> tuple[str, list[Value]]:
    tests: list[str] = []
    values: list[Value] = []
    for test, value in (
        (f"{time} >= ?", query.since),
        (f"{time} < ?", query.until),
        *((f"{column} = ?", value) for column, value in chosen.items()),
    ):
        if value is not None:
            tests.append(test)
            values.append(value)
    return (f" WHERE {' AND '.join(tests)}" if tests else ""), values


def _key(group: CostGroup, dialect: Dialect) -> str:
    if group is CostGroup.DAY:
        return dialect.day("started_at")
    if group is CostGroup.HOUR:
        return dialect.hour("started_at")
    if group is CostGroup.MODEL:
        return "provider || '/' || model"
    return _KEYS[group]


def _sums(dialect: Dialect) -> Iterator[str]:
    yield "SUM(attempts)"
    yield "SUM(calls)"
    yield "SUM(unpriced)"
    yield "COUNT(strongest)"
    for column in TOKEN_COLUMNS:
        yield f"SUM({column})"
    for expression in ("cost", "strongest", "compared"):
        yield from dialect.sums(expression)


_MONEY: Final = ("cost", "strongest", "compared", "estimated", "overhead", "fallback", "escalation")
_EXACT: Final = Context(prec=60)  # whatever the caller's context says

_KEYS: Final = {
    CostGroup.TASK: "task_id",
    CostGroup.TENANT: "tenant",
    CostGroup.POSITION: "position",
    CostGroup.TASK_TYPE: "task_type",
    CostGroup.PROVIDER: "provider",
    CostGroup.ACCOUNT: "provider || '/' || account",
    CostGroup.CHAIN: "chain",
    CostGroup.OUTCOME: "outcome",
    CostGroup.USAGE_SOURCE: "usage_source",
    CostGroup.REASON: "reason",
}


class _Sum:
    """A line in the making."""

    def __init__(self) -> None:
        self.calls = self.unpriced = self.compared_rows = 0
        self.outcomes = dict.fromkeys(AttemptOutcome, 0)
        self.usages = {source: Usage(source=source) for source in UsageSource}
        self.usage = Usage()
        self.money: dict[str, Decimal] = dict.fromkeys(_MONEY, Decimal(0))

    def add(self, values: Sequence[object], dialect: Dialect) -> None:
        """Add the sums of attempts of one outcome, usage source, and served or not."""
        outcome, source, served = (
            AttemptOutcome.from_word(str(values[0])),
            UsageSource.from_word(str(values[1])),
            bool(values[2]),
        )
        attempts, calls, unpriced, compared_rows, *rest = (_number(value) for value in values[3:])
        tokens, money = rest[: len(TOKEN_COLUMNS)], rest[len(TOKEN_COLUMNS) :]
        self.calls += int(calls)  # of pruned days
        self.unpriced += int(unpriced)
        self.compared_rows += int(compared_rows)
        self.outcomes[outcome] += int(attempts)
        usage = Usage(**{name: int(value) for name, value in zip(TOKEN_COLUMNS, tokens, strict=True)}, source=source)
        self.usages[source] += usage
        self.usage += usage
        width = len(money) // 3
        cost, strongest, compared = (
            dialect.money(money[index : index + width]) for index in range(0, 3 * width, width)
        )
        self._pay("cost", cost)
        self._pay("strongest", strongest)
        self._pay("compared", compared)
        if source is UsageSource.ESTIMATED:
            self._pay("estimated", cost)
        if not served:
            self._pay("overhead", cost)
            if outcome is AttemptOutcome.FAILED:
                self._pay("fallback", cost)
            elif outcome in (AttemptOutcome.POOR, AttemptOutcome.STOPPED):
                self._pay("escalation", cost)

    def row(self, keys: tuple[str, ...]) -> CostRow:
        """Give it as a line."""
        money, outcomes = self.money, self.outcomes
        return CostRow(
            keys=keys,
            calls=self.calls,
            attempts=sum(outcomes.values()),
            accepted=outcomes[AttemptOutcome.ACCEPTED],
            failed=outcomes[AttemptOutcome.FAILED],
            poor=outcomes[AttemptOutcome.POOR],
            cancelled=outcomes[AttemptOutcome.CANCELLED],
            stopped=outcomes[AttemptOutcome.STOPPED],
            usage=self.usage,
            reported=self.usages[UsageSource.REPORTED],
            counted=self.usages[UsageSource.COUNTED],
            estimated=self.usages[UsageSource.ESTIMATED],
            cost_usd=money["cost"],
            unpriced=self.unpriced,
            estimated_usd=money["estimated"],
            overhead_usd=money["overhead"],
            fallback_usd=money["fallback"],
            escalation_usd=money["escalation"],
            strongest_usd=money["strongest"],
            saved_usd=(
                money["strongest"] - money["compared"] - money["overhead"]
                if self.compared_rows and money["strongest"]
                else None
            ),
        )

    def _pay(self, name: str, usd: Decimal) -> None:
        self.money[name] = _EXACT.add(self.money[name], usd)


def _number(value: object) -> int | Decimal:
    """Give a sum; that of no rows is 0."""
    return value if isinstance(value, int | Decimal) else 0
