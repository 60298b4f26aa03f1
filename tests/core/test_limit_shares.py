"""Limits by shares: parts of one limit add up to it, whoever comes and goes."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from gearshift.core.admission import Amounts, Permit
from gearshift.core.buckets import Budget, Concurrency, TokenBucket
from gearshift.core.config.model import LimitsConfig
from gearshift.core.shares import ShareAdmission, ShareBooks
from tests.support.blueprints import stage

ONE = Amounts(1, None)


def team(size: int, alive: int | None = None) -> list[ShareAdmission]:
    return [ShareAdmission(number, size, alive or size) for number in range(size)]


def admitted(admission: ShareAdmission, limits: LimitsConfig, tries: int) -> list[Permit]:
    buckets = admission.shared_buckets("tenant", "t", limits, time.monotonic())
    got = [admission.admit_nowait(stage(0), ONE, buckets) for _ in range(tries)]
    return [each for each in got if isinstance(each, Permit)]


@pytest.mark.parametrize("size", [2, 3, 7])
def test_parts_of_a_rate_admit_no_more_than_the_whole(size: int) -> None:
    limits = LimitsConfig(requests_per_minute=420, burst_s=60)
    assert sum(len(admitted(each, limits, 1000)) for each in team(size)) in range(420, 424)


@pytest.mark.parametrize(("places", "size"), [(7, 2), (8, 4), (9, 4), (100, 3)])
def test_parts_of_places_add_up(places: int, size: int) -> None:
    limits = LimitsConfig(concurrency=places)
    assert sum(len(admitted(each, limits, 200)) for each in team(size)) == places


def test_every_process_has_a_place() -> None:
    assert [len(admitted(each, LimitsConfig(concurrency=1), 9)) for each in team(3)] == [1, 1, 1]


def test_survivors_take_over_rates_and_places_but_not_what_was_held() -> None:
    now = time.monotonic()
    limits = LimitsConfig(requests_per_minute=600, burst_s=60, concurrency=10)
    (first, second) = team(2)
    buckets = first.shared_buckets("tenant", "t", limits, now)
    places, rate = buckets
    assert isinstance(rate, TokenBucket) and isinstance(places, Concurrency)
    rate.take(200, now)
    second.resize(1, now)
    first.resize(1, now)
    assert rate.capacity == 600 and rate.refill_per_s == 10
    assert rate.level(now) == pytest.approx(100)
    assert places.capacity == 10
    first.resize(2, now)
    assert rate.capacity == 300 and rate.refill_per_s == 5
    assert rate.level(now) == pytest.approx(100)
    assert places.capacity == 5


def test_full_bucket_shrinks_to_its_part_when_another_process_comes() -> None:
    now = time.monotonic()
    alone = ShareAdmission(0, 2, 1)
    (rate,) = alone.shared_buckets("tenant", "t", LimitsConfig(requests_per_minute=600, burst_s=60), now)
    assert rate.level(now) == 600
    alone.resize(2, now)
    assert rate.level(now) == 300


def test_money_of_a_dead_process_is_not_given_to_others() -> None:
    now = time.monotonic()
    admission = ShareAdmission(0, 4, 4)
    (budget,) = admission.shared_buckets("tenant", "t", LimitsConfig(usd_per_day=Decimal(8)), now)
    assert isinstance(budget, Budget)
    assert budget.level(now) == 2
    admission.resize(1, now)
    assert budget.level(now) == 2


def test_what_was_spent_before_the_start_counts_once_over_all_processes() -> None:
    now = time.monotonic()
    limits = LimitsConfig(usd_per_day=Decimal(8))
    left = 0.0
    for each in team(4):
        (budget,) = each.shared_buckets("tenant", "t", limits, now)
        assert isinstance(budget, Budget)
        budget.seed(6.0, now)
        left += budget.level(now)
    assert left == pytest.approx(2.0)


def test_follower_begins_with_what_its_predecessor_had_left() -> None:
    now = time.monotonic()
    limits = LimitsConfig(usd_per_day=Decimal(8), requests_per_minute=600, burst_s=60)
    first = ShareAdmission(1, 2, 2)
    rate, budget = first.shared_buckets("tenant", "t", limits, now)
    rate.take(250, now)
    budget.take(3, now)
    books = first.books(now)
    follower = ShareAdmission(1, 2, 2, ShareBooks(list(books.entries)))
    rate, budget = follower.shared_buckets("tenant", "t", limits, now)
    assert rate.level(now) == pytest.approx(50, abs=1)
    assert budget.level(now) == pytest.approx(1)
    assert isinstance(budget, Budget)
    budget.seed(100, now)  # the ledger's sum holds what the predecessor spent: not again
    assert budget.level(now) == pytest.approx(1)


def test_changed_limits_keep_what_was_taken() -> None:
    now = time.monotonic()
    admission = ShareAdmission(0, 2, 2)
    rate, budget = admission.shared_buckets(
        "tenant", "t", LimitsConfig(requests_per_minute=600, burst_s=60, usd_per_day=Decimal(8)), now
    )
    rate.take(200, now)
    budget.take(3, now)
    rate, budget = admission.shared_buckets(
        "tenant", "t", LimitsConfig(requests_per_minute=1200, burst_s=60, usd_per_day=Decimal(10)), now
    )
    assert rate.level(now) == pytest.approx(400, abs=1)
    assert budget.level(now) == pytest.approx(2)
