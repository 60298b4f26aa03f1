"""Connecting: names, addresses, TLS.

Rules: an address that does not answer does not hold up the next one (happy eyeballs, RFC 8305); uvloop's own connecting
tries them one after the other, which is why the race is run here. A name's addresses are kept for a while and take
turns. No timeout here: the caller's scope is one.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import aiohappyeyeballs
import anyio

from gearshift.core.http._target import Address

_Connected = TypeVar("_Connected", bound=asyncio.Protocol)

_NAMES_S = 10.0
"""How long a name's addresses are used again."""

_NAMES = 1024
"""Most names whose addresses are kept."""

_NEXT_ADDRESS_S = 0.25
"""How long an address may take before the next one is tried too: RFC 8305, section 5."""

_RECEIVE_BYTES = 128 * 1024
"""What a connection's receive buffer is asked to hold; Linux takes twice as much, half of it for its own book-keeping. Left
alone it grows to many MB, which a provider would fill, and bill, for a reader that has stopped reading. At 100 ms to the
provider it still lets more than 1 MB/s through."""

_AddressInfo = tuple[int, int, int, str, tuple[object, ...]]


class Dialer:
    """Connects to addresses. Tasks of one event loop share it.

    Args:
        tls: whom to trust; None trusts the system's authorities.
    """

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._names: dict[tuple[str, int], tuple[float, deque[_AddressInfo]]] = {}
        self._asking: dict[tuple[str, int], anyio.Lock] = {}

    async def dial(self, address: Address, make: Callable[[], _Connected]) -> _Connected:
        """Connect.

        Raises:
            OSError: it did not work; TLS and names too are such errors.
            UnicodeError: no name can be like that.
        """
        loop = asyncio.get_running_loop()
        if address.socket:
            _, protocol = await loop.create_unix_connection(make, address.socket)
            return protocol
        infos = await self.addresses(address.host, address.port)
        try:
            connected = await aiohappyeyeballs.start_connection(  # pyright: ignore[reportUnknownMemberType]
                infos,
                happy_eyeballs_delay=_NEXT_ADDRESS_S,
                loop=loop,
                socket_factory=_bounded_socket,
            )
        except RuntimeError as error:  # of uvloop, for what the system refuses at once
            raise OSError(str(error)) from error
        try:
            if address.is_tls:
                context = self._tls = self._tls or _system_trust()
                _, protocol = await loop.create_connection(
                    make, sock=connected, ssl=context, server_hostname=address.host
                )
            else:
                _, protocol = await loop.create_connection(make, sock=connected)
        except BaseException as error:
            connected.close()
            if address.is_tls and isinstance(error, ConnectionError):
                raise ssl.SSLError("the server hung up in the handshake") from error
            raise
        return protocol

    async def addresses(self, host: str, port: int) -> Sequence[_AddressInfo]:
        """Give a name's addresses, beginning with another one each time.

        Raises:
            OSError: it has none.
            UnicodeError: no name can be like that.
        """
        loop = asyncio.get_running_loop()
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, host)
            except OSError:
                continue
            where = (host, port) if family is socket.AF_INET else (host, port, 0, 0)
            return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)]
        key = (host, port)
        async with self._asking.setdefault(key, anyio.Lock()):  # many calls, one question
            until, turn = self._names.get(key, (0.0, deque[_AddressInfo]()))
            if not turn or loop.time() >= until:
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
                turn = deque[_AddressInfo](found)
                if len(self._names) >= _NAMES:
                    self._names.clear()
                    self._asking.clear()
                self._names[key] = (loop.time() + _NAMES_S, turn)
            infos = list(turn)
            turn.rotate(-1)
        return infos


def _bounded_socket(address: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
    """Give a socket for an address of `getaddrinfo`; the buffer's size counts from the handshake on."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    return made


def _system_trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
