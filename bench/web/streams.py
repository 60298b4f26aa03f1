"""Many browsers on one process: streams that are read, that are left, and that nobody reads."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import anyio

from bench.common.figures import Line, Part, Say, percentile
from bench.web.browser import Browser, Frames
from bench.web.house import FLOOD, PACED, TOKEN_MS, House
from gearshift.v1 import call_pb2, router_pb2, task_pb2

MOST_LEFT_MS = 100.0
_SETTLES_S = 3.0
_UNREAD_MIB = 1.0


@dataclass
class _Seen:
    """What browsers saw."""

    began: int = 0
    ended: int = 0
    gaps_ms: list[float] = field(default_factory=list[float])
    first_ms: list[float] = field(default_factory=list[float])


async def streams(house: House, browsers: int, say: Say) -> Part:
    """Measure `browsers` streams at once."""
    lines = [
        *await _read(house, browsers, say),
        await _left(house, browsers, say),
        await _unread(house, browsers, say),
    ]
    notes = [
        f"The provider writes a token every {TOKEN_MS} ms; each is a message of its own. A gap is the time between two messages.",
        f"Left: all {browsers} connections are closed at once; measured until the service has no call any more.",
        f"Unread: the provider writes as fast as it is let; what the service has grown by {_SETTLES_S:g} s after the last had begun.",
    ]
    return Part(name="streams", title=f"{browsers} browsers at once on one process", lines=lines, notes=notes)


def _asked(task: str) -> bytes:
    call = call_pb2.Call(task=task_pb2.Task(id=task), prompt="hello there")
    return router_pb2.StreamRouteRequest(call=call).SerializeToString()


async def _read(house: House, browsers: int, say: Say) -> list[Line]:
    say(f"streams: {browsers} that are read")
    seen, browser = _Seen(), Browser(house.http_port)
    before = house.service.rss_mib()
    most = before

    async def follow() -> None:
        frames, last, began = Frames(), 0.0, time.perf_counter()
        async with browser.opened("StreamRoute", _asked(PACED)) as response:
            async for chunk in response.content.iter_any():
                now = time.perf_counter()
                if not frames.feed(chunk):
                    continue
                if last:
                    seen.gaps_ms.append((now - last) * 1000)
                else:
                    seen.began += 1
                    seen.first_ms.append((now - began) * 1000)
                last = now
        seen.ended += frames.is_ok

    cpu, began = house.service.cpu_s(), time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(browsers):
            tasks.start_soon(follow)
        while seen.ended < browsers and time.perf_counter() - began < 120:
            await anyio.sleep(0.1)
            most = max(most, house.service.rss_mib())
    took = time.perf_counter() - began
    used = house.service.cpu_s() - cpu
    messages = len(seen.gaps_ms) + len(seen.first_ms)
    await browser.aclose()
    return [
        Line(
            what=f"**held and ended well**, of {browsers}",
            cells={
                "": f"{seen.ended}",
                "p50": f"{percentile(seen.gaps_ms, 0.5):.1f} ms",
                "p99": f"{percentile(seen.gaps_ms, 0.99):.1f} ms",
            },
            most=f"all {browsers}",
            met=seen.ended == browsers,
        ),
        Line(
            what="until the first message",
            cells={
                "": "",
                "p50": f"{percentile(seen.first_ms, 0.5):.1f} ms",
                "p99": f"{percentile(seen.first_ms, 0.99):.1f} ms",
            },
        ),
        Line(
            what="CPU of the service",
            cells={"": f"{100 * used / took:.0f} % of a core, {used / messages * 1e6:.0f} µs a message"},
        ),
        Line(what="memory of the service", cells={"": f"{before:.0f} MiB before, {most:.0f} MiB at most"}),
    ]


async def _left(house: House, browsers: int, say: Say) -> Line:
    say(f"streams: {browsers} that are left")
    browser, begun = Browser(house.http_port), 0

    async def follow() -> None:
        nonlocal begun
        async with browser.opened("StreamRoute", _asked(PACED)) as response:
            await response.content.readany()
            begun += 1
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        for _ in range(browsers):
            tasks.start_soon(follow)
        with anyio.fail_after(60):
            while begun < browsers:
                await anyio.sleep(0.02)
        await anyio.sleep(0.2)
        tasks.cancel_scope.cancel()
    began = time.perf_counter()
    with anyio.fail_after(60):
        while (await house.held()).in_flight:
            pass
    took = (time.perf_counter() - began) * 1000
    await browser.aclose()
    return Line(
        what="all of them left at once: until no call runs",
        cells={"": f"{took:.0f} ms"},
        most=f"{MOST_LEFT_MS:g} ms",
        met=took <= MOST_LEFT_MS,
    )


async def _unread(house: House, browsers: int, say: Say) -> Line:
    say(f"streams: {browsers} that nobody reads")
    before = house.service.rss_mib()
    message = _asked(FLOOD)
    frame = b"\x00" + len(message).to_bytes(4, "big") + message
    head = (
        "POST /gearshift.v1.RouterService/StreamRoute HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/grpc-web+proto\r\nContent-Length: {len(frame)}\r\n\r\n"
    )
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(browsers):
            reader, writer = await asyncio.open_connection("127.0.0.1", house.http_port, limit=1024)
            writers.append(writer)
            writer.write(head.encode() + frame)
            with anyio.fail_after(60):
                await reader.readexactly(1)
        await anyio.sleep(_SETTLES_S)
        grown = house.service.rss_mib() - before
    finally:
        for writer in writers:
            writer.transport.abort()
    with anyio.fail_after(60):
        while (await house.held()).in_flight:
            await anyio.sleep(0.05)
    return Line(
        what="none of them read: growth of the service",
        cells={"": f"{grown:.0f} MiB, {grown / browsers:.2f} each"},
        most=f"{_UNREAD_MIB:g} MiB each",
        met=grown / browsers <= _UNREAD_MIB,
    )
