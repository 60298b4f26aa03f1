"""Calls to ledger rows.

Rules: an observer; it appends once a call has ended, every attempt a row, before the caller sees `completed`. Rows of
attempts that were not served are left out only where `telemetry.track_fallback_costs` is off.
"""

from __future__ import annotations

from gearshift.core.answer import Completion
from gearshift.core.ledger import Ledger, LedgerCall, LedgerRow
from gearshift.core.observer import CallContext, Observer


class LedgerObserver(Observer):
    """Appends the rows of every call."""

    def __init__(self, ledger: Ledger, *, track_fallback_costs: bool) -> None:
        self._ledger = ledger
        self._track = track_fallback_costs

    def call_ended(self, context: CallContext, completion: Completion, error: str) -> None:
        """Append a call's attempts."""
        if not completion.attempts:
            return
        resolution = context.resolution
        call = LedgerCall(
            request_id=context.request_id,
            tenant=resolution.tenant,
            task_id=resolution.task_id,
            task_type=resolution.type,
            declared=resolution.declared,
            chain=context.chain,
            config_revision=context.revision,
            stream=context.stream,
        )
        strongest = completion.cost.strongest_usd
        rows: list[LedgerRow] = []
        is_counted = False
        for attempt in completion.attempts:
            if attempt.served and not is_counted:
                rows.append(LedgerRow(call, attempt, strongest))
                is_counted = True
            elif attempt.served or self._track:
                rows.append(LedgerRow(call, attempt))
        self._ledger.append(rows)
