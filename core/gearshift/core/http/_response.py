"""A response: its head, its body as it comes, and how long that may take.

Rules: what has come is given before the failure that followed it, but for a failure of time or a close, which are at once.
A read makes a future only when nothing is there yet. The silence that counts is the provider's: what the consumer takes
between two reads is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from gearshift.core.failures import ProviderFailure
from gearshift.core.http._connection import Connection
from gearshift.core.http._failures import too_long
from gearshift.core.http._unpacking import Unpacker
from gearshift.core.provider import Timeouts
from gearshift.core.words import FailureKind

READ_ALL_LIMIT = 64 * 1024 * 1024
"""Longest body that `read_all` takes unless told otherwise, bytes."""

LINGER_S = 1.0
"""How long a finished response may take to end its body before its connection is dropped."""


class Woken(Exception):  # nothing went wrong
    """Raised by `HttpResponse.read` when `wake` was called: nothing has come and nothing is lost; read again."""


class HttpResponse:
    """A response whose head has come. One task at a time reads it.

    Whoever opened it closes it in `finally`, always; that is nothing when its body has come whole.
    """

    # What most responses never change stands here, so that making one sets little.
    status: int = 0
    unread_bytes: int = 0
    _fields: Mapping[bytes, bytes] = {}
    _failure: ProviderFailure | None = None
    _is_ended = False
    _is_finished = False
    _is_woken = False
    _progressed = False
    _phase = FailureKind.FIRST_TOKEN_TIMEOUT
    _unpacker: Unpacker | None = None
    _waiter: asyncio.Future[None] | None
    opening: asyncio.Future[None]

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: Connection,
        timeouts: Timeouts,
        started: float,
        *,
        stream: bool,
    ) -> None:
        self.unread: list[bytes] = []
        self._loop = loop
        self._connection: Connection | None = connection
        self._timeouts = timeouts
        self._stream = stream
        self._is_opening = True
        self._waiter = self.opening = loop.create_future()
        """Done when the head has come, and the whole of a unary answer unless it is long; or when nothing more will."""
        self._total_due = started + timeouts.total_s

    @property
    def headers(self) -> Mapping[str, str]:
        """The head's fields, looked up without regard to case; of one that came twice, the last."""
        return _Headers(self._fields)

    @property
    def content_type(self) -> str:
        """What the body says that it is; empty when it does not say."""
        return self._fields.get(b"content-type", b"").decode("latin-1")

    # For its reader

    def progress(self) -> None:
        """Note that a token came: from now on `idle_s` is the longest silence.

        Call it between two reads. Comments, pings and empty frames are no tokens.
        """
        self._progressed = True

    async def read(self) -> bytes:
        """Give what has come since the last read, one byte or more; b"" is the clean end.

        Raises:
            ProviderFailure: the connection broke (CONNECTION), its framing was wrong (MALFORMED), or time ran out.
            Woken: `wake` was called.
        """
        if self._progressed:
            self._extend()
        unpacker = self._unpacker
        while True:
            if self._is_woken:
                self._is_woken = False
                raise Woken
            if unpacker is not None:
                try:
                    if data := self._unpacked(unpacker):
                        return data
                except ProviderFailure:
                    self.close()
                    raise
            elif self.unread:
                return self._take()
            if self._is_ended:
                return b""
            if self._failure is not None:
                raise self._failure
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None

    async def read_all(self, limit: int = READ_ALL_LIMIT) -> bytes:
        """Give the rest of the body.

        Args:
            limit: longest that it may be, bytes after decompression.

        Raises:
            ProviderFailure: as `read`; MALFORMED when it is longer.
        """
        if self._is_ended and self._unpacker is None and self.unread_bytes <= limit:  # most answers
            return self._take()
        pieces: list[bytes] = []
        size = 0
        while data := await self.read():
            pieces.append(data)
            size += len(data)
            if size > limit:
                self.close()
                raise too_long(limit)
        return b"".join(pieces)

    def wake(self) -> None:
        """Have the waiting read raise `Woken`, or the next one where none waits. No task is cancelled."""
        if self._is_opening or self._failure is not None:
            return
        waiter = self._waiter
        if waiter is None:
            self._is_woken = True
        elif not waiter.done():  # else something has just come
            waiter.set_exception(Woken())

    def finish(self) -> None:
        """Say that the answer is complete, though the body's end may still be under way; instead of `close`.

        The connection is kept for the next call if that end comes within 1 s, which nobody waits for.
        """
        connection = self._connection
        if connection is not None:
            self._is_finished = True
            self._discard()
            connection.set_due(self._loop.time() + LINGER_S)
            connection.resume()

    def close(self) -> None:
        """Drop the connection unless the response has come whole or was finished; twice is fine.

        The upstream sees it at once: what was not yet sent is thrown away.
        """
        connection = self._connection
        if connection is not None and not self._is_finished:
            connection.shut(ProviderFailure(FailureKind.CONNECTION, "the response is closed"))
            self._discard()

    def opened(self) -> None:
        """End the opening.

        Raises:
            ProviderFailure: no head came.
        """
        self._waiter = None
        self._is_opening = False
        if not self.status and self._failure is not None:
            raise self._failure

    # For its connection

    @property
    def ends_with_connection(self) -> bool:
        """Whether the head gave no other end."""
        fields = self._fields
        encoding = fields.get(b"transfer-encoding", b"").strip().lower()
        return b"content-length" not in fields and not encoding.endswith(b"chunked")

    def began(self, status: int, fields: Mapping[bytes, bytes]) -> None:
        """Take the head; names are in lower case."""
        self.status = status
        self._fields = fields
        if b"content-encoding" in fields:
            encoding = fields[b"content-encoding"].strip().lower()
            if encoding not in (b"", b"identity"):
                self._unpacker = Unpacker(encoding)

    def must_pause(self) -> bool:
        """Tell whether no more can be taken now."""
        if self._is_finished:
            self._discard()
            return False
        self._is_opening = False  # a long answer is read as it comes
        return True

    def came(self) -> None:
        """Wake the reader: something has come, be it the head alone."""
        waiter = self._waiter
        if waiter is not None and not waiter.done() and (self._stream or not self._is_opening):
            waiter.set_result(None)

    def ended(self) -> None:
        """Note that everything has come; the connection is another's from now on."""
        self._connection = None
        self._is_ended = True
        if (waiter := self._waiter) is not None and not waiter.done():
            waiter.set_result(None)

    def broke(self, failure: ProviderFailure) -> None:
        """Note that no more will come."""
        self._connection = None
        self._failure = failure
        if (waiter := self._waiter) is not None and not waiter.done():
            waiter.set_result(None)

    def overdue(self, now: float) -> ProviderFailure | None:
        """Give the failure of a response whose time was up; None when it has got more time."""
        connection = self._connection
        if connection is None:
            return None
        timeouts, due = self._timeouts, self._total_due
        if now >= due:
            kind, seconds = FailureKind.TOTAL_TIMEOUT, timeouts.total_s
        elif self._is_finished:
            kind, seconds = FailureKind.IDLE_TIMEOUT, LINGER_S
        elif self._waiter is None or self._waiter.done():  # nobody waits, so the silence is the consumer's
            connection.due = min(now + timeouts.idle_s, due)
            return None
        elif (kind := self._phase) is FailureKind.FIRST_TOKEN_TIMEOUT:
            seconds = timeouts.first_token_s
        else:
            seconds = timeouts.idle_s
        self._discard()
        return ProviderFailure(kind, f"{_WAITED[kind]} within {seconds:g} s")

    def _extend(self) -> None:
        """Count the silence from now."""
        self._progressed = False
        self._phase = FailureKind.IDLE_TIMEOUT
        if self._connection is not None:
            self._connection.set_due(min(self._loop.time() + self._timeouts.idle_s, self._total_due))

    def _take(self) -> bytes:
        unread = self.unread
        data = unread[0] if len(unread) == 1 else b"".join(unread)
        self._discard()
        if self._connection is not None:
            self._connection.resume()
        return data

    def _unpacked(self, unpacker: Unpacker) -> bytes:
        data = unpacker.unpack()
        while not data and self.unread:
            unpacker.feed(self._take())
            data = unpacker.unpack()
        if not data and self._is_ended:
            unpacker.end()
        return data

    def _discard(self) -> None:
        self.unread.clear()
        self.unread_bytes = 0


class _Headers(Mapping[str, str]):
    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower().encode("latin-1")].decode("latin-1").strip()

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._fields)

    def __len__(self) -> int:
        return len(self._fields)


_WAITED: Mapping[FailureKind, str] = {
    FailureKind.FIRST_TOKEN_TIMEOUT: "no token came",
    FailureKind.IDLE_TIMEOUT: "no further token came",
    FailureKind.TOTAL_TIMEOUT: "the answer was not complete",
}
