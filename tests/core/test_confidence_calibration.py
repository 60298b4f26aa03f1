"""Confidence: calibration on outcomes, the answer model, and the gauge."""

from __future__ import annotations

import random

import pytest

from gearshift.core.confidence import AGREEMENT, ANSWER, LOGPROBS, Calibration, Gauge, Outcome, shipped
from gearshift.core.confidence.calibration import fitted, log_odds, sigmoid
from gearshift.core.confidence.features import NAMES, evidence

GOOD = "There are 3 * 4 = 12 eggs. She sells 2, so 12 - 2 = 10 are left.\n#### 10"
ASKED = "Anna has 3 nests with 4 eggs each. She sells 2 eggs. How many eggs are left?"


def outcomes(count: int, slope: float, offset: float, model: str = "m", kind: str = "reason") -> list[Outcome]:
    chance = random.Random(7)
    made: list[Outcome] = []
    for _ in range(count):
        score = chance.gauss(0, 1.5)
        right = chance.random() < sigmoid(slope * score + offset)
        made.append(Outcome(model=model, task_type=kind, measure=ANSWER, score=score, right=right))
    return made


def test_without_outcomes_the_prior_holds() -> None:
    calibration = Calibration({"": (1.0, 0.5), "known": (2.0, 0.0)})
    assert calibration.sureness("m", "reason", ANSWER, 0.0).confidence == pytest.approx(sigmoid(0.5))
    assert calibration.sureness("known", "reason", ANSWER, 1.0).confidence == pytest.approx(sigmoid(2.0))
    assert calibration.sureness("m", "reason", LOGPROBS, 0.3).confidence == pytest.approx(sigmoid(0.3))
    assert calibration.sureness("m", "reason", ANSWER, 0.0).outcomes == 0


def test_a_handful_of_outcomes_moves_little_and_thousands_decide() -> None:
    prior = (1.0, 0.0)
    few = fitted([(0.0, False)] * 2, prior)
    assert -0.9 < few[1] < 0.0
    many = fitted([(each.score, each.right) for each in outcomes(5_000, 0.6, -1.2)], prior)
    assert many[0] == pytest.approx(0.6, abs=0.1)
    assert many[1] == pytest.approx(-1.2, abs=0.1)


def test_calibrated_confidence_means_what_it_says() -> None:
    calibration = Calibration({"": (1.0, 0.0)})
    made = outcomes(6_000, 0.7, 0.9)
    assert calibration.learn(made[:4_000]) == 4_000
    sure = [(calibration.sureness("m", "reason", ANSWER, each.score).confidence, each.right) for each in made[4_000:]]
    near = [right for confidence, right in sure if 0.8 <= confidence < 0.9]
    assert sum(near) / len(near) == pytest.approx(0.85, abs=0.05)


def test_task_types_of_a_model_are_calibrated_apart_and_counted() -> None:
    calibration = Calibration({"": (1.0, 0.0)})
    calibration.learn([*outcomes(800, 1.0, 2.0, kind="reason"), *outcomes(800, 1.0, -2.0, kind="generate")])
    easy = calibration.sureness("m", "reason", ANSWER, 0.0)
    hard = calibration.sureness("m", "generate", ANSWER, 0.0)
    assert easy.confidence > 0.8
    assert hard.confidence < 0.2
    assert easy.outcomes == hard.outcomes == 800
    # A type without outcomes takes what is known of the model.
    assert 0.2 < calibration.sureness("m", "classify", ANSWER, 0.0).confidence < 0.8


def test_only_wrong_answers_end_in_low_confidence_and_not_in_an_error() -> None:
    line = fitted([(score / 10, False) for score in range(-50, 50)], (1.0, 0.0))
    assert sigmoid(line[0] * 5 + line[1]) < 0.6
    assert line[0] > 0


def test_log_odds_are_bounded() -> None:
    assert log_odds(1.0) == -log_odds(0.0) == 12.0
    assert sigmoid(log_odds(0.3)) == pytest.approx(0.3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "10",
        "é" * 9_000,
        "1" * 5_000,
        "((((" * 2_000,
        "A. x\nB. y\nThe answer is (B).",
        "9" * 400 + "/0 = 0",
        "\n " * 2_000,
    ],
)
def test_any_text_has_all_features(text: str) -> None:
    for prompt in ("", text, ASKED):
        values = evidence(prompt, text)
        assert len(values) == len(NAMES)
        assert all(-1e16 < value < 1e16 for value in values)
        assert -30 < shipped().score(prompt, text) < 30


def test_a_wrong_sum_and_a_cut_off_answer_lower_the_score() -> None:
    model = shipped()
    assert model.score(ASKED, GOOD) > model.score(ASKED, GOOD.replace("= 12", "= 17").replace("#### 10", ""))


def test_the_gauge_says_nothing_of_forms_that_nobody_reported_on() -> None:
    gauge = Gauge(shipped())
    assert gauge.of_answer("m", "generate", ASKED, "An essay.", structured=False) is None
    assert gauge.of_answer("m", "classify", ASKED, "spam", structured=True) is None
    assert gauge.of_answer("m", "reason", ASKED, GOOD, structured=False) is not None
    gauge.calibration.learn(outcomes(40, 1.0, 1.0, kind="classify"))
    found = gauge.of_answer("m", "classify", ASKED, "spam", structured=True)
    assert found is not None
    assert found.outcomes == 40


def test_a_second_sample_raises_or_lowers_confidence_and_is_learned_by_itself() -> None:
    gauge = Gauge(shipped())
    agreed = gauge.of_agreement("m", "classify", 0.8, agreed=True)
    parted = gauge.of_agreement("m", "classify", 0.8, agreed=False)
    assert parted.confidence < 0.8 < agreed.confidence < 1
    assert agreed.measure == AGREEMENT
    gauge.calibration.learn(
        Outcome(model="m", task_type="classify", measure=AGREEMENT, score=agreed.score, right=False) for _ in range(300)
    )
    after = gauge.of_agreement("m", "classify", 0.8, agreed=True)
    assert after.confidence < 0.2
    assert after.outcomes == 300
    assert gauge.of_probability("m", "classify", 0.8).confidence == pytest.approx(0.8)


def test_the_models_file_is_small() -> None:
    from importlib.resources import files

    assert len((files("gearshift.core.confidence") / "weights.json").read_bytes()) < 400_000
