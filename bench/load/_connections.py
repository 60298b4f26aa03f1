"""A client of many connections, a call at a time on each: python -m bench.load._connections PORT SECONDS CONNECTIONS.

Prints the calls that were answered and the seconds that it took.
"""

from __future__ import annotations

import sys
import time
from contextlib import AsyncExitStack

import anyio
import grpc.aio

from bench.speed import messages

_ROUTE = "/gearshift.v1.RouterService/Route"


async def load(port: int, seconds: float, connections: int) -> None:
    answered = 0
    async with AsyncExitStack() as stack:
        calls: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = []
        for _ in range(connections):
            made = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
            calls.append((await stack.enter_async_context(made)).unary_unary(_ROUTE))
        request = messages.route_request()
        for call in calls:
            await call(request, timeout=30)
        began = time.perf_counter()
        until = began + seconds

        async def go(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> None:
            nonlocal answered
            while time.perf_counter() < until:
                await call(request, timeout=30)
                answered += 1

        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(go, call)
        elapsed = time.perf_counter() - began
    print(answered, elapsed)


if __name__ == "__main__":
    import uvloop

    uvloop.run(load(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
