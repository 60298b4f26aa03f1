"""Confidence that learns from what callers report.

Rules: only where a configuration measures answers; at the start, at a reload, and every `RELEARN_S`. Reading and fitting are done in a
thread, from the latest `MOST` words, and what cannot be read leaves the calibration as it was.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio

from gearshift.core.errors import LedgerError
from gearshift.core.ledger import Ledger
from gearshift.core.ledger.outcomes import measured
from gearshift.core.router import Router

RELEARN_S: Final = 600.0
MOST: Final = 20_000

_READ_S = 5.0

_log = logging.getLogger(__name__)


async def recalibrate(ledger: Ledger, router: Router) -> int:
    """Calibrate on what callers reported; give how many outcomes there were."""
    gauge = router.state.gauge
    if gauge is None:
        return 0
    try:
        with anyio.fail_after(_READ_S):
            judged = await ledger.outcomes(MOST)
    except TimeoutError:
        _log.warning("confidence was not calibrated: the ledger took too long to read")
        return 0
    except LedgerError as error:
        _log.warning("confidence was not calibrated: %s", error.message)
        return 0
    count = await anyio.to_thread.run_sync(gauge.calibration.learn, list(measured(judged)))
    _log.info("confidence rests on %d outcomes that callers reported", count)
    return count


@asynccontextmanager
async def calibrating(ledger: Ledger, router: Callable[[], Router]) -> AsyncGenerator[None]:
    """Learn, and learn again now and then while the block runs."""
    await recalibrate(ledger, router())

    async def again() -> None:
        while True:
            await anyio.sleep(RELEARN_S)
            await recalibrate(ledger, router())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(again)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
