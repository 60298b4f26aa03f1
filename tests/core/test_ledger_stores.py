"""What SQLite and PostgreSQL must do alike: the same tests for both."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import anyio
import pytest
from msgspec import structs

from gearshift.core.answer import Usage, Verdict
from gearshift.core.catalogue import Catalogue
from gearshift.core.catalogue.price import PricePeriod, PriceSchedule, Rates, flat
from gearshift.core.errors import LedgerError
from gearshift.core.ledger import BufferedLedger, CostQuery, CostReport, MachineTime, OutcomeReport
from gearshift.core.ledger.columns import insert_attempt
from gearshift.core.ledger.export import EXPORTED, exported_pages, write_csv
from gearshift.core.ledger.migrate import SCHEMA_VERSION
from gearshift.core.ledger.outcomes import confidence_of, measured, read_outcomes
from gearshift.core.ledger.parquet import write_parquet
from gearshift.core.ledger.postgres import PostgresStore
from gearshift.core.ledger.prune import DAY_S, day_start
from gearshift.core.ledger.report import read_report
from gearshift.core.ledger.reprice import PriceBook, Pricing, reprice
from gearshift.core.ledger.sqlite_store import SqliteStore
from gearshift.core.ledger.store import Store
from gearshift.core.words import AttemptOutcome, CostGroup, FailureKind, OutcomeVerdict, UsageSource, VerdictResult
from tests.support.blueprints import blueprint, stage
from tests.support.ledger_rows import START, attempt, resolution, rows
from tests.support.postgres_server import PostgresServer, postgres_server

MakeStore = Callable[[], Store]
USD = Decimal


@pytest.fixture(scope="module")
def server() -> Generator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Give what opens the same new database again and again."""
    if request.param == "sqlite":
        return lambda: SqliteStore(str(tmp_path / "ledger.db"), is_synced=False, busy_timeout_s=1)
    running: PostgresServer = request.getfixturevalue("server")
    running.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return lambda: PostgresStore(running.url)


def opened(store: Store) -> Store:
    store.open()
    return store


def report_of(store: Store, **query: object) -> CostReport:
    with store.session() as session:
        return read_report(session, CostQuery(**query), pending=0)  # type: ignore[arg-type]


def values_of(store: Store, sql: str) -> list[object]:
    """Give the first column of a query; not from a task, whose thread has a loop already."""
    with store.session() as session:
        return [each[0] for each in session.rows(sql)]


def mixed() -> list[object]:
    """Give four calls: one plain, one with a fallback, one with an escalation, one of unknown price."""
    failed = attempt(outcome=AttemptOutcome.FAILED, failure=FailureKind.OVERLOAD, cost_usd=USD("0.0004"), served=False)
    poor = attempt(outcome=AttemptOutcome.POOR, cost_usd=USD("0.0003"), served=False)
    better = attempt(2, position=1, model="claude-opus", cost_usd=USD("0.02"))
    guessed = Usage(input_tokens=7, output_tokens=3, source=UsageSource.ESTIMATED)
    counted = Usage(input_tokens=5, output_tokens=2, cache_read_tokens=4, source=UsageSource.COUNTED)
    other = resolution(tenant="umbrella", task_id="search")
    return [
        *rows("r1", attempt(cost_usd=USD("0.000000000001")), strongest_usd=USD("0.05")),
        *rows("r2", failed, better),
        *rows("r3", poor, attempt(2, position=1, model="claude-opus", usage=counted, cost_usd=USD("0.01"))),
        *rows("r4", attempt(usage=guessed, cost_usd=None, started_at=START + DAY_S), resolved=other),
    ]


