"""How much a reader that stops reading lets its upstream send.

A provider writes 100 MB as fast as it is let. The caller reads one message and no more; once the provider has been unable
to write for a second, what our side has taken is counted, as bytes of the provider's stream and as characters of text, and
how much the service has grown.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import grpc.aio
import msgspec

from bench.common.figures import Line, Part, Say
from bench.streams.house import FLOODS, House, ask
from gearshift.clients import background, call, dial
from gearshift.v1 import call_pb2, router_pb2, router_pb2_grpc, task_pb2

OURS, FOREIGN = "our client", "a foreign client (default channel options)"
MOST_MB = {OURS: 1.0, FOREIGN: 8.0}
_QUIET_S, _MOST_S = 1.0, 90.0
CROWD = 8


class Told(msgspec.Struct, frozen=True):
    """What the provider tells of a stream."""

    characters: int
    bytes: int
    untaken: int
    quiet_s: float
    over: bool

    @property
    def taken_mb(self) -> float:
        """MB of the stream that our kernel or process has taken."""
        return (self.bytes - self.untaken) / 1e6

    @property
    def text_mb(self) -> float:
        """MB of text therein."""
        return self.taken_mb * self.characters / max(1, self.bytes)


_TOLD = msgspec.json.Decoder(list[Told])


async def unread(house: House, say: Say) -> Part:
    """Measure one unread stream of each kind, then several at once."""
    lines: list[Line] = []
    for size in FLOODS:
        await _measured(house, OURS, size, 1)  # what a first call makes is not the stream's
    for who in (OURS, FOREIGN):
        for size in FLOODS:
            for crowd in (1, CROWD):
                say(f"unread: {who}, {size} characters a frame, {crowd} at once")
                lines.append(await _measured(house, who, size, crowd))
    return Part(
        name="unread",
        title="What an unread stream lets its provider send, MB a stream",
        lines=lines,
        notes=[
            (
                "`text` is what may still reach the reader; the provider's own frames take up to forty times as much "
                "(`upstream`), are read, and are not kept. The bound is put to the text that was taken and to the memory by which "
                "the service has grown."
            ),
        ],
    )


async def _measured(house: House, who: str, size: int, crowd: int) -> Line:
    await ask(house.flood_status, b"reset")
    before = house.service.rss_mib()
    asking = _ours if who == OURS else _foreign
    async with asking(house.port, f"flood-{size}", crowd):
        told: list[Told] = []
        with anyio.move_on_after(_MOST_S):
            while len(told) < crowd or min(each.quiet_s for each in told) < _QUIET_S:
                await anyio.sleep(0.1)
                told = _TOLD.decode(await ask(house.flood_status, b"rows"))
        grown = (house.service.rss_mib() - before) * 1.048576 / crowd
    stopped = all(not each.over and each.quiet_s >= _QUIET_S for each in told) and len(told) == crowd
    text = max(each.text_mb for each in told)
    most = MOST_MB[who]
    with anyio.fail_after(_MOST_S):
        while not all(each.over for each in _TOLD.decode(await ask(house.flood_status, b"rows"))):
            await anyio.sleep(0.05)
    return Line(
        what=f"{who}, {size} characters a frame, {crowd} at once",
        cells={
            "upstream stopped": "yes" if stopped else "NO",
            "text": f"{text:.2f}",
            "upstream": f"{max(each.taken_mb for each in told):.2f}",
            "service grew": f"{grown:.2f}",
        },
        most=f"{most:g} MB",
        met=stopped and text <= most and grown <= most,
    )


@asynccontextmanager
async def _ours(port: int, task: str, crowd: int) -> AsyncGenerator[None]:
    async with dial(f"127.0.0.1:{port}") as client:
        streams = [client.stream_route(background().with_timeout(100), call(task, f"hello {n}")) for n in range(crowd)]
        for stream in streams:
            await stream.receive()
        try:
            yield
        finally:
            for stream in streams:
                await stream.aclose()


@asynccontextmanager
async def _foreign(port: int, task: str, crowd: int) -> AsyncGenerator[None]:
    # A pool of its own: no other channel's settings are met again.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        stub = router_pb2_grpc.RouterServiceStub(channel)
        calls = [
            stub.StreamRoute(
                router_pb2.StreamRouteRequest(
                    call=call_pb2.Call(task=task_pb2.Task(id=task), prompt=f"hello {number}")
                ),
                timeout=100,
            )
            for number in range(crowd)
        ]
        for each in calls:
            await each.read()
        try:
            yield
        finally:
            for each in calls:
                each.cancel()
