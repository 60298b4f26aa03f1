"""Prices: exact sums, periods, hours and tiers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, getcontext, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.answer import Usage
from gearshift.core.catalogue import PricePeriod, PriceSchedule, PriceWindow, Rates, from_pico, machine_cost, to_pico
from gearshift.core.catalogue.money import usd_text
from gearshift.core.catalogue.price import flat

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MILLION = Decimal(1_000_000)

prices = st.decimals(min_value=0, max_value=1000, places=6)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    write = draw(st.integers(0, 10**7))
    read = draw(st.integers(0, 10**7))
    return Usage(
        input_tokens=write + read + draw(st.integers(0, 10**7)),
        output_tokens=draw(st.integers(0, 10**7)),
        cache_write_tokens=write,
        cache_write_1h_tokens=draw(st.integers(0, write)),
        cache_read_tokens=read,
    )


@st.composite
def schedules(draw: st.DrawFn) -> PriceSchedule:
    optional = st.none() | prices
    rates = Rates(
        input_usd=draw(prices),
        output_usd=draw(prices),
        cache_write_5m_usd=draw(optional),
        cache_write_1h_usd=draw(optional),
        cache_read_usd=draw(optional),
    )
    return PriceSchedule(periods=(PricePeriod(tiers=(rates,)),))


def rates(price: str, above: int = 0) -> Rates:
    return Rates(input_usd=Decimal(price), output_usd=Decimal(price), above_input_tokens=above)


def cost_of(schedule: PriceSchedule, usage: Usage, at: datetime = NOON) -> Decimal:
    cost = schedule.cost(usage, at)
    assert cost is not None
    return cost


@given(schedules(), usages())
def test_cost_is_the_exact_sum_of_tokens_times_rates(schedule: PriceSchedule, usage: Usage) -> None:
    tier = schedule.periods[0].tiers[0]
    read = tier.input_usd if tier.cache_read_usd is None else tier.cache_read_usd
    write = tier.input_usd if tier.cache_write_5m_usd is None else tier.cache_write_5m_usd
    write_1h = write if tier.cache_write_1h_usd is None else tier.cache_write_1h_usd
    plain = usage.input_tokens - usage.cache_write_tokens - usage.cache_read_tokens
    with localcontext(prec=80):
        expected = (
            plain * tier.input_usd
            + (usage.cache_write_tokens - usage.cache_write_1h_tokens) * write
            + usage.cache_write_1h_tokens * write_1h
            + usage.cache_read_tokens * read
            + usage.output_tokens * tier.output_usd
        ) / MILLION
        assert cost_of(schedule, usage) == expected


@given(schedules(), usages(), usages())
def test_costs_add_up(schedule: PriceSchedule, first: Usage, second: Usage) -> None:
    assert cost_of(schedule, first) + cost_of(schedule, second) == cost_of(schedule, first + second)


@given(schedules(), usages(), st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_tokens_never_cost_less(schedule: PriceSchedule, usage: Usage, more_in: int, more_out: int) -> None:
    more = usage + Usage(input_tokens=more_in, output_tokens=more_out)
    assert cost_of(schedule, more) >= cost_of(schedule, usage) >= 0


@given(schedules(), st.builds(Usage, input_tokens=st.integers(0, 100), cache_read_tokens=st.integers(0, 10**4)))
def test_more_cached_than_input_is_never_a_refund(schedule: PriceSchedule, usage: Usage) -> None:
    assert cost_of(schedule, usage) >= 0


def test_no_tokens_cost_nothing() -> None:
    assert cost_of(flat(input_usd=Decimal(3), output_usd=Decimal(15)), Usage()) == 0


def test_costs_do_not_depend_on_the_callers_decimal_context() -> None:
    schedule = flat(input_usd=Decimal("0.075"), output_usd=Decimal("0.30"))
    usage = Usage(input_tokens=123_456_789, output_tokens=987_654_321)
    with localcontext(prec=3):
        cost = cost_of(schedule, usage)
    assert cost == Decimal("305.555555475")
    assert getcontext().prec == 28


def test_reasoning_is_billed_as_the_output_that_it_is_part_of() -> None:
    schedule = flat(input_usd=Decimal(0), output_usd=Decimal(10))
    assert cost_of(schedule, Usage(output_tokens=100, reasoning_tokens=80)) == Decimal("0.001")


@pytest.mark.parametrize(
    ("tokens", "usd"),
    [
        pytest.param(100_000, "0.10", id="at the bound the lower tier holds"),
        pytest.param(100_001, "0.500005", id="above it the higher tier prices every token"),
    ],
)
def test_tier_goes_by_all_input_tokens(tokens: int, usd: str) -> None:
    schedule = PriceSchedule(periods=(PricePeriod(tiers=(rates("1"), rates("5", above=100_000))),))
    usage = Usage(input_tokens=tokens, cache_read_tokens=60_000)
    assert cost_of(schedule, usage) == Decimal(usd)


def test_periods_meet_without_gap_or_overlap() -> None:
    change = datetime(2026, 10, 7, tzinfo=UTC)
    schedule = PriceSchedule(
        periods=(
            PricePeriod(tiers=(rates("2"),), valid_until=change),
            PricePeriod(tiers=(rates("1"),), valid_from=change),
        )
    )
    usage = Usage(input_tokens=1_000_000)
    assert cost_of(schedule, usage, change - timedelta(microseconds=1)) == 2
    assert cost_of(schedule, usage, change) == 1


def test_time_outside_all_periods_has_no_price() -> None:
    schedule = PriceSchedule(periods=(PricePeriod(tiers=(rates("2"),), valid_from=NOON),))
    assert schedule.cost(Usage(input_tokens=1), NOON - timedelta(seconds=1)) is None
    assert schedule.rates_at(NOON - timedelta(seconds=1)) is None


PEAK = PriceSchedule(
    periods=(
        PricePeriod(
            tiers=(rates("1"),),
            windows=tuple(
                PriceWindow(
                    weekdays=frozenset(range(5)),
                    start_minute=start * 60,
                    end_minute=end * 60,
                    utc_offset_minutes=480,
                    tiers=(rates("2"),),
                    except_dates=frozenset({date(2027, 1, 1)}),
                )
                for start, end in ((9, 12), (14, 18))
            ),
        ),
    )
)


@pytest.mark.parametrize(
    ("at", "usd"),
    [
        pytest.param("2026-11-23T08:59:59.999999", 1, id="before nine on Monday"),
        pytest.param("2026-11-23T09:00:00", 2, id="nine on Monday"),
        pytest.param("2026-11-23T11:59:59.999999", 2, id="just before noon"),
        pytest.param("2026-11-23T12:00:00", 1, id="noon"),
        pytest.param("2026-11-23T14:00:00", 2, id="two in the afternoon"),
        pytest.param("2026-11-23T18:00:00", 1, id="six in the evening"),
        pytest.param("2026-11-27T17:59:59", 2, id="Friday afternoon"),
        pytest.param("2026-11-28T10:00:00", 1, id="Saturday"),
        pytest.param("2026-11-29T10:00:00", 1, id="Sunday"),
        pytest.param("2027-01-01T10:00:00", 1, id="a holiday on a Friday"),
    ],
)
def test_hours_are_local_to_the_provider(at: str, usd: int) -> None:
    local = datetime.fromisoformat(at).replace(tzinfo=timezone(timedelta(hours=8)))
    assert cost_of(PEAK, Usage(input_tokens=1_000_000), local.astimezone(UTC)) == usd
    assert cost_of(PEAK, Usage(input_tokens=1_000_000), local) == usd


def test_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        PEAK.cost(Usage(input_tokens=1), datetime(2026, 11, 23))


@pytest.mark.parametrize("price", ["-1", "NaN", "Infinity", "0.0000001"])
def test_price_that_is_no_price_is_refused(price: str) -> None:
    with pytest.raises(ValueError, match="price"):
        rates(price)


@pytest.mark.parametrize(
    "tiers",
    [
        pytest.param((), id="none"),
        pytest.param((rates("1", above=5),), id="not from zero"),
        pytest.param((rates("1"), rates("2", above=5), rates("3", above=5)), id="not rising"),
    ],
)
def test_tiers_that_leave_a_question_are_refused(tiers: tuple[Rates, ...]) -> None:
    with pytest.raises(ValueError, match="tiers"):
        PricePeriod(tiers=tiers)


def test_schedule_without_a_period_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown price is None"):
        PriceSchedule(periods=())


@given(st.decimals(min_value=-(10**6), max_value=10**6, places=12))
def test_pico_usd_are_exact(usd: Decimal) -> None:
    assert from_pico(to_pico(usd)) == usd


@pytest.mark.parametrize(
    ("usd", "text"),
    [("0.000125000000", "0.000125"), ("3.000000000000", "3"), ("0E-12", "0"), ("1E+2", "100"), ("-0.00", "0")],
)
def test_money_is_shown_in_plain_digits(usd: str, text: str) -> None:
    assert usd_text(Decimal(usd)) == text


def test_machine_costs_its_share_of_the_hour() -> None:
    assert machine_cost(Decimal("0.36"), 10.0, 4.0) == Decimal("0.00025")
    assert machine_cost(Decimal(1), 1.0, 1.0) == Decimal("0.000277777778")
    assert machine_cost(Decimal(1), 0.0, 1.0) == 0


@pytest.mark.parametrize(
    ("busy_s", "parallelism"), [(-1.0, 1.0), (float("nan"), 1.0), (1.0, 0.0), (1.0, float("nan")), (1.0, -2.0)]
)
def test_machine_that_cannot_be_is_refused(busy_s: float, parallelism: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        machine_cost(Decimal(1), busy_s, parallelism)
