"""The client: a call's way from its URL to the head of its response.

Rules: a call that finds an unused connection sends at once; only one that must wait or connect gets a scope, which is its
time to connect.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import anyio
from msgspec import Struct

from gearshift.core.failures import ProviderFailure
from gearshift.core.http._connection import Connection
from gearshift.core.http._dialing import Dialer
from gearshift.core.http._failures import DIALING_ERRORS, client_closed, connect_timeout, dialing_failure
from gearshift.core.http._pool import Origin, Pool
from gearshift.core.http._response import HttpResponse
from gearshift.core.http._target import Target
from gearshift.core.provider import Timeouts
from gearshift.core.words import FailureKind

_TARGETS = 512
"""Most URLs whose parsed form is kept."""

_LAST_S = 1.0
"""How long closing waits until the event loop has let go of the connections that it dropped."""


class Sender(Struct, frozen=True):
    """What requests have in common: where they go, their head up to its length, and whether tokens come one by one."""

    origin: Origin
    head: bytes
    stream: bool


class Http:
    """Connections to providers, pooled by origin. Tasks of one event loop share it.

    Args:
        connections: most connections open at once, over all origins (a Unix socket counts by itself); one more call
            waits for a place, up to its `connect_s`.
        tls: whom to trust; None trusts the system's authorities.
    """

    def __init__(self, *, connections: int = 256, tls: ssl.SSLContext | None = None) -> None:
        self._connections = connections
        self._dialer = Dialer(tls)
        self._pools: dict[str, Pool] = {}
        self._targets: dict[str, tuple[Target, Origin]] = {}
        self._is_closed = False

    async def open(
        self,
        *,
        method: str = "POST",
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeouts: Timeouts,
        stream: bool,
        more: bytes = b"",
    ) -> HttpResponse:
        """Send a request and wait for the head of its response, whatever its status.

        A unary answer that is short is waited for as a whole; one that breaks off after its head fails when it is read.

        Args:
            method: in capitals.
            url: `http`, `https`, or `unix:///dir/name.sock/path`, whose socket ends with the first name in `.sock`.
            headers: names in lower case. Host, content length, accepted encodings and user agent are added here, and
                `content-type: application/json` when there is a body and no other type.
            body: sent as it is.
            timeouts: a stream is timed by `first_token_s` until the first `progress`, then by `idle_s`; a unary call
                by `total_s` alone. Connecting is timed by `connect_s`, pool, names and TLS included.
            stream: whether tokens come one by one.
            more: header lines of this call alone, each ended by CRLF.

        Raises:
            ProviderFailure: CONNECT_TIMEOUT, CONNECTION, MALFORMED or a timeout.
        """
        target, origin = self._targets.get(url) or self._target(url)
        head = target.head(method, headers, has_body=bool(body), stream=stream)
        return await self.send(Sender(origin, head, stream), body, timeouts, more)

    def sender(self, *, url: str, headers: Mapping[str, str], stream: bool) -> Sender:
        """Give all of a POST request but its body and its times, for adapters that send the same again and again.

        Args:
            url: as `open`.
            headers: as `open`.
            stream: as `open`.

        Raises:
            ProviderFailure: INVALID_REQUEST; CONNECTION when the client is closed.
        """
        target, origin = self._targets.get(url) or self._target(url)
        return Sender(origin, target.head("POST", headers, has_body=True, stream=stream), stream)

    async def send(self, sender: Sender, body: bytes, timeouts: Timeouts, more: bytes = b"") -> HttpResponse:
        """Send a body and wait for the head of its response, as `open` does; `more` as there.

        Raises:
            ProviderFailure: as `open`.
        """
        if self._is_closed:
            raise client_closed(sent=False)
        origin, stream = sender.origin, sender.stream
        loop = asyncio.get_running_loop()
        started = loop.time()
        idle = origin.idle
        connection = idle.pop() if idle else await self._connection(origin, timeouts.connect_s)
        if not connection.is_usable:
            connection.drop()
            connection = await self._connection(origin, timeouts.connect_s)
        response = HttpResponse(loop, connection, timeouts, started, stream=stream)
        total_s = timeouts.total_s
        due = started + (min(timeouts.first_token_s, total_s) if stream else total_s)
        try:
            connection.send(response, sender.head, body, due, more)
            await response.opening
        except BaseException:
            response.close()
            raise
        response.opened()
        return response

    async def aclose(self) -> None:
        """Drop every connection; twice is fine."""
        self._is_closed = True
        self._targets.clear()
        pools = list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            pool.close()
        with anyio.move_on_after(_LAST_S):
            for pool in pools:
                await pool.wait_closed()

    def statistics(self) -> Mapping[str, int]:
        """Give the number of connections (`open`), of those that a call holds (`used`) and of origins called (`pools`)."""
        pools = self._pools.values()
        connections = [connection for pool in pools for connection in pool.connections]
        used = sum(connection.response is not None for connection in connections)
        return {"open": len(connections), "used": used, "pools": sum(len(pool.origins) for pool in pools)}

    def _target(self, url: str) -> tuple[Target, Origin]:
        """Parse and keep a URL; adapters use a handful of them."""
        if self._is_closed:
            raise client_closed(sent=False)
        target = Target(url)
        socket = target.address.socket
        pool = self._pools.get(socket)
        if pool is None:
            pool = self._pools[socket] = Pool(self._connections)
        if len(self._targets) >= _TARGETS:
            self._targets.clear()
        found = self._targets[url] = (target, pool.origin(target.address))
        return found

    async def _connection(self, origin: Origin, connect_s: float) -> Connection:
        """Wait for a connection, or make one.

        Raises:
            ProviderFailure: CONNECT_TIMEOUT or CONNECTION; nothing was sent.
        """
        with anyio.move_on_after(connect_s):
            connection = await origin.pool.acquire(origin)
            return connection or await self._dial(origin)
        raise connect_timeout(connect_s)

    async def _dial(self, origin: Origin) -> Connection:
        pool = origin.pool
        try:
            connection = await self._dialer.dial(origin.address, lambda: Connection(origin))
        except TimeoutError as error:  # the system's own patience is at its end
            pool.give_up()
            raise ProviderFailure(
                FailureKind.CONNECT_TIMEOUT, "the server did not answer to connecting", sent=False
            ) from error
        except DIALING_ERRORS as error:
            pool.give_up()
            raise dialing_failure(error) from error
        except BaseException:
            pool.give_up()
            raise
        pool.fill(connection)
        if self._is_closed:
            connection.drop()
            raise client_closed(sent=False)
        if not connection.is_usable:
            connection.drop()
            raise ProviderFailure(
                FailureKind.CONNECTION, "the connection was closed before the request was sent", sent=False
            )
        return connection
