# Written by clients/unasync.py from aio/streams.py: change that one.
"""Streams that are received from and closed.

Rules: a stream belongs to one task. It begins with `with` or its first `receive`, and must be closed or read to
its end: one that is merely dropped stays open on the server until it is collected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from gearshift.clients._transport.sync import ServerStream
from gearshift.clients.accumulator import Accumulator
from gearshift.clients.errors import RpcError
from gearshift.clients.prompt_memory import PromptMemory, is_forgotten
from gearshift.v1 import answer_pb2, call_pb2, ops_pb2, router_pb2, stream_pb2

Item = TypeVar("Item")
Message = TypeVar("Message")


class _Stream(Generic[Message, Item]):
    """What all streams offer; `open_call` begins the call."""

    def __init__(self, open_call: Callable[[], ServerStream[Message]]) -> None:
        self._open_call = open_call
        self._call: ServerStream[Message] | None = None
        self._is_ended = False

    def receive(self) -> Item | None:
        """Wait for the next one; None is the end, also after `close`.

        Raises:
            RpcError: the call failed.

        """
        raise NotImplementedError

    def close(self) -> None:
        """End the call; what the server was doing for it is cancelled. Twice is fine."""
        self._is_ended = True
        if self._call is not None:
            self._call.cancel()

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        item = self.receive()
        if item is None:
            raise StopIteration
        return item

    def _begin(self) -> ServerStream[Message]:
        if self._call is None:
            self._call = self._open_call()
        return self._call

    def _read(self) -> Message | None:
        """Read one message and note the end."""
        if self._is_ended:
            return None
        try:
            message = self._begin().read()
        except RpcError:
            self._is_ended = True
            raise
        self._is_ended = message is None
        return message


class RouteStream(_Stream[router_pb2.StreamRouteResponse, stream_pb2.Event]):
    """The events of one answer.

    A system prompt that was sent by its key and is no longer known is sent again as text, by itself, once, before the
    first event.
    """

    def __init__(
        self,
        open_call: Callable[[], ServerStream[router_pb2.StreamRouteResponse]],
        *,
        call: call_pb2.Call,
        prompts: PromptMemory,
        open_whole: Callable[[], ServerStream[router_pb2.StreamRouteResponse]] | None,
    ) -> None:
        super().__init__(open_call)
        self._task_id = call.task.id
        self._prompt = call.system.text
        self._prompts = prompts
        self._open_whole = open_whole
        self._events: deque[stream_pb2.Event] = deque()

    def receive(self) -> stream_pb2.Event | None:
        """Wait for the next event; None is the end, also after `close`.

        Raises:
            RpcError: the call failed; when it failed after `started`, `completed` was received before.

        """
        while not self._events:
            try:
                response = self._read()
            except RpcError as error:
                if self._open_whole is None or not is_forgotten(error):
                    raise
                self._prompts.forget(self._task_id, self._prompt)
                self._call, self._is_ended = self._open_whole(), False
                self._open_whole = None
                continue
            if response is None:
                return None
            self._open_whole = None
            self._events.extend(response.events)
        event = self._events.popleft()
        if event.HasField("completed"):
            self._prompts.remember(self._task_id, self._prompt, event.completed.completion.prompt_key)
        return event

    def fold(self, into: Accumulator | None = None) -> answer_pb2.Answer:
        """Read to the end and give the answer, checked; `into` holds what stands also when this raises.

        Args:
            into: what has folded every event that was received before; None when none was.

        Raises:
            RpcError: the call failed.
            StreamProtocolError: the stream broke a rule of the contract, or ended without `completed`.

        """
        answer = Accumulator() if into is None else into
        while (event := self.receive()) is not None:
            answer.apply(event)
        return answer.finish()

    def close(self) -> None:
        """End the call; what the server was doing for it is cancelled. Twice is fine."""
        self._events.clear()
        super().close()


class AttemptWatch(_Stream[ops_pb2.WatchAttemptsResponse, ops_pb2.WatchAttemptsResponse]):
    """Attempts as they end, until it is closed."""

    def receive(self) -> ops_pb2.WatchAttemptsResponse | None:
        """Wait for the next attempt to end; None is the end, also after `close`.

        Raises:
            RpcError: the call failed.

        """
        return self._read()
