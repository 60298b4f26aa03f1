"""Calls to ledger rows, and old rows to daily sums.

Rules: the recorder is an observer; it appends once a call has ended, every attempt a row, before the caller sees `completed`. Rows of
attempts that were not served are left out only where `telemetry.track_fallback_costs` is off.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from gearshift.core.answer import Completion
from gearshift.core.errors import LedgerError
from gearshift.core.ledger import Ledger, LedgerCall, LedgerRow
from gearshift.core.ledger.prune import DAY_S
from gearshift.core.observer import CallContext, Observer

PRUNE_EVERY_S: Final = 3600.0

_log = logging.getLogger(__name__)


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


@asynccontextmanager
async def retention(ledger: Ledger, keep_days: int) -> AsyncGenerator[None]:
    """Prune attempts that are older than so many days, at once and every hour, while the block runs; 0 prunes nothing."""
    if not keep_days:
        yield
        return
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_prune_hourly, ledger, keep_days)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


async def _prune_hourly(ledger: Ledger, keep_days: int) -> None:
    while True:
        try:
            pruned = await ledger.prune(time.time() - keep_days * DAY_S)
            if pruned.attempts:
                _log.info("%d attempts became daily sums", pruned.attempts)
        except LedgerError as error:
            _log.warning("old attempts are pruned later: %s", error.message)
        await anyio.sleep(PRUNE_EVERY_S)
