"""Which connection a call gets.

Rules: the limit counts every connection that is open or being opened, also those that lie unused. The one that was used
last is used first, so that the others grow old and go. Who waits is served in the order of coming, whatever address he
wants: where the connection that became free leads elsewhere, it is dropped for his sake.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from gearshift.core.http._failures import client_closed
from gearshift.core.http._target import Address

if TYPE_CHECKING:
    from gearshift.core.http._connection import Connection

_Waiter = asyncio.Future["Connection | None"]


class Origin:
    """The unused connections to one address, the last used one last."""

    __slots__ = ("address", "idle", "pool")

    def __init__(self, pool: Pool, address: Address) -> None:
        self.pool = pool
        self.address = address
        self.idle: list[Connection] = []


class Pool:
    """Places for connections.

    Args:
        limit: how many there are.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0
        """Places that a connection has or that one is being made in."""
        self._open: set[Connection] = set()
        self._closing: set[Connection] = set()
        self._closed = asyncio.Event()
        self._waiting: deque[tuple[Origin, _Waiter]] = deque()
        self.origins: dict[Address, Origin] = {}

    def origin(self, address: Address) -> Origin:
        """Give the connections to an address."""
        found = self.origins.get(address)
        if found is None:
            found = self.origins[address] = Origin(self, address)
        return found

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Every connection that is open, used or not."""
        return tuple(self._open)

    async def acquire(self, origin: Origin) -> Connection | None:
        """Wait for an unused connection, or for a place to make one in (None).

        Whoever gets a place fills it (`fill`) or gives it back (`give_up`).

        Raises:
            ProviderFailure: CONNECTION, when the client was closed meanwhile.
        """
        is_new = True
        while True:
            if not (is_new and self._waiting):
                if origin.idle:
                    connection = origin.idle.pop()
                    if connection.is_usable:
                        return connection
                    connection.drop()
                    continue
                if self.taken < self._limit or self._evict():
                    self.taken += 1
                    return None
            given = await self._wait(origin, is_new=is_new)
            if given is None or given.is_usable:
                return given
            given.drop()  # it died on its way, and its place went to another
            is_new = False

    def release(self, connection: Connection) -> None:
        """Take a connection back that may be used again."""
        waiter = None
        while self._waiting and (waiter := self._waiting[0])[1].done():
            self._waiting.popleft()
            waiter = None
        if waiter is None:
            connection.origin.idle.append(connection)
        elif waiter[0] is connection.origin:
            self._waiting.popleft()
            waiter[1].set_result(connection)
        else:
            connection.drop()  # which gives its place to the one who waits

    def fill(self, connection: Connection) -> None:
        """Note the connection that was made in a place."""
        self._open.add(connection)

    def give_up(self) -> None:
        """Give a place back in which no connection was made."""
        self.taken -= 1
        while self._waiting:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                self.taken += 1
                waiter.set_result(None)
                return

    def forget(self, connection: Connection) -> None:
        """Give the place back of a connection that is gone; twice is fine."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        self._closing.add(connection)
        idle = connection.origin.idle
        if connection in idle:
            idle.remove(connection)
        self.give_up()

    def lost(self, connection: Connection) -> None:
        """Note that the event loop has let go of a connection."""
        self._closing.discard(connection)
        if not self._closing:
            self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until the event loop has let go of every connection that was dropped."""
        while self._closing:
            self._closed.clear()
            await self._closed.wait()

    def close(self) -> None:
        """Drop every connection and fail whoever waits for one."""
        while self._waiting:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(client_closed(sent=False))
        for connection in self.connections:
            connection.shut(client_closed(sent=True))

    async def _wait(self, origin: Origin, *, is_new: bool) -> Connection | None:
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        entry = (origin, waiter)
        if is_new:
            self._waiting.append(entry)
        else:
            self._waiting.appendleft(entry)  # he has waited his turn
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                given = waiter.result()
                if given is None:
                    self.give_up()
                elif given.is_usable:
                    self.release(given)
                else:
                    given.drop()
            elif entry in self._waiting:
                self._waiting.remove(entry)
            raise

    def _evict(self) -> bool:
        """Drop the connection that has lain unused for the longest, to any address; False when none lies unused."""
        oldest = min((each.idle[0] for each in self.origins.values() if each.idle), key=_idle_until, default=None)
        if oldest is None:
            return False
        oldest.drop()
        return True


def _idle_until(connection: Connection) -> float:
    return connection.due
