"""What measures the confidence of an answer, where a chain asks for `confidence: answer`.

Rules: log-probabilities go before the answer's own features. The features are trained on reasoning: answers in free text of
the type `reason`, or to questions with lettered choices. Of others (labels, documents, texts to be written) they say nothing by themselves; there they count
only once `LEAST_OUTCOMES` of the model and the task type were reported, which is when calibration knows what they are worth. A second sample
that gives the same answer adds to the log-odds, another answer takes from them, and that sum is calibrated by itself. So is the sum of what the
answer shows and what its model says of it, which then counts little; where the answer shows nothing, the word stands alone.
"""

from __future__ import annotations

from typing import Final

from gearshift.core.blueprint import Blueprint
from gearshift.core.confidence.calibration import (
    AGREEMENT,
    ANSWER,
    ANSWER_AND_STATED,
    LOGPROBS,
    STATED,
    STATED_SLOPE,
    Calibration,
    Sureness,
    log_odds,
)
from gearshift.core.confidence.model import AnswerModel

LEAST_OUTCOMES: Final = 30
AGREED: Final = 1.2
DISAGREED: Final = -0.6
"""Log-odds that a second sample adds. On grade-school-math's recorded answers of two differently tuned models of one size it is 1.7 to 2.0 and
-0.5 to -0.7 (792 problems, two sizes); samples of one model err together more often."""


SURELY_STATED: Final = 0.99
"""Whoever says 100 is taken to say this, and whoever says 0 the opposite."""
USUALLY_STATED: Final = 0.9
"""What models say of most answers: a word that neither adds to what an answer shows nor takes from it."""


class Gauge:
    """A model of answers with a calibration. Tasks of one event loop may share it."""

    def __init__(self, model: AnswerModel, calibration: Calibration | None = None) -> None:
        self._model = model
        self.calibration = calibration or Calibration(model.calibrations)

    def of_probability(self, model: str, task_type: str, probability: float) -> Sureness:
        """Calibrate what log-probabilities say."""
        return self.calibration.sureness(model, task_type, LOGPROBS, log_odds(probability))

    def of_agreement(self, model: str, task_type: str, confidence: float, *, agreed: bool) -> Sureness:
        """Calibrate what a second sample says of a first whose confidence was measured."""
        score = log_odds(confidence) + (AGREED if agreed else DISAGREED)
        return self.calibration.sureness(model, task_type, AGREEMENT, score)

    def of_word(self, model: str, task_type: str, stated: float, shown: Sureness | None = None) -> Sureness:
        """Calibrate what a model says of its answer.

        Args:
            stated: 0 to 1.
            shown: what the answer itself shows, where it does.

        """
        said = log_odds(max(1 - SURELY_STATED, min(SURELY_STATED, stated)))
        if shown is None:
            return self.calibration.sureness(model, task_type, STATED, said)
        score = log_odds(shown.confidence) + STATED_SLOPE * (said - log_odds(USUALLY_STATED))
        return self.calibration.sureness(model, task_type, ANSWER_AND_STATED, score)

    def of_answer(self, model: str, task_type: str, prompt: str, answer: str, *, structured: bool) -> Sureness | None:
        """Measure an answer by itself; None when nothing is known of such answers.

        Args:
            structured: it is a label, a document or tool calls.

        """
        if (structured or task_type != "reason") and self.calibration.line(model, task_type, ANSWER)[
            1
        ] < LEAST_OUTCOMES:
            return None
        return self.calibration.sureness(model, task_type, ANSWER, self.score(prompt, answer))

    def score(self, prompt: str, answer: str) -> float:
        """Give what an answer by itself shows, before calibration: what is kept to learn from while it says nothing yet."""
        return self._model.score(prompt, answer)


def measures_answers(blueprint: Blueprint) -> bool:
    """Tell whether some call of a configuration is measured by its answer, or by its model's word on it."""
    policies = [chain.policy for chain in blueprint.chains.values()]
    policies += [task.policy for task in blueprint.tasks.values()]
    if any(each.self_assessment for each in policies):
        return True
    tenants = [tenant.policy.confidence for tenant in blueprint.config.access.tenants.values()]
    return "answer" in {blueprint.config.gates.confidence, *(each.confidence for each in policies), *tenants}
