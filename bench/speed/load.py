"""The load: calls in a closed loop, so many in flight, as bytes that were serialised once.

Rules: one channel a server; a worker sends its next call when its last one was answered. Calls that were begun are always
finished, so that CPU divided by calls is right at the end too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import grpc

from bench.speed import messages
from gearshift.v1 import router_pb2

_ROUTE = "/gearshift.v1.RouterService/Route"
_STREAM = "/gearshift.v1.RouterService/StreamRoute"
_DEADLINE_S = 30.0


@dataclass
class Tally:
    """What a load saw: how long each call took, seconds, and how many messages came."""

    elapsed_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list[float])
    messages: int = 0

    @property
    def calls(self) -> int:
        """Calls that were answered."""
        return len(self.latencies_s)


Send = Callable[[], Awaitable[int]]
"""Makes one call; gives how many messages came."""


class Target:
    """One server, by its channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._route: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_ROUTE)
        self._stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(_STREAM)

    async def check(self) -> None:
        """Make one call of each kind and see that its answer is the upstream's.

        Raises:
            RuntimeError: it is not.
        """
        answer = router_pb2.RouteResponse.FromString(await self._route(messages.route_request(), timeout=_DEADLINE_S))
        texts = [answer.answer.text]
        for task_id in (messages.PACED, messages.BURST):
            text = ""
            async for data in self._stream(messages.stream_request(task_id), timeout=_DEADLINE_S):
                for event in router_pb2.StreamRouteResponse.FromString(data).events:
                    text += "".join(part.text for part in event.delta.parts)
            texts.append(text)
        if any(text != messages.ANSWER for text in texts):
            raise RuntimeError(f"an answer is not the upstream's: {texts}")

    def whole(self) -> Send:
        """Give what makes a unary call."""
        request = messages.route_request()

        async def send() -> int:
            await self._route(request, timeout=_DEADLINE_S)
            return 1

        return send

    def streamed(self, task_id: str) -> Send:
        """Give what makes a streamed call and reads it to its end."""
        request = messages.stream_request(task_id)

        async def send() -> int:
            count = 0
            async for _ in self._stream(request, timeout=_DEADLINE_S):
                count += 1
            return count

        return send


@asynccontextmanager
async def dialled(port: int) -> AsyncGenerator[Target]:
    """Give a server's target while the block runs."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Target(channel)


async def run(send: Send, in_flight: int, seconds: float) -> Tally:
    """Send for so long, so many at once."""
    tally = Tally()
    began = time.perf_counter()
    until = began + seconds

    async def worker() -> None:
        now = time.perf_counter()
        while now < until:
            count = await send()  # apart: other workers add while this one waits
            tally.messages += count
            done = time.perf_counter()
            tally.latencies_s.append(done - now)
            now = done

    async with anyio.create_task_group() as tasks:
        for _ in range(in_flight):
            tasks.start_soon(worker)
    tally.elapsed_s = time.perf_counter() - began
    return tally


async def run_direct(port: int, seconds: float) -> Tally:
    """Ask the upstream itself, one call at a time: what a gateway's latency is compared with."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"model":"%b","prompt":"%b"}' % (messages.WHOLE.encode(), b"x" * 900)
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    async def send() -> int:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
        return 1

    try:
        return await run(send, 1, seconds)
    finally:
        writer.close()
