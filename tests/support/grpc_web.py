"""A client that speaks gRPC-Web as browsers do, frame by frame.

async with web_client(server) as browser:
    answer = await browser.call("RouterService/Route", request)
    async with browser.stream("RouterService/StreamRoute", request) as stream: ...
"""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote

import aiohttp
import grpc
from google.protobuf.message import Message

from tests.support.running_server import Failed, decoded

BINARY = "application/grpc-web+proto"
TEXT = "application/grpc-web-text+proto"


def framed(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(message)) + message


@dataclass
class Trailers:
    """How a call ended."""

    code: grpc.StatusCode
    failed: Failed
    raw: dict[str, str]

    @classmethod
    def read(cls, held: bytes) -> Self:
        raw = dict[str, str]()
        for line in held.decode("ascii").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                raw[name.strip()] = value.strip()
        code = {each.value[0]: each for each in grpc.StatusCode}[int(raw["grpc-status"])]
        packed = raw.get("grpc-status-details-bin", "")
        details = base64.b64decode(packed + "=" * (-len(packed) % 4))
        metadata: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", details)]
        if "grpc-retry-pushback-ms" in raw:
            metadata.append(("grpc-retry-pushback-ms", raw["grpc-retry-pushback-ms"]))
        return cls(code, decoded(code, unquote(raw.get("grpc-message", "")), metadata), raw)


@dataclass
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    messages: list[bytes] = field(default_factory=list[bytes])
    trailers: Trailers | None = None
    text: str = ""

    @property
    def failed(self) -> Failed:
        assert self.trailers is not None, (self.status, self.text)
        return self.trailers.failed


class WebStream:
    """A running answer."""

    def __init__(self, response: aiohttp.ClientResponse, *, is_text: bool) -> None:
        self.response = response
        self.trailers: Trailers | None = None
        self._is_text = is_text
        self._held = bytearray()
        self._packed = bytearray()

    async def read(self) -> bytes | None:
        """Give the next message; None at the end."""
        while True:
            if len(self._held) >= 5:
                flag, length = struct.unpack_from(">BI", self._held)
                if len(self._held) >= 5 + length:
                    message = bytes(self._held[5 : 5 + length])
                    del self._held[: 5 + length]
                    if not flag & 0x80:
                        return message
                    self.trailers = Trailers.read(message)
                    assert not self._held, "nothing follows the trailers"
            if not (chunk := await self.response.content.readany()):
                assert not self._held and not self._packed, "the body was cut"
                return None
            self._take(chunk)

    def _take(self, chunk: bytes) -> None:
        if not self._is_text:
            self._held += chunk
            return
        # Padding may come anywhere; four characters are always whole bytes.
        self._packed += chunk
        whole = len(self._packed) // 4 * 4
        for at in range(0, whole, 4):
            self._held += base64.b64decode(bytes(self._packed[at : at + 4]), validate=True)
        del self._packed[:whole]


class Browser:
    """Calls one address."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session = session
        self.base = base

    @asynccontextmanager
    async def stream(
        self, method: str, message: Message | bytes, *, said: str = BINARY, **headers: str
    ) -> AsyncGenerator[WebStream]:
        """Open a call; `_` in a header's name is a dash."""
        packed = message if isinstance(message, bytes) else framed(message.SerializeToString())
        is_text = "text" in said
        sent = {"Content-Type": said, "X-Grpc-Web": "1", **{name.replace("_", "-"): v for name, v in headers.items()}}
        body = base64.b64encode(packed) if is_text and not isinstance(message, bytes) else packed
        async with self.session.post(self.base + path_of(method), data=body, headers=sent) as response:
            yield WebStream(response, is_text=is_text)

    async def call(self, method: str, message: Message | bytes, *, said: str = BINARY, **headers: str) -> Answer:
        """Give a whole answer. Bytes are sent as the body, as they are."""
        async with self.stream(method, message, said=said, **headers) as stream:
            answer = Answer(stream.response.status, dict(stream.response.headers))
            if not stream.response.headers.get("Content-Type", "").startswith("application/grpc-web"):
                answer.text = await stream.response.text()
                return answer
            while (each := await stream.read()) is not None:
                answer.messages.append(each)
            answer.trailers = stream.trailers
            return answer


def path_of(method: str) -> str:
    """Give a method's path; services of ours may be named without their package."""
    return f"/{method}" if method.startswith("grpc.") else f"/gearshift.v1.{method}"


@asynccontextmanager
async def browser_at(port: int, *, scheme: str = "http", ssl: object = True) -> AsyncGenerator[Browser]:
    """Give a browser for a service on loopback."""
    connector = aiohttp.TCPConnector(limit=0, ssl=ssl)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Browser(session, f"{scheme}://127.0.0.1:{port}")
