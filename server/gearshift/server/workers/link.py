"""One end of the bus: messages over a connected Unix socket.

Rules: a frame is four bytes of length, big-endian, and MessagePack. Sending never waits; a link whose other end reads too
slowly says that it is crowded, and who sends what may be missed leaves it out.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

MAX_FRAME = 256 * 1024 * 1024
_CROWDED = 8 * 1024 * 1024
_HEAD = 4

M = TypeVar("M")


class Link(Generic[M]):
    """Messages to and from one other process; `M` are those that it receives."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: msgspec.msgpack.Decoder[M]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._received = received
        self._encoder = msgspec.msgpack.Encoder()

    @classmethod
    async def over(cls, connected: socket.socket, received: type[M]) -> Link[M]:
        """Give the link over a connected socket, which it owns.

        Args:
            received: the type, or union, of the messages that come.

        """
        connected.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=connected)
        return cls(reader, writer, msgspec.msgpack.Decoder(received))

    @property
    def is_crowded(self) -> bool:
        """Whether so much waits to be read that what may be missed should be left out."""
        return self._writer.transport.get_write_buffer_size() > _CROWDED

    def send(self, message: Struct) -> None:
        """Send a message; nothing happens where the other end has gone."""
        if not self._writer.is_closing():
            self._writer.write(framed(self._encoder.encode(message)))

    async def receive(self) -> M | None:
        """Wait for the next message; None when the other end has gone."""
        try:
            head = await self._reader.readexactly(_HEAD)
            length = int.from_bytes(head, "big")
            if length > MAX_FRAME:
                return None
            return self._received.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def flush(self) -> None:
        """Wait until what was sent has left; the enclosing scope bounds the wait."""
        try:
            transport = self._writer.transport
            transport.set_write_buffer_limits(high=0)
            await self._writer.drain()
        except ConnectionError:
            return

    def close(self) -> None:
        """Close it; what was sent still leaves while this process lives. Twice is fine."""
        self._writer.close()


def framed(body: bytes) -> bytes:
    """Give a frame."""
    return len(body).to_bytes(_HEAD, "big") + body


def read_frame(connected: socket.socket) -> bytes:
    """Read one frame, waiting for it: before there is a loop.

    Raises:
        ConnectionError: the other end has gone.
    """
    length = int.from_bytes(_exactly(connected, _HEAD), "big")
    if length > MAX_FRAME:
        raise ConnectionError("a frame is too long")
    return _exactly(connected, length)


def _exactly(connected: socket.socket, length: int) -> bytes:
    held = bytearray()
    while len(held) < length:
        block = connected.recv(length - len(held))
        if not block:
            raise ConnectionError("the other end has gone")
        held += block
    return bytes(held)