def test_reports_tell_everything_apart(new_store: MakeStore) -> None:
    store = opened(new_store())
    store.write(mixed(), 0)  # type: ignore[arg-type]
    total = report_of(store, group_by=()).total
    assert (total.calls, total.attempts, total.unpriced) == (4, 6, 1)
    assert (total.accepted, total.poor, total.failed) == (4, 1, 1)
    assert total.cost_usd == USD("0.030700000001")
    assert (total.overhead_usd, total.fallback_usd, total.escalation_usd) == (
        USD("0.0007"),
        USD("0.0004"),
        USD("0.0003"),
    )
    assert total.strongest_usd == USD("0.05")
    assert total.saved_usd == USD("0.05") - USD("0.000000000001") - USD("0.0007")
    assert (total.reported.input_tokens, total.counted.cache_read_tokens, total.estimated.output_tokens) == (400, 4, 3)
    assert total.usage.source is UsageSource.ESTIMATED
    for group, wanted in {
        CostGroup.TENANT: {"acme", "umbrella"},
        CostGroup.TASK: {"email", "search"},
        CostGroup.MODEL: {"anthropic/claude-opus", "anthropic/claude-haiku-5-5"},
        CostGroup.POSITION: {"0", "1"},
        CostGroup.DAY: {"2026-11-23", "2026-11-24"},
        CostGroup.TASK_TYPE: {"classify"},
        CostGroup.PROVIDER: {"anthropic"},
        CostGroup.ACCOUNT: {"anthropic/main"},
        CostGroup.CHAIN: {"classify"},
        CostGroup.OUTCOME: {"accepted", "failed", "poor"},
        CostGroup.USAGE_SOURCE: {"reported", "counted", "estimated"},
    }.items():
        found = report_of(store, group_by=(group,))
        assert {row.keys[0] for row in found.rows} == wanted
        assert sum(row.cost_usd for row in found.rows) == total.cost_usd
    assert report_of(store, group_by=(), model="claude-opus").total.attempts == 2
    assert report_of(store, group_by=(), until=START + DAY_S, tenant="umbrella").total.attempts == 0
    store.close()


def test_commit_that_is_tried_again_writes_no_row_twice(new_store: MakeStore) -> None:
    store = opened(new_store())
    items = mixed()
    assert store.write(items[:3], 0) == 0  # type: ignore[arg-type]
    # As after a commit whose answer was lost; and the connection is made anew.
    assert store.write(items[:3], 0) == 0  # type: ignore[arg-type]
    store.reopen()
    assert store.write(items[:3], 0) == 0  # type: ignore[arg-type]
    assert store.write(items[3:], 3) == 0  # type: ignore[arg-type]
    assert report_of(store).total.attempts == 6
    other = opened(new_store())
    other.write(items[:3], 0)  # type: ignore[arg-type]  # another process, and the same calls
    assert report_of(store).total.attempts == 9
    store.close()
    other.close()


def test_commits_of_any_size_hold_each_row_once(new_store: MakeStore) -> None:
    store = opened(new_store())
    sizes = (1, 2, 3, 27, 255, 256, 257, 600)
    first = 0
    for size in sizes:
        items = [rows(f"s{size}-{number}")[0] for number in range(size)]
        assert store.write(items, first) == store.write(items, first) == 0
        first += size
    store.close()
    with new_store().session() as session:
        found = session.rows("SELECT request_id FROM attempts ORDER BY id")
    assert [name for (name,) in found] == [f"s{size}-{number}" for size in sizes for number in range(size)]


def test_bad_row_takes_no_other_with_it(new_store: MakeStore) -> None:
    store = opened(new_store())
    bad = structs.replace(attempt(), account="\ud800")
    worse = attempt(cost_usd=USD("NaN"))
    assert store.write(rows("r1", attempt(), bad, worse, attempt(4)), 0) == 2
    assert report_of(store).total.attempts == 2
    store.close()


def test_absurd_amount_is_unknown(new_store: MakeStore) -> None:
    store = opened(new_store())
    store.write(rows("r1", attempt(cost_usd=USD(10**20), usage=Usage(input_tokens=10**30))), 0)
    total = report_of(store).total
    assert (total.unpriced, total.usage.input_tokens) == (1, 10**12)
    store.close()


def test_large_sums_are_exact(new_store: MakeStore) -> None:
    store = opened(new_store())
    store.write([row for at in range(5) for row in rows(f"r{at}", attempt(cost_usd=USD("9000000.000000000001")))], 0)
    assert report_of(store).total.cost_usd == USD("45000000.000000000005")
    store.close()


async def test_later_word_on_an_answer_replaces_the_first(new_store: MakeStore) -> None:
    store = new_store()
    async with BufferedLedger(store) as ledger:
        for verdict in (OutcomeVerdict.REJECTED, OutcomeVerdict.CORRECTED):
            await ledger.record_outcome(
                OutcomeReport(request_id="r1", tenant="acme", verdict=verdict, reported_at=START)
            )
        assert await anyio.to_thread.run_sync(values_of, store, "SELECT verdict FROM outcomes") == ["corrected"]


