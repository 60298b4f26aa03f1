"""Recorded outcomes, as `gearshift tune` reads them: JSON lines, one request each.

Rules: pure. Every line of a task type has the same number of stages. Answers without a confidence are measured as the
service would, and calibrated on the lines themselves, by cross-validation so that no line judges itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from gearshift.core.confidence.calibration import ANSWER, Calibration, Outcome
from gearshift.core.confidence.model import shipped
from gearshift.core.confidence.tuning import Case, Try

_FOLDS: Final = 5
_EXAMPLE: Final = '{"task_type": "reason", "stages": [{"correct": 0, "cost": 0.0002, "confidence": 0.6}, {"correct": 1, "cost": 0.003}]}'


class CannotReadError(ValueError):
    """Raised when a line is not what is documented; says which, and why."""


class RecordedStage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one stage made of a request."""

    correct: Annotated[float, Meta(ge=0, le=1)] | bool
    """How right the answer is, 0 to 1 or a truth."""
    cost: Annotated[float, Meta(ge=0)]
    """What it cost, in one unit for all."""
    model: str = ""
    """As the configuration calls it."""
    confidence: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Unset is measured from `answer`, where there is one."""
    answer: str | None = None
    """The answer's text."""


class RecordedRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line."""

    task_type: str
    """The word of the task type, or the name of a chain."""
    stages: Annotated[tuple[RecordedStage, ...], Meta(min_length=1)]
    """In the chain's order, the strongest last."""
    prompt: str = ""
    """All that was asked."""
    id: str = ""
    """Anything that tells it from others; not used."""


class Recording(Struct, frozen=True, kw_only=True):
    """All requests of one task type.

    Args:
        models: by stage; empty where nobody said.
        is_measured: whether confidence was measured from the answers.
        note: what to know of it.

    """

    task_type: str
    models: tuple[str, ...]
    cases: list[Case]
    chain: str = ""
    is_measured: bool = False
    note: str = ""


def read_recordings(lines: Iterable[str]) -> Mapping[str, Recording]:
    """Read lines, by task type.

    Raises:
        CannotReadError: a line is not as documented.

    """
    decoder = msgspec.json.Decoder(RecordedRequest)
    found: dict[str, list[RecordedRequest]] = defaultdict(list)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            request = decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise CannotReadError(f"line {number}: {error}; a line is like {_EXAMPLE}") from error
        known = found[request.task_type]
        if known and len(known[0].stages) != len(request.stages):
            raise CannotReadError(
                f"line {number}: {len(request.stages)} stages, where `{request.task_type}` had {len(known[0].stages)} before"
            )
        known.append(request)
    return {kind: _recording(kind, requests) for kind, requests in found.items()}


def _recording(kind: str, requests: list[RecordedRequest]) -> Recording:
    scores: dict[tuple[int, int], float] = {}
    for at, request in enumerate(requests):
        # The last stage's answer is taken however sure it is.
        for place, stage in enumerate(request.stages[:-1]):
            if stage.confidence is None and stage.answer is not None:
                scores[at, place] = shipped().score(request.prompt, stage.answer)
    confidences = _calibrated(kind, requests, scores)
    cases = [
        Case(
            tries=tuple(
                Try(
                    right=stage.correct,
                    cost=stage.cost,
                    confidence=stage.confidence if stage.confidence is not None else confidences.get((at, place)),
                )
                for place, stage in enumerate(request.stages)
            )
        )
        for at, request in enumerate(requests)
    ]
    models = tuple(stage.model for stage in requests[0].stages)
    return Recording(task_type=kind, models=models, cases=cases, is_measured=bool(scores))


def _calibrated(
    kind: str, requests: list[RecordedRequest], scores: Mapping[tuple[int, int], float]
) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = {}
    for fold in range(_FOLDS if scores else 0):
        calibration = Calibration(shipped().calibrations)
        calibration.learn(
            Outcome(
                model=requests[at].stages[place].model,
                task_type=kind,
                measure=ANSWER,
                score=score,
                right=requests[at].stages[place].correct >= 0.5,
            )
            for (at, place), score in scores.items()
            if at % _FOLDS != fold
        )
        for (at, place), score in scores.items():
            if at % _FOLDS == fold:
                model = requests[at].stages[place].model
                found[at, place] = calibration.sureness(model, kind, ANSWER, score).confidence
    return found
