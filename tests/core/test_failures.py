"""The one table of what follows from a failed upstream call."""

from __future__ import annotations

import pytest

from gearshift.core.failures import FAILURE_RULES, After, BreakerCount, ProviderFailure
from gearshift.core.words import FailureKind

_FAULTS = {
    FailureKind.OVERLOAD,
    FailureKind.SERVER,
    FailureKind.CONNECT_TIMEOUT,
    FailureKind.FIRST_TOKEN_TIMEOUT,
    FailureKind.IDLE_TIMEOUT,
    FailureKind.TOTAL_TIMEOUT,
    FailureKind.CONNECTION,
    FailureKind.MALFORMED,
    FailureKind.EMPTY,
}
_AUTHENTICATION = {FailureKind.AUTHENTICATION, FailureKind.BILLING, FailureKind.MODEL_NOT_FOUND}
_RETRIED = {
    FailureKind.RATE_LIMIT,
    FailureKind.OVERLOAD,
    FailureKind.SERVER,
    FailureKind.CONNECT_TIMEOUT,
    FailureKind.CONNECTION,
    FailureKind.MALFORMED,
    FailureKind.EMPTY,
}


def test_the_table_is_complete() -> None:
    assert set(FAILURE_RULES) == set(FailureKind)


@pytest.mark.parametrize("kind", FailureKind)
def test_each_rule_says_what_the_caller_is_told(kind: FailureKind) -> None:
    assert len(FAILURE_RULES[kind].told) > 10


@pytest.mark.parametrize("kind", FailureKind)
def test_the_breaker_counts_what_tells_of_health(kind: FailureKind) -> None:
    expected = BreakerCount.LIMITED if kind is FailureKind.RATE_LIMIT else BreakerCount.NONE
    if kind in _FAULTS:
        expected = BreakerCount.FAULT
    elif kind in _AUTHENTICATION:
        expected = BreakerCount.AUTHENTICATION
    assert FAILURE_RULES[kind].breaker is expected


@pytest.mark.parametrize("kind", FailureKind)
def test_a_refused_key_is_retried_on_another_account_only(kind: FailureKind) -> None:
    rule = FAILURE_RULES[kind]
    assert rule.retry_here == (kind in _RETRIED | _AUTHENTICATION)
    assert rule.same_account == (kind not in _AUTHENTICATION)


@pytest.mark.parametrize("kind", FailureKind)
def test_no_failure_of_one_provider_stops_the_chain(kind: FailureKind) -> None:
    assert FAILURE_RULES[kind].then is After.NEXT_STAGE


def test_a_failure_says_its_kind_and_detail() -> None:
    failure = ProviderFailure(FailureKind.RATE_LIMIT, "slow down", retry_after_s=2.0, status=429)
    assert str(failure) == "rate_limit: slow down"
    assert (failure.kind, failure.retry_after_s, failure.status) == (FailureKind.RATE_LIMIT, 2.0, 429)
