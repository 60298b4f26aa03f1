"""Rows of the ledger: what they hold, and what they do not."""

from __future__ import annotations

from decimal import Decimal

from gearshift.core.answer import Verdict
from gearshift.core.ledger.row import verdicts_text
from gearshift.core.words import AttemptOutcome, FailureKind, VerdictResult
from tests.support.ledger_rows import attempt, rows

LOW = Verdict(gate="confidence", result=VerdictResult.LOW, confidence=0.6123, detail="the answer said: secret")
PASS = Verdict(gate="schema", result=VerdictResult.PASS)


def test_every_attempt_is_a_row() -> None:
    made = rows("r1", attempt(1, served=False), attempt(2, position=1))
    assert [each.attempt.number for each in made] == [1, 2]
    assert made[0].call is made[1].call
    assert (made[0].call.request_id, made[0].call.tenant, made[0].call.chain) == ("r1", "acme", "classify")


def test_strongest_cost_is_counted_once() -> None:
    made = rows("r1", attempt(1), attempt(2), attempt(3, served=False), strongest_usd=Decimal(5))
    assert [each.strongest_usd for each in made] == [None, Decimal(5), None]


def test_strongest_cost_of_nothing_served_is_nowhere() -> None:
    assert rows("r1", attempt(1, served=False), strongest_usd=Decimal(5))[0].strongest_usd is None


def test_reason_is_how_it_failed_or_which_gate_it_did_not_pass() -> None:
    failed = attempt(outcome=AttemptOutcome.FAILED, failure=FailureKind.RATE_LIMIT)
    poor = attempt(outcome=AttemptOutcome.POOR, verdicts=(PASS, LOW))
    named = attempt(outcome=AttemptOutcome.POOR, verdicts=(Verdict(gate="a", result=VerdictResult.FAIL, reason="why"),))
    assert [rows("r", each)[0].reason for each in (failed, poor, named, attempt())] == [
        "rate_limit",
        "confidence",
        "why",
        "",
    ]


def test_verdicts_are_words_and_numbers_without_the_answer() -> None:
    assert verdicts_text((PASS, LOW)) == "schema:pass confidence:low:0.612"
    assert verdicts_text(()) == ""
