"""How sure one can be of an answer: features, a small model over them, and calibration on what became of answers."""

from gearshift.core.confidence.calibration import (
    AGREEMENT,
    ANSWER,
    ANSWER_AND_STATED,
    LOGPROBS,
    STATED,
    Calibration,
    Outcome,
    Sureness,
)
from gearshift.core.confidence.gauge import Gauge, measures_answers
from gearshift.core.confidence.model import AnswerModel, shipped

__all__ = [
    "AGREEMENT",
    "ANSWER",
    "ANSWER_AND_STATED",
    "LOGPROBS",
    "STATED",
    "AnswerModel",
    "Calibration",
    "Gauge",
    "Outcome",
    "Sureness",
    "measures_answers",
    "shipped",
]
