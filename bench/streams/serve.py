"""The service as `gearshift serve` runs it, and what it holds: `python -m bench.streams.serve CONFIG STATUS_PORT`.

Whoever sends a line to the status port is told the tasks of the loop, the calls in flight, and how many objects of a stream
(calls, attempts, transcripts, composers, responses) are alive after a collection. It ends when it is told to.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections import Counter

import anyio
import msgspec

from gearshift.server.app import running_app
from gearshift.server.cli.configured import configured
from gearshift.server.logs import configure_logs

_OF_A_STREAM = ("Attempt", "Composer", "HttpResponse", "PreparedCall", "Transcript", "Watch", "_Run")


async def serve(config: str, status_port: int) -> None:
    """Run until SIGTERM or SIGINT."""
    found = configured(config, use_env_keys=False)
    configure_logs("error")
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with running_app(found.blueprint, read=found.read) as app:

            async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readline()  # what is not read would have the close reset the connection
                gc.collect()
                objects = gc.get_objects()
                kinds = Counter(type(each).__name__ for each in objects)
                writer.write(
                    msgspec.json.encode(
                        {
                            # This connection's own task is none of the service's.
                            "tasks": len(asyncio.all_tasks()) - 1,
                            "in_flight": app.guard.in_flight,
                            "ended": app.guard.ended,
                            "objects": len(objects),
                            "of_streams": {name: kinds[name] for name in _OF_A_STREAM},
                        }
                    )
                )
                writer.close()

            gc.collect()
            gc.freeze()
            async with await asyncio.start_server(tell, "127.0.0.1", status_port):
                async for _ in signals:
                    return


if __name__ == "__main__":
    anyio.run(serve, sys.argv[1], int(sys.argv[2]), backend_options={"use_uvloop": True})
