"""What a replay comes to: figures for each task and run, and what the chains save against a baseline.

Rules: pure. Runs are compared over the calls that ended in every one of them. Latencies are of calls that were answered;
right answers are counted among the answered calls of which it is known; failed calls stand in a column of their own. An
average hides its spread, so percentiles stand beside it. Money is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from gearshift.core.catalogue.money import from_pico, usd_text
from gearshift.server.replay.driver import Run
from gearshift.server.replay.results import Ended

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What some calls of one run come to.

    Args:
        pico: USD times 1e12 of the calls whose price is known; `unpriced` counts the others.
        mean_s / p50_s / p95_s / p99_s: of answered calls; None when there is none.
        escalated / fell_back: calls in which that happened at least once.
        right / known: sum of how right the answers are, and of how many it is known.
    """

    calls: int
    failed: int
    accepted: int
    pico: int
    unpriced: int
    mean_s: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    escalated: int
    fell_back: int
    retried: int
    attempts: int
    right: float
    known: int
    recorded_usd: Decimal | None

    @property
    def cost_usd(self) -> Decimal:
        """What they cost, exactly."""
        return from_pico(self.pico)

    @property
    def cost_per_accepted_usd(self) -> Decimal | None:
        """What an accepted answer cost, failed and refused ones paid for; None when there is none, or a price is unknown."""
        return from_pico(round(self.pico / self.accepted)) if self.accepted and not self.unpriced else None

    @property
    def quality(self) -> float | None:
        """Share of right answers, 0 to 1; None when it is known of none."""
        return self.right / self.known if self.known else None

    @property
    def failure_rate(self) -> float | None:
        """Share of the calls without an answer."""
        return self.failed / self.calls if self.calls else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of four figures, as shares: -0.91 is 91 % less; None where there is nothing to compare."""

    cost: float | None
    latency: float | None
    failures: float | None
    quality: float | None


def figures(calls: Iterable[Ended]) -> Figures:
    """Sum calls of one run."""
    found = list(calls)
    answered = sorted(each.latency_s for each in found if not each.error)
    known = [each.right for each in found if not each.error and each.right is not None]
    recorded: Decimal | None = Decimal(0)
    for each in found:
        recorded = None if recorded is None or each.recorded_usd is None else recorded + each.recorded_usd
    return Figures(
        calls=len(found),
        failed=sum(bool(each.error) for each in found),
        accepted=sum(each.accepted for each in found),
        pico=sum(each.paid.pico or 0 for each in found),
        unpriced=sum(each.paid.pico is None for each in found),
        mean_s=sum(answered) / len(answered) if answered else None,
        p50_s=percentile(answered, 0.50),
        p95_s=percentile(answered, 0.95),
        p99_s=percentile(answered, 0.99),
        escalated=sum(each.paid.escalations > 0 for each in found),
        fell_back=sum(each.paid.fallbacks > 0 for each in found),
        retried=sum(each.paid.retries > 0 for each in found),
        attempts=sum(each.paid.attempts for each in found),
        right=sum(known),
        known=len(known),
        recorded_usd=recorded,
    )


def percentile(ascending: Sequence[float], share: float) -> float | None:
    """Give the smallest value that so large a share does not exceed."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else None


def change(to: Figures, since: Figures) -> Change:
    """Give what `to` is against `since`."""
    priced = not to.unpriced and not since.unpriced
    return Change(
        cost=_less(to.pico, since.pico) if priced else None,
        latency=_less(to.mean_s, since.mean_s),
        failures=_less(to.failed, since.failed),
        quality=_less(to.quality, since.quality),
    )


def _less(to: float | None, since: float | None) -> float | None:
    return None if to is None or not since else to / since - 1


Table = Mapping[str, Mapping[str, Figures]]
"""By run, then by task, `all` last."""


def tabulated(runs: Sequence[Run]) -> Table:
    """Sum runs over the calls that ended in all of them."""
    if not runs:
        return {}
    common = {each.number for each in runs[0].ended}
    for run in runs[1:]:
        common &= {each.number for each in run.ended}
    table: dict[str, dict[str, Figures]] = {}
    for run in runs:
        by_task: dict[str, list[Ended]] = {}
        for each in run.ended:
            if each.number in common:
                by_task.setdefault(each.task, []).append(each)
        table[run.name] = {task: figures(by_task[task]) for task in sorted(by_task)}
        table[run.name][ALL] = figures(each for each in run.ended if each.number in common)
    return table


