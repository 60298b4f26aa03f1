"""(a) Bare grpc.aio: the same messages, no upstream, no code between; the limit of what grpc.aio can do.

python -m bench.speed.echo PORT [shared]

Shared: several processes listen on the port.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import grpc
import uvloop

from bench.speed import messages
from gearshift.v1 import answer_pb2, router_pb2, router_pb2_grpc, stream_pb2

Context = grpc.aio.ServicerContext[Any, Any]


class Echo(router_pb2_grpc.RouterServiceServicer):
    """Answers what the upstream would."""

    async def Route(self, request: router_pb2.RouteRequest, context: Context) -> router_pb2.RouteResponse:
        return router_pb2.RouteResponse(answer=answer_pb2.Answer(text=messages.ANSWER))

    async def StreamRoute(self, request: router_pb2.StreamRouteRequest, context: Context) -> None:  # type: ignore[override]
        loop = asyncio.get_running_loop()
        is_paced = request.call.task.id == messages.PACED
        started = loop.time()
        for index, piece in enumerate(messages.pieces()):
            if is_paced:
                await asyncio.sleep(started + index * messages.PACE_S - loop.time())
            delta = stream_pb2.Delta(number=index + 1, parts=[stream_pb2.DeltaPart(text=piece)])
            await context.write(router_pb2.StreamRouteResponse(events=[stream_pb2.Event(delta=delta)]))


async def serve(port: int, *, shared: bool) -> None:
    """Serve until killed."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", int(shared))])
    router_pb2_grpc.add_RouterServiceServicer_to_server(Echo(), server)  # type: ignore[abstract] # pyright: ignore[reportAbstractUsage]
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    gc.freeze()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), shared="shared" in sys.argv))
