"""What own machines cost, hour by hour, whether they work or not: the ledger's machine time.

Rules: each period begins where the last one ended, and its cost is the difference of two exact totals, so that the periods
of a machine add up to its price x its hours, to the last digit. A machine counts from when the service knows it: when the
service does not run nobody counts. Several processes that share a machine each record their part of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import anyio

from gearshift.core.catalogue.money import machine_cost
from gearshift.core.ledger.row import MachineTime
from gearshift.core.machines.machine import Machine

EVERY_S: Final = 60.0


@dataclass(slots=True)
class _Account:
    """What was recorded of a machine at its present price."""

    usd_per_hour: Decimal
    began: float
    ended: float
    busy_s: float
    paid: Decimal


class MachineHours:
    """Records the time of machines.

    Args:
        machines: the machines that are paid for now, with their price, USD an hour, in this process's part.
        append: takes what was recorded.

    """

    def __init__(
        self,
        machines: Callable[[], Iterable[tuple[Machine, Decimal]]],
        append: Callable[[list[MachineTime]], None],
    ) -> None:
        self._machines = machines
        self._append = append
        self._accounts: dict[tuple[str, str], tuple[Machine, _Account]] = {}

    def record(self, now: float, wall: float) -> None:
        """Record what passed since the last time.

        Args:
            now: seconds, monotonic.
            wall: the same moment, seconds since the epoch.

        """
        times: list[MachineTime] = []
        paid = {(machine.provider, machine.name): (machine, price) for machine, price in self._machines()}
        for key, (machine, account) in list(self._accounts.items()):
            times += _passed(machine, account, now, wall)
            if key not in paid or paid[key][1] != account.usd_per_hour:
                del self._accounts[key]  # gone, or of another price from now on
        for key, (machine, price) in paid.items():
            if key not in self._accounts:
                self._accounts[key] = (machine, _Account(price, now, now, machine.busy(now), Decimal(0)))
        if times:
            self._append(times)

    @asynccontextmanager
    async def running(self, clock: Callable[[], tuple[float, float]]) -> AsyncGenerator[None]:
        """Record every minute while the block runs, and at its end.

        Args:
            clock: gives the time, monotonic and since the epoch.

        """
        self.record(*clock())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._each_minute, clock)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                self.record(*clock())

    async def _each_minute(self, clock: Callable[[], tuple[float, float]]) -> None:
        while True:
            await anyio.sleep(EVERY_S)
            self.record(*clock())


def _passed(machine: Machine, account: _Account, now: float, wall: float) -> list[MachineTime]:
    passed = now - account.ended
    if passed <= 0:
        return []
    total, busy_s = machine_cost(account.usd_per_hour, now - account.began, 1.0), machine.busy(now)
    time = MachineTime(
        provider=machine.provider,
        machine=machine.name,
        started_at=wall - passed,
        ended_at=wall,
        busy_s=busy_s - account.busy_s,
        cost_usd=total - account.paid,
    )
    account.ended, account.busy_s, account.paid = now, busy_s, total
    return [time]