_TITLES = {"chains": "the chains", "last": "each chain's last stage alone", "first": "each chain's first stage alone"}
_HEAD = (
    "task", "calls", "cost USD", "per accepted", "mean", "p50", "p95", "p99", "failed", "escalated", "fell back", "right",
)  # fmt: skip
_CHANGES = ("task", "cost", "latency", "failures", "quality")


def title(run: str) -> str:
    """Say what a run is."""
    stage, mark, retries = run.rpartition("@")
    if mark and retries.isdecimal():
        return f"{title(stage)}, {'without a retry' if retries == '0' else f'tried {retries} times more'}"
    return _TITLES.get(run, f"{run} alone")


def as_text(table: Table) -> str:
    """Give the tables for people."""
    parts: list[str] = []
    for run, tasks in table.items():
        parts.append(f"{title(run)}\n{_aligned([_HEAD, *(_row(task, each) for task, each in _shown(tasks))])}")
    first, *others = table
    for other in others:
        rows: list[tuple[str, ...]] = [_CHANGES]
        for task, each in _shown(table[first]):
            found = change(each, table[other][task])
            rows.append((task, *map(_percent, (found.cost, found.latency, found.failures, found.quality))))
        parts.append(f"{title(first)} against {title(other)}\n{_aligned(rows)}")
    unpriced = sum(tasks[ALL].unpriced for tasks in table.values())
    if unpriced:
        parts.append(f"{unpriced} calls have an attempt whose price is unknown; they are not in the cost")
    return "\n\n".join(parts)


def _shown(tasks: Mapping[str, Figures]) -> list[tuple[str, Figures]]:
    """Leave the sum out where there is one task alone."""
    return [(name, each) for name, each in tasks.items() if name != ALL or len(tasks) != 2] or [*tasks.items()]


def _row(task: str, each: Figures) -> tuple[str, ...]:
    per = each.cost_per_accepted_usd
    return (
        task,
        f"{each.calls:,}",
        "-" if each.unpriced == each.calls else usd_text(each.cost_usd.quantize(_SHOWN)),
        "-" if per is None else usd_text(per.quantize(_FINE)),
        *(_seconds(value) for value in (each.mean_s, each.p50_s, each.p95_s, each.p99_s)),
        str(each.failed),
        str(each.escalated),
        str(each.fell_back),
        "-" if each.quality is None else f"{each.quality:.1%} of {each.known:,}",
    )


_SHOWN, _FINE = Decimal("0.000001"), Decimal("0.00000001")


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1%}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def as_document(table: Table) -> dict[str, object]:
    """Give the figures for programs; money as text."""
    first, *others = table
    return {
        "runs": {run: {task: _fields(each) for task, each in tasks.items()} for run, tasks in table.items()},
        "against": {
            other: {
                task: {
                    "cost": found.cost,
                    "latency": found.latency,
                    "failures": found.failures,
                    "quality": found.quality,
                }
                for task, each in table[first].items()
                for found in (change(each, table[other][task]),)
            }
            for other in others
        },
    }


def _fields(each: Figures) -> dict[str, object]:
    per = each.cost_per_accepted_usd
    return {
        "calls": each.calls,
        "failed": each.failed,
        "accepted": each.accepted,
        "cost_usd": usd_text(each.cost_usd),
        "unpriced": each.unpriced,
        "cost_per_accepted_usd": None if per is None else usd_text(per),
        "recorded_usd": None if each.recorded_usd is None else usd_text(each.recorded_usd),
        "latency_mean_s": each.mean_s,
        "latency_p50_s": each.p50_s,
        "latency_p95_s": each.p95_s,
        "latency_p99_s": each.p99_s,
        "escalated": each.escalated,
        "fell_back": each.fell_back,
        "retried": each.retried,
        "attempts": each.attempts,
        "right": each.right,
        "known": each.known,
        "quality": each.quality,
    }
