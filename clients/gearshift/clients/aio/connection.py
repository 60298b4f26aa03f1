"""The channel of a client: made with the first call, closed once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gearshift.clients._transport.aio import Channel
from gearshift.clients._transport.status import NEVER_SENT
from gearshift.clients.errors import Code, RpcError
from gearshift.clients.options import Settings


class Connection:
    """A channel and the settings of the calls on it."""

    def __init__(self, channel: Channel | Callable[[], Channel], settings: Settings) -> None:
        self.settings = settings
        self._channel = channel
        self._opened: Channel | None = None
        self._is_closed = False
        self._lock = threading.Lock()  # for the twin, whose first calls may come from two threads at once

    def channel(self) -> Channel:
        """Give the channel, and make it when this is the first call.

        Raises:
            RpcError: the client is closed (CANCELLED).

        """
        with self._lock:
            if self._is_closed:
                raise RpcError(Code.CANCELLED, NEVER_SENT)
            if self._opened is None:
                self._opened = self._channel() if callable(self._channel) else self._channel
            return self._opened

    async def aclose(self) -> None:
        """Close the channel and end its calls; twice is fine."""
        with self._lock:
            self._is_closed = True
            channel = self._opened if callable(self._channel) else self._channel
        if channel is not None:
            await channel.close()
