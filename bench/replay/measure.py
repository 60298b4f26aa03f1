"""The runs of the page: thresholds, four tasks, mixes, and fault rates.

Rules: everything goes through the real service over HTTP and gRPC; what differs between two runs of a part is the chains alone.
Thresholds are found on other questions than are replayed, by the confidence that the service itself tells.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from bench.replay import data as recorded
from bench.replay.data import EASY, HARD, TASKS
from bench.replay.house import MEASURING, STRONG_FIRST, Cascade, house
from bench.replay.sweep import Shares
from gearshift.core.catalogue import Catalogue
from gearshift.core.confidence.tuning import Case, Try, Tuning, tune
from gearshift.core.sizing.trace import read_trace
from gearshift.server.replay import Call, Recorded, Run, mixed, replay, timed
from gearshift.server.replay.world import Outage

Say = Callable[[str], object]

FAULT_RATE = 0.02
"""Share of each provider's requests that fail in the main runs: an assumption; the article does not tell its own."""
FAULT_RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
TARGET = 0.98
MIXES: Mapping[str, Shares] = {
    "classification and extraction alone": {"classify": 65, "extract": 35},
    "the article's: 83 of 100 easy": {"classify": 55, "extract": 28, "reason": 12, "math": 5},
    "half easy, half hard": {"classify": 33, "extract": 17, "reason": 35, "math": 15},
    "hard questions alone": {"reason": 70, "math": 30},
}
"""Stated mixes, in parts of a hundred."""
ARTICLE = MIXES["the article's: 83 of 100 easy"]
EASY_SHARES: Shares = {task: ARTICLE[task] for task in EASY}
HARD_SHARES: Shares = {task: ARTICLE[task] for task in HARD}
AWAY = "anthropic"
BASELINES = ("last", "last@0", "first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured.

    Args:
        classify / extract: calls of these tasks; of the others, all that were recorded.
        most: calls of each hard task; None is all.
        speed: how much faster the calls come than in the traffic trace (5.5 a second).
        mix: calls of the mix that is run as a whole.
        faulty / rate: calls for each fault rate, and calls a second there and with thresholds.
        outage_s: seconds of the run with an outage, at half that rate.
    """

    classify: int = 600
    extract: int = 300
    most: int | None = None
    speed: float = 4.0
    mix: int = 1200
    faulty: int = 4000
    rate: float = 80.0
    outage_s: float = 120.0


QUICK = Sizes(classify=60, extract=40, most=40, speed=6.0, mix=100, faulty=150, rate=60.0, outage_s=20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came out.

    Args:
        tuned: of the hard tasks.
        cascade: runs with cheap first everywhere, and the baselines, in the order of `chains`, `BASELINES`.
        strong_first: the same calls where hard tasks begin at the strong model.
        mix: a run of the article's mix as a whole, and its baseline.
        faults: for each rate, the chains', the baseline's without and with a retry.
        outage: the same three, while `AWAY` is away for a quarter of the time.
    """

    tuned: Mapping[str, Tuning]
    cascade: Sequence[Run]
    strong_first: Run
    mix: Sequence[Run]
    faults: Mapping[float, Sequence[Run]]
    outage: Sequence[Run]
    calls: int


async def measured(data: Path, sizes: Sizes, seed: int, say: Say, *, thresholds: Path | None = None) -> Measured:
    """Run everything.

    Args:
        thresholds: data of the same shape to find thresholds on; None takes half of the questions of `data` for that.
    """
    easy = recorded.classify(data, sizes.classify, seed) + recorded.extract(data, sizes.extract, seed)
    tuned = await _tuned(thresholds or data, sizes, seed, say, tuning=None if thresholds else True)
    played = None if thresholds else False
    hard_calls = [
        *recorded.reason(data, seed, tuning=played)[: sizes.most],
        *recorded.gsm8k(data, seed, tuning=played)[: sizes.most],
    ]
    pool = easy + hard_calls
    # Drawn through each other, each once, at the times of real traffic.
    arrivals = [each.at for each in read_trace(recorded.part(data, "traffic/azure_conv.csv.gz"))]
    by_task = {task: float(sum(call.task == task for call in pool)) for task in TASKS}
    calls = timed(mixed(pool, by_task, len(pool), seed), arrivals)
    hard = {task: Cascade(threshold=found.chosen.threshold) for task, found in tuned.items()}
    for task, found in tuned.items():
        if found.chosen.threshold is None and found.fixed_stage == 0:
            hard[task] = MEASURING  # the cheap model alone is good enough, and is believed always
    say(f"{len(calls)} calls through the chains and {len(BASELINES)} baselines")
    cascade = await _replayed(hard, calls, ("chains", *BASELINES), sizes.speed, seed, FAULT_RATE)
    say("the same calls, hard tasks to the strong model first")
    strong = await _replayed(dict.fromkeys(HARD, STRONG_FIRST), calls, ("chains",), sizes.speed, seed, FAULT_RATE)
    say(f"{sizes.mix} calls of the article's mix as a whole")
    whole = timed(mixed(pool, ARTICLE, sizes.mix, seed), arrivals)
    mix = await _replayed(hard, whole, ("chains", "last"), sizes.speed, seed, FAULT_RATE)
    faults: dict[float, Sequence[Run]] = {}
    short = _short(recorded.classify(data, sizes.faulty, seed), sizes.rate)
    for rate in FAULT_RATES:
        say(f"{len(short)} short calls, {rate:.1%} of the requests fail")
        faults[rate] = await _replayed(hard, short, ("chains", "last@0", "last"), 1.0, seed, rate)
    say(f"{AWAY} is away for {sizes.outage_s / 4:.0f} of {sizes.outage_s:.0f} s")
    pool = _short(easy, sizes.rate)
    count = int(sizes.outage_s * sizes.rate / 2)
    steady = _short(mixed(pool, dict.fromkeys(EASY, 1.0), count, seed), sizes.rate / 2)
    outages = (Outage(provider=AWAY, begins=sizes.outage_s / 4, ends=sizes.outage_s / 2),)
    outage = await _replayed(hard, steady, ("chains", "last@0", "last"), 1.0, seed, 0.0, outages)
    return Measured(
        tuned=tuned,
        cascade=cascade,
        strong_first=strong[0],
        mix=mix,
        faults=faults,
        outage=outage,
        calls=len(calls),
    )


async def _tuned(data: Path, sizes: Sizes, seed: int, say: Say, *, tuning: bool | None) -> dict[str, Tuning]:
    """Find thresholds on the questions that are not replayed, by what the service says of each cheap answer."""
    found = {
        "reason": recorded.reason(data, seed, tuning=tuning),
        "math": recorded.gsm8k(data, seed, tuning=tuning),
    }
    calls = _short([call for each in found.values() for call in each[: sizes.most]], sizes.rate)
    say(f"thresholds on {len(calls)} other questions")
    runs = await _replayed(dict.fromkeys(HARD, MEASURING), calls, ("first", "last"), 1.0, seed, 0.0)
    tuned: dict[str, Tuning] = {}
    for task in HARD:
        cases: list[Case] = []
        for weak, strong in zip(runs[0].ended, runs[1].ended, strict=True):
            if weak.task != task or weak.right is None or strong.right is None:
                continue
            cheap = Try(right=weak.right, cost=float(weak.paid.pico or 0), confidence=weak.confidence)
            cases.append(Case(tries=(cheap, Try(right=strong.right, cost=float(strong.paid.pico or 0)))))
        tuned[task] = tune(cases, TARGET)
    return tuned


def _short(calls: Sequence[Call], rate: float) -> list[Call]:
    """Give the calls with answers that take no time, evenly so many a second: where latency is not looked at."""
    quick: list[Call] = []
    for number, call in enumerate(calls):
        answers: dict[str, Recorded] = {
            name: replace(each, first_token_ms=2.0, latency_ms=4.0) for name, each in call.answers.items()
        }
        quick.append(replace(call, at=number / rate, answers=answers))
    return quick


async def _replayed(
    hard: Mapping[str, Cascade],
    calls: Sequence[Call],
    runs: Sequence[str],
    speed: float,
    seed: int,
    fault_rate: float,
    outages: Sequence[Outage] = (),
) -> list[Run]:
    world = house(hard, fault_rate=fault_rate, seed=seed, outages=outages)
    with tempfile.TemporaryDirectory(prefix="gearshift-replay-") as folder:
        return await replay(world, calls, runs, Path(folder), speed=speed, catalogue=Catalogue.load())
