"""The bench behind docs/article-claims.md: its sums, its data, and a very small run of all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.replay import data, measure, page
from bench.replay.data import COPY, TASKS
from bench.replay.sweep import between, four, holds, stops_at
from gearshift.server.replay import Ended
from gearshift.server.replay.results import Paid


def pair(task: str, cost: int, waited: float, right: float, *, failed: bool = False) -> tuple[Ended, Ended]:
    def one(pico: int, latency: float, share: float, error: str = "") -> Ended:
        paid = Paid(pico=pico, attempts=1)
        return Ended(number=0, task=task, lag_s=0, latency_s=latency, error=error, right=share, paid=paid)

    return one(cost, waited, right), one(100, 10.0, 1.0, "UNAVAILABLE" if failed else "")


_PAIRS = {
    "easy": [pair("easy", 2, 1.0, 0.9), pair("easy", 2, 1.0, 1.0, failed=True)],
    "hard": [pair("hard", 100, 10.0, 1.0), pair("hard", 100, 10.0, 1.0)],
}


def test_mix_is_the_weighted_mean_of_its_tasks() -> None:
    assert four(_PAIRS, {"easy": 1}).cost == pytest.approx(-0.98)
    found = four(_PAIRS, between({"easy": 1}, {"hard": 1}, 0.5))
    assert found.cost == pytest.approx(0.5 * 0.02 + 0.5 * 1 - 1)
    assert found.failures == -1.0
    # The baseline's failed call has no latency: 0.25 of the mix less.
    assert found.latency == pytest.approx(5.5 / 10 - 1)


def test_claim_stops_where_the_figure_is_no_longer_as_good() -> None:
    assert stops_at(_PAIRS, {"easy": 1}, {"hard": 1}, "cost") == (0.93, 1.0)
    assert stops_at(_PAIRS, {"easy": 1}, {"hard": 1}, "failures") == (0.005, 1.0)
    held = stops_at(_PAIRS, {"easy": 1}, {"hard": 1}, "quality")
    assert held is not None
    assert held[0] == 0.0
    assert held[1] < 1.0
    assert holds("cost", -0.91) and not holds("cost", -0.90)
    assert not holds("cost", None)


def test_drawn_answers_are_as_often_right_as_published() -> None:
    calls = data.classify(COPY, 300, 1)
    assert sum(bool(call.answers[data.FLASH].correct) for call in calls) == 88 + 85 + 94
    assert sum(bool(call.answers[data.SONNET].correct) for call in calls) == 90 + 84 + 96
    assert calls == data.classify(COPY, 300, 1)
    extracted = data.extract(COPY, 200, 1)
    wrong = [call for call in extracted if not call.answers[data.HAIKU].correct]
    assert 0 < len(wrong) < 20
    assert {call.task for call in [*calls, *extracted, *data.reason(COPY, 1, tuning=False)]} <= set(TASKS)


def test_questions_of_thresholds_are_not_replayed() -> None:
    for read in (data.reason, data.gsm8k):
        tuning, played = ({call.prompt for call in read(COPY, 1, tuning=side)} for side in (True, False))
        assert not tuning & played
        assert min(len(tuning), len(played)) > 200


async def test_whole_page_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for model in data.MEDIAN_S:
        monkeypatch.setitem(data.MEDIAN_S, model, 0.02)
    monkeypatch.setattr(measure, "FAULT_RATES", (0.05,))
    sizes = measure.Sizes(classify=12, extract=8, most=8, speed=40.0, mix=12, faulty=12, rate=40.0, outage_s=1.0)
    found = await measure.measured(COPY, sizes, 1, lambda _: None)
    text = page.as_text(found, seed=1, seconds=60.0, quick=True, is_copy=True)
    assert "seed 1" in text
    assert text.count("| cascade |") == len(measure.MIXES)
    assert "A quick look with few calls" in text
    pytest.importorskip("matplotlib", reason="the extra `plot`")
    page.write_page(tmp_path / "article-claims.md", text, found)
    assert (tmp_path / "article-claims.png").exists()
    assert (tmp_path / "article-claims-faults.png").exists()
