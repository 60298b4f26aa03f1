"""What the past would have cost at other prices.

Rules: an attempt is priced at its own time and size (periods, hours, tiers), or all at one moment's prices when one is
given. Attempts on an own machine bear its time as it was shared then: while n of the recorded ones ran, each bears 1/n of
every second. What its hours cost is priced again as well, so that attempts and idle time add up to the new bill. It is a
report; only when asked, the new cost is written, into a column of its own: what was charged at the time stays. A price that
is unknown stays unknown, never zero. Attempts that became daily sums cannot be priced again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from gearshift.core.answer import Usage
from gearshift.core.blueprint import Blueprint
from gearshift.core.catalogue import Catalogue, PriceSchedule, machine_cost
from gearshift.core.ledger.columns import TOKEN_COLUMNS
from gearshift.core.ledger.store import Session, Store, Value
from gearshift.core.machines.sharing import SharedTime
from gearshift.core.words import UsageSource

PAGE: Final = 2_000
LONGEST_ATTEMPT_S: Final = 3_600.0
"""How long before a period an attempt on an own machine may have begun that still ran in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """How a model is priced.

    Args:
        schedule: USD for tokens; None when unknown, or when the model is on an own machine.
        cost_per_hour_usd: of the own machine; None when unknown, or when it is none.

    """

    schedule: PriceSchedule | None = None
    cost_per_hour_usd: Decimal | None = None
    is_own: bool = False

    def cost(self, usage: Usage, at: datetime) -> Decimal | None:
        """Give what an attempt's tokens cost, USD; None when the price is unknown."""
        return None if self.schedule is None else self.schedule.cost(usage, at)

    def time_cost(self, machine_s: float) -> Decimal | None:
        """Give what seconds of the own machine cost, USD; None when its price is unknown."""
        price = self.cost_per_hour_usd
        return None if price is None else machine_cost(price, machine_s, 1.0)


