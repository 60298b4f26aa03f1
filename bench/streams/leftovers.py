"""What is left after thousands of faulty streams: tasks, sockets, descriptors, objects, memory.

Every stream meets a fault, is cancelled by its client, or runs into its deadline; what the service holds is read from
itself and from /proc, before and after, once everything is idle; its memory after each thousand.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import anyio

from bench.common.figures import Line, Part, Say
from bench.streams import windows
from bench.streams.house import JSON_MARK, JSON_TASK, SCHEMA, STREAM_TASK, House, marked
from gearshift.clients import Client, RpcError, background, call, dial
from gearshift.clients.calls import stream_policy

FAULTS = (
    "reset",
    "hang:30",
    "unauthorized",
    "rate_limited",
    "rate_limited:1",
    "server_error",
    "unavailable",
    "overloaded",
    "empty",
    "html",
    "wrong_type",
    "error_in_stream@12",
    "cut@12",
    "close@12",
    "stall@12:30",
    "drip@12:0.02",
    "malformed@12",
    "invalid_utf8@12",
    "duplicate@12",
    "no_end@12",
    "no_done",
    "no_usage",
    "filtered@12",
    *(windows.FAULTS[number] for number in (0, 1, 11, 12)),
    "bad_json@9",
    "unsure@12",
)
_SLOW = ("hang:30", "stall@12:30")
"""They cost a timeout each, so they come less often."""
CROWD = 48
MOST_GROWTH = 0.05
WARM = 1000
"""Streams before anything is counted."""
_GONE_S = 75.0
"""Unused connections are looked at every 30 s, and closed when they have not been used for 30 s."""


@dataclass
class _Tally:
    ended: dict[str, int] = field(default_factory=dict[str, int])

    def count(self, how: str) -> None:
        """Note how a stream ended."""
        self.ended[how] = self.ended.get(how, 0) + 1


async def leftovers(house: House, runs: int, say: Say) -> Part:
    """Run `runs` faulty streams."""
    step = max(1, runs // 10)
    tally = _Tally()
    chance = random.Random(11)
    memory: list[float] = []
    await house.held()  # the port for such questions is there from now on, and its connection gone
    await anyio.sleep(0.3)
    before_all = house.service.descriptors()
    async with dial(f"127.0.0.1:{house.port}") as client:
        await _streams(client, _works(chance, WARM), tally)
        await _idle(house)
        before = await house.held()
        threads = house.service.threads()
        total, sockets = house.service.descriptors()
        before_others, before_targets = total - sockets, house.service.targets()
        for number in range(10):
            await _streams(client, _works(chance, step), tally)
            memory.append(house.service.rss_mib())
            say(f"leftovers: {step * (number + 1)} streams, {memory[-1]:.1f} MiB, {dict(sorted(tally.ended.items()))}")
    await _idle(house)
    say("leftovers: waiting for unused connections to go")
    with anyio.move_on_after(_GONE_S):
        while house.service.descriptors()[1] > before_all[1]:
            await anyio.sleep(0.25)
    descriptors = house.service.descriptors()  # before the next question, which has a socket of its own
    more = {name: count for name, count in (house.service.targets() - before_targets).items() if name != "socket"}
    after = await house.held()
    early, late = sum(memory[1:5]) / 4, sum(memory[6:10]) / 4
    growth = late / early - 1
    lines = [
        _same("tasks of the loop", before.tasks, after.tasks),
        _same("calls in flight", 0, after.in_flight),
        _same("objects of streams alive", 0, sum(after.of_streams.values())),
        _same("sockets", before_all[1], descriptors[1]),
        _same("other file descriptors", before_others, descriptors[0] - descriptors[1]),
        _same("threads", threads, house.service.threads()),
        Line(
            what="objects that the collector knows",
            cells={"before": f"{before.objects}", "after": f"{after.objects}"},
        ),
        Line(
            what=f"resident MiB, mean of {2 * step}-{5 * step} and of {7 * step}-{10 * step}",
            cells={"before": f"{early:.1f}", "after": f"{late:.1f}", "growth": f"{growth:+.1%}"},
            most=f"{MOST_GROWTH:.0%}",
            met=growth <= MOST_GROWTH,
        ),
    ]
    ended = ", ".join(f"{count} {how}" for how, count in sorted(tally.ended.items()))
    return Part(
        name="leftovers",
        title=f"What is left after {sum(tally.ended.values())} faulty streams, {CROWD} at once",
        lines=lines,
        notes=[
            f"How they ended at their callers: {ended}.",
            "Descriptors that were not there before: "
            + (", ".join(f"{count} {name}" for name, count in sorted(more.items())) or "none")
            + ".",
            f"Resident MiB after each {step}: {', '.join(f'{each:.1f}' for each in memory)}.",
            (
                "Sockets are compared with a service that had not been called, after unused connections have gone (30 to 60 s); "
                f"everything else with the service after {WARM} streams."
            ),
        ],
    )


def _same(what: str, before: int, after: int) -> Line:
    return Line(
        what=what, cells={"before": str(before), "after": str(after)}, most="none left over", met=after <= before
    )


@dataclass(frozen=True)
class _Work:
    fault: str
    number: int
    leaves_after: int | None
    deadline_s: float


def _works(chance: random.Random, runs: int) -> list[_Work]:
    works: list[_Work] = []
    for _ in range(runs):
        fault = chance.choice(FAULTS)
        if fault in _SLOW and chance.random() < 0.7:
            fault = chance.choice(FAULTS[:1])
        drawn = chance.random()
        # One in five leaves, one in twenty has too little time.
        leaves = chance.randint(0, 20) if drawn < 0.2 else None
        deadline = chance.uniform(0.02, 0.3) if 0.2 <= drawn < 0.25 else 20.0
        works.append(_Work(fault, next(_numbers), leaves, deadline))
    return works


_numbers = itertools.count()


async def _streams(client: Client, works: list[_Work], tally: _Tally) -> None:
    waiting = iter(works)

    async def lane() -> None:
        for work in waiting:
            tally.count(await _stream(client, work))

    async with anyio.create_task_group() as tasks:
        for _ in range(CROWD):
            tasks.start_soon(lane)


async def _stream(client: Client, work: _Work) -> str:
    prompt = f"{marked(work.fault)} leftover {work.number}"
    if work.fault.startswith("bad_json"):
        asked = call(JSON_TASK, prompt + JSON_MARK, schema=SCHEMA, schema_name="gears")
    else:
        asked = call(STREAM_TASK, prompt)
    seen, done = 0, False
    policy = stream_policy(hold_back_tokens=0 if work.number % 2 else None)
    try:
        async with client.stream_route(background().with_timeout(work.deadline_s), asked, policy) as stream:
            async for event in stream:
                seen += 1
                done = done or event.HasField("completed")
                if work.leaves_after is not None and seen > work.leaves_after:
                    return "left by the client"
    except RpcError as error:
        return error.code.name.lower()
    return "completed" if done else "WITHOUT COMPLETED"


async def _idle(house: House) -> None:
    with anyio.move_on_after(40):
        while (await house.held()).in_flight:
            await anyio.sleep(0.2)
