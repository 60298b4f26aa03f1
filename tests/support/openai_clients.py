"""The official `openai` clients at the service, and a raw reader of its event streams.

The official package loads Rust (pydantic), so it is imported by tests alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import openai

from tests.support.running_server import BOUND_S, RunningServer

HELLO: Any = [{"role": "user", "content": "hello"}]
AT_ONCE = "stream: {hold_back_tokens: 0, hold_back_ms: 0}"
"""A configuration's line that sends every token as it comes."""


def url_of(server: RunningServer) -> str:
    """Give the base URL that a client is given."""
    return f"http://127.0.0.1:{server.app.http_port}/v1"


@asynccontextmanager
async def openai_at(
    server: RunningServer, *, key: str = "none", retries: int = 0
) -> AsyncGenerator[openai.AsyncOpenAI]:
    """Give the official client, closed at the end."""
    http = openai.DefaultAsyncHttpxClient(trust_env=False)
    async with openai.AsyncOpenAI(
        base_url=url_of(server), api_key=key, max_retries=retries, timeout=BOUND_S, http_client=http
    ) as client:
        yield client


@dataclass
class RawAnswer:
    """What came over the socket, to its end.

    Args:
        events: the `data:` of each event, as text.
        comments: lines that only keep the connection alive.
        is_whole: whether the mark that ends a chunked body, or all of its declared length, has come.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool
    events: list[str] = field(default_factory=list[str])
    comments: list[str] = field(default_factory=list[str])

    @property
    def json(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.body)

    @property
    def chunks(self) -> list[Any]:
        """The events but `[DONE]`, as JSON."""
        return [json.loads(each) for each in self.events if each != "[DONE]"]

    @property
    def text(self) -> str:
        """What a client shows."""
        deltas = [choice["delta"] for chunk in self.chunks for choice in chunk.get("choices", ())]
        return "".join(delta.get("content") or "" for delta in deltas)

    @property
    def finishes(self) -> list[str]:
        """The reasons to stop that were told."""
        choices = [choice for chunk in self.chunks for choice in chunk.get("choices", ())]
        return [choice["finish_reason"] for choice in choices if choice["finish_reason"] is not None]

    @property
    def error(self) -> Any:
        """The error object, of a body or of the last event."""
        return (self.chunks[-1] if self.events else self.json)["error"]


def chat_body(**fields: object) -> dict[str, object]:
    """Give a chat completion's body."""
    return {"model": "gearshift", "messages": HELLO, **fields}


async def asked_raw(
    server: RunningServer,
    body: object,
    *,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> RawAnswer:
    """Send one request over a socket of its own, and read to the end of what comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.app.http_port)
    try:
        writer.write(request_of(server, body, path=path, method=method, headers=headers))
        with anyio.fail_after(BOUND_S):
            return _read(await reader.read())
    finally:
        writer.close()


def request_of(
    server: RunningServer,
    body: object,
    *,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Give the bytes of one request, after which the connection closes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {
        "Host": f"127.0.0.1:{server.app.http_port}",
        "Content-Type": "application/json",
        "Content-Length": str(len(data)),
        "Connection": "close",
        **(headers or {}),
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def _read(data: bytes) -> RawAnswer:
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body, is_whole = rest, False
    if headers.get("transfer-encoding") == "chunked":
        body, is_whole = _unchunked(rest)
    else:
        is_whole = len(rest) == int(headers.get("content-length", "0"))
    events: list[str] = []
    comments: list[str] = []
    if headers.get("content-type", "").startswith("text/event-stream"):
        sent = [each for each in body.decode().split("\n\n") if each]
        events = [each.removeprefix("data: ") for each in sent if not each.startswith(":")]
        comments = [each for each in sent if each.startswith(":")]
    return RawAnswer(int(first.split(" ")[1]), headers, body, is_whole, events, comments)


def _unchunked(data: bytes) -> tuple[bytes, bool]:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return body, True
        body += data[:length]
        data = data[length + 2 :]
    return body, False