async def test_spending_is_told_by_tenant_and_task(new_store: MakeStore) -> None:
    async with BufferedLedger(new_store()) as ledger:
        ledger.append(rows("r1", attempt(cost_usd=USD("0.1"))))
        ledger.append(
            rows("r2", attempt(cost_usd=USD("0.2")), resolved=resolution(tenant="umbrella", task_id="search"))
        )
        ledger.append(rows("r3", attempt(cost_usd=USD("0.4"), started_at=START - DAY_S)))
        ledger.append(rows("r4", attempt(cost_usd=None)))
        await ledger.flush()
        assert await ledger.spent(since=START, tenant="acme") == USD("0.1")
        assert await ledger.spent(since=0, tenant="acme") == USD("0.5")
        assert await ledger.spent(since=0, task_id="search") == USD("0.2")
        assert await ledger.spent(since=0, until=START) == USD("0.4")
        assert await ledger.spent(since=0, tenant="nobody") == 0


def schema_of(version: int, words: str) -> list[str]:
    text = files("gearshift.core.ledger").joinpath("schema", words, f"{version:04}.sql").read_text("utf-8")
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    return [each for each in plain.split(";") if each.strip()]


def execute(store: Store, *statements: str) -> None:
    """Run statements on a database that has no tables yet."""
    if isinstance(store, SqliteStore):
        Path(store._path).touch()  # pyright: ignore[reportPrivateUsage]
    with store.session(writes=True) as session:
        for each in statements:
            session.execute(each)


def words_of(store: Store) -> str:
    return "sqlite" if isinstance(store, SqliteStore) else "postgres"


def test_older_schema_is_brought_up_to_date_and_keeps_its_rows(new_store: MakeStore) -> None:
    store = new_store()
    execute(store, "CREATE TABLE schema_version (version INTEGER NOT NULL)", "INSERT INTO schema_version VALUES (1)")
    execute(store, *schema_of(1, words_of(store)))
    with store.session(writes=True) as session:
        from gearshift.core.ledger.columns import attempt_values

        values = attempt_values(rows("old", attempt(cost_usd=USD("0.25")))[0], 1, session.dialect.stored)
        session.execute(insert_attempt(session.dialect), values)
    opened(store).write(rows("new", attempt(cost_usd=USD("0.5"))), 0)
    assert report_of(store).total.cost_usd == USD("0.75")
    store.close()
    assert values_of(store, "SELECT version FROM schema_version") == [SCHEMA_VERSION]


def test_newer_schema_is_refused_and_not_touched(new_store: MakeStore) -> None:
    store = opened(new_store())
    store.close()
    execute(store, f"UPDATE schema_version SET version = {SCHEMA_VERSION + 1}")
    with pytest.raises(LedgerError, match="a newer version wrote it"):
        new_store().open()


def test_database_of_another_program_is_refused(new_store: MakeStore) -> None:
    store = new_store()
    execute(store, "CREATE TABLE recipes (name TEXT)")
    with pytest.raises(LedgerError, match="another program"):
        store.open()
    assert values_of(store, "SELECT name FROM recipes") == []


async def test_pruned_days_stay_in_the_reports(new_store: MakeStore) -> None:
    store = new_store()
    async with BufferedLedger(store) as ledger:
        ledger.append(mixed())  # type: ignore[arg-type]
        await ledger.flush()
        # The sums of a day know neither the hour nor why an attempt was left.
        groups = tuple(each for each in CostGroup if each not in (CostGroup.HOUR, CostGroup.REASON))
        before = await ledger.report(CostQuery(group_by=groups))
        repriced = await ledger.report(CostQuery(group_by=(), repriced=True))
        assert (await ledger.prune(day_start(START) + DAY_S / 2)).attempts == 0  # whole days only
        assert (await ledger.prune(START + DAY_S)).attempts == 5
        assert (await ledger.prune(START + DAY_S)).attempts == 0
        after = await ledger.report(CostQuery(group_by=groups))
        assert {replace_calls(each) for each in after.rows} == {replace_calls(each) for each in before.rows}
        assert after.total == before.total
        assert await ledger.report(CostQuery(group_by=(), repriced=True)) == repriced
        ledger.append(mixed())  # type: ignore[arg-type]  # rows that come late join the sums of their day
        await ledger.flush()
        await ledger.prune(START + 2 * DAY_S)
        assert (await ledger.report(CostQuery())).total.cost_usd == 2 * before.total.cost_usd
        assert await ledger.spent(since=day_start(START)) == 2 * before.total.cost_usd
        assert await anyio.to_thread.run_sync(values_of, store, "SELECT id FROM attempts") == []


