"""Single attempts and calls over time, from the ledger: the same in SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Generator
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs

from gearshift.core.answer import Usage, Verdict
from gearshift.core.ledger import AttemptQuery, CostQuery, LedgerRow, TrafficQuery
from gearshift.core.ledger.listing import RecordedAttempt, read_attempts
from gearshift.core.ledger.postgres import PostgresStore
from gearshift.core.ledger.report import read_report
from gearshift.core.ledger.sqlite_store import SqliteStore
from gearshift.core.ledger.store import Store
from gearshift.core.ledger.traffic import TrafficPoint, percentile, read_traffic
from gearshift.core.words import AttemptCause, AttemptOutcome, CostGroup, FailureKind, UsageSource, VerdictResult
from tests.support.ledger_rows import START, attempt, resolution, rows
from tests.support.postgres_server import PostgresServer, postgres_server

USD = Decimal


@pytest.fixture(scope="module")
def server() -> Generator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Store]:
    if request.param == "sqlite":
        made: Store = SqliteStore(str(tmp_path / "ledger.db"), is_synced=False, busy_timeout_s=1)
    else:
        running: PostgresServer = request.getfixturevalue("server")
        running.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        made = PostgresStore(running.url)
    made.open()
    yield made
    made.close()


def found(store: Store, **query: object) -> list[RecordedAttempt]:
    with store.session() as session:
        return read_attempts(session, AttemptQuery(**query))  # type: ignore[arg-type]


def traffic(store: Store, **query: object) -> list[TrafficPoint]:
    fields: dict[str, object] = {"since": START, "until": START + 600, "step_s": 60.0, **query}
    with store.session() as session:
        return read_traffic(session, TrafficQuery(**fields))  # type: ignore[arg-type]


def three_calls() -> list[LedgerRow]:
    """Give a plain call, one with an escalation a minute later, and a failed one of another tenant."""
    sure = Verdict(gate="confidence", result=VerdictResult.LOW, confidence=0.612, reason="low_confidence")
    poor = attempt(
        outcome=AttemptOutcome.POOR, verdicts=(sure,), cost_usd=USD("0.0003"), served=False, started_at=START + 70
    )
    better = attempt(2, position=1, model="claude-opus", cost_usd=USD("0.02"), started_at=START + 70.2)
    failed = attempt(
        outcome=AttemptOutcome.FAILED,
        failure=FailureKind.RATE_LIMIT,
        cost_usd=None,
        served=False,
        started_at=START + 80,
    )
    other = resolution(tenant="umbrella", task_id="search")
    return [
        *rows("r1", attempt(cost_usd=USD("0.001")), strongest_usd=USD("0.05")),
        *rows("r2", poor, structs.replace(better, cause=AttemptCause.ESCALATION), strongest_usd=USD("0.02")),
        *rows("r3", failed, resolved=other),
    ]


def test_attempts_are_found_as_they_were_the_latest_first(store: Store) -> None:
    store.write(three_calls(), 0)
    latest = found(store)
    assert [(each.request_id, each.number) for each in latest] == [("r3", 1), ("r2", 2), ("r2", 1), ("r1", 1)]
    failed, better, poor, first = latest
    assert (failed.failure, failed.reason, failed.cost_usd, failed.first_token_ms) == (
        FailureKind.RATE_LIMIT,
        "rate_limit",
        None,
        None,
    )
    assert (better.cause, better.position, better.model, better.served) == (
        AttemptCause.ESCALATION,
        1,
        "claude-opus",
        True,
    )
    assert (poor.reason, poor.cost_usd, poor.served) == ("low_confidence", USD("0.0003"), False)
    (verdict,) = poor.verdicts
    assert (verdict.gate, verdict.result, verdict.confidence) == ("confidence", VerdictResult.LOW, 0.612)
    assert first.usage == Usage(input_tokens=100, output_tokens=10, source=UsageSource.REPORTED)
    assert (first.started_at, first.strongest_usd, first.total_ms) == (START, USD("0.05"), 40.0)


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        ({"request_id": "r2"}, ["r2", "r2"]),
        ({"tenant": "umbrella"}, ["r3"]),
        ({"task_id": "email"}, ["r2", "r2", "r1"]),
        ({"model": "claude-opus"}, ["r2"]),
        ({"outcome": AttemptOutcome.FAILED}, ["r3"]),
        ({"text": "rate"}, ["r3"]),
        ({"text": "claude-o"}, ["r2"]),
        ({"text": "low_"}, ["r2"]),
        ({"text": "r_"}, []),  # no pattern
        ({"text": "%"}, []),
        ({"text": "\U0001f98a"}, []),
        ({"since": START + 75}, ["r3"]),
        ({"until": START + 1}, ["r1"]),
    ],
)
def test_a_search_finds_what_fits_all_that_is_said(store: Store, query: dict[str, object], requests: list[str]) -> None:
    store.write(three_calls(), 0)
    assert [each.request_id for each in found(store, **query)] == requests


def test_pages_miss_nothing_and_repeat_nothing(store: Store) -> None:
    same_moment = [row for number in range(25) for row in rows(f"r{number}", attempt())]
    store.write(same_moment, 0)
    seen: list[int] = []
    before: tuple[float, int] | None = None
    while page := found(store, limit=7, before=before):
        seen += [each.id for each in page]
        before = (page[-1].started_at, page[-1].id)
    assert len(seen) == len(set(seen)) == 25
    assert seen == sorted(seen, reverse=True)


def test_calls_count_where_they_began_with_all_their_attempts(store: Store) -> None:
    store.write(three_calls(), 0)
    first, second = traffic(store)
    assert (first.at, first.calls, first.unserved, first.attempts) == (START, 1, 0, 1)
    assert (first.cost_usd, first.saved_usd, first.tokens) == (USD("0.001"), USD("0.049"), 110)
    assert (second.at, second.calls, second.unserved, second.attempts) == (START + 60, 2, 1, 3)
    # The escalation made it dearer than the strongest model alone; the failed call compares with nothing.
    assert (second.cost_usd, second.saved_usd) == (USD("0.0203"), USD("-0.0003"))
    assert first.p50_ms == pytest.approx(40.5, rel=0.25)
    assert second.p95_ms == pytest.approx(240.5, rel=0.25)
    assert first.first_token_p50_ms == pytest.approx(12.5, rel=0.25)


def test_traffic_has_a_line_for_each_task_or_tenant(store: Store) -> None:
    store.write(three_calls(), 0)
    by_task = traffic(store, by=CostGroup.TASK, step_s=600.0)
    assert [(each.key, each.calls) for each in by_task] == [("email", 2), ("search", 1)]
    by_tenant = traffic(store, by=CostGroup.TENANT, step_s=600.0)
    assert [(each.key, each.calls) for each in by_tenant] == [("acme", 2), ("umbrella", 1)]
    assert [each.calls for each in traffic(store, tenant="acme", step_s=600.0)] == [2]
    assert [each.calls for each in traffic(store, task_id="search", step_s=600.0)] == [1]
    assert traffic(store, since=START + 300) == []


def test_too_many_steps_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="2000 steps"):
        traffic(store, step_s=0.1)


def test_reports_group_by_hour_and_by_reason(store: Store) -> None:
    store.write(three_calls(), 0)
    with store.session() as session:
        by_hour = read_report(session, CostQuery(group_by=(CostGroup.HOUR,)), pending=0)
        by_reason = read_report(session, CostQuery(group_by=(CostGroup.REASON,)), pending=0)
    assert [(row.keys, row.attempts) for row in by_hour.rows] == [(("2026-11-23T12",), 4)]
    assert {row.keys: row.attempts for row in by_reason.rows} == {
        ("",): 2,
        ("low_confidence",): 1,
        ("rate_limit",): 1,
    }


def test_percentiles_are_near_the_truth() -> None:
    bounds = [1.25**index for index in range(63)]
    times = [1.7**step for step in range(20)]
    histogram: dict[int, int] = {}
    for time in times:
        place = next(index for index, bound in enumerate(bounds) if time <= bound)
        histogram[place] = histogram.get(place, 0) + 1
    for share in (0.1, 0.5, 0.95, 1.0):
        assert percentile(histogram, share) == pytest.approx(times[max(0, round(share * 20) - 1)], rel=0.25)
    assert percentile({}, 0.5) == 0.0
