"""How much flows between the token that gives a poor answer away and the stop.

The simulator says at which token an answer goes wrong and how many tokens it had written when its connection was closed;
a token comes every TOKEN_MS. The offence is the first token with which the gate's rule holds: the last word of the
sentence that refuses, the fourth turn of a loop; what the rule itself needs is told beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from bench.common.figures import Line, Part, Say
from bench.streams.house import (
    JSON_MARK,
    JSON_TASK,
    NOISE_TASK,
    PRIMARY,
    SCHEMA,
    STREAM_TASK,
    TOKEN_MS,
    House,
    ask,
    marked,
)
from gearshift.clients import Client, background, call, dial
from gearshift.clients.calls import stream_policy
from gearshift.core.gates.refusal import breaks_off
from gearshift.core.gates.repetition import loop_at_end
from gearshift.server.simulator.tokens import tokens_of
from gearshift.v1 import answer_pb2

WINDOW_TOKENS, WINDOW_MS = 32, 1000
_PLACES = tuple(range(33, 65, 3))
"""All over a window: the second one."""
_DRIP_S = 0.25
_SLOW_WINDOWS = 3
"""Windows in a row that must each be too slow: the rule of `ThroughputWatcher`."""


@dataclass(frozen=True)
class Case:
    """One kind of offence; `needs` gives the tokens from the first odd one that its rule takes, by the stopped text."""

    name: str
    fault: str
    gate: str
    needs: Callable[[str, int], int]
    task: str = STREAM_TASK
    places: tuple[int, ...] = _PLACES


def _loop_needs(text: str, at: int) -> int:
    return _first(text, at, lambda prefix: loop_at_end(prefix) > 0)


def _refusal_needs(text: str, at: int) -> int:
    return _first(text, at, breaks_off)


def _first(text: str, at: int, holds: Callable[[str], bool]) -> int:
    tokens = tokens_of(text)
    for end in range(at + 1, len(tokens) + 1):
        if holds("".join(tokens[:end])):
            return end - at
    return 1


def _rate_needs(_: str, __: int) -> int:
    return math.ceil(_SLOW_WINDOWS * WINDOW_MS / 1000 / _DRIP_S)


def _script_needs(_: str, __: int) -> int:
    # A switch is a window that is mostly in another script.
    return math.ceil(0.6 * WINDOW_TOKENS)


def _at_once(_: str, __: int) -> int:
    return 1


CASES = (
    Case("loop", "loop@{at}", "repetition", _loop_needs),
    Case("refusal", "<<refuses@{at}>>", "refusal", _refusal_needs),
    Case("language switch", "language@{at}:ru", "language", _script_needs),
    Case("JSON schema", "bad_json@{at}", "schema", _at_once, JSON_TASK, (2, 5, 9, 14, 20)),
    Case(
        f"throughput ({_DRIP_S:g} s a token)",
        f"drip@{{at}}:{_DRIP_S}",
        "throughput",
        _rate_needs,
        STREAM_TASK,
        (33, 40, 48, 60),
    ),
)
FAULTS = tuple(case.fault.format(at=at) for case in CASES for at in case.places if case.gate != "refusal")
_TEXT = (
    "A gearbox lets an engine turn at the speed that suits it while the road asks for quite another one. Low gears trade "
    "speed for force, so that a loaded car can start on a hill. High gears do the opposite where little force is needed. "
    "The driver, or a machine in her place, picks one with a lever and a clutch. "
)
_REFUSAL = " I'm sorry, but I can't continue with this request."
ANSWERS: tuple[dict[str, object], ...] = tuple(
    {
        "provider": PRIMARY,
        "contains": f"<<refuses@{at}>>",
        # A model that refuses and goes on talking: else the answer's end would decide.
        "text": "".join(tokens_of(_TEXT)[:at]) + _REFUSAL + " " + _TEXT,
    }
    for at in _PLACES
)


async def windows(house: House, repeats: int, say: Say) -> Part:
    """Measure every kind of offence at every place of a window."""
    lines: list[Line] = []
    async with dial(f"127.0.0.1:{house.port}") as client:
        for case in CASES:
            say(f"windows: {case.name}")
            lines.append(await _case(client, house, case, repeats))
        say("windows: drop of the log-probabilities")
        lines.append(await _noise(client, house, repeats))
    return Part(
        name="windows",
        title="From the offending token to the stop",
        lines=lines,
        notes=[
            f"A window is {WINDOW_TOKENS} tokens or {WINDOW_MS} ms, whichever comes first; tokens come every {TOKEN_MS} ms.",
            (
                "`odd to stop`: from the first token that is not as it should be. `rule needs`: how many of those tokens the "
                "gate's rule takes before it can hold (a loop is one on its fourth turn and from 96 characters, a refusal when "
                "its sentence says what it refuses, a switch of script fills most of a window, a rate is one over two seconds). `late`: what flowed beyond that."
            ),
        ],
    )


async def _case(client: Client, house: House, case: Case, repeats: int) -> Line:
    odd: list[int] = []
    needed: list[int] = []
    late: list[int] = []
    missed: list[str] = []
    for at in case.places:
        for number in range(repeats if case.gate != "throughput" else 1):
            await house.reset()
            fault = case.fault.format(at=at)
            stop = await _stream(client, case.task, _marked(fault, number, case))
            row = next(row for row in await house.rows() if row.provider == PRIMARY)
            if case.gate not in stop.gate:
                missed.append(f"{fault}: {stop.gate or 'not stopped'}")
                continue
            flowed = row.written - at
            needs = min(flowed, case.needs(stop.text, at))
            odd.append(flowed)
            needed.append(needs)
            late.append(flowed - needs)
    return _line(case.name, odd, needed, late, missed, case.gate)


def _marked(fault: str, number: int, case: Case) -> str:
    marker = fault if fault.startswith("<<") else marked(fault)
    return f"{marker} number {number}{JSON_MARK if case.task == JSON_TASK else ''}"


def _line(name: str, odd: list[int], needed: list[int], late: list[int], missed: list[str], gate: str) -> Line:
    ms = 1000 * _DRIP_S if gate == "throughput" else TOKEN_MS
    within = not missed and max(late, default=0) <= WINDOW_TOKENS and max(late, default=0) * ms <= WINDOW_MS
    return Line(
        what=name,
        cells={
            "stops": str(len(late)),
            "missed": f"{len(missed)}{' (' + '; '.join(sorted(set(missed))) + ')' if missed else ''}",
            "odd to stop, tokens": _range(odd),
            "rule needs": _range(needed),
            "late, tokens": _range(late),
            "late, ms": f"{max(late, default=0) * ms:.0f}",
        },
        most=f"{WINDOW_TOKENS} tokens and {WINDOW_MS} ms late",
        met=within,
    )


async def _noise(client: Client, house: House, repeats: int) -> Line:
    late: list[int] = []
    missed: list[str] = []
    for number in range(max(3, repeats)):
        await ask(house.flood_status, b"reset")
        stop = await _stream(client, NOISE_TASK, f"noise {number}")
        told = msgspec.json.decode(await ask(house.flood_status, b"rows"))[-1]
        if "drop" in stop.gate:
            late.append(told["frames"] - told["good"])
        else:
            missed.append(stop.gate or "not stopped")
    return _line("drop of the log-probabilities", late, [1] * len(late), [each - 1 for each in late], missed, "drop")


@dataclass
class _Stop:
    gate: str = ""
    text: str = ""


async def _stream(client: Client, task: str, prompt: str) -> _Stop:
    stop = _Stop()
    policy = stream_policy(hold_back_tokens=0, preview=True)
    schema = SCHEMA if task == JSON_TASK else {"type": "object"}
    asked = call(task, prompt) if task == STREAM_TASK else call(task, prompt, schema=schema, schema_name="gears")
    attempts = 0
    async with client.stream_route(background().with_timeout(30), asked, policy) as stream:
        async for event in stream:
            kind = event.WhichOneof("kind")
            attempts += kind == "attempt"
            if kind == "delta" and attempts == 1:
                stop.text += "".join(part.text for part in event.delta.parts)
            elif kind == "completed":
                first = event.completed.completion.attempts[0]
                stop.gate = "; ".join(verdict.gate for verdict in first.verdicts) or first.detail
                if first.failure == answer_pb2.FAILURE_KIND_IDLE_TIMEOUT and "tokens a second" in first.detail:
                    stop.gate = "throughput"
    return stop


def _range(values: Iterable[int]) -> str:
    found = sorted(values)
    return f"{found[0]}-{found[-1]}" if found else "-"