def replace_calls(row: object) -> object:
    """A pruned call counts where its first attempt was, so that other groups miss it."""
    from dataclasses import replace

    return replace(row, calls=0)  # type: ignore[type-var]


async def test_what_callers_said_goes_with_the_attempts(new_store: MakeStore) -> None:
    store = new_store()
    async with BufferedLedger(store) as ledger:
        for name, at in (("old", START), ("new", START + DAY_S)):
            ledger.append(rows(name, attempt(started_at=at)))
            verdict = OutcomeVerdict.CORRECTED
            await ledger.record_outcome(
                OutcomeReport(request_id=name, tenant="acme", verdict=verdict, correction="private", reported_at=at + 1)
            )
        await ledger.prune(START + DAY_S)
        kept = await anyio.to_thread.run_sync(values_of, store, "SELECT request_id FROM outcomes")
        assert kept == await anyio.to_thread.run_sync(values_of, store, "SELECT request_id FROM attempts") == ["new"]


async def test_idle_machines_are_a_line_of_their_own(new_store: MakeStore) -> None:
    async with BufferedLedger(new_store()) as ledger:
        ledger.append(rows("r1", attempt(provider="own", cost_usd=USD("0.05"))))
        ledger.append(rows("r2", attempt(cost_usd=USD("9"))))
        for hour in range(2):
            ledger.append_machine_time(
                [
                    MachineTime(
                        provider="own",
                        machine="gpu-1",
                        started_at=START + hour * 3600,
                        ended_at=START + (hour + 1) * 3600,
                        busy_s=90,
                        cost_usd=USD("0.20"),
                    )
                ]
            )
        await ledger.flush()
        (line,) = (await ledger.report(CostQuery())).machines
        assert (line.provider, line.busy_s) == ("own", 180)
        assert (line.paid_usd, line.idle_usd) == (USD("0.40"), USD("0.35"))
        (line,) = (await ledger.report(CostQuery(since=START + 3600))).machines
        assert (line.paid_usd, line.idle_usd) == (USD("0.20"), USD("0.20"))
        assert (await ledger.report(CostQuery(tenant="acme"))).machines == ()


