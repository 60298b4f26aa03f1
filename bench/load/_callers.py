"""Callers in a process that may be killed at any moment: python -m bench.load._callers PORT FIRST COUNT.

They make mixed calls, numbered from FIRST, over one connection, a crowd at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import anyio

from gearshift.clients import Client, RpcError, background, call, dial, with_channel_options
from tests.support.ledger_bill import billed_prompt

CROWD = 12


async def make_calls(port: int, first: int, count: int) -> None:
    """Make them all; how they end is the service's ledger to tell."""
    numbers = iter(range(first, first + count))
    options = with_channel_options(("grpc.use_local_subchannel_pool", 1))
    async with dial(f"127.0.0.1:{port}", options) as client, anyio.create_task_group() as tasks:
        print("calling", flush=True)
        for _ in range(CROWD):
            tasks.start_soon(_caller, client, numbers)


async def _caller(client: Client, numbers: Iterator[int]) -> None:
    for number in numbers:
        asked = call(f"task-{number % 5}", billed_prompt(number), request_id=f"c{number}", task_type="generate")
        ctx = background().with_timeout(30)
        # One in ten leaves in the middle.
        leaves_after = number % 7 if number % 10 == 3 else None
        try:
            if number % 4 == 0:
                await client.route(ctx, asked)
                continue
            seen = 0
            async with client.stream_route(ctx, asked) as stream:
                async for _ in stream:
                    seen += 1
                    if leaves_after is not None and seen > leaves_after:
                        break
        except RpcError:
            continue  # the chain came to its end: its attempts have their rows


if __name__ == "__main__":
    anyio.run(make_calls, int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
