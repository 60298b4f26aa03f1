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

_RETRY_S = 5.0

_log = logging.getLogger(__name__)

Whose = tuple[str, str, str]
"""`account`, `tenant` or `task`; its name; `day` or `month`."""


class Budgets:
    """Seeds the budgets of a running service."""

    def __init__(self, ledger: Ledger, admission: Callable[[], Admission]) -> None:
        self._ledger = ledger
        self._admission = admission
        self._seeded: set[Whose] = set()
        self.problem = ""
        """Why the ledger could not be asked yet; empty when it was."""

    def warnings(self) -> list[str]:
        """Say what an operator should know."""
        return [f"budgets do not yet count what was spent before the start: {self.problem}"] if self.problem else []

    async def seed(self, blueprint: Blueprint, until: float) -> None:
        """Count what was spent before a time, seconds since the epoch, in every budget that is new.

        Raises:
            LedgerError: the ledger cannot be read; what was counted before that stays so.
        """
        for kind, name, limits, where in _limited(blueprint):
            spent: dict[str, Decimal] = {}
            for period, usd in (("day", limits.usd_per_day), ("month", limits.usd_per_month)):
                if usd is not None and (kind, name, period) not in self._seeded:
                    since = period_of(period, until)[0]
                    spent[period] = await self._spent(kind, name, where, since, until)
            if spent:
                await self._count(kind, name, limits, where, spent)
                self._seeded |= {(kind, name, period) for period in spent}
        self.problem = ""

    async def reseed(self, blueprint: Blueprint) -> None:
        """Count what was spent so far in budgets that a new configuration brings."""
        try:
            await self._ledger.flush()
            await self.seed(blueprint, time.time())
        except LedgerError as error:
            _log.error("new budgets do not count what was spent before: %s", error)

    @asynccontextmanager
    async def seeding(self, blueprint: Blueprint) -> AsyncGenerator[None]:
        """Seed now, or while the block runs as soon as the ledger can be read."""
        until = time.time()
        if await self._try(blueprint, until):
            yield
            return

        async def go_on() -> None:
            while not await self._try(blueprint, until):
                await anyio.sleep(_RETRY_S)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(go_on)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()

    def left(self, now: float) -> dict[tuple[str, ...], float]:
        """Give what is left of tenants' and tasks' budgets, USD, by kind, name and period."""
        found = self._admission().budgets()
        return {(kind, name, each.period): each.level(now) for kind, name, each in found if kind != "account"}

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
        if _is_money(tenant.limits):
            yield "tenant", name, tenant.limits, None
    for task in blueprint.tasks.values():
        if task.limits is not None and _is_money(task.limits):
            yield "task", task.id, task.limits, None
    seen: set[str] = set()
    for chain in blueprint.chains.values():
        for stage in chain.stages:
            for spec in stage.provider.accounts:
                name = f"{stage.provider.name}/{spec.account.name}/{stage.model.id}"
                if _is_money(spec.limits) and name not in seen:
                    seen.add(name)
                    yield "account", name, spec.limits, (stage, spec)


def _is_money(limits: LimitsConfig) -> bool:
    return limits.usd_per_day is not None or limits.usd_per_month is not None
