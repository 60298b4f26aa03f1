"""The one HTTP/1.1 client of all provider adapters: open a call, read what comes, close.

Rules: nothing else imports aiohttp. Only its connector (pool, names, TLS) and its parser are used; its session, with
redirects, cookies, proxies of the environment and a task for each body, costs three times as much CPU and is left out.
Whatever goes wrong is a `ProviderFailure`; nothing is ever sent twice, since retries belong to the engine: a pooled
connection that the server closes under a request is CONNECTION like any other. A response that was read to its end gives
its connection back to the pool; `close` drops it at once. Time is kept by one timer a response, which fails the waiting
read with an ordinary exception and cancels nothing.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from functools import lru_cache, partial
from http import HTTPStatus
from typing import cast

from aiohttp import (
    ClientConnectionError,
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientError,
    ClientPayloadError,
    ClientRequest,
    ClientTimeout,
    StreamReader,
    TCPConnector,
    UnixConnector,
)
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import BaseConnector, Connection
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError
from yarl import URL

from gearshift.core.failures import ProviderFailure
from gearshift.core.provider import Timeouts
from gearshift.core.words import FailureKind

READ_ALL_LIMIT = 64 * 1024 * 1024
"""Longest body that `read_all` takes unless told otherwise, bytes."""

_KEEP_ALIVE_S = 30.0
"""How long a connection may lie unused: under the 60 s and more after which hosted providers close theirs."""

_ONE_WRITE = 64 * 1024
"""A body up to this size, bytes, goes out in one write with its head; a longer one is not copied for that."""

_LINGER_S = 1.0
"""How long a finished response may take to end its body before its connection is dropped."""

_HEADS = 64
"""Most heads that are kept for a URL."""

_TARGETS = 512
"""Most URLs whose parsed form is kept."""

_UNIX = re.compile(r"unix://(?P<socket>/.+?\.sock)(?P<path>/.*)?")


class Http:
    """Connections to providers, pooled by origin. Tasks of one event loop share it.

    Args:
        connections: most connections open at once, over all origins (a Unix socket counts by itself); one more call
            waits for a place, up to its `connect_s`.
        tls: whom to trust; None trusts the system's authorities.
    """

    def __init__(self, *, connections: int = 256, tls: ssl.SSLContext | None = None) -> None:
        self._connections = connections
        self._tls = tls
        self._connectors: dict[str, BaseConnector] = {}
        self._targets: dict[str, _Target] = {}
        self._used: set[HttpResponse] = set()
        self._closed = False

    async def open(
        self,
        *,
        method: str = "POST",
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeouts: Timeouts,
        stream: bool,
    ) -> HttpResponse:
        """Send a request and wait for the head of its response, whatever its status.

        Args:
            method: in capitals.
            url: `http`, `https`, or `unix:///dir/name.sock/path`, whose socket ends with the first name in `.sock`.
            headers: names in lower case. Host, content length, accepted encodings and user agent are added here, and
                `content-type: application/json` when there is a body and no other type.
            body: sent as it is.
            timeouts: a stream is timed by `first_token_s` until the first `progress`, then by `idle_s`; a unary call
                by `total_s` alone. Connecting is timed by `connect_s`, pool, names and TLS included.
            stream: whether tokens come one by one.

        Raises:
            ProviderFailure: CONNECT_TIMEOUT, CONNECTION, MALFORMED or a timeout.
        """
        if self._closed:
            raise ProviderFailure(FailureKind.CONNECTION, "the HTTP client is closed", sent=False)
        target = self._targets.get(url) or self._target(url)
        loop = target.loop
        started = loop.time()
        head = _head(method, target, headers, len(body), stream=stream)
        try:
            connection = await target.connector.connect(
                target.request, traces=[], timeout=_connect_timeout(timeouts.connect_s)
            )
        except TimeoutError as error:
            raise ProviderFailure(
                FailureKind.CONNECT_TIMEOUT, f"no connection within {timeouts.connect_s:g} s", sent=False
            ) from error
        except (ClientError, OSError) as error:
            unsent = _failure(error)
            unsent.sent = False
            raise unsent from error
        response = HttpResponse(loop, connection, timeouts, self._used, started=started, stream=stream)
        try:
            await response._start(head, body)  # pyright: ignore[reportPrivateUsage] # one noun, two classes
        except BaseException:
            response.close()
            raise
        return response

    async def aclose(self) -> None:
        """Drop every connection; twice is fine."""
        self._closed = True
        for response in tuple(self._used):
            response._drop()  # pyright: ignore[reportPrivateUsage] # also one that was finished and waits for its end
        connectors = list(self._connectors.values())
        self._connectors.clear()
        self._targets.clear()
        for connector in connectors:
            await connector.close()

    def statistics(self) -> Mapping[str, int]:
        """Give the number of connections that a call holds (`used`) and of origins' pools (`pools`)."""
        return {"used": len(self._used), "pools": len(self._connectors)}

    def _target(self, url: str) -> _Target:
        """Parse and keep a URL; adapters use a handful of them."""
        socket = ""
        if match := _UNIX.fullmatch(url):
            socket = match["socket"]
            parsed = URL(f"http://localhost{match['path'] or '/'}")
        else:
            parsed = URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.raw_host:
            raise ProviderFailure(
                FailureKind.INVALID_REQUEST, "the configured base URL is neither http(s) nor unix:///….sock"
            )
        connector = self._connectors.get(socket)
        if connector is None:
            connector = self._connectors[socket] = self._connector(socket)
        if len(self._targets) >= _TARGETS:
            self._targets.clear()
        target = self._targets[url] = _Target(parsed, connector)
        return target

    def _connector(self, socket: str) -> BaseConnector:
        if socket:
            connector: BaseConnector = UnixConnector(socket, limit=self._connections, keepalive_timeout=_KEEP_ALIVE_S)
        else:
            connector = TCPConnector(limit=self._connections, keepalive_timeout=_KEEP_ALIVE_S, ssl=self._tls or True)
        # aiohttp has no public way to give it another handler; a test sees it when this one is not used.
        factory = partial(_Handler, loop=asyncio.get_running_loop())
        connector._factory = cast("partial[ResponseHandler]", factory)  # pyright: ignore[reportPrivateUsage]
        return connector


