"""What is recorded of broken attempts is what the simulator bills, wherever the wire says enough; the row says if not."""

from __future__ import annotations

import itertools
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Decimal

import anyio
import pytest

from gearshift.core.answer import AttemptRecord
from gearshift.core.events import Delta
from gearshift.core.provider import Timeouts
from gearshift.core.request import StreamPolicy
from gearshift.core.words import AttemptOutcome, UsageSource
from gearshift.server.simulator import Entry
from tests.support.engine import request
from tests.support.simulated_engine import HEALTHY, Cell, Simulated, simulated

ANSWERS = f"""\
  - {{provider: {HEALTHY}, text: "A gearbox does what it must, quietly, and with very little fuss or noise on the road."}}
  - text: >-
      The small wheel helps you climb, and the large one helps you hurry; a gearbox does the same with toothed wheels in
      oil, and wastes very little on the way.
"""
PACE = "latency: {token_ms: 3}"
TIMEOUTS = Timeouts(connect_s=5, first_token_s=1.2, idle_s=1.0, total_s=20)
WHOLE = Timeouts(connect_s=5, first_token_s=1.2, idle_s=1.0, total_s=1.5)
BROKEN = (
    "error_in_stream@9",
    "cut@9",
    "close@9",
    "stall@9:5",
    "drip@9:1.4",
    "malformed@9",
    "invalid_utf8@9",
    "no_end@9",
    "loop@9:256",
)
"""Faults in the middle of a stream, after which an attempt is left: failed, or stopped by a window."""
ELSE = (
    "",
    "reset",
    "hang:5",
    "unauthorized",
    "429",
    "500",
    "503",
    "529",
    "empty",
    "html",
    "wrong_type",
    "cut@0",
    "stall@0:5",
    "no_usage",
    "refusal@9",
    "filtered@9",
    "no_done",
)
NOT_IN_OLLAMA = ("filtered@9", "no_done")
_ACROSS = 48


@dataclass(frozen=True)
class Billed:
    """What one attempt cost, by both books."""

    cell: Cell
    rows: list[AttemptRecord]
    entries: list[Entry]

    @property
    def recorded(self) -> Decimal:
        return sum((row.cost_usd or Decimal(0) for row in self.rows), Decimal(0))

    @property
    def incurred(self) -> Decimal:
        return sum((entry.billed_usd for entry in self.entries), Decimal(0))

    @property
    def source(self) -> UsageSource:
        return max(row.usage.source for row in self.rows)

    def __str__(self) -> str:
        rows = [(row.usage.input_tokens, row.usage.output_tokens, row.outcome.word) for row in self.rows]
        entries = [(entry.input_tokens, entry.output_tokens, entry.end) for entry in self.entries]
        return f"{self.cell}: {self.source.word} {rows}, billed {entries}"


async def asked(cells: list[Cell], *, stream: bool) -> list[Billed]:
    """Ask every cell once."""
    found: list[Billed] = []
    async with simulated(cells, ANSWERS) as sim:
        limit = anyio.CapacityLimiter(_ACROSS)

        async def ask(cell: Cell) -> None:
            router, notebook = sim.router(cell.name, timeouts=TIMEOUTS if stream else WHOLE)
            async with limit:
                with anyio.fail_after(20):
                    if stream:
                        async with aclosing(router.stream(request(stream=StreamPolicy()))) as events:
                            async for _ in events:
                                pass
                    else:
                        await router.route(request())
            found.append(Billed(cell, [row for row in notebook.attempts if row.stage.provider == cell.name], []))

        async with anyio.create_task_group() as tasks:
            for cell in cells:
                tasks.start_soon(ask, cell)
        await sim.settled()
        for each in found:
            each.entries.extend(sim.booked(each.cell.name))
    assert len(found) == len(cells)
    return found


def cells_of(wires: dict[str, tuple[str, str, str]], faults: tuple[str, ...]) -> list[Cell]:
    """Give a cell for each fault and kind of wire: the wire, its dialect, and more of its plan."""
    return [
        Cell(name=f"{name}-{number}", wire=wire, dialect=dialect, fault=fault, plan=f"{PACE}, {plan}")
        for (name, (wire, dialect, plan)), (number, fault) in itertools.product(wires.items(), enumerate(faults))
        if not (wire == "ollama" and fault in NOT_IN_OLLAMA)
    ]


END, EACH = "usage: end", "usage: cumulative"
WIRES = {
    "openai": ("openai", "compatible", END),
    "openai-each": ("openai", "compatible", EACH),
    "vllm": ("openai", "vllm", END),
    "anthropic": ("anthropic", "", END),
    "anthropic-each": ("anthropic", "", EACH),
    "ollama": ("ollama", "", END),
}
SOURCES = {
    "openai": UsageSource.ESTIMATED,  # its input is not on the wire before the end; its output is counted
    "openai-each": UsageSource.REPORTED,
    "vllm": UsageSource.REPORTED,
    "anthropic": UsageSource.COUNTED,
    "anthropic-each": UsageSource.REPORTED,
    "ollama": UsageSource.ESTIMATED,
}


@pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
async def test_what_was_learned_of_a_model_leaves_broken_streams_exact(wire: str) -> None:
    kind, dialect, _ = WIRES[wire]
    lines = " ".join(f"The wheel has {number} teeth." for number in range(40))
    breaks = f"{END}, faults: [{{fault: 'cut@9', contains: 'break off'}}]"
    cell = Cell(name="learned", wire=kind, dialect=dialect, plan=f"{PACE}, {breaks}")
    async with simulated([cell], ANSWERS) as sim:
        router, notebook = sim.router("learned", timeouts=TIMEOUTS)

        async def ask(prompt: str) -> None:
            with anyio.fail_after(10):
                async with aclosing(router.stream(request(prompt, stream=StreamPolicy()))) as events:
                    async for _ in events:
                        pass

        for length in range(220, 800, 29):
            await ask(lines[:length])
        whole = len(notebook.attempts)
        for length in (30, 260, 555, 790):
            await ask(f"{lines[:length]} break off")
        await sim.settled()
        rows = [row for row in notebook.attempts[whole:] if row.stage.provider == "learned"]
        entries = sim.booked("learned")[whole:]
    assert {row.outcome for row in rows} == {AttemptOutcome.FAILED}
    assert [row.usage.source for row in rows] == [SOURCES[wire]] * 4
    billed = [(entry.input_tokens, entry.output_tokens, entry.billed_usd) for entry in entries]
    assert [(row.usage.input_tokens, row.usage.output_tokens, row.cost_usd) for row in rows] == billed


LEFT_BY_US = ("malformed", "invalid_utf8")
"""The provider may go on writing until it hears that we have gone: here it does not, so the sums are exact all the same."""


async def test_attempts_that_break_in_the_middle_cost_what_was_billed() -> None:
    for each in await asked(cells_of(WIRES, BROKEN), stream=True):
        assert each.rows[0].outcome in (AttemptOutcome.FAILED, AttemptOutcome.STOPPED), each
        stopped = each.rows[0].outcome is AttemptOutcome.STOPPED  # what was on its way when we left, nobody has seen
        left = stopped or each.cell.fault.startswith(LEFT_BY_US)
        expected = UsageSource.ESTIMATED if left else SOURCES[each.cell.name.rpartition("-")[0]]
        assert each.source is expected, each
        if stopped:
            assert 0 < each.recorded <= each.incurred, each
        else:
            assert each.recorded == each.incurred > 0, each  # `estimated` or not: every frame is one token


@pytest.mark.parametrize("stream", [True, False])
async def test_no_row_but_an_estimate_is_ever_wrong(stream: bool, capsys: pytest.CaptureFixture[str]) -> None:
    faults = ELSE if stream else (*ELSE, *(fault for fault in BROKEN if not fault.startswith("drip")))
    wrong = Decimal(0)
    for each in await asked(cells_of(WIRES, faults), stream=stream):
        if each.source is not UsageSource.ESTIMATED:
            assert each.recorded == each.incurred, each
        wrong += abs(each.recorded - each.incurred)
        if each.cell.fault in ("", "wrong_type", "unauthorized", "429", "500", "503", "529", "filtered@9"):
            assert each.source is UsageSource.REPORTED, each
    with capsys.disabled():
        print(f"\nestimates of broken {'streams' if stream else 'unary calls'} are off by {wrong} USD in all")


async def test_frames_of_several_tokens_are_not_called_counted() -> None:
    wires = {
        "openai": ("openai", "compatible", f"{END}, tokens_per_frame: 4"),
        "anthropic": ("anthropic", "", f"{END}, tokens_per_frame: 4"),
        "ollama": ("ollama", "", f"{END}, tokens_per_frame: 4"),
        "anthropic-each": ("anthropic", "", f"{EACH}, tokens_per_frame: 4"),
    }
    for each in await asked(cells_of(wires, ("cut@9", "stall@9:5")), stream=True):
        if each.cell.name.startswith("anthropic-each"):
            assert (each.source, each.recorded) == (UsageSource.REPORTED, each.incurred), each
        else:
            assert each.source is UsageSource.ESTIMATED, each


@pytest.mark.parametrize("wire", WIRES)
async def test_a_caller_that_leaves_is_billed_what_had_come(wire: str) -> None:
    kind, dialect, plan = WIRES[wire]
    cell = Cell(name="left", wire=kind, dialect=dialect, plan=f"latency: {{token_ms: 40}}, {plan}")
    async with simulated([cell], ANSWERS) as sim:
        row = await _left(sim)
        await sim.settled()
        (entry,) = sim.booked("left")
    assert row.outcome is AttemptOutcome.CANCELLED
    assert row.usage.source is UsageSource.ESTIMATED  # what was on its way when the caller left, nobody has seen
    assert row.usage.input_tokens == entry.input_tokens
    assert 4 <= row.usage.output_tokens <= entry.output_tokens
    assert row.cost_usd is not None and row.cost_usd <= entry.billed_usd


async def _left(sim: Simulated) -> AttemptRecord:
    router, notebook = sim.router("left")
    seen = 0
    with anyio.fail_after(10):
        async with aclosing(router.stream(request(stream=StreamPolicy(hold_back_tokens=0)))) as events:
            async for batch in events:
                seen += sum(isinstance(event, Delta) for event in batch)
                if seen == 4:
                    break
    (row,) = notebook.attempts
    return row
