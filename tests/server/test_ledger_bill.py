"""The ledger's sum is what the simulator billed, to the last digit, over faults, caches, escalations and cancels."""

from __future__ import annotations

from pathlib import Path

from tests.support.ledger_bill import billed_calls

CALLS = 500


async def test_ledger_sums_to_what_the_providers_billed(tmp_path: Path) -> None:
    bill = await billed_calls(CALLS, tmp_path / "ledger.db", seed=11)
    assert bill.wrong == []
    for source in ("reported", "counted"):
        assert bill.sides[source].ledger_pico == bill.sides[source].billed_pico
        assert bill.sides[source].ledger_tokens == bill.sides[source].billed_tokens
    # It was no walk in the park.
    assert bill.sides["reported"].attempts > CALLS / 2
    assert all(bill.outcomes[each] for each in ("accepted", "poor", "failed", "cancelled", "stopped"))
    assert all(bill.causes[each] for each in ("first", "retry", "fallback", "escalation"))
    assert len(bill.faults) > 15 and bill.cached_tokens > 0
