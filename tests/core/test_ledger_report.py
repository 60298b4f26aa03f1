"""Cost reports: exact sums by group, period and tenant."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.answer import Usage
from gearshift.core.ledger import CostQuery, SqliteLedger
from gearshift.core.words import AttemptOutcome, CostGroup, FailureKind, TaskType, UsageSource
from tests.support.ledger_rows import START, attempt, resolution, rows

DAY = 86_400.0


async def filled() -> SqliteLedger:
    ledger = SqliteLedger(":memory:")
    await ledger.start()
    ledger.append(
        rows(
            "r1",
            attempt(1, outcome=AttemptOutcome.FAILED, failure=FailureKind.OVERLOAD, cost_usd=Decimal(0), served=False),
            attempt(2, position=1, outcome=AttemptOutcome.POOR, cost_usd=Decimal("0.25"), served=False),
            attempt(3, position=2, model="claude-opus-5-5", cost_usd=Decimal("1.5")),
            strongest_usd=Decimal("1.5"),
        )
    )
    ledger.append(
        rows(
            "r1",  # another tenant may use the same id
            attempt(1, usage=Usage(input_tokens=7, source=UsageSource.ESTIMATED), cost_usd=Decimal("0.125")),
            resolved=resolution(tenant="other", task_id="extract-it", task_type=TaskType.EXTRACT),
            strongest_usd=Decimal(3),
        )
    )
    ledger.append(rows("r2", attempt(1, cost_usd=None, started_at=START + DAY)))
    await ledger.flush()
    return ledger


async def test_report_sums_each_group_and_all() -> None:
    ledger = await filled()
    try:
        report = await ledger.report(CostQuery())
    finally:
        await ledger.aclose()
    email, extract = report.rows
    assert (email.keys, email.calls, email.attempts, email.failed, email.poor) == (("email",), 2, 4, 1, 1)
    assert (email.cost_usd, email.overhead_usd, email.unpriced) == (Decimal("1.75"), Decimal("0.25"), 1)
    assert (email.strongest_usd, email.estimated_usd) == (Decimal("1.5"), Decimal(0))
    assert (extract.keys, extract.calls, extract.cost_usd) == (("extract-it",), 1, Decimal("0.125"))
    assert (extract.estimated_usd, extract.usage.source) == (Decimal("0.125"), UsageSource.ESTIMATED)
    total = report.total
    assert (total.keys, total.calls, total.attempts, total.cost_usd) == ((), 3, 5, Decimal("1.875"))
    assert total.usage.input_tokens == 407
    assert total.strongest_usd == Decimal("4.5")
    assert report.pending == 0


@pytest.mark.parametrize(
    ("group", "keys"),
    [
        (CostGroup.TASK, [("email",), ("extract-it",)]),
        (CostGroup.MODEL, [("anthropic/claude-opus-5-5",), ("anthropic/claude-haiku-5-5",)]),
        (CostGroup.TENANT, [("acme",), ("other",)]),
        (CostGroup.POSITION, [("2",), ("1",), ("0",)]),
        (CostGroup.DAY, [("2026-11-23",), ("2026-11-24",)]),
        (CostGroup.TASK_TYPE, [("classify",), ("extract",)]),
    ],
)
async def test_rows_come_by_group_the_dearest_first(group: CostGroup, keys: list[tuple[str, ...]]) -> None:
    ledger = await filled()
    try:
        report = await ledger.report(CostQuery(group_by=(group,)))
    finally:
        await ledger.aclose()
    assert [each.keys for each in report.rows] == keys
    assert sum(each.cost_usd for each in report.rows) == report.total.cost_usd
    assert sum(each.attempts for each in report.rows) == report.total.attempts


@pytest.mark.parametrize(
    ("query", "attempts"),
    [
        pytest.param(CostQuery(since=START + DAY), 1, id="since is in it"),
        pytest.param(CostQuery(until=START + DAY), 4, id="until is not"),
        pytest.param(CostQuery(since=START + 1, until=START + 2), 0, id="a period without attempts"),
        pytest.param(CostQuery(tenant="other"), 1, id="one tenant"),
        pytest.param(CostQuery(task_id="email"), 4, id="one task"),
        pytest.param(CostQuery(tenant="other", task_id="email"), 0, id="a tenant without this task"),
        pytest.param(CostQuery(group_by=()), 5, id="the total only"),
        pytest.param(CostQuery(tenant="x' OR '1'='1"), 0, id="a tenant that is no SQL"),
    ],
)
async def test_report_covers_what_was_asked(query: CostQuery, attempts: int) -> None:
    ledger = await filled()
    try:
        report = await ledger.report(query)
    finally:
        await ledger.aclose()
    assert report.total.attempts == attempts
    assert bool(report.rows) == (attempts > 0 and bool(query.group_by))


async def test_report_by_several_groups_has_a_row_for_each_combination() -> None:
    ledger = await filled()
    try:
        report = await ledger.report(CostQuery(group_by=(CostGroup.TENANT, CostGroup.DAY)))
    finally:
        await ledger.aclose()
    assert {each.keys for each in report.rows} == {
        ("acme", "2026-11-23"),
        ("acme", "2026-11-24"),
        ("other", "2026-11-23"),
    }


async def test_sum_beyond_64_bits_of_pico_usd_is_exact() -> None:
    large = Decimal("9000000.000000000001")
    async with SqliteLedger(":memory:") as ledger:
        for index in range(3):
            ledger.append(rows(f"r{index}", attempt(cost_usd=large)))
        await ledger.flush()
        report = await ledger.report(CostQuery())
    assert report.total.cost_usd == Decimal("27000000.000000000003")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.none() | st.decimals(min_value=0, max_value=10**6, places=12),
            st.booleans(),
        ),
        max_size=30,
    )
)
async def test_sums_are_those_of_exact_arithmetic(given_rows: list[tuple[str, Decimal | None, bool]]) -> None:
    costs: dict[str, Decimal] = defaultdict(Decimal)
    overhead: dict[str, Decimal] = defaultdict(Decimal)
    async with SqliteLedger(":memory:") as ledger:
        for index, (task, cost, served) in enumerate(given_rows):
            ledger.append(rows(f"r{index}", attempt(cost_usd=cost, served=served), resolved=resolution(task_id=task)))
            costs[task] += cost or 0
            overhead[task] += (cost or 0) if not served else 0
        await ledger.flush()
        report = await ledger.report(CostQuery())
    assert {each.keys[0]: each.cost_usd for each in report.rows} == costs
    assert {each.keys[0]: each.overhead_usd for each in report.rows} == overhead
    assert report.total.unpriced == sum(cost is None for _, cost, _ in given_rows)
