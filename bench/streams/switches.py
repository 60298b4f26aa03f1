"""What a switch adds beyond the next stage's time to its first token.

From the moment of the offence (the simulator broke off, wrote the frame that gives it away, or had been silent for as
long as the stage allows) to the first delta of the next stage at the caller, less that stage's time to first token in this
very call, as the simulator saw it: from the request's last byte to the first token's write. Nothing is held back, so that
the switch alone is seen. What it is with the configured time subtracted instead is printed beside it.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass

import anyio
import msgspec

from bench.common.figures import Line, Part, Say, percentile, spread
from bench.streams.house import FIRST_TOKEN_MS, IDLE_S, PRIMARY, STREAM_TASK, TOKEN_MS, House, key_of, marked
from gearshift.clients import Client, background, call, dial
from gearshift.clients.calls import stream_policy
from gearshift.v1 import answer_pb2

MOST_MS = 5.0
CROWD = 16
_PAUSE_S = 0.1
"""Callers of a crowd wait up to this before each call, so that they come at random; without it they come as one."""
_DIRECT = 41
_REFUSES = " I'm sorry, but I can't continue with this request."
_LEAD = "A gearbox lets an engine turn at the speed that suits it while the road asks for quite another one. "
_TURN = "The wheel turns on and on. "
REFUSING, LOOPING = "<<refuses>>", "<<loops>>"

# Stage 1's faults, and how long after its last write the offence is (an idle timeout's is its end).
FAULTS: tuple[tuple[str, float], ...] = (
    ("reset", 0.0),
    ("server_error", 0.0),
    ("unavailable", 0.0),
    ("empty", 0.0),
    ("html", 0.0),
    ("error_in_stream@12", 0.0),
    ("cut@12", 0.0),
    ("close@12", 0.0),
    ("no_end@12", 0.0),
    ("malformed@12", 0.0),
    ("stall@12:30", IDLE_S),
)
# Answers that a window stops; the provider would go on writing.
STOPPED = (REFUSING, LOOPING)
ANSWERS: tuple[dict[str, object], ...] = (
    {"provider": PRIMARY, "contains": REFUSING, "text": _LEAD + _REFUSES + " " + _LEAD * 3},
    {"provider": PRIMARY, "contains": LOOPING, "text": _LEAD + _TURN * 60},
)


@dataclass
class Switched:
    """One switch: moments of `time.monotonic`."""

    prompt: str
    switch_at: float = 0.0
    first_at: float = 0.0
    accepted: bool = False


async def switches(house: House, runs: int, held_runs: int, say: Say) -> Part:
    """Measure: `runs` switches one at a time, as many CROWD at once and as many of CROWD that come as one, over all faults."""
    lines: list[Line] = []
    cases = [*FAULTS, *((marker, 0.0) for marker in STOPPED)]
    direct: dict[int, list[float]] = {1: [], CROWD: []}
    crowds = ((1, 0.0, "1 at once"), (CROWD, _PAUSE_S, f"{CROWD} at once"), (CROWD, 0.0, f"{CROWD} as one"))
    async with dial(f"127.0.0.1:{house.port}") as client:
        direct[1] += await _direct(house, _DIRECT)
        first_ms = percentile(direct[1], 0.5)
        for at_once, pause_s, crowd in crowds:
            everything: list[float] = []
            less_usual: list[float] = []
            cpu_s = passed_s = 0.0
            for fault, silence_s in cases:
                each = max(1, -(-runs // len(cases)))
                say(f"switches: {fault}, {each} with {crowd}")
                cpu_before, began = house.service.cpu_s(), time.monotonic()
                taken = await _measure(client, house, fault, silence_s, each, at_once, pause_s=pause_s, hold_back=0)
                cpu_s += house.service.cpu_s() - cpu_before
                passed_s += time.monotonic() - began
                added = [took - own for took, own in taken]
                everything += added
                less_usual += [took - first_ms for took, _ in taken]
                direct[at_once] += await _direct_crowd(house, 10, at_once)
                lines.append(_line(f"{fault}, {crowd}", added))
            lines.append(
                Line(
                    what=f"**all, {crowd}**",
                    cells={
                        "switches": str(len(everything)),
                        **spread(everything, 2),
                        "busy": f"{cpu_s / passed_s:.0%}",
                    },
                    most=f"p99 {MOST_MS:g} ms",
                    met=percentile(everything, 0.99) <= MOST_MS,
                )
            )
            lines.append(_line(f"the same, less the time to first token that is usual instead, {crowd}", less_usual))
        say("switches: with the default hold-back")
        held = [
            took - own
            for took, own in await _measure(client, house, "cut@40", 0.0, held_runs, 1, pause_s=0.0, hold_back=None)
        ]
    for at_once, taken in direct.items():
        late = [each - first_ms for each in taken]
        lines.append(_line(f"for comparison: that provider asked directly, {at_once} at once, between the cases", late))
    lines.append(_line("cut@40, 1 at once, default hold-back (32 tokens or 400 ms)", held))
    return Part(
        name="switch",
        title="What a switch adds beyond the next stage's time to first token, ms",
        lines=lines,
        notes=[
            (
                f"The next stage's first token is configured to come after {FIRST_TOKEN_MS} ms; asked directly over a connection "
                f"that stood, it came after {first_ms:.2f} ms (median of {_DIRECT}). In a crowd the simulator itself is late, which "
                "is no part of the switch: what is subtracted is what it took in the very call, by its own clock, which is ours."
            ),
            (
                "The lines for comparison are the machine's and the simulator's own lateness: what the same first token takes "
                "beyond its median when nobody stands between, asked by as many at once over connections that stood."
            ),
            (
                f"A stall's offence is the end of the stage's idle timeout ({IDLE_S:g} s), a broken connection's the moment "
                "at which the simulator broke it."
            ),
            (
                f"`at once`: {CROWD} callers who each wait up to {_PAUSE_S * 1000:.0f} ms before a call, so that they come at random; "
                f"`as one`: they all come in the same moment, meet the same fault in the same millisecond and are switched one "
                "after another. `busy` is the service's CPU over the time that the measurement took, of one core."
            ),
            (
                "Hold-back is off (0 tokens) but in the last line. With the default the next attempt's text is held for up to "
                "32 tokens or 400 ms like any other's: that much later its first delta comes, here at 1 ms a token."
            ),
        ],
    )


async def _measure(
    client: Client,
    house: House,
    fault: str,
    silence_s: float,
    runs: int,
    at_once: int,
    *,
    pause_s: float,
    hold_back: int | None,
) -> list[tuple[float, float]]:
    """Give, of each switch, what it took to the next stage's first delta, and that stage's own time to first token, ms."""
    done: list[Switched] = []
    numbers = iter(range(-2, runs))  # the first ones warm the pools
    chance = random.Random(runs)
    await house.reset()

    async def ask() -> None:
        for number in numbers:
            await anyio.sleep(chance.random() * pause_s)
            marker = fault if fault.startswith("<<") else marked(fault)
            switched = Switched(f"{marker} at once {at_once} hold {hold_back} number {number}")
            await _switch(client, switched, hold_back)
            if number >= 0:
                done.append(switched)

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(ask)
    told = await house.rows()
    rows = {row.key: row for row in told if row.provider == PRIMARY}
    nexts = {row.key: row for row in told if row.provider != PRIMARY}
    usual = statistics.mode([row.written for row in rows.values()]) if rows else 0
    taken: list[tuple[float, float]] = []
    for switched in done:
        assert switched.accepted and switched.first_at, f"{switched.prompt}: there was no switch"
        row = rows[key_of(switched.prompt)]
        # What a window stops goes on until its connection is closed: the token that gives it away is always the same, and
        # mostly the last one.
        offence = row.last_write_at - max(0, row.written - usual) * TOKEN_MS / 1000 + silence_s
        own = nexts[key_of(switched.prompt)].first_token_ms
        assert own is not None
        taken.append(((switched.first_at - offence) * 1000, own))
    return taken


async def _direct_crowd(house: House, times: int, at_once: int) -> list[float]:
    """Ask directly over so many connections at once."""
    taken: list[float] = []

    async def ask() -> None:
        taken.extend(await _direct(house, times))

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(ask)
    return taken


async def _direct(house: House, times: int) -> list[float]:
    """Ask the next stage's provider directly, on one connection, and give the times to its first token, ms."""
    body = msgspec.json.encode({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]})
    head = f"POST /p/secondary/v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n\r\n"
    taken: list[float] = []
    async with await anyio.connect_tcp("127.0.0.1", house.simulator) as stream:
        for _ in range(times):
            began, came = time.monotonic(), b""
            await stream.send(head.encode() + body)
            while b'"content":"The' not in came:
                came += await stream.receive()
            taken.append((time.monotonic() - began) * 1000)
            while not came.endswith(b"0\r\n\r\n"):
                came += await stream.receive()
    return taken


async def _switch(client: Client, switched: Switched, hold_back: int | None) -> None:
    policy = stream_policy(hold_back_tokens=hold_back)
    attempts = 0
    async with client.stream_route(background().with_timeout(30), call(STREAM_TASK, switched.prompt), policy) as stream:
        async for event in stream:
            now = time.monotonic()
            kind = event.WhichOneof("kind")
            if kind == "attempt":
                attempts += 1
            elif kind == "switch":
                switched.switch_at = now
            elif kind == "delta" and attempts > 1 and not switched.first_at:
                switched.first_at = now
            elif kind == "completed":
                switched.accepted = event.completed.completion.outcome == answer_pb2.OUTCOME_ACCEPTED


def _line(what: str, added: list[float]) -> Line:
    return Line(what=what, cells={"switches": str(len(added)), **spread(added, 2)})
