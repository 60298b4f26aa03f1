"""gRPC-Web as a browser sends it, over aiohttp: what is measured is the service, and this client is charged to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp

_TYPE = "application/grpc-web+proto"
_HEAD = 5


class Browser:
    """Calls RouterService over one origin; as many connections as calls at once."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/gearshift.v1.RouterService/"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=150)
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self._session.close()

    async def unary(self, method: str, message: bytes) -> bytes:
        """Give a call's answer.

        Raises:
            RuntimeError: the call failed.
        """
        async with self.opened(method, message) as response:
            body = await response.read()
        end = _HEAD + int.from_bytes(body[1:_HEAD], "big")
        if body[0] or b"grpc-status:0\r\n" not in body[end:]:
            raise RuntimeError(f"the call failed: {body!r}")
        return body[_HEAD:end]

    @asynccontextmanager
    async def opened(self, method: str, message: bytes) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Open a call while the block runs."""
        frame = b"\x00" + len(message).to_bytes(4, "big") + message
        headers = {"Content-Type": _TYPE, "X-Grpc-Web": "1"}
        async with self._session.post(self._base + method, data=frame, headers=headers) as response:
            yield response


class Frames:
    """Cuts a stream's bytes into frames."""

    def __init__(self) -> None:
        self.messages = 0
        self.is_ok = False
        """Whether the trailers came, and said OK."""
        self._held = bytearray()

    def feed(self, chunk: bytes) -> int:
        """Take bytes; give how many messages they completed."""
        held, before = self._held, self.messages
        held += chunk
        while len(held) >= _HEAD and len(held) >= (end := _HEAD + int.from_bytes(held[1:_HEAD], "big")):
            if held[0]:
                self.is_ok = b"grpc-status:0\r\n" in held
            else:
                self.messages += 1
            del held[:end]
        return self.messages - before