class PriceBook:
    """Prices by the names that stand in the ledger: of the configuration's stages, then of the catalogue."""

    def __init__(self, blueprint: Blueprint, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._providers = blueprint.providers
        self._known: dict[tuple[str, str], Pricing] = {
            (stage.ref.provider, stage.ref.model): Pricing(
                schedule=stage.model.prices,
                cost_per_hour_usd=stage.provider.cost_per_hour_usd,
                is_own=stage.model.self_hosted,
            )
            for chain in blueprint.chains.values()
            for stage in chain.stages
        }

    def find(self, provider: str, model: str) -> Pricing:
        """Give how a model is priced; with nothing in it when nobody knows."""
        found = self._known.get((provider, model))
        if found is None:
            found = self._known[provider, model] = self._from_catalogue(provider, model)
        return found

    def machine(self, provider: str, account: str) -> str:
        """Give the machine that an account's calls run on: its base URL, or its own name where nobody knows it."""
        spec = self._providers.get(provider)
        for each in spec.accounts if spec is not None else ():
            if each.account.name == account:
                return each.account.base_url
        return account

    def hour(self, provider: str) -> Decimal | None:
        """Give what an hour of a provider's machine costs, USD; None when unknown."""
        spec = self._providers.get(provider)
        return None if spec is None else spec.cost_per_hour_usd

    def _from_catalogue(self, provider: str, model: str) -> Pricing:
        spec = self._providers.get(provider)
        known = None if spec is None else self._catalogue.find(spec.kind, model, spec.dialect)
        if spec is None or known is None:
            return Pricing()
        return Pricing(
            schedule=known.prices,
            cost_per_hour_usd=spec.cost_per_hour_usd,
            is_own=known.self_hosted,
        )


@dataclass(slots=True)
class RepricedLine:
    """What repricing does to one model.

    Args:
        before_usd / after_usd: the cost of the attempts whose price was known then, and is known now.
        found: attempts whose price was unknown and is known now.
        unpriced: attempts whose price is unknown now.
        lost: attempts whose price was known and is unknown now; they keep their old cost.

    """

    attempts: int = 0
    before_usd: Decimal = Decimal(0)
    after_usd: Decimal = Decimal(0)
    found: int = 0
    unpriced: int = 0
    lost: int = 0

    def add(self, before: Decimal | None, after: Decimal | None) -> None:
        """Count an attempt."""
        self.attempts += 1
        self.before_usd += before or 0
        self.after_usd += after or 0
        self.found += before is None and after is not None
        self.unpriced += after is None
        self.lost += before is not None and after is None


@dataclass(slots=True)
class RepricedMachines:
    """What repricing does to the hours of a provider's own machines.

    Args:
        before_usd / after_usd: what they cost altogether; after is None when the price of an hour is unknown now.
        borne_before_usd / borne_after_usd: the part that attempts bear; the rest is idle time.

    """

    before_usd: Decimal = Decimal(0)
    after_usd: Decimal | None = Decimal(0)
    borne_before_usd: Decimal = Decimal(0)
    borne_after_usd: Decimal = Decimal(0)

    @property
    def idle_before_usd(self) -> Decimal:
        """What no attempt bore, USD."""
        return self.before_usd - self.borne_before_usd

    @property
    def idle_after_usd(self) -> Decimal | None:
        """What no attempt bears now, USD."""
        return None if self.after_usd is None else self.after_usd - self.borne_after_usd


@dataclass(slots=True)
class Repriced:
    """The lines by (provider, model), their total, and own machines by provider."""

    lines: dict[tuple[str, str], RepricedLine] = field(default_factory=dict[tuple[str, str], RepricedLine])
    total: RepricedLine = field(default_factory=RepricedLine)
    machines: dict[str, RepricedMachines] = field(default_factory=dict[str, RepricedMachines])


def reprice(
    store: Store,
    book: PriceBook,
    *,
    since: float | None = None,
    until: float | None = None,
    as_of: datetime | None = None,
    writes: bool = False,
) -> Repriced:
    """Price the attempts of a period again.

    Args:
        store: need not be open; several processes may use it meanwhile.
        book: the prices.
        since / until: seconds since the epoch; attempts that started at or after, and before.
        as_of: all at this moment's prices; None is each at its own time's.
        writes: also write the new costs beside the old ones; None where the price is unknown now.

    Raises:
        LedgerError: the store cannot be read, or written.

    """
    return _Repricing(store, book, as_of, writes).run(since, until)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """A row of the ledger; `counts` is whether it is of the period, or only ran beside what is."""

    id: int
    started_at: float
    provider: str
    account: str
    model: str
    total_ms: float
    old: Decimal | None
    usage: Usage
    counts: bool


class _Repricing:
    """One run over a period."""

    def __init__(self, store: Store, book: PriceBook, as_of: datetime | None, writes: bool) -> None:
        self._store = store
        self._book = book
        self._as_of = as_of
        self._writes = writes
        self._done = Repriced()
        self._shared: dict[tuple[str, str], SharedTime[_Attempt]] = {}
        self._awaited = 0
        """Attempts of the period that still run, as far as was read."""
        self._found: list[tuple[Decimal | None, int]] = []

    def run(self, since: float | None, until: float | None) -> Repriced:
        if since is not None:
            self._read(since - LONGEST_ATTEMPT_S, since, counts=False, ends_after=since)
        self._read(since, until, counts=True)
        if until is not None and self._awaited:
            # Attempts that began later share the machine with those that still run.
            self._read(until, None, counts=False)
        self._end(float("inf"))
        with self._store.session(writes=self._writes) as session:
            self._write(session)
        self._machines(since, until)
        return self._done

    def _read(self, since: float | None, until: float | None, *, counts: bool, ends_after: float | None = None) -> None:
        """Read a period, page by page; what only runs beside is read as long as it matters."""
        after: tuple[float, int] | None = None
        while True:
            with self._store.session(writes=self._writes and counts) as session:
                page = [_attempt(each, session, counts) for each in _page(session, after, since, until)]
                for each in page:
                    self._take(each, ends_after)
                if page:
                    self._end(page[-1].started_at)
                if counts:
                    self._write(session)
            if len(page) < PAGE or not (counts or ends_after is not None or self._awaited):
                return
            after = page[-1].started_at, page[-1].id

    def _take(self, attempt: _Attempt, ends_after: float | None) -> None:
        pricing = self._book.find(attempt.provider, attempt.model)
        if pricing.is_own:
            took_s = attempt.total_ms / 1000
            if ends_after is None or attempt.started_at + took_s > ends_after:
                machine = attempt.provider, self._book.machine(attempt.provider, attempt.account)
                self._awaited += attempt.counts
                shared = self._shared.setdefault(machine, SharedTime())
                self._bear(shared.begin(attempt.started_at, took_s, attempt))
        elif attempt.counts:
            if attempt.usage.input_tokens or attempt.usage.output_tokens:
                at = self._as_of or datetime.fromtimestamp(attempt.started_at, UTC)
                self._count(attempt, pricing.cost(attempt.usage, at))
            else:
                self._count(attempt, Decimal(0))  # nothing was used, whatever it would have cost

    def _end(self, moment: float) -> None:
        for shared in self._shared.values():
            self._bear(shared.pass_to(moment))

    def _bear(self, ended: list[tuple[_Attempt, float]]) -> None:
        """Count attempts on own machines that have ended, with the seconds that they bear."""
        for attempt, machine_s in ended:
            if attempt.counts:
                self._awaited -= 1
                cost = self._book.find(attempt.provider, attempt.model).time_cost(machine_s)
                self._count(attempt, cost)
                machines = self._done.machines.setdefault(attempt.provider, RepricedMachines())
                machines.borne_before_usd += attempt.old or 0
                machines.borne_after_usd += cost or 0

    def _count(self, attempt: _Attempt, cost: Decimal | None) -> None:
        key = attempt.provider, attempt.model
        for line in (self._done.lines.setdefault(key, RepricedLine()), self._done.total):
            line.add(attempt.old, cost)
        if self._writes:
            self._found.append((cost, attempt.id))

    def _write(self, session: Session) -> None:
        if self._found:
            stored = session.dialect.stored
            session.execute_many(
                f"UPDATE attempts SET repriced_{session.dialect.money_suffix} = ? WHERE id = ?",
                [(None if cost is None else stored(cost), key) for cost, key in self._found],
            )
            self._found = []

    def _machines(self, since: float | None, until: float | None) -> None:
        """Price the machines' hours again. Several processes that record a machine each bear a part of its hour."""
        with self._store.session(writes=self._writes) as session:
            suffix = session.dialect.money_suffix
            where, values = _within(since, until, None)
            found = session.rows(
                f"SELECT id, provider, machine, started_at, ended_at, cost_{suffix} FROM machine_time{where} "
                "ORDER BY started_at, id",
                values,
            )
            hours: dict[tuple[str, str], SharedTime[int]] = {}
            passed: list[tuple[str, int, float]] = []
            for key, provider, machine, started_at, ended_at, old in found:
                one, name = hours.setdefault((str(provider), str(machine)), SharedTime()), str(provider)
                at, until_at = float(str(started_at)), float(str(ended_at))
                ended = one.begin(at, until_at - at, int(str(key)))
                passed += [(name, period, seconds) for period, seconds in ended]
                row = self._done.machines.setdefault(name, RepricedMachines())
                row.before_usd += _money(old, session) or 0
            for (name, _), one in hours.items():
                passed += [(name, period, seconds) for period, seconds in one.pass_to(float("inf"))]
            new: list[tuple[Value, int]] = []
            for name, period, seconds in passed:
                price, row = self._book.hour(name), self._done.machines[name]
                if price is None or row.after_usd is None:
                    row.after_usd = None
                    new.append((None, period))
                else:
                    cost = machine_cost(price, seconds, 1.0)
                    row.after_usd += cost
                    new.append((session.dialect.stored(cost), period))
            if self._writes and new:
                session.execute_many(f"UPDATE machine_time SET repriced_{suffix} = ? WHERE id = ?", new)
        # Where no hours were recorded there is no bill but what attempts bear.
        hours_of = {name for name, _ in hours}
        for name, row in self._done.machines.items():
            if name not in hours_of:
                row.before_usd, row.after_usd = row.borne_before_usd, row.borne_after_usd


def _attempt(row: Sequence[object], session: Session, counts: bool) -> _Attempt:
    key, started_at, provider, account, model, total_ms, old, *tokens = row
    used = {name: int(str(value)) for name, value in zip(TOKEN_COLUMNS, tokens, strict=True)}
    return _Attempt(
        id=int(str(key)),
        started_at=float(str(started_at)),
        provider=str(provider),
        account=str(account),
        model=str(model),
        total_ms=float(str(total_ms)),
        old=_money(old, session),
        usage=Usage(**used, source=UsageSource.REPORTED),
        counts=counts,
    )


def _money(value: object, session: Session) -> Decimal | None:
    return session.dialect.amount(value) if isinstance(value, int | Decimal) else None


def _page(
    session: Session, after: tuple[float, int] | None, since: float | None, until: float | None
) -> Sequence[Sequence[object]]:
    where, values = _within(since, until, after)
    money = f"cost_{session.dialect.money_suffix}"
    columns = ", ".join(("id", "started_at", "provider", "account", "model", "total_ms", money, *TOKEN_COLUMNS))
    return session.rows(f"SELECT {columns} FROM attempts{where} ORDER BY started_at, id LIMIT {PAGE}", values)


def _within(since: float | None, until: float | None, after: tuple[float, int] | None) -> tuple[str, list[Value]]:
    tests: list[str] = []
    values: list[Value] = []
    for test, value in (("started_at >= ?", since), ("started_at < ?", until)):
        if value is not None:
            tests.append(test)
            values.append(value)
    if after is not None:
        tests.append("(started_at, id) > (?, ?)")
        values += after
    return (f" WHERE {' AND '.join(tests)}" if tests else ""), values
