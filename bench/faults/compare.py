"""What the figures say when gateways are held against each other: who is better where, and where Gearshift fails.

Rules: nothing is chosen by hand; a difference counts when it is beyond the noise of this bench (the constants below).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from bench.faults.results import Measured, Results
from bench.faults.score import Cell, Result
from bench.faults.table import NO_FAULT, ROWS, Row
from bench.faults.work import Mode

OWN = "gearshift"
_FASTER = 0.8
_FASTER_MS = 25.0
_LEANER = 0.8
_LEANER_TOKENS = 3.0
_ENOUGH = 0.9
"""Share of valid answers from which latency and waste are worth comparing."""


@dataclass(frozen=True)
class Case:
    """A fault in a mode."""

    row: Row
    mode: Mode

    def __str__(self) -> str:
        return f"{self.row.name}, {self.mode.name}"


def cases(mode: Mode | None = None, *, must: bool = False) -> Iterator[Case]:
    """Give the cases, all or of a mode; `must` leaves out those without fault and those for information."""
    for row in ROWS:
        for each in row.modes:
            if mode in (None, each) and not (must and (row is NO_FAULT or not row.must)):
                yield Case(row, each)


def cell_of(measured: Measured, case: Case) -> Cell | None:
    """Give a case's figures."""
    return measured.cell(case.row.name, case.mode.name)


def added_ms(measured: Measured, case: Case, share: float) -> float | None:
    """Give a percentile of a case's latency less the same percentile without fault; None without valid answers."""
    cell, base = cell_of(measured, case), measured.cell(NO_FAULT.name, case.mode.name)
    if cell is None or base is None:
        return None
    took, usual = cell.latency_ms(share), base.latency_ms(share)
    return None if took is None or usual is None else took - usual


@dataclass
class Sum:
    """The cases that must hold, of one gateway, in one mode or all."""

    runs: int = 0
    valid: int = 0
    truncated: int = 0
    noticeable: int = 0
    wrong: int = 0
    errors: int = 0
    retracted: int = 0
    wasted: float = 0.0
    incurred_usd: Decimal = Decimal(0)
    recorded_usd: Decimal | None = None
    estimated_usd: Decimal = Decimal(0)
    unmatched: int = 0
    unrecorded: int = 0


def summed(measured: Measured, mode: Mode | None = None) -> Sum:
    """Sum up the cases that must hold."""
    total = Sum()
    for case in cases(mode, must=True):
        if (cell := cell_of(measured, case)) is None:
            continue
        total.runs += cell.runs
        total.valid += cell.count(Result.VALID)
        total.truncated += cell.count(Result.TRUNCATED)
        total.noticeable += cell.noticeable
        total.wrong += cell.count(Result.WRONG)
        total.errors += cell.count(Result.ERROR)
        total.retracted += cell.retracted
        total.wasted += cell.wasted_tokens
        total.incurred_usd += cell.incurred_usd
        total.estimated_usd += cell.estimated_usd
        total.unmatched += cell.unmatched
        total.unrecorded += cell.unrecorded
        if cell.recorded_usd is not None:
            total.recorded_usd = (total.recorded_usd or Decimal(0)) + cell.recorded_usd
    return total


def failures(measured: Measured) -> list[tuple[Case, Cell]]:
    """Give the cases in which not every caller got a valid answer."""
    found = [(case, cell) for case in cases() if (cell := cell_of(measured, case)) is not None]
    return [(case, cell) for case, cell in found if cell.count(Result.VALID) < cell.runs]


def better(results: Results, name: str) -> list[str]:
    """Say what another gateway does better than ours, a sentence each."""
    own, other = results.gateways.get(OWN), results.gateways.get(name)
    if own is None or other is None or name == OWN:
        return []
    safer: list[str] = []
    faster: list[tuple[float, str]] = []
    leaner: list[tuple[float, str]] = []
    for case in cases():
        mine, theirs = cell_of(own, case), cell_of(other, case)
        if mine is None or theirs is None or not mine.runs or not theirs.runs:
            continue
        if theirs.share(Result.VALID) > mine.share(Result.VALID):
            shares = f"{theirs.share(Result.VALID):.0%} of callers against {mine.share(Result.VALID):.0%}"
            safer.append(f"{case}: {shares}")
        if min(theirs.share(Result.VALID), mine.share(Result.VALID)) < _ENOUGH:
            continue
        took, usual = theirs.latency_ms(0.5), mine.latency_ms(0.5)
        if took is not None and usual is not None and took < min(usual * _FASTER, usual - _FASTER_MS):
            faster.append((usual - took, f"{case}: {took:.0f} ms against {usual:.0f} ms"))
        spent, ours = theirs.wasted_tokens / theirs.runs, mine.wasted_tokens / mine.runs
        if spent < min(ours * _LEANER, ours - _LEANER_TOKENS):
            leaner.append((ours - spent, f"{case}: {spent:.0f} against {ours:.0f}"))
    said: list[str] = []
    total, their_total = summed(own), summed(other)
    missed, their_missed = total.unrecorded + total.unmatched, their_total.unrecorded + their_total.unmatched
    if their_total.recorded_usd is not None and their_missed / max(1, their_total.runs) < missed / max(1, total.runs):
        counts = f"{their_missed} in {their_total.runs:,} runs against {missed} in {total.runs:,}"
        said.append(f"Fewer bills without a record, and records without a bill: {counts}.")
    if safer:
        said.append(f"More callers get a whole valid answer: {'; '.join(safer)}.")
    for what, found in (("A lower median latency, in all", faster), ("Fewer tokens wasted a run", leaner)):
        if found:
            told = [text for _, text in sorted(found, reverse=True)]
            more = f"; and in {len(told) - 6} more cases" if len(told) > 6 else ""
            said.append(f"{what}: {'; '.join(told[:6])}{more}.")
    return said
