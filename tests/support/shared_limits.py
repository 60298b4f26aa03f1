"""Admissions over a shared store, several of them as if they were processes."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal

import anyio

from gearshift.core.admission import Admission, Amounts, AnyBucket, Permit, Refusal
from gearshift.core.blueprint import Stage
from gearshift.core.config.model import RedisConfig, SharedConfig
from gearshift.core.shared.admission import SharedAdmission
from gearshift.core.shared.connection import RedisConnection
from gearshift.core.shared.store import SharedStore
from gearshift.core.words import FailureKind

ONE = Amounts(10, Decimal("0.01"))


@asynccontextmanager
async def shared_store(
    url: str,
    *,
    prefix: str = "gearshift",
    clock_us: Callable[[], int] | None = None,
    epoch_offset: float | None = None,
    slow_s: float = 2.0,
    timeout_s: float = 2.0,
    processes: int = 1,
    lease_s: float = 10.0,
    money_lease: float = 0.02,
) -> AsyncGenerator[SharedStore]:
    """Share while the block runs. A busy machine must not look like a slow store, except in the test of slow ones."""
    redis = RedisConfig(url=url, prefix=prefix, slow_s=slow_s, timeout_s=timeout_s)
    config = SharedConfig(redis=redis, processes=processes, lease_s=lease_s, money_lease=money_lease)
    store = SharedStore(config, RedisConnection(redis), clock_us=clock_us, epoch_offset=epoch_offset)
    async with store.running():
        yield store


@asynccontextmanager
async def shared_admission(
    url: str,
    *,
    prefix: str = "gearshift",
    slow_s: float = 2.0,
    timeout_s: float = 2.0,
    processes: int = 1,
    lease_s: float = 10.0,
    money_lease: float = 0.02,
) -> AsyncGenerator[SharedAdmission]:
    """Give an admission over a store."""
    async with shared_store(
        url,
        prefix=prefix,
        slow_s=slow_s,
        timeout_s=timeout_s,
        processes=processes,
        lease_s=lease_s,
        money_lease=money_lease,
    ) as store:
        yield SharedAdmission(store)


async def ask(
    admission: Admission,
    of: Stage,
    amounts: Amounts = ONE,
    extra: Sequence[AnyBucket] = (),
    *,
    patience_s: float = 0.0,
) -> Permit | Refusal:
    """Ask for leave as the chain does, waiting as long as is said."""
    return await admission.admit(of, amounts, extra, until=time.monotonic() + patience_s)


def settle(permit: Permit, *, tokens: int = 10, cost: str = "0.01", failure: FailureKind | None = None) -> None:
    """End a call."""
    permit.settle(
        tokens=tokens,
        cost_usd=Decimal(cost),
        failure=failure,
        cancelled=False,
        accepted=None if failure else True,
        first_token_ms=1.0,
        total_ms=2.0,
        now=time.monotonic(),
    )


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> float:
    """Wait for a state; give how long that took."""
    began = time.monotonic()
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.01)
    return time.monotonic() - began