def test_export_gives_every_row_exactly(new_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gearshift.core.ledger.export.PAGE", 4)  # pages join without a gap, also at equal times
    store = opened(new_store())
    store.write(mixed(), 0)  # type: ignore[arg-type]
    store.close()
    text = io.StringIO()
    assert write_csv(exported_pages(store), text) == 6
    found = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert [each["request_id"] for each in found] == ["r1", "r2", "r2", "r3", "r3", "r4"]
    assert (found[0]["cost_usd"], found[0]["strongest_usd"], found[5]["cost_usd"]) == ("0.000000000001", "0.05", "")
    assert found[0]["started_at"] == "2026-11-23T12:00:00.000000Z"
    assert found[1]["failure"] == "overload" and found[1]["served"] == "false"
    assert list(found[0]) == list(EXPORTED)
    late = io.StringIO()
    assert write_csv(exported_pages(store, since=START + 1, until=START + DAY_S), late) == 0

    from pyarrow import parquet  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

    path = tmp_path / "rows.parquet"
    assert write_parquet(exported_pages(store), path) == 6
    table = parquet.read_table(path).to_pylist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    assert table[0]["cost_usd"] == USD("0.000000000001")  # pyright: ignore[reportUnknownVariableType]
    assert table[5]["cost_usd"] is None and table[0]["started_at"] == datetime.fromtimestamp(START, UTC)
    assert table[2]["number"] == 2 and table[2]["served"] is True


class Book(PriceBook):
    """Prices of two models: one rises at noon, one has tiers; of everything else nothing is known."""

    def __init__(self) -> None:
        super().__init__(blueprint(stage(0)), Catalogue.load())
        noon = datetime.fromtimestamp(START, UTC)
        cheap, dear = Rates(input_usd=USD(1), output_usd=USD(2)), Rates(input_usd=USD(10), output_usd=USD(20))
        rising = PriceSchedule(
            periods=(PricePeriod(tiers=(cheap,), valid_until=noon), PricePeriod(tiers=(dear,), valid_from=noon))
        )
        tiers = PriceSchedule(
            periods=(
                PricePeriod(
                    tiers=(cheap, Rates(input_usd=USD(3), output_usd=USD(3), above_input_tokens=1000)),
                ),
            )
        )
        self.prices = {
            "rising": Pricing(schedule=rising),
            "tiers": Pricing(schedule=tiers),
            "own": Pricing(cost_per_hour_usd=USD("3.6"), is_own=True),
            "flat": Pricing(schedule=flat(input_usd=USD(1))),
        }

    def find(self, provider: str, model: str) -> Pricing:
        return self.prices.get(model, Pricing())


def test_repricing_is_a_report_until_it_is_applied(new_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gearshift.core.ledger.reprice.PAGE", 2)
    store = opened(new_store())
    big = Usage(input_tokens=2000, output_tokens=10)
    store.write(
        [
            *rows("r1", attempt(model="rising", started_at=START - 1), attempt(2, model="rising")),
            *rows("r2", attempt(model="tiers"), attempt(2, model="tiers", usage=big, cost_usd=None)),
            *rows("r3", attempt(model="own"), attempt(2, model="gone"), attempt(3, model="gone", cost_usd=None)),
            *rows("r4", attempt(model="gone", usage=Usage(), cost_usd=USD(0))),
        ],
        0,
    )
    store.close()
    at_noon = report_of(store, group_by=()).total
    done = reprice(store, Book())
    lines = {model: line.after_usd for (_, model), line in done.lines.items()}
    assert lines["rising"] == USD("0.00012") + USD("0.0012")
    assert lines["tiers"] == USD("0.00012") + USD("0.00603")
    assert lines["own"] == USD("0.00004")  # 40 ms of a machine that nobody shared
    assert (done.total.attempts, done.total.found, done.total.unpriced, done.total.lost) == (8, 1, 2, 1)
    assert report_of(store, group_by=(), repriced=True).total == at_noon
    assert reprice(store, Book(), as_of=datetime.fromtimestamp(START + 1, UTC)).lines[
        "anthropic", "rising"
    ].after_usd == USD("0.0024")

    reprice(store, Book(), writes=True)
    assert report_of(store, group_by=()).total == at_noon  # what was charged stays
    after = report_of(store, group_by=(), repriced=True).total
    assert after.unpriced == 1
    assert after.cost_usd == done.total.after_usd + USD("0.001")  # the one whose price got lost keeps its cost


def test_judged_attempts_are_read_with_their_measure_and_the_latest_word_first(new_store: MakeStore) -> None:
    store = opened(new_store())
    sure = Verdict(gate="confidence", result=VerdictResult.PASS, confidence=0.9, measured=("answer", 1.25))
    items: list[object] = [
        *rows("r1", attempt(verdicts=(sure,), cost_usd=USD("0.002"))),
        *rows("r2", attempt(served=False), attempt(2, position=1, model="claude-opus")),
        *rows("r3", attempt()),
        outcome("r1", OutcomeVerdict.ACCEPTED, 1.0),
        outcome("r2", OutcomeVerdict.CORRECTED, 2.0),
        outcome("unknown", OutcomeVerdict.ACCEPTED, 3.0),
    ]
    store.write(items, 0)  # type: ignore[arg-type]
    with store.session() as session:
        judged = read_outcomes(session, 10)
    store.close()
    assert [(each.request_id, each.model, each.right) for each in judged] == [
        ("r2", "claude-opus", False),
        ("r1", "claude-haiku-5-5", True),
    ]
    assert judged[1].cost_usd == USD("0.002")
    assert confidence_of(judged[1]) == 0.9
    (learned,) = measured(judged)
    assert (learned.model, learned.measure, learned.score, learned.right) == ("claude-haiku-5-5", "answer", 1.25, True)


def outcome(request_id: str, verdict: OutcomeVerdict, at: float) -> OutcomeReport:
    return OutcomeReport(request_id=request_id, tenant="acme", verdict=verdict, reported_at=at)
