"""Whose budgets a call is paid from, and the chain in which it goes on when one of them is spent.

Rules: pure, time is passed in. A tenant's word comes before its task's: where both budgets are spent and both name a chain,
the task's chain serves. Only money that names a chain is looked at; who stops is refused where money is reserved.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from gearshift.core.admission import Admission, AnyBucket
from gearshift.core.blueprint import Blueprint
from gearshift.core.buckets import NEVER
from gearshift.core.config.model import STOP, LimitsConfig
from gearshift.core.resolve import Resolved

Unheld = tuple[tuple[str, str], ...]
"""Whose budgets do not hold a call, since they are spent and another chain serves: `tenant` or `task`, and its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """A tenant or task whose calls go on when its budget is spent.

    Args:
        kind / name: `tenant` or `task`, and its name.
        chain: the name of the chain in which they go on.

    """

    kind: str
    name: str
    limits: LimitsConfig
    chain: str

    def spent(self, costs: Iterable[Decimal | None], admission: Admission, now: float) -> str:
        """Say that its budget pays for none of what a call may cost, and until when; empty where it pays for one.

        Args:
            costs: what each stage is expected to cost, USD; unknown ones do not count.

        """
        known = [float(cost) for cost in costs if cost is not None]
        if not known:
            return ""
        least, longest = min(known), 0.0
        for bucket in admission.shared_buckets(self.kind, self.name, self.limits, now):
            if bucket.unit == "cost":
                longest = max(longest, bucket.wait_for(least, now))
        if longest == 0:
            return ""
        if longest == NEVER:
            return f"the budget of the {self.kind} {self.name} is less than what the call is expected to cost"
        until = datetime.fromtimestamp(time.time() + longest, UTC)
        return f"the budget of the {self.kind} {self.name} is spent until {until:%Y-%m-%d %H:%M} UTC"


def payers_of(resolved: Resolved) -> tuple[Payer, ...]:
    """Give whose budgets lead to another chain, the tenant first; mostly nobody's."""
    found: list[Payer] = []
    tenant, task = resolved.tenant, resolved.declared
    if tenant.on_exhausted != STOP:
        name = resolved.resolution.tenant
        found.append(Payer(kind="tenant", name=name, limits=tenant.limits, chain=tenant.on_exhausted))
    if task is not None and task.limits is not None and task.on_exhausted != STOP:
        found.append(Payer(kind="task", name=task.id, limits=task.limits, chain=task.on_exhausted))
    return tuple(found)


def held(
    buckets: Iterable[AnyBucket], unheld: Unheld, blueprint: Blueprint, admission: Admission, now: float
) -> tuple[AnyBucket, ...]:
    """Give the buckets without the money of those whose budgets do not hold the call."""
    free = {
        id(each)
        for kind, name in unheld
        for each in admission.shared_buckets(kind, name, limits_of(kind, name, blueprint), now)
        if each.unit == "cost"
    }
    return tuple(each for each in buckets if id(each) not in free)


def limits_of(kind: str, name: str, blueprint: Blueprint) -> LimitsConfig:
    """Give a tenant's or a task's limits."""
    if kind == "tenant":
        tenant = blueprint.config.access.tenants.get(name)
        return _NONE if tenant is None else tenant.limits
    task = blueprint.tasks.get(name)
    return _NONE if task is None or task.limits is None else task.limits


_NONE = LimitsConfig()