class _Handler(ResponseHandler):
    """aiohttp's handler, but for one thing: nonsense in the middle of a body reaches its reader, who else waits on."""

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Fail whoever waits for the head, and whoever waits for the body."""
        if exc_cause is None:
            super().set_exception(exc)
        else:
            super().set_exception(exc, exc_cause)
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(exc)


class HttpResponse:
    """A response whose head has come. One task at a time reads it.

    Whoever opened it closes it in `finally`, always; that is nothing when it was read to its end.
    """

    __slots__ = (
        "_connection",
        "_content",
        "_due",
        "_failure",
        "_finished",
        "_loop",
        "_phase",
        "_progressed",
        "_protocol",
        "_reading",
        "_timeouts",
        "_timer",
        "_total_due",
        "_used",
        "headers",
        "status",
    )

    status: int
    headers: Mapping[str, str]
    """Looked up without regard to case."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: Connection,
        timeouts: Timeouts,
        used: set[HttpResponse],
        *,
        started: float,
        stream: bool,
    ) -> None:
        protocol = connection.protocol
        assert protocol is not None  # a connection has one until it is released
        self.status = 0
        self.headers = {}
        self._loop = loop
        self._connection = connection
        self._protocol: ResponseHandler = protocol
        self._content: StreamReader | None = None
        self._timeouts = timeouts
        self._used = used
        used.add(self)
        self._failure: ProviderFailure | None = None
        self._finished = False
        self._progressed = False
        self._reading = True
        self._phase = FailureKind.FIRST_TOKEN_TIMEOUT if stream else FailureKind.TOTAL_TIMEOUT
        self._total_due = started + timeouts.total_s
        self._due = min(started + timeouts.first_token_s, self._total_due) if stream else self._total_due
        self._timer: asyncio.TimerHandle | None = loop.call_at(self._due, self._watch)

    def progress(self) -> None:
        """Note that a token came: from now on `idle_s` is the longest silence.

        Call it between two reads. Comments, pings and empty frames are no tokens.
        """
        self._progressed = True

    async def read(self) -> bytes:
        """Give what one read of the connection brought, one byte or more; b"" is the clean end.

        Raises:
            ProviderFailure: the connection broke (CONNECTION), its framing was wrong (MALFORMED), or time ran out.
        """
        if self._failure is not None:
            raise self._failure
        content = self._content
        if content is None:
            raise ProviderFailure(FailureKind.CONNECTION, "the response is closed")
        if self._progressed:
            self._extend()
        self._reading = True
        try:
            data = await content.readany()
        except (ClientError, HttpProcessingError, OSError) as error:
            raise self._failure or _failure(error) from error
        finally:
            self._reading = False
        return data

    async def read_all(self, limit: int = READ_ALL_LIMIT) -> bytes:
        """Give the rest of the body.

        Args:
            limit: longest that it may be, bytes after decompression.

        Raises:
            ProviderFailure: as `read`; MALFORMED when it is longer.
        """
        first = await self.read()
        content = self._content
        if len(first) <= limit and content is not None and content.at_eof():
            return first  # most answers come in one piece
        pieces, size = [first], len(first)
        if size > limit:
            self.close()
            raise ProviderFailure(FailureKind.MALFORMED, f"the answer is longer than {limit} bytes")
        while data := await self.read():
            pieces.append(data)
            size += len(data)
            if size > limit:
                self.close()
                raise ProviderFailure(FailureKind.MALFORMED, f"the answer is longer than {limit} bytes")
        return b"".join(pieces)

    def finish(self) -> None:
        """Say that the answer is complete, though the body's end may still be under way; instead of `close`.

        The connection is kept for the next call if that end comes within 1 s, which nobody waits for.
        """
        if self._connection.closed or self._content is None:
            return
        self._stop_timer()
        self._finished = True
        self._timer = self._loop.call_later(_LINGER_S, self._drop)

    def close(self) -> None:
        """Drop the connection unless the response was read to its end or finished; twice is fine.

        The upstream sees it at once: what was not yet sent is thrown away.
        """
        if not self._finished:
            self._drop()

    def _drop(self) -> None:
        self._stop_timer()
        self._used.discard(self)
        if self._reading:  # closed by another task, or out of time
            self._wake()
        self._content = None
        transport = self._protocol.transport
        if not self._connection.closed and transport is not None:
            transport.abort()
        self._connection.close()

    async def _start(self, head: bytes, body: bytes) -> None:
        """Send the request and read the response's head."""
        protocol = self._protocol
        transport = protocol.transport
        protocol.set_response_params(read_until_eof=True, auto_decompress=True)
        if transport is None:
            raise ProviderFailure(
                FailureKind.CONNECTION, "the connection was closed before the request was sent", sent=False
            )
        if len(body) <= _ONE_WRITE:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        try:
            message, content = await protocol.read()
            while message.code < HTTPStatus.OK:  # 100 Continue, 103 Early Hints
                message, content = await protocol.read()
        except (ClientError, HttpProcessingError, OSError) as error:
            raise self._failure or _failure(error) from error
        finally:
            self._reading = False
        self._receive(message, content)

    def _receive(self, message: RawResponseMessage, content: StreamReader) -> None:
        self.status = message.code
        self.headers = message.headers
        self._content = content
        content.on_eof(self._end)

    def _end(self) -> None:
        """Give the connection back: the whole body has come, though it may not have been read yet."""
        self._stop_timer()
        self._used.discard(self)
        transport = self._protocol.transport
        if transport is not None and transport.get_write_buffer_size():
            # Answered before the request was sent whole: the rest of it must not meet the next request.
            transport.abort()
            self._connection.close()
        else:
            self._connection.release()

    def _extend(self) -> None:
        """Count the silence from now: what the consumer took between two reads is not the provider's."""
        self._progressed = False
        self._due = min(self._loop.time() + self._timeouts.idle_s, self._total_due)
        if self._phase is FailureKind.FIRST_TOKEN_TIMEOUT:
            self._phase = FailureKind.IDLE_TIMEOUT
            if self._timer is not None and self._due < self._timer.when():
                self._timer.cancel()
                self._timer = self._loop.call_at(self._due, self._watch)

    def _watch(self) -> None:
        """Fail the waiting read when its time is up, or look again later: progress alone does not touch the timer."""
        now = self._loop.time()
        kind = FailureKind.TOTAL_TIMEOUT if self._due >= self._total_due else self._phase
        if now < self._due:
            self._timer = self._loop.call_at(self._due, self._watch)
        elif not self._reading and now < self._total_due:
            # Nobody waits, so the silence is the consumer's.
            self._timer = self._loop.call_at(min(now + self._timeouts.idle_s, self._total_due), self._watch)
        else:
            self._expire(kind)

    def _expire(self, kind: FailureKind) -> None:
        self._timer = None
        seconds = {
            FailureKind.FIRST_TOKEN_TIMEOUT: self._timeouts.first_token_s,
            FailureKind.IDLE_TIMEOUT: self._timeouts.idle_s,
            FailureKind.TOTAL_TIMEOUT: self._timeouts.total_s,
        }[kind]
        self._failure = ProviderFailure(kind, f"{_WAITED[kind]} within {seconds:g} s")
        self._drop()

    def _wake(self) -> None:
        """Fail the waiting read: with an error of aiohttp's own kind, for which `read` gives the failure."""
        error = ClientConnectionError()
        if self._content is None:
            self._protocol.set_exception(error)
        else:
            self._content.set_exception(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@lru_cache(maxsize=64)  # a stage's time to connect rarely changes, and aiohttp checks each one that is made
def _connect_timeout(seconds: float) -> ClientTimeout:
    return ClientTimeout(total=None, connect=seconds)


class _Target:
    """A URL, parsed once: where it leads, and what aiohttp's connector wants to know about it."""

    __slots__ = ("connector", "heads", "host", "loop", "path", "request")

    def __init__(self, url: URL, connector: BaseConnector) -> None:
        self.connector = connector
        self.loop = asyncio.get_running_loop()
        self.heads: dict[tuple[object, ...], bytes] = {}
        """Heads without their last line, the length of the body, by what else they say."""
        self.path = url.raw_path_qs
        self.request = ClientRequest("GET", url, loop=self.loop)
        host = url.host_subcomponent or ""
        self.host = host if url.is_default_port() else f"{host}:{url.port}"


_WAITED: Mapping[FailureKind, str] = {
    FailureKind.FIRST_TOKEN_TIMEOUT: "no token came",
    FailureKind.IDLE_TIMEOUT: "no further token came",
    FailureKind.TOTAL_TIMEOUT: "the answer was not complete",
}

# Which of our kinds a foreign error is; the first that fits counts.
_KINDS: tuple[tuple[type[BaseException], FailureKind, str], ...] = (
    (ClientConnectorCertificateError, FailureKind.CONNECTION, "the server's certificate is not trusted"),
    (ClientConnectorSSLError, FailureKind.CONNECTION, "the TLS handshake failed"),
    (ClientConnectorDNSError, FailureKind.CONNECTION, "the server's name could not be resolved"),
    (ClientConnectorError, FailureKind.CONNECTION, "the server could not be reached"),
    (ContentEncodingError, FailureKind.MALFORMED, "the response's compression is wrong"),
    (HttpProcessingError, FailureKind.MALFORMED, "the response is not HTTP"),
    (ClientPayloadError, FailureKind.CONNECTION, "the connection was closed in the middle of the response"),
    (ClientError, FailureKind.CONNECTION, "the connection was closed before the response"),
    (OSError, FailureKind.CONNECTION, "the connection failed"),
)


def _failure(error: BaseException) -> ProviderFailure:
    """Give ours for a foreign error, by the table."""
    if isinstance(error, ClientPayloadError) and isinstance(error.__cause__, ContentEncodingError):
        error = error.__cause__
    for kind, ours, detail in _KINDS:
        if isinstance(error, kind):
            return ProviderFailure(ours, detail)
    raise AssertionError(f"{type(error).__name__} is not in the table")


def _head(method: str, target: _Target, headers: Mapping[str, str], length: int, *, stream: bool) -> bytes:
    """Give the request's head.

    Raises:
        ProviderFailure: INVALID_REQUEST, when a configured header would break out of its line.
    """
    # Accounts send the same headers with every call.
    said = (method, stream, length > 0, *headers.items())
    beginning = target.heads.get(said)
    if beginning is None:
        if len(target.heads) >= _HEADS:
            target.heads.clear()
        beginning = target.heads[said] = _beginning(method, target, headers, has_body=length > 0, stream=stream)
    return b"%bcontent-length: %d\r\n\r\n" % (beginning, length)


def _beginning(method: str, target: _Target, headers: Mapping[str, str], *, has_body: bool, stream: bool) -> bytes:
    lines = [
        f"{method} {target.path} HTTP/1.1",
        f"host: {target.host}",
        "user-agent: gearshift",
        # A compressed stream would come in blocks instead of tokens.
        "accept-encoding: identity" if stream else "accept-encoding: gzip, deflate",
    ]
    lines.extend([f"{name}: {value}" for name, value in headers.items()])
    if has_body and "content-type" not in headers:
        lines.append("content-type: application/json")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
        raise ProviderFailure(FailureKind.INVALID_REQUEST, "a configured header holds a line break", sent=False)
    try:
        return (text + "\r\n").encode("latin-1")
    except UnicodeEncodeError as error:
        raise ProviderFailure(
            FailureKind.INVALID_REQUEST, "a configured header holds a character that it must not", sent=False
        ) from error
