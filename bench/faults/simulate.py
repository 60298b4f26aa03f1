"""The simulator as a process: `python -m bench.faults.simulate PLAN PORT`. It ends when it is told to."""

from __future__ import annotations

import signal
import sys

import anyio

from gearshift.server.simulator import running_simulator


async def serve(plan: str, port: int) -> None:
    """Run until SIGTERM or SIGINT."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with running_simulator(plan, port=port):
            async for _ in signals:
                return


if __name__ == "__main__":
    anyio.run(serve, sys.argv[1], int(sys.argv[2]))
