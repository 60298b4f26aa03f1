"""Calling the service's own handlers for somebody who came over HTTP.

Rules: the handlers are those that the gRPC server has, guarded as they are there, so keys, deadlines, counting, refusing and
statuses stand in one place; here is only the context that they are given. Messages pass as bytes. No second server, socket
or loop lies between: a call over HTTP costs what it costs over gRPC. What waits to be sent is bounded by the sender.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from gearshift.core.errors import RouteError, invalid
from gearshift.server.deadline import Deadlines
from gearshift.server.status import DEADLINE, INTERNAL, Status, status_of

Methods = Mapping[str, Any]
"""Handlers, guarded, by path, such as `/gearshift.v1.RouterService/Route`."""
Metadata = Sequence[tuple[str, str | bytes]]

_LATE_S = 0.02
"""Handlers keep their deadlines themselves, and know better how to end; this is for those that do not."""


class Sender(Protocol):
    """What takes a stream's messages."""

    async def start(self) -> None:
        """Send what comes before the first message."""
        ...

    async def send(self, message: bytes) -> None:
        """Send a message; waits while too much is unread.

        Raises:
            ConnectionError: nobody is there any more.
        """
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended.

    Args:
        code: a gRPC status code, 0 for OK.
        message: the unary answer; None for streams and failures.
    """

    code: int
    text: str = ""
    trailers: Metadata = ()
    message: bytes | None = None


def ended(status: Status) -> Outcome:
    """Give the outcome that tells a status."""
    return Outcome(status.code.value[0], status.message, status.metadata)


def refused(error: RouteError) -> Outcome:
    """Give the outcome that tells an error."""
    return ended(status_of(error))


class WebContext:
    """What a handler is given in place of gRPC's context: the part of it that handlers of ours use.

    Args:
        metadata: names in lower case.
        peer: where the call came from, as gRPC writes it.
        ends_at: the caller's deadline on the loop's clock, seconds; None without one.
        sender: takes a stream's messages.
        serialize: makes bytes of a handler's message; None when it gives bytes.
    """

    __slots__ = ("_ends_at", "_peer", "_sender", "_serialize", "code", "metadata", "text", "trailers")

    def __init__(
        self,
        metadata: Metadata,
        peer: str,
        ends_at: float | None,
        sender: Sender,
        serialize: Callable[[Any], bytes] | None,
    ) -> None:
        self.metadata = metadata
        self.code = 0
        self.text = ""
        self.trailers: Metadata = ()
        self._peer = peer
        self._ends_at = ends_at
        self._sender = sender
        self._serialize = serialize

    def invocation_metadata(self) -> Metadata:
        """Give what the caller sent beside the message."""
        return self.metadata

    def time_remaining(self) -> float | None:
        """Give the seconds until the caller's deadline; None without one."""
        return None if self._ends_at is None else max(0.0, self._ends_at - asyncio.get_running_loop().time())

    def peer(self) -> str:
        """Tell where the call came from."""
        return self._peer

    def set_trailing_metadata(self, trailers: Metadata) -> None:
        """Set what is sent after the last message."""
        self.trailers = tuple(trailers)

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Tell the caller that its call has begun."""
        if metadata:
            raise NotImplementedError("no handler of ours sends any")
        try:
            await self._sender.start()
        except ConnectionError:
            raise asyncio.CancelledError from None

    async def write(self, message: Any) -> None:
        """Send one message of a stream; waits while too much is unread."""
        packed = message if self._serialize is None else self._serialize(message)
        try:
            await self._sender.send(packed)
        except ConnectionError:
            # Who has gone is no error.
            raise asyncio.CancelledError from None

    async def abort(self, code: grpc.StatusCode, text: str = "", trailers: Metadata = ()) -> None:
        """End the call with a status.

        Raises:
            AbortError: always.
        """
        self.code, self.text = code.value[0], text
        self.trailers = (*self.trailers, *trailers)
        raise grpc.aio.AbortError


class Calling:
    """Calls handlers; one for each event loop.

    Args:
        methods: what can be called; may still be filled.
    """

    def __init__(self, methods: Methods) -> None:
        self.methods = methods
        self._deadlines = Deadlines()
        self._running: set[asyncio.Task[Any]] = set()

    def cancel(self) -> None:
        """Cancel what runs; for the end of a service's grace."""
        for task in self._running:
            task.cancel()

    @contextmanager
    def cancellable(self) -> Generator[None]:
        """Let `cancel` cancel this task while the block runs, too."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            yield
        finally:
            self._running.discard(task)

    def within(self, seconds: float | None) -> Any:
        """Give a context manager whose block ends with TimeoutError when it takes longer; None is as long as it likes."""
        return self._deadlines.within(seconds)

    async def call(
        self, path: str, message: bytes, metadata: Metadata, peer: str, ends_at: float | None, sender: Sender
    ) -> Outcome:
        """Call a method.

        Args:
            path: as in `methods`.
            message: the request, serialised.
            metadata: names in lower case.
            ends_at: the caller's deadline on the loop's clock, seconds; None without one.
            sender: takes the messages if the method streams.
        """
        handler = self.methods.get(path)
        if handler is None:
            return Outcome(grpc.StatusCode.UNIMPLEMENTED.value[0], "there is no such method")
        try:
            request = handler.request_deserializer(message)
        except DecodeError:
            return refused(invalid("body", "holds no message that this method takes"))
        inner: Callable[[Any, Any], Awaitable[Any]] = handler.unary_unary or handler.unary_stream
        context = WebContext(metadata, peer, ends_at, sender, handler.response_serializer)
        left = context.time_remaining()
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            with self._deadlines.within(None if left is None else left + _LATE_S):
                answer = await inner(request, context)
        except grpc.aio.AbortError:
            return Outcome(context.code, context.text, context.trailers)
        except TimeoutError:
            return ended(DEADLINE)
        finally:
            self._running.discard(task)
        if handler.unary_unary is None:
            return Outcome(context.code, context.text, context.trailers)
        if answer is None:
            return ended(INTERNAL)
        return Outcome(context.code, context.text, context.trailers, handler.response_serializer(answer))
