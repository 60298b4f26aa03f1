"""One connection: what goes out, what comes in, and its one timer.

Rules: one response at a time. A connection is used again only when the parser said that the message is complete and that
the server keeps the connection, nothing came after it, and the request had gone out whole. The parser's calls for headers
and body go to methods of dict and list, not to Python. Reading pauses while a response holds more than its reader has
taken. The timer is never moved to a later time: it looks what time it is for when it goes off, so that a connection that is
used all the time arms it once in half a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING, cast

import httptools

from gearshift.core.failures import ProviderFailure
from gearshift.core.http._failures import cut_off, head_too_long, not_http

if TYPE_CHECKING:
    from gearshift.core.http._pool import Origin
    from gearshift.core.http._response import HttpResponse

UNREAD_LIMIT = 64 * 1024
"""A connection with more unread than this, bytes, reads no more from its socket."""

HEAD_LIMIT = 16 * 1024
"""Most of a head, or of framing that brings nothing, that is taken, bytes: as Node's http."""

KEEP_ALIVE_S = 30.0
"""How long a connection may lie unused: under the 60 s and more after which hosted providers close theirs."""

_ONE_WRITE = 64 * 1024
"""A body up to this size, bytes, goes out in one write with its head; a longer one is not copied for that."""

_NOT_HTTP = (httptools.HttpParserError, httptools.HttpParserUpgrade)


class Connection(asyncio.Protocol):
    """A connection to an origin; `response` is what it is used for."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.response: HttpResponse | None = None
        self.due = inf
        """When its time is up: the response's, or its own while it lies unused."""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed = inf
        self._is_paused = False
        # Of the message that is being parsed:
        self._fields: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._has_head = False
        self._is_complete = False
        self._is_kept = False
        self._is_interim = False
        self._has_more = False
        self._barren = 0
        parsed = _Parsed(self._fields, self._pieces)
        parsed.on_message_begin = self._message_begun
        parsed.on_headers_complete = self._head_ended
        parsed.on_message_complete = self._message_ended
        parser = httptools.HttpResponseParser(parsed)
        # Line feeds alone, folded headers and blanks after a chunk's size are wrong, but no less clear.
        parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._parser: httptools.HttpResponseParser | None = parser
        self._feed: Callable[[bytes], object] = parser.feed_data

    @property
    def is_usable(self) -> bool:
        """Whether the next request may be sent."""
        transport = self._transport
        return transport is not None and not transport.is_closing()

    # For whoever uses it

    def send(self, response: HttpResponse, head: bytes, body: bytes, due: float, more: bytes = b"") -> None:
        """Send a request, whose response gets what comes; `more` are header lines, each with its end."""
        transport = self._transport
        assert transport is not None  # the pool gives no other
        self.response = response
        self._has_head = self._is_complete = False
        self._barren = 0
        self.due = due
        if due < self._armed:
            self._arm()
        if len(body) <= _ONE_WRITE:
            transport.write(b"%b%d\r\n%b\r\n%b" % (head, len(body), more, body))
        else:
            transport.write(b"%b%d\r\n%b\r\n" % (head, len(body), more))
            transport.write(body)

    def set_due(self, due: float) -> None:
        """Put the time off or bring it forward."""
        self.due = due
        if due < self._armed:
            self._arm()

    def resume(self) -> None:
        """Read on after a pause."""
        if self._is_paused:
            self._is_paused = False
            if self._transport is not None:
                self._transport.resume_reading()

    def drop(self) -> None:
        """Close at once, and throw away what was not sent; twice is fine."""
        self.response = None
        transport = self._transport
        if transport is not None:
            self._transport = None
            transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._parser = None  # it holds on to this connection
        self._feed = _refuse
        self.origin.pool.forget(self)

    def shut(self, failure: ProviderFailure) -> None:
        """Close at once; whoever reads gets this failure."""
        response = self.response
        self.drop()
        if response is not None:
            response.broke(failure)

    # For the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came and pass it on."""
        response = self.response
        if response is None:  # the server speaks without being asked
            self.drop()
            return
        failure = None
        self._barren += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError:
            failure = head_too_long(HEAD_LIMIT)
        except _NOT_HTTP:
            self._has_more = True
            failure = not_http()
        pieces = self._pieces
        if pieces:
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._barren = 0
            response.unread.append(piece)
            response.unread_bytes += len(piece)
        if self._is_complete:
            self._give_back(response)
        elif failure is not None:
            self.shut(failure)
        elif self._barren > HEAD_LIMIT:
            self.shut(head_too_long(HEAD_LIMIT))
        elif self._has_head:
            if response.unread_bytes > UNREAD_LIMIT and response.must_pause():
                self._is_paused = True
                if self._transport is not None:
                    self._transport.pause_reading()
            response.came()

    def eof_received(self) -> None:
        """End with the server: a connection that is closed on one side is of no more use."""
        self._lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._lost(exc)
        self.origin.pool.lost(self)

    # For the parser

    def _message_begun(self) -> None:
        if self._is_complete:
            self._has_more = True
            raise ValueError  # which stops the parser: what follows is nobody's

    def _head_ended(self) -> None:
        response, parser, fields = self.response, self._parser, self._fields
        if self._is_complete or response is None or parser is None:
            return
        if self._barren > HEAD_LIMIT and sum(map(len, fields)) + sum(map(len, fields.values())) > HEAD_LIMIT:
            raise ValueError  # which stops the parser
        status = parser.get_status_code()
        if status < HTTPStatus.OK:  # 100 Continue, 103 Early Hints
            self._is_interim = True
            fields.clear()
            return
        self._has_head = True
        response.began(status, {name.lower(): value for name, value in fields.items()})
        fields.clear()

    def _message_ended(self) -> None:
        if self._is_interim:
            self._is_interim = False
        elif not self._is_complete and self._parser is not None:
            self._is_complete = True
            self._is_kept = self._parser.should_keep_alive()

    # Ends

    def _give_back(self, response: HttpResponse) -> None:
        """Part from a response that has come whole."""
        self.response = None
        transport = self._transport
        if not self._is_kept or self._has_more or transport is None or transport.get_write_buffer_size():
            # With some of the request unsent, the rest of it would meet the next one.
            self.drop()
        else:
            if self._is_paused:
                self.resume()
            if self._fields:  # trailers
                self._fields.clear()
            self.set_due(self._loop.time() + KEEP_ALIVE_S)
            self.origin.pool.release(self)
        response.ended()

    def _lost(self, exc: Exception | None) -> None:
        response, has_head = self.response, self._has_head
        self.drop()
        if response is None:
            return
        if exc is None and has_head and response.ends_with_connection:
            response.ended()
        else:
            response.broke(cut_off(has_head=has_head))

    # Time

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = self.due
        self._timer = self._loop.call_at(self.due, self._look)

    def _look(self) -> None:
        """See whether the time is up, or look again later."""
        self._timer = None
        self._armed = inf
        now = self._loop.time()
        if now >= self.due:
            response = self.response
            if response is None:
                self.drop()
                return
            if (failure := response.overdue(now)) is not None:
                self.shut(failure)
                return
        self._arm()


class _Parsed:
    """Where the parser puts what it finds."""

    def __init__(self, fields: dict[bytes, bytes], pieces: list[bytes]) -> None:
        self.on_header = fields.__setitem__
        self.on_body = pieces.append
        self.on_message_begin = _nothing
        self.on_headers_complete = _nothing
        self.on_message_complete = _nothing


def _nothing() -> None:
    return


def _refuse(_: bytes) -> None:
    return
