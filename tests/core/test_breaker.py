"""When an account and model is taken out of use, without a loop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.breaker import Breaker
from gearshift.core.config.model import BreakerConfig
from gearshift.core.failures import BreakerCount
from gearshift.core.words import BreakerState

_CONFIG = BreakerConfig(
    consecutive_faults=3, window=6, fault_rate=0.5, open_s=10, max_open_s=35, authentication_open_s=100
)
_FAULT, _AUTH, _NONE = BreakerCount.FAULT, BreakerCount.AUTHENTICATION, BreakerCount.NONE


def state(breaker: Breaker) -> BreakerState:
    return breaker.state


def _opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(_CONFIG)
    for _ in range(3):
        breaker.fail(_FAULT, "server", now)
    assert state(breaker) is BreakerState.OPEN
    return breaker


def test_it_opens_on_consecutive_faults() -> None:
    breaker = Breaker(_CONFIG)
    for _ in range(2):
        breaker.fail(_FAULT, "server", 0.0)
    assert breaker.permits(0.0)
    breaker.fail(_FAULT, "server", 0.0)
    assert not breaker.permits(9.9)
    assert breaker.reason == "server"
    assert breaker.probe_in(4.0) == 6.0


def test_a_success_between_faults_begins_the_count_anew() -> None:
    breaker = Breaker(_CONFIG)
    for _ in range(2):
        breaker.fail(_FAULT, "server", 0.0)
        breaker.fail(_FAULT, "server", 0.0)
        for _ in range(4):
            breaker.succeed()
    assert state(breaker) is BreakerState.CLOSED


def test_it_opens_on_the_rate_of_faults() -> None:
    breaker = Breaker(_CONFIG)
    for _ in range(2):
        breaker.succeed()
        breaker.fail(_FAULT, "server", 0.0)
    assert state(breaker) is BreakerState.CLOSED  # the window is not full yet
    breaker.succeed()
    assert state(breaker) is BreakerState.CLOSED
    breaker.fail(_FAULT, "server", 0.0)
    assert state(breaker) is BreakerState.OPEN


def test_failures_that_say_nothing_of_health_do_not_count() -> None:
    breaker = Breaker(_CONFIG)
    for _ in range(50):
        breaker.fail(_NONE, "rate_limit", 0.0)
    assert state(breaker) is BreakerState.CLOSED


def test_half_open_lets_one_probe_through() -> None:
    breaker = _opened()
    assert breaker.begin(9.9) is None
    ticket = breaker.begin(10.0)
    assert ticket
    assert state(breaker) is BreakerState.HALF_OPEN
    assert not breaker.permits(10.0)
    assert breaker.begin(10.0) is None
    breaker.succeed(ticket)
    assert state(breaker) is BreakerState.CLOSED
    assert breaker.begin(10.0) == 0


def test_each_failed_probe_doubles_the_wait_up_to_its_limit() -> None:
    breaker, now, waits = _opened(), 0.0, list[float]()
    for _ in range(4):
        waits.append(breaker.probe_in(now))
        now += waits[-1]
        ticket = breaker.begin(now)
        assert ticket
        breaker.fail(_FAULT, "server", now, ticket)
    assert waits == [10, 20, 35, 35]


def test_a_probe_that_succeeds_resets_the_wait() -> None:
    breaker = _opened()
    breaker.fail(_FAULT, "server", 10.0, breaker.begin(10.0) or 0)
    breaker.succeed(breaker.begin(30.0) or 0)
    for _ in range(3):
        breaker.fail(_FAULT, "server", 40.0)
    assert breaker.probe_in(40.0) == 10


def test_an_abandoned_probe_frees_its_place_and_closes_nothing() -> None:
    breaker = _opened()
    ticket = breaker.begin(10.0)
    assert ticket
    breaker.abandon(ticket)
    assert state(breaker) is BreakerState.OPEN
    assert breaker.permits(10.0)
    ticket = breaker.begin(10.0)
    assert ticket
    breaker.fail(_NONE, "invalid_request", 10.0, ticket)
    assert breaker.permits(10.0)


def test_calls_from_before_it_opened_decide_nothing() -> None:
    breaker = _opened()
    breaker.succeed(0)
    assert state(breaker) is BreakerState.OPEN
    for _ in range(5):
        breaker.fail(_FAULT, "server", 9.0, 0)
    assert breaker.probe_in(9.0) == 1.0  # not longer either
    probe = breaker.begin(10.0)
    assert probe
    breaker.abandon(0)
    breaker.succeed(0)
    breaker.fail(_FAULT, "server", 10.0, 0)
    assert state(breaker) is BreakerState.HALF_OPEN
    assert not breaker.permits(10.0)
    breaker.succeed(probe)
    assert breaker.permits(10.0)


def test_a_refused_key_opens_at_once_and_for_long() -> None:
    breaker = Breaker(_CONFIG)
    breaker.fail(_AUTH, "authentication", 0.0)
    assert not breaker.permits(99.0)
    assert breaker.permits(100.0)
    assert breaker.reason == "authentication"


def test_who_has_nowhere_else_to_go_probes_early_one_at_a_time() -> None:
    breaker = _opened()
    assert not breaker.permits(0.0)
    assert breaker.permits(0.0, early=True)
    ticket = breaker.begin(0.0, early=True)
    assert ticket
    assert breaker.begin(0.0, early=True) is None
    breaker.succeed(ticket)
    assert state(breaker) is BreakerState.CLOSED


def test_early_probes_that_fail_come_less_often_and_change_nothing_else() -> None:
    breaker, now, pauses = _opened(), 0.0, list[float]()
    for _ in range(6):
        ticket = breaker.begin(now, early=True)
        assert ticket
        breaker.fail(_FAULT, "server", now, ticket)
        pauses.append(breaker.probe_in(now, early=True))
        now += pauses[-1] + 1e-9
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.5, 0.5])
    assert breaker.probe_in(now) == pytest.approx(10.0 - now)
    # A regular probe that fails doubles its time as ever.
    ticket = breaker.begin(10.0)
    assert ticket
    breaker.fail(_FAULT, "server", 10.0, ticket)
    assert breaker.probe_in(10.0) == 20.0


def test_the_pauses_begin_anew_after_an_answer() -> None:
    breaker = _opened()
    for now in (0.0, 0.1):
        ticket = breaker.begin(now, early=True)
        assert ticket
        breaker.fail(_FAULT, "server", now, ticket)
    ticket = breaker.begin(1.0, early=True)
    assert ticket
    breaker.succeed(ticket)
    for _ in range(3):
        breaker.fail(_FAULT, "server", 2.0)
    assert breaker.probe_in(2.0, early=True) == 0.0


@pytest.mark.parametrize("count", [_AUTH, BreakerCount.LIMITED])
def test_nobody_probes_early_where_a_key_was_refused_or_a_limit_reached(count: BreakerCount) -> None:
    breaker = Breaker(_CONFIG)
    for _ in range(3):
        breaker.fail(count, "x", 0.0)
    assert state(breaker) is BreakerState.OPEN
    assert not breaker.permits(0.1, early=True)
    assert breaker.probe_in(0.1, early=True) == breaker.probe_in(0.1)


def test_its_state_prints_well() -> None:
    assert repr(_opened()) == "<Breaker open 'server'>"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "early", "succeed", "fail", "none", "auth", "abandon", "wait"]), st.integers(0, 5)
        ),
        max_size=80,
    )
)
def test_never_more_than_one_probe_runs(steps: list[tuple[str, int]]) -> None:
    breaker, now, running = Breaker(_CONFIG), 0.0, list[int]()
    for what, which in steps:
        if what == "wait":
            now += which * 5
        elif what in ("begin", "early"):
            permitted = breaker.permits(now, early=what == "early")
            ticket = breaker.begin(now, early=what == "early")
            assert permitted == (ticket is not None)
            if ticket is not None:
                running.append(ticket)
        elif running:
            ticket = running.pop(which % len(running))
            if what == "succeed":
                breaker.succeed(ticket)
            elif what == "abandon":
                breaker.abandon(ticket)
            else:
                breaker.fail({"fail": _FAULT, "none": _NONE, "auth": _AUTH}[what], what, now, ticket)
        if state(breaker) is BreakerState.HALF_OPEN:
            assert sum(1 for ticket in running if ticket) >= 1
            assert not breaker.permits(now)
            assert not breaker.permits(now, early=True)
