"""The service's own machines: their hours go to the ledger, their pressure to the planner and to those who look.

Rules: started and stopped with the service; what fails here breaks no call. A provider's machine is an account's base URL;
it is paid for where the provider says `cost_per_hour_usd`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal

import anyio
from google.protobuf.timestamp_pb2 import Timestamp

from gearshift.core.config.kinds import facts_of
from gearshift.core.errors import LedgerError
from gearshift.core.learned import learn_from
from gearshift.core.ledger import Ledger
from gearshift.core.machines.hours import MachineHours
from gearshift.core.machines.machine import Machine
from gearshift.core.machines.pressure import Pressure
from gearshift.core.machines.watch import Watch
from gearshift.core.router import Router
from gearshift.server.metrics import Figure, Metrics
from gearshift.v1 import ops_pb2

_log = logging.getLogger(__name__)

_LEARN_S = 5.0
"""What reading the ledger may hold up the start."""


class OwnMachines:
    """Own machines of the configuration in force.

    Args:
        router: gives the one in force.
        embedded: base URLs of running embedded models, by provider name.
        processes: how many processes serve on these machines, this one too: each records its part of their hours.

    """

    def __init__(
        self,
        router: Callable[[], Router],
        ledger: Ledger,
        embedded: Mapping[str, str],
        processes: Callable[[], int] = lambda: 1,
    ) -> None:
        self._router = router
        self._ledger = ledger
        self._embedded = embedded
        self._processes = processes
        self._watch = Watch(self.pressures)
        self._hours = MachineHours(self.machines, ledger.append_machine_time)

    def pressures(self) -> list[Pressure]:
        """Give the pressure on every server that can be asked."""
        router = self._router()
        return router.state.admission.pressures(router.blueprint.providers, self._embedded)

    def machines(self) -> Iterable[tuple[Machine, Decimal]]:
        """Give every machine that is paid for, and this process's part of its price, USD an hour."""
        router, parts = self._router(), max(1, self._processes())
        now, found = time.monotonic(), dict[int, tuple[Machine, Decimal]]()
        own = {
            stage.provider.name
            for chain in router.blueprint.chains.values()
            for stage in chain.stages
            if stage.model.self_hosted
        }
        for provider in router.blueprint.providers.values():
            price = provider.cost_per_hour_usd
            if price is None or not (provider.name in own or facts_of(provider.kind, provider.dialect).self_hosted):
                continue
            for spec in provider.accounts:
                machine = router.state.admission.machine(provider, spec, now)
                found[id(machine)] = (machine, price if parts == 1 else price / parts)
        return found.values()

    async def look(self) -> None:
        """Have the servers asked now, and wait a moment for what they say."""
        await self._watch.look()

    def figures(self) -> list[Figure]:
        """Give what the metrics show of them; provider and account are the labels."""
        now, found = time.monotonic(), list[Figure]()
        for each in self.pressures():
            labels = (each.provider, each.account)
            for name, about, value in (
                ("gearshift_machine_running", "Requests that a model server works on.", each.running(now)),
                ("gearshift_machine_queued", "Requests that wait in a model server.", each.queued(now)),
                ("gearshift_machine_cache_used", "Share of its key-value cache in use.", each.reading.cache_used),
                (
                    "gearshift_machine_question_failures_total",
                    "Questions that a model server did not answer.",
                    each.failures,
                ),
            ):
                if value is not None:
                    found.append((name, about, labels, float(value)))
        for machine, _ in self.machines():
            labels = (machine.provider, machine.name)
            busy = "Seconds in which a machine that is paid for ran at least one call."
            found.append(("gearshift_machine_busy_seconds_total", busy, labels, machine.busy(now)))
        return found

    @asynccontextmanager
    async def running(self, metrics: Metrics | None = None) -> AsyncGenerator[None]:
        """Learn what the ledger knows, then watch and record while the block runs."""
        if metrics is not None:
            metrics.figures(self.figures)
        await self._learn()
        async with self._watch.running(), self._hours.running(lambda: (time.monotonic(), time.time())):
            yield

    async def _learn(self) -> None:
        router = self._router()
        if not any(chain.is_weighed for chain in router.blueprint.chains.values()):
            return
        try:
            with anyio.move_on_after(_LEARN_S):
                found = await learn_from(self._ledger, router.blueprint, router.state.experience, time.time())
                _log.info("weighed chains begin with %d attempts of the ledger", found)
        except LedgerError as error:
            _log.warning("weighed chains begin without the ledger's figures: %s", error.message)


def pressure_to_wire(pressure: Pressure, now: float) -> ops_pb2.PressureStatus:
    """Give a pressure's message."""
    reading = pressure.reading
    told = ops_pb2.PressureStatus(
        kind=pressure.kind,
        running=pressure.running(now),
        queued=pressure.queued(now),
        own_calls=pressure.kind == "ollama",
        cache_used=reading.cache_used if pressure.is_fresh(now) else None,
        age_seconds=None if pressure.read_at is None else now - pressure.read_at,
        error=pressure.error,
        failures=pressure.failures,
        max_queued=pressure.max_queued,
    )
    for each in reading.loaded:
        loaded = told.loaded.add(name=each.name, bytes=each.bytes, vram_bytes=each.vram_bytes)
        if each.expires_at is not None:
            loaded.expires_at.CopyFrom(Timestamp(seconds=int(each.expires_at)))
    return told
