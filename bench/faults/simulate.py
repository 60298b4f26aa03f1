"""The simulator as a process: `python -m bench.faults.simulate PLAN PORT STATUS_PORT`. It ends when it is told to.

Whoever connects to the status port is told how many replies are being played, since the account holds only what ended.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import anyio

from gearshift.server.simulator import running_simulator


async def serve(plan: str, port: int, status_port: int) -> None:
    """Run until SIGTERM or SIGINT."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with running_simulator(plan, port=port) as simulator:

            async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"%d\n" % simulator.statistics()["playing"])
                writer.close()

            async with await asyncio.start_server(tell, "127.0.0.1", status_port):
                async for _ in signals:
                    return


if __name__ == "__main__":
    anyio.run(serve, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
