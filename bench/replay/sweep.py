"""What any mix of tasks would come to, from the calls of each task.

Rules: pure. Cost, mean latency, failures and right answers are all means, so a mix is the mean of its tasks weighted by their
shares; a run of one mix through the service stands beside it as a check. Intervals are bootstrapped: calls are drawn again
within each task, the same calls for both runs.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gearshift.server.replay.driver import Run
from gearshift.server.replay.results import Ended

CLAIMS: Final = {"cost": -0.91, "latency": -0.62, "failures": -0.97, "quality": -0.02}
"""The article's headline figures."""
STEPS: Final = 200
RESAMPLES: Final = 200

Pair = tuple[Ended, Ended]
"""A call in the chains' run, and in the baseline's."""
Pairs = Mapping[str, Sequence[Pair]]
"""By task."""
Shares = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Four:
    """The four figures of a mix, as shares: -0.91 is 91 % less; None where the baseline has none of it."""

    cost: float
    latency: float
    failures: float | None
    quality: float | None

    def get(self, claim: str) -> float | None:
        """Give one by its name."""
        return {"cost": self.cost, "latency": self.latency, "failures": self.failures, "quality": self.quality}[claim]


def pairs_of(chains: Run, baseline: Run) -> dict[str, list[Pair]]:
    """Join two runs by call."""
    other = {each.number: each for each in baseline.ended}
    found: dict[str, list[Pair]] = {}
    for each in chains.ended:
        if each.number in other:
            found.setdefault(each.task, []).append((each, other[each.number]))
    return found


def four(pairs: Pairs, shares: Shares) -> Four:
    """Give the figures of a mix; shares need not add up to 1."""
    sums = [[0.0] * 6 for _ in range(2)]
    for task, share in shares.items():
        calls = pairs.get(task, ())
        if not share or not calls:
            continue
        weight = share / len(calls)
        for pair in calls:
            for side, each in zip(sums, pair, strict=True):
                side[0] += weight * (each.paid.pico or 0)
                if each.error:
                    side[3] += weight
                    continue
                side[1] += weight * each.latency_s
                side[2] += weight
                if each.right is not None:
                    side[4] += weight * each.right
                    side[5] += weight
    (cost, waited, answered, failed, right, known), (cost0, waited0, answered0, failed0, right0, known0) = sums
    return Four(
        cost=cost / cost0 - 1,
        latency=(waited / answered) / (waited0 / answered0) - 1,
        failures=failed / failed0 - 1 if failed0 else None,
        quality=(right / known) / (right0 / known0) - 1 if known and right0 else None,
    )


def holds(claim: str, value: float | None) -> bool:
    """Tell whether a figure is at least as good as the article's; to a tenth of a percent, as it is printed."""
    if value is None:
        return False
    value = round(value, 3)
    return value >= CLAIMS[claim] if claim == "quality" else value <= CLAIMS[claim]


def between(easy: Shares, hard: Shares, share: float) -> dict[str, float]:
    """Give the mix with so large a share of easy tasks."""
    mix = {task: share * part / sum(easy.values()) for task, part in easy.items()}
    return mix | {task: (1 - share) * part / sum(hard.values()) for task, part in hard.items()}


def stops_at(pairs: Pairs, easy: Shares, hard: Shares, claim: str) -> tuple[float, float] | None:
    """Give the shares of easy tasks, least and most, between which a claim holds; None when it does nowhere."""
    steps = [number / STEPS for number in range(STEPS + 1)]
    found = [share for share in steps if holds(claim, four(pairs, between(easy, hard, share)).get(claim))]
    return (found[0], found[-1]) if found else None


def interval(pairs: Pairs, shares: Shares, seed: int) -> dict[str, tuple[float, float]]:
    """Give 95 % bootstrap intervals of the figures of a mix."""
    chance = random.Random(seed)
    drawn: dict[str, list[float]] = {claim: [] for claim in CLAIMS}
    for _ in range(RESAMPLES):
        sample = {task: chance.choices(calls, k=len(calls)) for task, calls in pairs.items() if shares.get(task)}
        found = four(sample, shares)
        for claim, values in drawn.items():
            if (value := found.get(claim)) is not None:
                values.append(value)
    return {
        claim: (
            sorted(values)[int(0.025 * len(values))],
            sorted(values)[min(len(values) - 1, int(0.975 * len(values)))],
        )
        for claim, values in drawn.items()
        if values
    }
