"""With a healthy stage left every fault ends in a complete valid answer: twenty seeded runs of each, in each format."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass

import anyio
import pytest

from gearshift.core.errors import RouteError
from gearshift.core.provider import Timeouts
from gearshift.core.request import JsonOutput, Output, StreamPolicy, user
from gearshift.core.words import Outcome, TaskType
from gearshift.server.simulator.tokens import tokens_of
from tests.support.engine import request
from tests.support.simulated_engine import HEALTHY, Cell, Simulated, simulated
from tests.support.stream_rules import replayed

RUNS = 20
WIRES = ("openai", "anthropic", "ollama")
TEXT = (
    "The small wheel helps you climb, and the large one helps you hurry; a gearbox does the same with toothed wheels in "
    "oil, and wastes very little on the way."
)
OTHER = "A gearbox does what it must, quietly, and with very little fuss or noise at all on any road that you take."
DOCUMENT = {"kind": "service", "currency": "EUR", "total": 1280, "paid": False, "item": "bearing", "count": 12}
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "kind": {"enum": ["goods", "service", "credit"]},
            "currency": {"enum": ["EUR", "USD", "CHF"]},
            "total": {"type": "integer", "minimum": 1, "maximum": 9999},
            "paid": {"type": "boolean"},
            "item": {"enum": ["bearing", "oil", "shaft"]},
            "count": {"type": "integer", "minimum": 1, "maximum": 99},
        },
        "required": sorted(DOCUMENT),
        "additionalProperties": False,
    }
)
ANSWERS = f"""\
  - {{provider: {HEALTHY}, text: "{OTHER}", json: {json.dumps(DOCUMENT)}}}
  - {{text: "{TEXT}", json: {json.dumps(DOCUMENT)}}}
"""
TOKENS = len(tokens_of(TEXT))
TIMEOUTS = Timeouts(connect_s=5, first_token_s=1.5, idle_s=1.5, total_s=30)
WHOLE = Timeouts(connect_s=5, first_token_s=1.5, idle_s=1.5, total_s=1.5)
ACROSS = 150
"""Calls at once: most of a run's time is waiting for what never comes."""


@dataclass(frozen=True)
class Row:
    """A fault; `@` is where its place, drawn for each run, goes."""

    fault: str
    text: bool = True
    json: bool = True
    streams_only: bool = False
    wires: tuple[str, ...] = WIRES


ROWS = {
    "no fault": Row(""),
    "connection refused": Row("refused"),
    "connection reset": Row("reset"),
    "hang before headers": Row("hang:30"),
    "401": Row("unauthorized"),
    "402": Row("payment_required"),
    "429": Row("rate_limited"),
    "429 with Retry-After": Row("rate_limited:1"),
    "500": Row("server_error"),
    "503": Row("unavailable"),
    "503 with Retry-After": Row("unavailable:1"),
    "529": Row("overloaded"),
    "error in a 200 stream": Row("error_in_stream@"),
    "empty 200": Row("empty"),
    "HTML": Row("html"),
    "cut": Row("cut@"),
    "close": Row("close@"),
    "stall": Row("stall@:30"),
    "slow drip": Row("drip@:0.02"),
    "malformed frame": Row("malformed@"),
    "invalid UTF-8": Row("invalid_utf8@"),
    "missing end": Row("no_end@", streams_only=True),
    "missing end mark": Row("no_done", streams_only=True, wires=("openai", "anthropic")),
    "missing usage": Row("no_usage"),
    "duplicate frame": Row("duplicate@", text=False, streams_only=True),
    "wrong content type": Row("wrong_type"),
    "breaks its schema": Row("bad_json@", text=False),
    "repetition loop": Row("loop@:256"),
    "refusal half-way": Row("refusal@"),
}


@dataclass(frozen=True)
class Mode:
    """How an answer is asked for."""

    stream: bool
    json: bool


def cells(row: Row, wire: str) -> list[Cell]:
    """Give the simulated provider of a fault, one for text and one for documents, which have fewer tokens."""
    if row.fault == "refused":
        return [Cell(name=f"{wire}-{form}", wire=wire, plan="port: 0, down: true") for form in ("text", "json")]
    made: list[Cell] = []
    for form, tokens in (("text", TOKENS), ("json", len(tokens_of(json.dumps(DOCUMENT))))):
        head, at, tail = row.fault.partition("@")
        made.append(Cell(name=f"{wire}-{form}", wire=wire, fault=f"{head}@0-{tokens - 1}{tail}" if at else head))
    return made


async def answered(sim: Simulated, cell: str, mode: Mode, run: int) -> str:
    """Ask once; gives what is wrong with the answer, or nothing."""
    router, _ = sim.router(cell, timeouts=TIMEOUTS if mode.stream else WHOLE)
    output: Output | None = JsonOutput(schema=SCHEMA) if mode.json else None
    call = request(
        messages=(user(f"Tell reader {run} about gears."),),
        kind=TaskType.EXTRACT if mode.json else TaskType.GENERATE,
        output=output,
        stream=StreamPolicy() if mode.stream else None,
    )
    with anyio.fail_after(30):
        if mode.stream:
            replay = await replayed(router.stream(call))
            assert replay.completed is not None
            if replay.error is not None:
                return f"{cell} {mode} {run}: {replay.error}"
            outcome, text = replay.completed.completion.outcome, replay.text
        else:
            try:
                answer = await router.route(call)
            except RouteError as error:
                return f"{cell} {mode} {run}: {error}"
            outcome, text = answer.completion.outcome, answer.text
    right = json.loads(text) == DOCUMENT if mode.json and outcome is Outcome.ACCEPTED else text in (TEXT, OTHER)
    return "" if right and outcome is Outcome.ACCEPTED else f"{cell} {mode} {run}: {outcome} {text[:200]!r}"


@pytest.mark.parametrize("name", ROWS)
async def test_every_caller_gets_a_complete_valid_answer(name: str) -> None:
    row, wrong = ROWS[name], list[str]()
    limit = anyio.CapacityLimiter(ACROSS)

    async def ask(sim: Simulated, cell: str, mode: Mode, run: int) -> None:
        async with limit:
            if problem := await answered(sim, cell, mode, run):
                wrong.append(problem)

    async with simulated([cell for wire in row.wires for cell in cells(row, wire)], ANSWERS) as sim:
        async with anyio.create_task_group() as tasks:
            for wire, stream, run in itertools.product(row.wires, (True, False), range(RUNS)):
                if stream or not row.streams_only:
                    mode = Mode(stream=stream, json=row.json and (run % 2 == 0 or not row.text))
                    tasks.start_soon(ask, sim, f"{wire}-{'json' if mode.json else 'text'}", mode, run)
        await sim.settled()
        booked = [entry for entry in sim.simulator.account.entries if entry.provider != HEALTHY]
    assert not wrong, "\n".join(wrong[:20])
    if row.fault not in ("", "refused"):
        assert sum(entry.applied for entry in booked) >= RUNS * len(row.wires)
