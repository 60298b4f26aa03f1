"""What the past would have cost at other prices.

Rules: an attempt is priced at its own time and size (periods, hours, tiers), or all at one moment's prices when one is
given. It is a report; only when asked, the new cost is written, into a column of its own: what was charged at the time
stays. A price that is unknown stays unknown, never zero. Attempts that became daily sums cannot be priced again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from gearshift.core.answer import Usage
from gearshift.core.blueprint import Blueprint
from gearshift.core.catalogue import Catalogue, PriceSchedule, machine_cost
from gearshift.core.ledger.columns import TOKEN_COLUMNS
from gearshift.core.ledger.store import Session, Store, Value
from gearshift.core.words import UsageSource

PAGE: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """How a model is priced.

    Args:
        schedule: USD for tokens; None when unknown, or when the model is on an own machine.
        cost_per_hour_usd: of the own machine; None when unknown, or when it is none.
        parallelism: calls that the machine runs at once.

    """

    schedule: PriceSchedule | None = None
    cost_per_hour_usd: Decimal | None = None
    parallelism: float = 1.0
    is_own: bool = False

    def cost(self, usage: Usage, at: datetime, total_ms: float) -> Decimal | None:
        """Give what an attempt costs, USD; None when the price is unknown."""
        if self.is_own:
            if self.cost_per_hour_usd is None:
                return None
            return machine_cost(self.cost_per_hour_usd, total_ms / 1000, self.parallelism)
        return None if self.schedule is None else self.schedule.cost(usage, at)


class PriceBook:
    """Prices by the names that stand in the ledger: of the configuration's stages, then of the catalogue."""

    def __init__(self, blueprint: Blueprint, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._providers = blueprint.providers
        self._known: dict[tuple[str, str], Pricing] = {
            (stage.ref.provider, stage.ref.model): Pricing(
                schedule=stage.model.prices,
                cost_per_hour_usd=stage.provider.cost_per_hour_usd,
                parallelism=stage.provider.parallelism,
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

    def _from_catalogue(self, provider: str, model: str) -> Pricing:
        spec = self._providers.get(provider)
        known = None if spec is None else self._catalogue.find(spec.kind, model, spec.dialect)
        if spec is None or known is None:
            return Pricing()
        return Pricing(
            schedule=known.prices,
            cost_per_hour_usd=spec.cost_per_hour_usd,
            parallelism=spec.parallelism,
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
class Repriced:
    """The lines by (provider, model), and their total."""

    lines: dict[tuple[str, str], RepricedLine] = field(default_factory=dict[tuple[str, str], RepricedLine])
    total: RepricedLine = field(default_factory=RepricedLine)


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
    done = Repriced()
    after: tuple[float, int] | None = None
    while True:
        with store.session(writes=writes) as session:
            page = _page(session, after, since, until)
            costs = [(_price(each, session, book, as_of, done), int(str(each[0]))) for each in page]
            if writes:
                stored = session.dialect.stored
                session.execute_many(
                    f"UPDATE attempts SET repriced_{session.dialect.money_suffix} = ? WHERE id = ?",
                    [(None if cost is None else stored(cost), key) for cost, key in costs],
                )
        if len(page) < PAGE:
            return done
        after = (float(str(page[-1][1])), int(str(page[-1][0])))


def _price(
    row: Sequence[object], session: Session, book: PriceBook, as_of: datetime | None, done: Repriced
) -> Decimal | None:
    _, started_at, provider, model, total_ms, old, *tokens = row
    counts = {name: int(str(value)) for name, value in zip(TOKEN_COLUMNS, tokens, strict=True)}
    usage = Usage(**counts, source=UsageSource.REPORTED)
    pricing = book.find(str(provider), str(model))
    before = session.dialect.amount(old) if isinstance(old, int | Decimal) else None
    if not pricing.is_own and not (usage.input_tokens or usage.output_tokens):
        cost: Decimal | None = Decimal(0)  # nothing was used, whatever it would have cost
    else:
        cost = pricing.cost(usage, as_of or datetime.fromtimestamp(float(str(started_at)), UTC), float(str(total_ms)))
    for line in (done.lines.setdefault((str(provider), str(model)), RepricedLine()), done.total):
        line.add(before, cost)
    return cost


def _page(
    session: Session, after: tuple[float, int] | None, since: float | None, until: float | None
) -> Sequence[Sequence[object]]:
    tests: list[str] = []
    values: list[Value] = []
    bounds: Mapping[str, float | None] = {"started_at >= ?": since, "started_at < ?": until}
    for test, value in bounds.items():
        if value is not None:
            tests.append(test)
            values.append(value)
    if after is not None:
        tests.append("(started_at, id) > (?, ?)")
        values += after
    where = f" WHERE {' AND '.join(tests)}" if tests else ""
    columns = ", ".join(
        ("id", "started_at", "provider", "model", "total_ms", f"cost_{session.dialect.money_suffix}", *TOKEN_COLUMNS)
    )
    return session.rows(f"SELECT {columns} FROM attempts{where} ORDER BY started_at, id LIMIT {PAGE}", values)
