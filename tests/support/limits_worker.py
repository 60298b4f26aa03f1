"""A process that asks for leave: `python -m tests.support.limits_worker URL CALLS`; it begins when it reads a line.

Prints `ready`, then how many of its callers were admitted, and keeps what it got until its input ends.
"""

from __future__ import annotations

import sys

import anyio
import anyio.to_thread

from gearshift.core.admission import Permit
from gearshift.core.config.model import LimitsConfig
from tests.support.blueprints import stage
from tests.support.shared_limits import ask, shared_admission

LIMITS = LimitsConfig(requests_per_minute=100 / 1440, burst_s=86_400, concurrency=100)
"""A hundred, and next to no refill."""


async def main(url: str, calls: int) -> None:
    of = stage(0, limits=LIMITS)
    async with shared_admission(url, lease_s=1.0) as admission:
        assert admission.store.is_up
        print("ready", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        got = 0

        async def caller() -> None:
            nonlocal got
            answer = await ask(admission, of)
            got += isinstance(answer, Permit)

        async with anyio.create_task_group() as tasks:
            for _ in range(calls):
                tasks.start_soon(caller)
        assert admission.store.is_up
        print(got, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]))
