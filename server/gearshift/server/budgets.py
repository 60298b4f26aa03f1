"""Budgets over restarts: what was spent in the running day and month, from the ledger.

Rules: a budget counts what was spent before the process began once, and what it spends itself from then on. Where the
ledger cannot be read at the start the service serves, says so, and goes on trying. Budgets in a shared store are counted by
whoever comes first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal

import anyio

from gearshift.core.admission import Admission
from gearshift.core.blueprint import AccountSpec, Blueprint, Stage
from gearshift.core.buckets import Budget, period_of
from gearshift.core.config.model import LimitsConfig
from gearshift.core.errors import LedgerError
from gearshift.core.ledger import CostQuery, Ledger
from gearshift.core.shared.admission import SharedAdmission
from gearshift.core.shared.buckets import SharedBudget
from gearshift.core.shared.store import SharedStore
from gearshift.server.status import lone

_RETRY_S = 5.0
_CLOCK_S = 10.0

_log = logging.getLogger(__name__)

Whose = tuple[str, str, str]
"""`account`, `tenant` or `task`; its name; `day` or `month`."""


class Budgets:
    """Seeds the budgets of a running service."""

    def __init__(self, ledger: Ledger, admission: Callable[[], Admission]) -> None:
        self._ledger = ledger
        self._admission = admission
        self._seeded: set[Whose] = set()
        self._limited: list[tuple[str, str, LimitsConfig]] = []
        self._blueprint: Blueprint | None = None
        self.rounds = 0
        """How often all budgets were gone through."""
        self.problem = ""
        """Why the ledger could not be asked yet; empty when it was."""

    def warnings(self) -> list[str]:
        """Say what an operator should know."""
        return [f"budgets do not yet count what was spent before the start: {self.problem}"] if self.problem else []

    async def seed(self, blueprint: Blueprint, until: float) -> None:
        """Count what was spent before a time, seconds since the epoch, in every budget that is new.

        Raises:
            LedgerError: the ledger cannot be read, or the shared store is away; what was counted before that stays so.
        """
        self._blueprint = blueprint
        limited = list(_limited(blueprint))
        self._limited = [(kind, name, limits) for kind, name, limits, where in limited if where is None]
        # A budget that was taken away and comes back begins anew.
        self._seeded &= {(kind, name, period) for kind, name, limits, _ in limited for period in _periods(limits)}
        for kind, name, limits, where in limited:
            spent: dict[str, Decimal] = {}
            for period in _periods(limits):
                if (kind, name, period) not in self._seeded:
                    since = period_of(period, until)[0]
                    spent[period] = await self._spent(kind, name, where, since, until)
            if spent:
                await self._count(kind, name, limits, where, spent)
                self._seeded |= {(kind, name, period) for period in spent}
        self.problem = ""
        self.rounds += 1

    async def reseed(self, blueprint: Blueprint) -> None:
        """Count what was spent so far in budgets that a new configuration brings."""
        try:
            await self._ledger.flush()
            await self.seed(blueprint, time.time())
        except LedgerError as error:
            _log.error("new budgets do not count what was spent before: %s", error)

    @asynccontextmanager
    async def seeding(self, blueprint: Blueprint) -> AsyncGenerator[None]:
        """Seed now, or while the block runs as soon as it can be done; and anew where a shared store comes back without its data."""
        until = time.time()
        is_done = await self._try(blueprint, until)
        admission = self._admission()
        store = admission.store if isinstance(admission, SharedAdmission) else None

        async def go_on() -> None:
            nonlocal is_done, until
            seen = _losses(store)
            while store is not None or not is_done:
                await anyio.sleep(_RETRY_S)
                if store is not None and is_done and store.is_up and _losses(store) != seen:
                    # It counts only what it does not hold: a store that kept its data stays as it is.
                    seen, is_done, until = _losses(store), False, time.time()
                    self._seeded.clear()
                if not is_done:
                    is_done = await self._try(self._blueprint or blueprint, until)

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(go_on)
                if store is None:  # which has a clock of its own
                    tasks.start_soon(self._keep_time)
                try:
                    yield
                finally:
                    tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise lone(group) from None

    async def _keep_time(self) -> None:
        """Have budgets follow the clock, which is set now and then, and goes on while a machine sleeps, as the loop's does not."""
        while True:
            await anyio.sleep(_CLOCK_S)
            offset = time.time() - time.monotonic()
            for _, _, budget in self._admission().budgets():
                budget.set_clock(offset)

    def left(self, now: float) -> dict[tuple[str, ...], float]:
        """Give what is left of tenants' and tasks' budgets, USD, by kind, name and period."""
        admission, found = self._admission(), dict[tuple[str, ...], float]()
        for kind, name, limits in self._limited:
            for bucket in admission.shared_buckets(kind, name, limits, now):
                if isinstance(bucket, Budget | SharedBudget):
                    found[kind, name, bucket.period] = bucket.level(now)
        return found

    async def _try(self, blueprint: Blueprint, until: float) -> bool:
        try:
            await self.seed(blueprint, until)
        except LedgerError as error:
            if not self.problem:
                _log.error("budgets do not yet count what was spent before the start: %s", error)
            self.problem = error.message
            return False
        return True

    async def _spent(self, kind: str, name: str, where: _Where | None, since: float, until: float) -> Decimal:
        if where is None:
            tenant, task = (name, None) if kind == "tenant" else (None, name)
            return await self._ledger.spent(since=since, until=until, tenant=tenant, task_id=task)
        stage, spec = where
        query = CostQuery(
            group_by=(),
            since=since,
            until=until,
            provider=stage.provider.name,
            account=spec.account.name,
            model=stage.model.id,
        )
        return (await self._ledger.report(query)).total.cost_usd

    async def _count(
        self, kind: str, name: str, limits: LimitsConfig, where: _Where | None, spent: dict[str, Decimal]
    ) -> None:
        admission, now = self._admission(), time.monotonic()
        if isinstance(admission, SharedAdmission):
            if not admission.store.is_up:
                # Nobody spends more than is held ahead meanwhile, and nothing is held before it was there.
                raise LedgerError("the shared store is away")
            await admission.seed(kind, name, limits, spent)
            return
        buckets = (
            admission.shared_buckets(kind, name, limits, now)
            if where is None
            else admission.guard(where[0], where[1], now).buckets
        )
        for bucket in buckets:
            if isinstance(bucket, Budget) and bucket.period in spent:
                bucket.seed(float(spent[bucket.period]), now)


