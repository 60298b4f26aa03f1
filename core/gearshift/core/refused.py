"""What a caller is told when no limit lets its call through.

Rules: whose limit it is, by name; and for how long: what a call may wait for, or, where it costs more than a whole budget, the
next day, when its cost may be known better.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from gearshift.core.buckets import period_of
from gearshift.core.config.model import LimitsConfig
from gearshift.core.errors import RateLimitedError
from gearshift.core.resolve import Resolved

TENANT_OR_TASK = "tenant or task"
"""How admission calls those whose names it does not know."""
_UNKNOWN_S = 1.0
_NO_LIMITS = LimitsConfig()


def limits_spent(details: Iterable[str], soonest_s: float | None, resolved: Resolved) -> RateLimitedError:
    """Give the error for a call that every stage's limits refused.

    Args:
        details: what was spent for each stage, such as `cost of tenant or task`.
        soonest_s: how long to wait at least; None when nobody knows.
        resolved: whose call it is.
    """
    limits = ", ".join(dict.fromkeys(each.replace(TENANT_OR_TASK, _whose(resolved)) for each in details))
    if soonest_s is None:
        now = time.time()
        soonest_s = period_of("day", now)[1] - now if limits.startswith("cost of ") else _UNKNOWN_S
    return RateLimitedError(f"every stage's limit is spent: {limits}", retry_after_s=soonest_s, limit=limits)


def _whose(resolved: Resolved) -> str:
    tenant, declared = f"tenant {resolved.resolution.tenant}", resolved.declared
    if declared is None or declared.limits is None:
        return tenant
    if resolved.tenant.limits == _NO_LIMITS:
        return f"task {declared.id}"
    return f"{tenant} or task {declared.id}"
