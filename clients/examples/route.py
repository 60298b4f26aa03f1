#!/usr/bin/env python3
"""One call, answered whole: a label for a message, who gave it, what it cost.

python clients/examples/route.py [host:port]
"""

from __future__ import annotations

import sys

import anyio

from gearshift.clients import Code, RpcError, background, call, dial, with_retry
from gearshift.v1 import answer_pb2

LABELS = ["billing", "bug", "question"]


async def main(target: str) -> int:
    """Ask once; when a limit is spent, wait as long as the service says and ask again."""
    asked = call("email-triage", "I was charged twice for my order.", labels=LABELS, require_valid=True)
    async with dial(target, with_retry(attempts=3)) as client:
        ctx = background().with_timeout(20)  # seconds, for both tries
        while True:
            try:
                answer = await client.route(ctx, asked)
                break
            except RpcError as error:
                if error.code is Code.RESOURCE_EXHAUSTED and error.retry_after:
                    await anyio.sleep(error.retry_after)
                    continue
                print(f"failed: {error}", file=sys.stderr)
                return 1
    completion = answer.completion
    print(f"label     {answer.text}")
    print(f"outcome   {answer_pb2.Outcome.Name(completion.outcome)}")
    print(f"served by {completion.served_by.provider}/{completion.served_by.model}")
    print(f"cost      {completion.cost.total_usd} USD, {completion.cost.strongest_usd} on the strongest model")
    return 0


if __name__ == "__main__":
    sys.exit(anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
