"""gRPC-Web: how browsers call the service, without a proxy.

Rules: bytes in and out, no message is decoded here. A call ends with trailers in the body and HTTP status 200, whatever
becomes of it; other HTTP statuses say that it was no gRPC-Web call. A browser that leaves cancels its call at once (aiohttp
cancels the handler). What a browser does not read stops the call, with few bytes of it under way.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from typing import Final

import anyio
import grpc
from aiohttp import web

from gearshift.core.errors import invalid
from gearshift.server.status import DEADLINE
from gearshift.server.web.calling import Calling, Metadata, Outcome, ended, refused
from gearshift.server.web.connection import keep_little_unsent, peer_of
from gearshift.server.web.grpc_web_frames import (
    CompressedError,
    FrameError,
    TooLongError,
    bytes_of,
    framed,
    longest_body,
    message_of,
    seconds_of,
    trailer,
)

BINARY = ("application/grpc-web", "application/grpc-web+proto")
TEXT = ("application/grpc-web-text", "application/grpc-web-text+proto")
METADATA = frozenset({"authorization", "traceparent", "tracestate", "baggage"})
"""Headers that reach the service, besides those that begin with `OWN`; cookies and the like are nobody's business."""
OWN = "gearshift-"

_BODY_S: Final = 30.0
"""How long a call's message may take to arrive."""
_END_S: Final = 5.0
"""How long the last frame may wait for a browser that does not read."""
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def grpc_web_routes(calling: Calling, services: Iterable[str], most: int) -> list[web.RouteDef]:
    """Give the paths of services.

    Args:
        calling: calls them.
        services: their full names.
        most: the longest message that is taken, bytes.
    """
    served = GrpcWeb(calling, most)
    return [web.post(f"/{service}/{{method}}", served.answer) for service in services]


class GrpcWeb:
    """Answers gRPC-Web calls."""

    def __init__(self, calling: Calling, most: int) -> None:
        self._calling = calling
        self._most = most

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        said = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        is_text = said in TEXT
        if not is_text and said not in BINARY:
            return web.Response(status=415, text=f"this path takes {BINARY[1]} and {TEXT[1]}\n")
        sender = _Sender(request, said, is_text=is_text)
        outcome = await self._outcome(request, sender, is_text=is_text)
        return await sender.end(outcome)

    async def _outcome(self, request: web.Request, sender: _Sender, *, is_text: bool) -> Outcome:
        began = asyncio.get_running_loop().time()
        try:
            metadata, seconds = _metadata(request)
        except ValueError as error:
            return refused(invalid(str(error), "cannot be read"))
        try:
            with self._calling.within(_BODY_S if seconds is None else min(seconds, _BODY_S)):
                body = await _body(request, longest_body(self._most, text=is_text))
            message = message_of(body, self._most, text=is_text)
        except TooLongError:
            told = f"the message is longer than server.max_message_bytes ({self._most})"
            return Outcome(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], told)
        except CompressedError:
            return Outcome(grpc.StatusCode.UNIMPLEMENTED.value[0], "compressed messages are not read")
        except FrameError as error:
            return refused(invalid("body", str(error)))
        except TimeoutError:
            return ended(DEADLINE)
        del body
        ends_at = None if seconds is None else began + seconds
        return await self._calling.call(request.path, message, metadata, peer_of(request), ends_at, sender)


class _Sender:
    """Sends one call's answer."""

    __slots__ = ("_is_text", "_request", "_response", "_said")

    def __init__(self, request: web.Request, said: str, *, is_text: bool) -> None:
        self._request = request
        self._said = said
        self._is_text = is_text
        self._response: web.StreamResponse | None = None

    async def start(self) -> None:
        await (await self._begun()).write(b"")

    async def send(self, message: bytes) -> None:
        response = self._response or await self._begun()
        await response.write(self._packed(framed(message)))

    async def end(self, outcome: Outcome) -> web.StreamResponse:
        """Send how the call ended."""
        last = trailer(outcome.code, outcome.text, outcome.trailers)
        response = self._response
        if response is None:
            message = outcome.message
            body = self._packed(last if message is None else framed(message) + last)
            return web.Response(body=body, headers={"Content-Type": self._said, **_HEADERS})
        with anyio.move_on_after(_END_S) as waiting:
            try:
                await response.write_eof(self._packed(last))
            except ConnectionError:
                raise asyncio.CancelledError from None
        transport = self._request.transport
        if waiting.cancelled_caught and transport is not None:
            transport.abort()
        return response

    async def _begun(self) -> web.StreamResponse:
        response = self._response = web.StreamResponse(headers={"Content-Type": self._said, **_HEADERS})
        keep_little_unsent(self._request)
        await response.prepare(self._request)
        return response

    def _packed(self, frames: bytes) -> bytes:
        return base64.b64encode(frames) if self._is_text else frames


async def _body(request: web.Request, most: int) -> bytearray:
    """Read a body, bounded.

    Raises:
        TooLongError: it is longer than `most` bytes.
    """
    said = request.content_length
    if said is not None and said > most:
        raise TooLongError
    body = bytearray()
    while chunk := await request.content.readany():
        body += chunk
        if len(body) > most:
            raise TooLongError
    return body


def _metadata(request: web.Request) -> tuple[Metadata, float | None]:
    """Give what goes with a call, and its seconds.

    Raises:
        ValueError: naming the header that cannot be read.
    """
    found: list[tuple[str, str | bytes]] = []
    seconds: float | None = None
    for written, value in request.headers.items():
        name = written.lower()
        try:
            if name == "grpc-timeout":
                seconds = seconds_of(value)
            elif (name in METADATA or name.startswith(OWN)) and value.isascii():
                found.append((name, bytes_of(value) if name.endswith("-bin") else value))
        except ValueError:
            raise ValueError(name) from None
    return found, seconds
