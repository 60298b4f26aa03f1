"""Token buckets and concurrency, without a loop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.buckets import Budget, Concurrency, TokenBucket


def _bucket(capacity: float = 10.0, refill: float = 2.0) -> TokenBucket:
    return TokenBucket("tokens", capacity=capacity, refill_per_s=refill, now=0.0)


def test_a_full_bucket_gives_at_once() -> None:
    assert _bucket().wait_for(10, 0.0) == 0


def test_waiting_takes_as_long_as_the_refill() -> None:
    bucket = _bucket()
    bucket.take(10, 0.0)
    assert bucket.wait_for(4, 0.0) == pytest.approx(2.0)
    assert bucket.wait_for(4, 2.0) == 0


def test_a_bucket_never_holds_more_than_its_capacity() -> None:
    bucket = _bucket()
    assert bucket.level(1e9) == 10
    bucket.settle(5, 0, 1e9)
    assert bucket.level(1e9) == 10


def test_more_than_the_capacity_counts_as_the_capacity() -> None:
    bucket = _bucket()
    assert bucket.wait_for(1000, 0.0) == 0
    bucket.take(1000, 0.0)
    assert bucket.level(0.0) == 0
    bucket.settle(1000, 1000, 0.0)
    assert bucket.level(0.0) == -990  # what was really used is owed


def test_a_debt_is_waited_out() -> None:
    bucket = _bucket()
    bucket.take(5, 0.0)
    bucket.settle(5, 25, 0.0)
    assert bucket.level(0.0) == -15
    assert bucket.wait_for(1, 0.0) == pytest.approx(8.0)


def test_settling_gives_back_what_was_not_used() -> None:
    bucket = _bucket()
    bucket.take(8, 0.0)
    bucket.settle(8, 3, 0.0)
    assert bucket.level(0.0) == 7


def test_a_clock_that_stands_still_refills_nothing() -> None:
    bucket = _bucket()
    bucket.take(10, 5.0)
    assert bucket.level(5.0) == 0
    assert bucket.level(4.0) == 0


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 30), st.floats(0, 30)), max_size=30))
def test_no_more_is_given_than_was_refilled(steps: list[tuple[float, float, float]]) -> None:
    bucket, now, used_up = _bucket(), 0.0, 0.0
    for pause, reserve, used in steps:
        now += pause
        wait = bucket.wait_for(reserve, now)
        assert wait >= 0
        now += wait
        assert bucket.wait_for(reserve, now) <= 1e-6
        bucket.take(reserve, now)
        bucket.settle(reserve, used, now)
        used_up += used
        assert bucket.level(now) <= bucket.capacity
    assert used_up <= bucket.capacity + bucket.refill_per_s * now + 30 + 1e-6


def test_concurrency_is_a_number_of_places() -> None:
    places = Concurrency(2)
    places.take(1, 0.0)
    assert places.wait_for(1, 0.0) == 0
    places.take(1, 0.0)
    assert places.wait_for(1, 0.0) == float("inf")
    places.settle(1, 1, 0.0)
    assert places.wait_for(1, 0.0) == 0
    assert places.level(0.0) == 1


_MIDNIGHT = 20_000 * 86_400.0


def _budget(capacity: float = 1.0, now: float = 100.0) -> Budget:
    """A budget whose clock says `now` 3,600 s before midnight."""
    return Budget(capacity=capacity, epoch_offset=_MIDNIGHT - 3600 - now, now=now)


def test_a_budget_begins_anew_at_midnight() -> None:
    budget = _budget()
    budget.take(0.75, 100.0)
    assert budget.wait_for(0.25, 100.0) == 0
    assert budget.wait_for(0.5, 100.0) == pytest.approx(3600)
    assert budget.wait_for(0.5, 3699.0) == pytest.approx(1)
    assert budget.wait_for(0.5, 3700.0) == 0
    assert budget.level(3700.0) == 1.0


def test_no_more_than_the_budget_is_given_in_a_day() -> None:
    budget, given = _budget(), 0.0
    for second in range(3600):
        if budget.wait_for(0.1, 100.0 + second) == 0:
            budget.take(0.1, 100.0 + second)
            budget.settle(0.1, 0.1, 100.0 + second)
            given += 0.1
    assert given == pytest.approx(1.0)


def test_what_costs_more_than_the_budget_is_never_let_through() -> None:
    assert _budget().wait_for(1.5, 100.0) == float("inf")


def test_a_spent_budget_lets_nothing_through() -> None:
    budget = _budget()
    budget.take(0.5, 100.0)
    budget.settle(0.5, 1.25, 100.0)
    assert budget.level(100.0) == pytest.approx(-0.25)
    assert budget.wait_for(0.0, 100.0) == pytest.approx(3600)
    assert _budget(0.0).wait_for(0.0, 100.0) > 0


def test_a_budget_takes_back_what_was_not_used() -> None:
    budget = _budget()
    budget.take(0.5, 100.0)
    budget.settle(0.5, 0.125, 100.0)
    assert budget.level(100.0) == pytest.approx(0.875)
    budget.take(0.5, 3600.0)
    budget.settle(0.5, 0.1, 3800.0)  # it ended on the next day
    assert budget.level(3800.0) == 1.0
