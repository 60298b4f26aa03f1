"""(b) A gateway without features: protobuf in, one aiohttp call, protobuf out. The least that any gateway on these costs.

Streamed: one message for each read of the upstream, as Gearshift does it.

    python -m bench.speed.floor PORT UPSTREAM_PORT
"""

from __future__ import annotations

import gc
import sys
from typing import Any

import aiohttp
import grpc
import msgspec
import uvloop

from gearshift.v1 import answer_pb2, call_pb2, router_pb2, router_pb2_grpc, stream_pb2

Context = grpc.aio.ServicerContext[Any, Any]
_HEADERS = {"content-type": "application/json"}


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    delta: _Message | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]


_ANSWERS = msgspec.json.Decoder(_Answer)


class Floor(router_pb2_grpc.RouterServiceServicer):
    """Passes on."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def Route(self, request: router_pb2.RouteRequest, context: Context) -> router_pb2.RouteResponse:
        body = _body(request.call, stream=False)
        async with self._session.post(self._url, data=body, headers=_HEADERS) as response:
            message = _ANSWERS.decode(await response.read()).choices[0].message
        assert message is not None
        return router_pb2.RouteResponse(answer=answer_pb2.Answer(text=message.content or ""))

    async def StreamRoute(self, request: router_pb2.StreamRouteRequest, context: Context) -> None:  # type: ignore[override]
        body = _body(request.call, stream=True)
        number, rest = 0, b""
        async with self._session.post(self._url, data=body, headers=_HEADERS) as response:
            async for data in response.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                text = ""
                for line in lines:
                    if line.startswith(b"data: {"):
                        for choice in _ANSWERS.decode(line[6:]).choices:
                            text += (choice.delta and choice.delta.content) or ""
                if text:
                    number += 1
                    delta = stream_pb2.Delta(number=number, parts=[stream_pb2.DeltaPart(text=text)])
                    await context.write(router_pb2.StreamRouteResponse(events=[stream_pb2.Event(delta=delta)]))


def _body(call: call_pb2.Call, *, stream: bool) -> bytes:
    body: dict[str, object] = {
        "model": call.task.id,
        "messages": [{"role": "system", "content": call.system.text}, {"role": "user", "content": call.prompt}],
        "max_tokens": call.parameters.max_tokens,
    }
    if stream:
        body["stream"] = True
    return msgspec.json.encode(body)


async def serve(port: int, upstream: int) -> None:
    """Serve until killed."""
    connector = aiohttp.TCPConnector(limit=256)
    async with aiohttp.ClientSession(connector=connector) as session:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        url = f"http://127.0.0.1:{upstream}/v1/chat/completions"
        floor = Floor(session, url)  # type: ignore[abstract] # pyright: ignore[reportAbstractUsage]
        router_pb2_grpc.add_RouterServiceServicer_to_server(floor, server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        gc.freeze()
        await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
