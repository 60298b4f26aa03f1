#!/usr/bin/env python3
"""Many calls at once over one client, all within one deadline; leaving the scope cancels what still runs.

python clients/examples/many.py [host:port]
"""

from __future__ import annotations

import sys
from decimal import Decimal

import anyio

from gearshift.clients import Client, RpcError, background, dial

MESSAGES = [f"Order {number} was charged twice." for number in range(20)]
AT_ONCE = 5


async def main(target: str) -> int:
    """Label every message; print how many have which label, and what all of it cost."""
    labels: dict[str, int] = {}
    cost = Decimal(0)
    ctx = background().with_timeout(60)
    limit = anyio.CapacityLimiter(AT_ONCE)

    async def label(client: Client, message: str) -> None:
        nonlocal cost
        async with limit:
            try:
                answer = await client.execute("email-triage", message, ctx=ctx)
            except RpcError as error:
                labels[error.reason or error.code.name] = labels.get(error.reason or error.code.name, 0) + 1
                return
        labels[answer.text] = labels.get(answer.text, 0) + 1
        cost += Decimal(answer.completion.cost.total_usd or 0)

    async with dial(target) as client:
        with anyio.move_on_after(60) as scope:
            async with anyio.create_task_group() as tasks:
                for message in MESSAGES:
                    tasks.start_soon(label, client, message)
    print(f"{labels} for {cost} USD" + (", out of time" if scope.cancelled_caught else ""))
    return 0 if sum(labels.values()) == len(MESSAGES) else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
