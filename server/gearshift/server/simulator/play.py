"""Plays one reply on a connection, with the fault that it is to have.

Rules: one token after the other, as it would be generated; what is written is booked as it is written, so that a client
that leaves is billed what was generated until then. Nothing waits longer than the plan says, and every wait ends when
the client leaves. After a frame that no client can read nothing is generated for HICCUP_S, so that one that gives up is
not billed for more and one that reads on gets the rest; before a reset, SETTLE_S let the client read what it was sent.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from itertools import accumulate

from gearshift.core.catalogue.money import from_pico
from gearshift.core.catalogue.price import Rates
from gearshift.server.simulator.account import Entry
from gearshift.server.simulator.answers import Token
from gearshift.server.simulator.connection import Connection
from gearshift.server.simulator.draws import Draws
from gearshift.server.simulator.faults import STATUSES, Fault, FaultKind
from gearshift.server.simulator.plan import LatencyPlan
from gearshift.server.simulator.wire import UNREADABLE, Reply, Wire

HICCUP_S = 0.1
SETTLE_S = 0.02

_JSON = "application/json"
_PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>\n"
_REASONS = {529: "Overloaded"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where and how a reply is played.

    Args:
        fault: that applies; None plays it as it should be.
        draws: of this request, for jitter.
        write_bytes: cut writes into pieces of so many bytes; 0 does not.
    """

    connection: Connection
    wire: Wire
    entry: Entry
    fault: Fault | None
    latency: LatencyPlan
    rates: Rates
    draws: Draws
    tokens_per_frame: int = 1
    write_bytes: int = 0
    keep_alive: bool = True
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Play:
    """One reply on its way. `stream`, `whole` and `body` each play one; they tell whether the connection goes on."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._connection = stage.connection
        self._entry = stage.entry
        self._fault = stage.fault
        self._kind = stage.fault.kind if stage.fault is not None else None
        self._before = stage.connection.written
        self._began = self._last_write = time.monotonic()
        self._last_tokens = 0

    async def stream(self, reply: Reply) -> bool:
        """Play an answer as a stream."""
        if (ended := await self._instead()) is not None:
            return ended
        wire, tokens = self._stage.wire, reply.answer.tokens
        at = self._place(len(tokens))
        content_type = self._content_type(wire.stream_type)
        if not await self._head(200, content_type, "transfer-encoding: chunked"):
            return self._left()
        self._entry.input_tokens = reply.input_tokens
        for frame in wire.opening(reply):
            if not await self._frame(frame):
                return self._left()
        self._entry.output_tokens = min(wire.drawn(reply), len(tokens))
        frame = b""
        for start, end in _groups(len(tokens), at, self._stage.tokens_per_frame):
            if not await self._connection.wait(self._delay(start, at)):
                return self._left()
            if start == at and (ended := await self._strike(reply, frame)) is not None:
                return ended
            frame = wire.tokens(reply, tokens[start:end], start)
            self._entry.output_tokens = max(end, self._entry.output_tokens)
            if not await self._frame(frame):
                return self._left()
            if self._entry.first_token_ms is None:
                self._entry.first_token_ms = (self._last_write - self._began) * 1000
            self._last_tokens = end - start
            self._entry.tokens_written += self._last_tokens
        if at == len(tokens) and (ended := await self._strike(reply, frame)) is not None:
            return ended
        *most, last = wire.ending(reply, marked=self._kind is not FaultKind.NO_DONE) or [b""]
        for frame in most:
            if not await self._frame(frame):
                return self._left()
        if not await self._frame(last, final=True):
            return self._left()
        return self._done("complete")

    async def whole(self, reply: Reply) -> bool:
        """Play an answer in one body; it is written once it has been generated."""
        tokens = reply.answer.tokens
        if (ended := await self._instead()) is not None:
            return ended
        due = list(accumulate(self._delay(number, self._place(len(tokens))) for number in range(len(tokens))))
        started = time.monotonic()
        if due and not await self._connection.wait(due[-1]):
            self._entry.output_tokens = bisect_right(due, time.monotonic() - started)
            self._entry.input_tokens = reply.input_tokens if self._entry.output_tokens else 0
            return self._left()
        at = self._place(len(tokens))
        if self._kind is FaultKind.INVALID_UTF8:
            marked = (*tokens[:at], Token(UNREADABLE, 0.0, 0.0), *tokens[at:])
            reply = replace(reply, answer=replace(reply.answer, tokens=marked))
        self._entry.input_tokens = reply.input_tokens
        self._entry.output_tokens = len(tokens)
        goes_on = await self._body(self._stage.wire.whole(reply), at / (len(tokens) or 1))
        self._entry.tokens_written = len(tokens) if self._entry.end == "complete" else 0
        return goes_on

    async def vectors(self, body: bytes, input_tokens: int) -> bool:
        """Play vectors."""
        if (ended := await self._instead()) is not None:
            return ended
        if not await self._connection.wait(self._delay(0, 0)):
            return self._left()
        self._entry.input_tokens = input_tokens
        if self._kind is FaultKind.INVALID_UTF8:
            body = body[:1] + b"\xff\xfe" + body[1:]
        return await self._body(body, 0.5)

    # What comes instead of an answer

    async def _instead(self) -> bool | None:
        """Play a fault that leaves no answer; None when there is to be one."""
        fault, stage = self._fault, self._stage
        if fault is None:
            return None
        match fault.kind:
            case FaultKind.RESET:
                self._connection.reset()
                return self._done("fault", goes_on=False)
            case FaultKind.HANG:
                return None if await self._connection.wait(fault.seconds) else self._left()
            case FaultKind.EMPTY:
                return await self._page(200, b"", self._right_type())
            case FaultKind.HTML:
                return await self._page(200, _PAGE, "text/html; charset=utf-8")
            case FaultKind.ERROR_IN_STREAM if self._entry.form != "stream":
                return await self._page(200, stage.wire.error(fault.error_status), _JSON)
            case _ if fault.kind in STATUSES:
                extra = (f"retry-after: {fault.value}",) if fault.value else ()
                status = STATUSES[fault.kind]
                return await self._page(status, stage.wire.error(status), _JSON, *extra)
            case _:
                return None

    async def _page(self, status: int, body: bytes, content_type: str, *extra: str) -> bool:
        """Give a whole response that is no answer."""
        if not await self._head(status, content_type, f"content-length: {len(body)}", *extra, body=body):
            return self._left()
        return self._done("fault")

    async def _body(self, body: bytes, share: float) -> bool:
        """Give a whole body, in which a fault comes after a share of it, and always before its end."""
        at = min(max(1, int(len(body) * share)), len(body) - 1)
        if self._kind is FaultKind.MALFORMED:
            body = body[:at]
        stops = self._kind in (FaultKind.CUT, FaultKind.CLOSE)
        first = body[:at] if stops or self._kind is FaultKind.STALL else body
        if not await self._head(200, self._content_type(_JSON), f"content-length: {len(body)}", body=first):
            return self._left()
        if stops:
            return await self._break()
        if self._kind is FaultKind.STALL:
            assert self._fault is not None
            if not await self._connection.wait(self._fault.seconds) or not await self._write(body[at:]):
                return self._left()
        unreadable = self._kind in (FaultKind.MALFORMED, FaultKind.INVALID_UTF8)
        return self._done("fault" if unreadable else "complete")

    # What comes within a stream

    async def _strike(self, reply: Reply, last: bytes) -> bool | None:
        """Play the fault at its place in a stream; None when the stream goes on."""
        fault, wire = self._fault, self._stage.wire
        assert fault is not None
        match fault.kind:
            case FaultKind.CUT | FaultKind.CLOSE:
                return await self._break()
            case FaultKind.ERROR_IN_STREAM:
                if not await self._frame(wire.error_frame(fault.error_status), final=True):
                    return self._left()
                return self._done("fault")
            case FaultKind.NO_END:
                return self._done("fault") if await self._frame(b"", final=True) else self._left()
            case FaultKind.STALL:
                return None if await self._connection.wait(fault.seconds) else self._left()
            case FaultKind.DUPLICATE:
                if last and not await self._frame(last):
                    return self._left()
                self._entry.tokens_written += self._last_tokens
                return None
            case FaultKind.MALFORMED:
                return await self._hiccup(wire.malformed_frame())
            case FaultKind.INVALID_UTF8:
                written = self._entry.output_tokens
                return await self._hiccup(wire.tokens(reply, (Token(UNREADABLE, 0.0, 0.0),), written))
            case _:
                return None

    async def _hiccup(self, frame: bytes) -> bool | None:
        if not await self._frame(frame) or not await self._connection.wait(HICCUP_S):
            return self._left()
        return None

    async def _break(self) -> bool:
        """Break off, by a reset or in order."""
        if not await self._connection.wait(SETTLE_S):
            return self._left()
        self._entry.bytes_unacknowledged = await self._connection.flush()
        if self._kind is FaultKind.CUT:
            self._connection.reset()
        else:
            self._connection.close()
        return self._done("fault", goes_on=False)

    # How long, and where

    def _delay(self, number: int, at: int) -> float:
        """Give the seconds before a token."""
        if self._kind is FaultKind.DRIP and number >= at:
            assert self._fault is not None
            return self._fault.seconds
        latency = self._stage.latency
        seconds = (latency.token_ms if number else latency.first_token_ms) / 1000
        if latency.jitter and seconds:
            seconds *= 1 + latency.jitter * (2 * self._stage.draws.share("jitter", number) - 1)
        return seconds

    def _place(self, tokens: int) -> int:
        """Give the tokens before the fault; -1 when it has no place."""
        if self._fault is None or not self._fault.facts.positioned:
            return -1
        at = self._fault.position(tokens)
        return max(at, min(1, tokens)) if self._kind is FaultKind.DUPLICATE else at

    # How it is written

    def _right_type(self) -> str:
        return self._stage.wire.stream_type if self._entry.form == "stream" else _JSON

    def _content_type(self, right: str) -> str:
        return self._fault.value if self._fault is not None and self._kind is FaultKind.WRONG_TYPE else right

    async def _head(self, status: int, content_type: str, *lines: str, body: bytes = b"") -> bool:
        """Write the head, and the body in the same write where there is one."""
        stage = self._stage
        reason = _REASONS.get(status) or HTTPStatus(status).phrase
        head = [
            f"HTTP/1.1 {status} {reason}",
            f"content-type: {content_type}",
            f"{stage.wire.request_id}: {self._entry.id}",
            *lines,
        ]
        if not stage.keep_alive:
            head.append("connection: close")
        self._entry.status = status
        return await self._write(("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body)

    async def _frame(self, frame: bytes, *, final: bool = False) -> bool:
        """Write a frame as a chunk of its own, or as several; the last one together with the body's end."""
        size = self._stage.write_bytes or len(frame) or 1
        pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in _cut(frame, size)]
        if final:
            pieces[-1:] = [b"".join(pieces[-1:]) + b"0\r\n\r\n"]
        for piece in pieces:
            if not await self._write(piece, whole=True):
                return False
        self._entry.frames_written += bool(frame)
        return True

    async def _write(self, data: bytes, *, whole: bool = False) -> bool:
        size = self._stage.write_bytes
        for piece in _cut(data, size) if size and not whole else (data,):
            self._last_write = time.monotonic()
            if not await self._connection.write(piece):
                return False
        return True

    # How it ends

    def _left(self) -> bool:
        """Book that the client left, or that the simulator dropped the connection."""
        return self._done("dropped" if self._connection.dropped else "client left", goes_on=False)

    def _done(self, end: str, *, goes_on: bool = True) -> bool:
        connection, entry = self._connection, self._entry
        entry.end = end
        if end == "client left":
            left_at = connection.left_at or time.monotonic()
            entry.left_after_ms = round(max(0.0, left_at - self._last_write) * 1000, 3)
        return goes_on and self._stage.keep_alive and not connection.left

    def settle(self) -> None:
        """Book what was written and what it costs: once, when nothing follows."""
        entry = self._entry
        entry.end = entry.end or "dropped"
        entry.bytes_written = self._connection.written - self._before
        given, made, _, _, read = self._stage.rates.pico
        cached = entry.cached_tokens = min(entry.cached_tokens, entry.input_tokens)
        entry.billed_usd = from_pico((entry.input_tokens - cached) * given + cached * read + entry.output_tokens * made)


def _groups(tokens: int, at: int, size: int) -> Iterator[tuple[int, int]]:
    """Give the tokens of each frame; a frame ends where the fault comes."""
    start = 0
    while start < tokens:
        end = min(start + size, tokens)
        if start < at < end:
            end = at
        yield start, end
        start = end


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
