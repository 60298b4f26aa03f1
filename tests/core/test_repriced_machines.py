"""Own machines at another price: attempts bear the time that they shared, and with the idle time it is the bill."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs

from gearshift.core.catalogue import Catalogue
from gearshift.core.ledger.report import CostQuery, read_report
from gearshift.core.ledger.reprice import PriceBook, reprice
from gearshift.core.ledger.row import LedgerRow, MachineTime
from gearshift.core.ledger.sqlite_store import SqliteStore
from gearshift.core.machines.sharing import SharedTime
from tests.support.blueprints import blueprint, stage
from tests.support.changed import changed
from tests.support.ledger_rows import START, attempt, rows

USD = Decimal
MINUTE = 60.0
_PICO = USD("0.000000000001")


def book(price: str | None) -> PriceBook:
    """Give prices of an own machine, USD an hour."""
    made = stage(0, provider="own", model="mine", price=None, accounts=("main",))
    provider = changed(made.provider, cost_per_hour_usd=None if price is None else USD(price), parallelism=8.0)
    plan = blueprint(replace(made, provider=provider, model=changed(made.model, self_hosted=True)))
    return PriceBook(plan, Catalogue.load())


def ran(name: str, at: float, seconds: float, cost: str = "0") -> LedgerRow:
    """Give an attempt on the machine, so many seconds after the start."""
    one = attempt(provider="own", model="mine", started_at=START + at, cost_usd=USD(cost))
    return rows(name, structs.replace(one, total_ms=seconds * 1000))[0]


def hour(cost: str, *, processes: int = 1) -> list[MachineTime]:
    """Give an hour's periods of a minute, as so many processes record them."""
    each = USD(cost) / 60 / processes
    return [
        MachineTime(
            provider="own",
            machine="main",
            started_at=START + MINUTE * number,
            ended_at=START + MINUTE * (number + 1),
            busy_s=0.0,
            cost_usd=each,
        )
        for _ in range(processes)
        for number in range(60)
    ]


def filled(path: Path, items: Iterable[LedgerRow | MachineTime]) -> SqliteStore:
    store = SqliteStore(str(path / "ledger.db"), is_synced=False, busy_timeout_s=5)
    store.open()
    store.write(list(items), 0)
    store.close()
    return store


@pytest.mark.parametrize("processes", [1, 3])
def test_shared_seconds_and_idle_time_add_up_to_the_new_bill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr("gearshift.core.ledger.reprice.PAGE", 2)
    work = [
        ran("alone", 0, 100, "0.1"),
        ran("first", 1000, 100, "0.05"),
        ran("second", 1000, 100, "0.05"),
        ran("long", 2000, 300, "0.2"),
        ran("beside", 2100, 100, "0.05"),
    ]
    store = filled(tmp_path, [*work, *hour("3.6", processes=processes)])
    done = reprice(store, book("7.2"), writes=True)
    # Seconds borne: 100, 50, 50, 250 and 50 of an hour's 3600.
    machines = done.machines["own"]
    assert done.total.after_usd == pytest.approx(USD("1.0"), abs=_PICO * 10)
    assert machines.after_usd == pytest.approx(USD("7.2"), abs=_PICO * 200)
    assert (machines.before_usd, machines.idle_before_usd) == (USD("3.6"), USD("3.15"))
    assert machines.idle_after_usd == pytest.approx(USD("6.2"), abs=_PICO * 200)
    with store.session() as session:
        report = read_report(session, CostQuery(group_by=(), repriced=True), pending=0)
        costs = session.rows("SELECT request_id, repriced_pico FROM attempts")
    assert {str(name): round(int(str(pico)) / 1e12, 6) for name, pico in costs} == {
        "alone": 0.2,
        "first": 0.1,
        "second": 0.1,
        "long": 0.5,
        "beside": 0.1,
    }
    (row,) = report.machines
    assert row.paid_usd == machines.after_usd
    assert row.idle_usd + report.total.cost_usd == row.paid_usd


def test_what_ran_over_the_edge_of_the_period_has_its_share(tmp_path: Path) -> None:
    work = [ran("before", -50, 100), ran("within", 0, 100), ran("late", 90, 100), ran("after", 150, 100)]
    store = filled(tmp_path, work)
    done = reprice(store, book("3600"), since=START, until=START + 100)
    # `within` shares 50 s with `before` and 10 s with `late`, which shares 40 s with `after`.
    assert done.total.attempts == 2
    assert done.total.after_usd == pytest.approx(USD(25 + 40 + 5 + 5 + 50 + 20), abs=_PICO * 100)


def test_price_that_is_unknown_now_stays_unknown(tmp_path: Path) -> None:
    store = filled(tmp_path, [ran("r", 0, 10, "0.01"), *hour("3.6")])
    done = reprice(store, book(None))
    assert (done.total.unpriced, done.total.lost) == (1, 1)
    assert (done.machines["own"].after_usd, done.machines["own"].idle_after_usd) == (None, None)


def test_shares_of_a_machine_are_the_time_in_which_anything_ran() -> None:
    chance = random.Random(5)
    for _ in range(50):
        spans = sorted((chance.uniform(0, 100), chance.uniform(0, 20)) for _ in range(chance.randint(1, 40)))
        shared = SharedTime[int]()
        given: list[tuple[int, float]] = []
        for number, (start, length) in enumerate(spans):
            given += shared.begin(START + start, length, number)
        given += shared.pass_to(float("inf"))
        assert sorted(number for number, _ in given) == list(range(len(spans)))
        covered, until = 0.0, 0.0
        for start, length in spans:
            covered += max(0.0, start + length - max(start, until))
            until = max(until, start + length)
        assert sum(seconds for _, seconds in given) == pytest.approx(covered, abs=1e-4)
        assert all(0 <= seconds <= spans[number][1] + 1e-6 for number, seconds in given)
