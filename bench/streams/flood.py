"""A provider that never stops writing: `python -m bench.streams.flood PORT STATUS_PORT`.

It speaks as much of OpenAI's chat format as a stream needs. The model's name says what it writes: `flood-<characters>`
writes frames of so many characters as fast as the socket takes them, up to TOTAL characters; `noise` writes a string of
JSON a token every 5 ms, sure of itself for GOOD tokens and then not at all. The status port tells, for
every stream so far, the characters and bytes that were given to the socket, the bytes that the other kernel has not
taken, and for how long nothing was written.
"""

from __future__ import annotations

import asyncio
import fcntl
import random
import signal
import sys
import termios
import time
from dataclasses import dataclass

import anyio
import msgspec

TOTAL = 100_000_000
"""Characters of a whole answer."""
GOOD = 40
_NOISE_S = 0.005
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_FRAME = 'data: {{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":0,"delta":{{"content":"{text}"}},{more}"finish_reason":null}}]}}\n\n'
_LETTERS = "abcdefghijklmnopqrstuvwxyz     "
_PIECES = 997


@dataclass
class Flood:
    """One stream."""

    model: str
    writer: asyncio.StreamWriter
    frames: int = 0
    characters: int = 0
    bytes: int = 0
    last: float = 0.0
    over: bool = False

    def document(self) -> dict[str, object]:
        """Give its figures."""
        unsent = 0
        if not self.writer.transport.is_closing():
            queued = bytearray(4)
            fcntl.ioctl(self.writer.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
            unsent = self.writer.transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)
        return {
            "model": self.model,
            "good": GOOD,
            "frames": self.frames,
            "characters": self.characters,
            "bytes": self.bytes,
            "untaken": unsent,
            "quiet_s": time.monotonic() - self.last,
            "over": self.over,
        }


async def serve(port: int, status_port: int) -> None:
    """Run until SIGTERM or SIGINT."""
    floods: list[Flood] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        flood: Flood | None = None
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            body = await reader.readexactly(int(head.partition("content-length:")[2].split("\r\n")[0]))
            model = msgspec.json.decode(body)["model"]
            size = int(model.partition("-")[2] or 0)
            pieces = [chunk(text) for text in texts(size)]
            flood = Flood(model, writer)
            floods.append(flood)
            writer.transport.set_write_buffer_limits(high=0)
            writer.write(_HEAD)
            if model == "noise":
                await noise(flood)
            number = 0
            while size and flood.characters < TOTAL:
                piece = pieces[number % len(pieces)]
                number += 1
                writer.write(piece)
                flood.frames += 1
                flood.characters += size
                flood.bytes += len(piece)
                flood.last = time.monotonic()
                await writer.drain()
                if number % 64 == 0:
                    await asyncio.sleep(0)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            if flood is not None:
                flood.over = True
            writer.transport.abort()

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readline()).strip() == b"reset":
            floods[:] = [flood for flood in floods if not flood.over]
        writer.write(msgspec.json.encode([flood.document() for flood in floods]))
        writer.close()

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with (
            await asyncio.start_server(answer, "127.0.0.1", port),
            await asyncio.start_server(tell, "127.0.0.1", status_port),
        ):
            async for _ in signals:
                return


async def noise(flood: Flood) -> None:
    """Write a string whose tokens turn unlikely."""
    for number in range(400):
        token = r"{\"note\":\"" if number == 0 else f" word{number}"
        logprob = -0.1 if number < GOOD else -7.5
        score = f'{{"token":"t","logprob":{logprob},"bytes":null,"top_logprobs":[]}}'
        flood.writer.write(chunk(token, f'"logprobs":{{"content":[{score}],"refusal":null}},'))
        await flood.writer.drain()
        flood.frames += 1
        await asyncio.sleep(_NOISE_S)
        if flood.writer.transport.is_closing():
            return


def texts(size: int) -> list[str]:
    """Give texts of so many characters in which nothing repeats itself."""
    chance = random.Random(size)
    return ["".join(chance.choices(_LETTERS, k=size)) for _ in range(_PIECES)]


def chunk(text: str, more: str = "") -> bytes:
    """Give a frame as a chunk of the body."""
    frame = _FRAME.format(text=text, more=more).encode()
    return b"%x\r\n%s\r\n" % (len(frame), frame)


if __name__ == "__main__":
    anyio.run(serve, int(sys.argv[1]), int(sys.argv[2]), backend_options={"use_uvloop": False})
