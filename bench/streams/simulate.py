"""The simulator as a process that tells when: `python -m bench.streams.simulate PLAN PORT STATUS_PORT`.

The status port takes one word a connection. `rows` gives every reply that has ended since the last `reset`, each with
the moment at which it was booked (`time.monotonic`, one clock for all processes of a machine) and the replies that are
still being played. A reply is booked in the turn of the loop in which its fault was played or its client was seen to
leave. It ends when it is told to.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import anyio
import msgspec

from gearshift.server.simulator import running_simulator


async def serve(plan: str, port: int, status_port: int) -> None:
    """Run until SIGTERM or SIGINT."""
    booked: dict[str, float] = {}

    def note(line: str) -> None:
        booked[line.partition(" ")[0]] = time.monotonic()

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with running_simulator(plan, port=port, log=note) as simulator:

            async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                if (await reader.readline()).strip() == b"reset":
                    booked.clear()
                    simulator.account.reset()
                rows = [
                    {
                        "key": entry.key,
                        "provider": entry.provider,
                        "fault": entry.fault,
                        "end": entry.end,
                        "tokens": entry.tokens,
                        "written": entry.tokens_written,
                        "first_token_ms": entry.first_token_ms,
                        "left_after_ms": entry.left_after_ms,
                        "booked_at": booked[entry.id],
                    }
                    for entry in simulator.account.entries
                    if entry.id in booked
                ]
                writer.write(msgspec.json.encode({**simulator.statistics(), "rows": rows}))
                writer.close()

            async with await asyncio.start_server(tell, "127.0.0.1", status_port):
                async for _ in signals:
                    return


if __name__ == "__main__":
    anyio.run(serve, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), backend_options={"use_uvloop": True})
