"""A TCP proxy on loopback that keeps what it is given for a while."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, SocketAttribute, SocketStream


class SlowProxy:
    """Passes bytes on, each way, after `delay_s`."""

    def __init__(self, target: int) -> None:
        self.delay_s = 0.0
        self.port = 0
        self.target = target
        """The port that new connections lead to."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def serve(self, client: SocketStream) -> None:
        try:
            async with (
                client,
                await anyio.connect_tcp("127.0.0.1", self.target) as server,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(self._pass_on, client, server, True)
                await self._pass_on(server, client, False)
                tasks.cancel_scope.cancel()
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return

    async def _pass_on(self, source: ByteReceiveStream, sink: ByteSendStream, is_delayed: bool) -> None:
        try:
            while True:
                received = await source.receive()
                if is_delayed and self.delay_s:
                    await anyio.sleep(self.delay_s)
                await sink.send(received)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            return


@asynccontextmanager
async def slow_proxy(target: int) -> AsyncGenerator[SlowProxy]:
    """Run one while the block runs."""
    proxy = SlowProxy(target)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    proxy.port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, proxy.serve)
        yield proxy
        tasks.cancel_scope.cancel()
