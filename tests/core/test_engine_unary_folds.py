"""A unary answer is what the events of a stream that is held to its end would fold to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs

from gearshift.core.answer import Answer
from gearshift.core.errors import RouteError
from gearshift.core.fold import Fold
from gearshift.core.request import LabelOutput, StreamPolicy
from gearshift.core.words import Complexity, FailureKind
from tests.support.blueprints import blueprint, policy, stage
from tests.support.engine import Engine, engine, request
from tests.support.scripted_provider import Script, fails, says

LABELS = LabelOutput(labels=("good", "bad"))


def _engine(scripts: list[list[Script]]) -> Engine:
    stages = [
        stage(place, provider=f"p{place}", capability=Complexity(min(3, place + 1))) for place in range(len(scripts))
    ]
    return engine(blueprint(*stages, chain_policy=policy()), scripts)


def _same_but_times(answer: Answer) -> object:
    done = answer.completion
    attempts = [
        structs.replace(each, queue_ms=0, first_token_ms=None, total_ms=0, started_at=0) for each in done.attempts
    ]
    return structs.replace(answer, completion=structs.replace(done, attempts=tuple(attempts), total_ms=0))


async def _folded(made: Engine) -> Answer:
    fold = Fold()
    async for events in made.router.stream(structs.replace(request(output=LABELS), stream=StreamPolicy())):
        fold.apply(events)
    return fold.answer()


@pytest.mark.parametrize(
    "scripts",
    [
        pytest.param(lambda: [[says("good")]], id="accepted at once"),
        pytest.param(lambda: [[says("neither")], [says("bad")]], id="escalated"),
        pytest.param(lambda: [[fails(FailureKind.SERVER)], [says("good")]], id="fallen back"),
        pytest.param(lambda: [[says("neither")], [fails(FailureKind.SERVER)]], id="an earlier answer is the best"),
        pytest.param(lambda: [[fails(FailureKind.SERVER)]], id="no answer"),
    ],
)
async def test_a_unary_answer_is_its_folded_stream(scripts: Callable[[], list[list[Script]]]) -> None:
    told: list[object] = []
    for is_unary in (True, False):
        made = _engine(scripts())
        try:
            answer = await made.router.route(request(output=LABELS)) if is_unary else await _folded(made)
            told.append(_same_but_times(answer))
        except RouteError as error:
            told.append((type(error), error.reason, [each.outcome for each in made.notebook.attempts]))
        made.check_settled()
    assert told[0] == told[1]
