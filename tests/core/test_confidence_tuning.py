"""Thresholds for a target quality, and when a cascade is refused."""

from __future__ import annotations

import random

import pytest

from gearshift.core.confidence.recorded import CannotReadError, read_recordings
from gearshift.core.confidence.tuning import Case, Try, area, at_threshold, pays, tune


def cases(count: int, weak_cost: float, *, informed: bool = True) -> list[Case]:
    chance = random.Random(3)
    made: list[Case] = []
    for _ in range(count):
        sure = chance.random()
        right = chance.random() < (sure if informed else 0.5)
        strong = chance.random() < 0.95
        made.append(Case(tries=(Try(right=right, cost=weak_cost, confidence=sure), Try(right=strong, cost=1.0))))
    return made


def test_a_cheap_informed_stage_makes_a_cascade_that_pays() -> None:
    found = tune(cases(3_000, 0.02), 0.9)
    assert found.refused == ""
    assert found.chosen.threshold is not None
    assert found.chosen.cost < 0.95
    assert found.chosen.quality >= 0.9 * found.beside[1].quality


def test_a_dear_first_stage_is_refused_and_one_stage_is_chosen() -> None:
    found = tune(cases(3_000, 0.6), 0.98)
    assert "alone" in found.refused
    assert found.fixed_stage == 1
    assert found.chosen.cost == pytest.approx(1.0)


def test_a_first_stage_that_is_good_enough_alone_is_chosen_alone() -> None:
    made = [Case(tries=(Try(right=1, cost=0.1, confidence=0.5), Try(right=1, cost=1.0)))] * 50
    found = tune(made, 0.98)
    assert found.fixed_stage == 0
    assert found.chosen.cost == pytest.approx(0.1)


def test_an_oracle_is_never_dearer_than_the_cascade() -> None:
    found = tune(cases(2_000, 0.02), 0.95)
    weak, strong, fixed, coin, best = found.beside
    assert best.cost <= found.chosen.cost <= fixed.cost
    assert weak.cost < strong.cost
    assert best.cost <= coin.cost


def test_unmeasured_answers_are_never_accepted_before_the_last_stage() -> None:
    made = [Case(tries=(Try(right=1, cost=0.1), Try(right=1, cost=1.0)))]
    assert at_threshold(made, 0.0).escalated == 1.0


def test_three_stages_pay_for_all_that_they_asked() -> None:
    made = [
        Case(
            tries=(
                Try(right=0, cost=1, confidence=0.1),
                Try(right=1, cost=10, confidence=0.9),
                Try(right=1, cost=100, confidence=0.9),
            )
        )
    ]
    assert at_threshold(made, 0.5).cost == 11
    assert at_threshold(made, 0.95).cost == 111


def test_a_try_pays_when_it_costs_less_than_it_saves() -> None:
    assert pays(0.1, 0.5, 1.0)
    assert not pays(0.34, 0.3, 1.0)


def test_the_area_of_a_coin_is_one_half() -> None:
    assert area([(0.5, 0.7)], 0.6, 0.8) == pytest.approx(0.5)


def test_stages_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="same stages"):
        tune([Case(tries=(Try(right=1, cost=1),)), *cases(1, 0.1)], 0.9)
    with pytest.raises(ValueError, match="same stages"):
        tune([], 0.9)


def test_lines_are_read_by_task_type() -> None:
    line = '{"task_type": "%s", "stages": [{"correct": 1, "cost": 0.1, "confidence": 0.9}, {"correct": 1, "cost": 2}]}'
    found = read_recordings([line % "reason", "", line % "extract", line % "reason"])
    assert {kind: len(each.cases) for kind, each in found.items()} == {"reason": 2, "extract": 1}


def test_answers_without_a_confidence_are_measured() -> None:
    line = (
        '{"task_type": "reason", "prompt": "How many are 3 + 4?", "stages": ['
        '{"model": "m", "correct": %d, "cost": 0.1, "answer": "3 + 4 = %d\\n#### %d"}, {"correct": 1, "cost": 2}]}'
    )
    found = read_recordings([line % (1, 7, 7), line % (0, 9, 9)] * 20)["reason"]
    assert found.is_measured
    right, wrong = found.cases[0].tries[0].confidence, found.cases[1].tries[0].confidence
    assert right is not None
    assert wrong is not None
    assert right > wrong


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("{", "line 1", id="no JSON"),
        pytest.param('{"task_type": "reason", "stages": []}', "stages", id="no stage"),
        pytest.param('{"task_type": "reason", "stages": [{"correct": 2, "cost": 1}]}', "correct", id="out of range"),
        pytest.param('{"task_type": "r", "stages": [{"correct": 1, "cost": 1, "x": 1}]}', "x", id="unknown field"),
    ],
)
def test_a_wrong_line_is_named(line: str, told: str) -> None:
    with pytest.raises(CannotReadError, match=told):
        read_recordings([line])
