"""Drives one gateway through the fault table.

Rules: a batch is one fault in one mode; within it workers ask one after the other. A batch begins no
run after its time is over; a run is bounded by the caller's patience. The provider's account is emptied before a batch
and read once nothing is added to it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from time import perf_counter

import anyio

from bench.faults.gateway import Gateway, Running
from bench.faults.provider import Providers
from bench.faults.score import Cell, Result, scored
from bench.faults.table import NO_FAULT, Row
from bench.faults.work import Heard, Mode, Question, prompt

Say = Callable[[str], None]
Keep = Callable[[str, str, Cell], None]
"""Takes a row's name, a mode's name and the cell."""

WAITING = 8
"""So many times as many calls at once where the fault waits."""
_MOST_IN_FLIGHT = 64
_WARM_UP = 4


@dataclass(frozen=True, kw_only=True)
class Drive:
    """How much to run: runs of a batch, seconds of a batch, and which rows and modes."""

    runs: int
    seed: int
    batch_s: float
    rows: Sequence[Row]
    modes: Sequence[Mode]


async def drive(gateway: Gateway, running: Running, providers: Providers, asked: Drive, say: Say, keep: Keep) -> None:
    """Run every batch."""
    for mode in asked.modes:
        warm = Drive(runs=_WARM_UP * gateway.in_flight, seed=asked.seed, batch_s=30.0, rows=(), modes=())
        await _batch(gateway, running, providers, NO_FAULT, mode, warm)
    for row in asked.rows:
        for mode in asked.modes:
            if mode not in row.modes:
                continue
            began = perf_counter()
            cell = await _batch(gateway, running, providers, row, mode, asked)
            keep(row.name, mode.name, cell)
            say(f"{gateway.name}: {row.name}, {mode.name}: {_told(cell)}; {perf_counter() - began:.0f} s")


async def _batch(gateway: Gateway, running: Running, providers: Providers, row: Row, mode: Mode, asked: Drive) -> Cell:
    await providers.reset()
    numbers = count()
    heard: list[Heard] = []
    until = perf_counter() + asked.batch_s
    in_flight = min(_MOST_IN_FLIGHT, gateway.in_flight * (WAITING if row.waits else 1))

    async def worker() -> None:
        while (number := next(numbers)) < asked.runs and perf_counter() < until:
            text = prompt(mode, number, row.marker(mode, asked.seed, number))
            heard.append(await running.ask(Question(prompt=text, mode=mode, gone=row.gone, lane=number)))

    async with anyio.create_task_group() as tasks:
        for _ in range(in_flight):
            tasks.start_soon(worker)
    billed = await providers.settled()
    await anyio.sleep(row.lasts_s)
    return scored(mode, heard, billed, await running.spent())


def _told(cell: Cell) -> str:
    counts = ", ".join(f"{cell.count(result)} {result.value}" for result in Result if cell.count(result))
    return f"{cell.runs} runs: {counts}"
