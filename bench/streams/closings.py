"""How soon an upstream is closed: after the client's cancel, and after the decision to stop.

From the client's cancel to the moment at which the simulator saw its connection closed; and from the token that makes a
window stop the answer to that moment. Meanwhile the service is kept busy by the streams themselves.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

import anyio

from bench.common.figures import Line, Part, Say, percentile, spread
from bench.streams.house import PRIMARY, STREAM_TASK, TOKEN_MS, House, key_of
from bench.streams.switches import REFUSING
from gearshift.clients import Client, background, call, dial
from gearshift.clients.calls import stream_policy

MOST_MS = 50.0
MOST_BUSY = 0.70
_LANES = (2, 4, 8, 12, 16, 24, 32, 48)
_TRY_S = 1.0
_WANTED_BUSY = (0.40, 0.62)


@dataclass
class _Run:
    """Streams that are cancelled (or stopped) by so many lanes."""

    cancelled: dict[str, float] = field(default_factory=dict[str, float])
    stopped: list[str] = field(default_factory=list[str])


async def closings(house: House, runs: int, say: Say) -> Part:
    """Measure `runs` cancels and `runs` decisions under load."""
    lines: list[Line] = []
    async with dial(f"127.0.0.1:{house.port}") as client:
        lanes = await _calibrated(client, house, say)
        for name in ("cancel", "decision"):
            for at_once in sorted({1, lanes}):
                wanted = runs if at_once > 1 else max(5, runs // 10)
                say(f"closings: {wanted} by {name}, {at_once} at once")
                lines.append(await _measured(client, house, name, at_once, wanted))
    return Part(
        name="close",
        title="From the cancel or the decision to the closed upstream, ms",
        lines=lines,
        notes=[
            (
                "`busy` is the service's CPU over the time that the measurement took, of one core. The decision's moment is the "
                f"last token that the simulator wrote before the stop (a token comes every {TOKEN_MS} ms), so that a read's way "
                "and the window's judgement are counted in."
            ),
        ],
    )


async def _calibrated(client: Client, house: House, say: Say) -> int:
    """Find how many streams at once keep the service well busy, but not too busy."""
    chosen = _LANES[0]
    for lanes in _LANES:
        busy = await _busy(house, _run(client, house, "cancel", lanes, until_s=_TRY_S))
        say(f"closings: {lanes} at once keep the service {busy:.0%} busy")
        if busy > _WANTED_BUSY[1]:
            break
        chosen = lanes
        if busy >= _WANTED_BUSY[0]:
            break
    return chosen


async def _busy(house: House, running: object) -> float:
    before, began = house.service.cpu_s(), time.monotonic()
    await running  # type: ignore[misc]
    return (house.service.cpu_s() - before) / (time.monotonic() - began)


async def _measured(client: Client, house: House, name: str, lanes: int, runs: int) -> Line:
    await house.reset()
    before, began = house.service.cpu_s(), time.monotonic()
    run = await _run(client, house, name, lanes, runs=runs)
    busy = (house.service.cpu_s() - before) / (time.monotonic() - began)
    rows = {row.key: row for row in await house.rows() if row.provider == PRIMARY}
    if name == "cancel":
        # A reply that was not there yet, or had ended by itself, was not closed by the cancel.
        closed = [
            (rows[key].booked_at - at) * 1000
            for key, at in run.cancelled.items()
            if key in rows and rows[key].end == "client left"
        ]
    else:
        mine = [rows[key] for key in run.stopped]
        least = min(row.written for row in mine)
        closed = [(row.left_after_ms or 0.0) + (row.written - least) * TOKEN_MS for row in mine]
    p99 = percentile(closed, 0.99)
    return Line(
        what=f"{name}, {lanes} at once",
        cells={"closed": str(len(closed)), **spread(closed, 2), "busy": f"{busy:.0%}"},
        most=f"p99 {MOST_MS:g} ms at most {MOST_BUSY:.0%} busy",
        met=p99 <= MOST_MS if busy <= MOST_BUSY else None,
    )


async def _run(
    client: Client, house: House, name: str, lanes: int, *, runs: int = 1_000_000, until_s: float = 300.0
) -> _Run:
    run = _Run()
    numbers = iter(range(runs))
    chance = random.Random(7)
    until = time.monotonic() + until_s

    async def lane() -> None:
        for number in numbers:
            if time.monotonic() > until:
                return
            if name == "cancel":
                prompt = f"{name} {lanes} number {number} {until_s}"
                run.cancelled[key_of(prompt)] = await _cancelled(client, prompt, chance.randint(1, 40))
            else:
                prompt = f"{REFUSING} {lanes} number {number}"
                await _stopped(client, prompt)
                run.stopped.append(key_of(prompt))

    async with anyio.create_task_group() as tasks:
        for _ in range(lanes):
            tasks.start_soon(lane)
    return run


async def _cancelled(client: Client, prompt: str, deltas: int) -> float:
    """Read so many deltas, cancel, and give the moment of it."""
    policy = stream_policy(hold_back_tokens=0)
    async with client.stream_route(background().with_timeout(30), call(STREAM_TASK, prompt), policy) as stream:
        async for event in stream:
            deltas -= event.HasField("delta")
            if deltas <= 0:
                break
        at = time.monotonic()
        await stream.aclose()
    return at


async def _stopped(client: Client, prompt: str) -> None:
    policy = stream_policy(hold_back_tokens=0)
    async with client.stream_route(background().with_timeout(30), call(STREAM_TASK, prompt), policy) as stream:
        async for _ in stream:
            pass