_Where = tuple[Stage, AccountSpec]


def _limited(blueprint: Blueprint) -> Iterator[tuple[str, str, LimitsConfig, _Where | None]]:
    """Give whoever has a budget: its kind and name, and for an account the stage."""
    for name, tenant in blueprint.config.access.tenants.items():
        if _periods(tenant.limits):
            yield "tenant", name, tenant.limits, None
    for task in blueprint.tasks.values():
        if task.limits is not None and _periods(task.limits):
            yield "task", task.id, task.limits, None
    seen: set[str] = set()
    for chain in blueprint.chains.values():
        for stage in chain.stages:
            for spec in stage.provider.accounts:
                name = f"{stage.provider.name}/{spec.account.name}/{stage.model.id}"
                if _periods(spec.limits) and name not in seen:
                    seen.add(name)
                    yield "account", name, spec.limits, (stage, spec)


def _losses(store: SharedStore | None) -> tuple[int, int]:
    """Give what changes when a shared store may have lost its data."""
    return (store.health.changes, store.forgotten) if store is not None else (0, 0)


def _periods(limits: LimitsConfig) -> list[str]:
    """Give the periods that have a budget."""
    return [period for period, usd in (("day", limits.usd_per_day), ("month", limits.usd_per_month)) if usd is not None]
