"""How a stream is held back and switched when its caller says nothing: as its task says, else as the file says."""

from __future__ import annotations

import anyio
import pytest

from gearshift.core.blueprint import Blueprint
from gearshift.core.events import TextDelta
from gearshift.core.provider import Chunk, TokenLogprob
from gearshift.core.request import JsonOutput, StreamPolicy
from gearshift.core.words import Complexity, FailureKind, FinishReason, Outcome, SwitchMode, TaskType
from tests.support.blueprints import blueprint, declared_task, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, request
from tests.support.scripted_provider import Script, fails, says
from tests.support.stream_rules import Replay, replayed


def shown(mode: SwitchMode = SwitchMode.REGENERATE, *, escalate_at_end: bool = False) -> StreamPolicy:
    """Give what a configuration says of streams that hold nothing back."""
    return StreamPolicy(hold_back_tokens=0, hold_back_ms=0, mode=mode, escalate_at_end=escalate_at_end)


_FAIL = shown(SwitchMode.FAIL)
_REGENERATE = shown()


def plan(task: StreamPolicy | None = None, file: StreamPolicy = _REGENERATE) -> Blueprint:
    """Two stages, of which the second is more capable, and the task `told` with a policy of its own."""
    made = changed(blueprint(stage(0), stage(1, capability=Complexity.HIGH)), stream=file)
    chain = made.chains["generate"]
    told = changed(declared_task("told", chain), type=TaskType.EXTRACT, stream=task or file)
    return changed(made, tasks={"told": told})


async def ask(made: Engine, asked: StreamPolicy | None, **options: object) -> Replay:
    call = request(stream=asked, kind=None, **options)  # type: ignore[arg-type]
    with anyio.fail_after(5):
        replay = await replayed(made.router.stream(call))
    made.check_settled()
    return replay


def breaks() -> list[list[Script]]:
    return [[fails(FailureKind.SERVER, "a", "b")], [says("c", "d")]]


@pytest.mark.parametrize(
    ("task", "file", "asked", "text"),
    [
        pytest.param(_FAIL, _REGENERATE, StreamPolicy(preview=True), "ab", id="the task's"),
        pytest.param(_REGENERATE, _FAIL, StreamPolicy(preview=True), "cd", id="the task's before the file's"),
        pytest.param(None, _FAIL, StreamPolicy(preview=True), "ab", id="the file's"),
        pytest.param(
            _FAIL, _REGENERATE, StreamPolicy(preview=True, mode=SwitchMode.REGENERATE), "cd", id="the caller's"
        ),
    ],
)
async def test_what_follows_a_break_is_as_said_nearest_to_the_caller(
    task: StreamPolicy | None, file: StreamPolicy, asked: StreamPolicy, text: str
) -> None:
    made = engine(plan(task, file), breaks())
    replay = await ask(made, asked, task_id="told")
    assert replay.text == text
    assert bool(made.providers["p1"].calls) is (text == "cd")


async def test_a_stream_without_a_policy_takes_the_files() -> None:
    made = engine(plan(file=_FAIL), breaks())
    replay = await ask(made, None)
    assert replay.text == "ab"
    assert replay.completed is not None
    assert replay.completed.completion.outcome is Outcome.FAILED


def unsure(text: str) -> Script:
    end = Chunk(finish_reason=FinishReason.STOP)
    return Script(chunks=[Chunk(parts=[TextDelta(text)], logprobs=[TokenLogprob(text, -2.0)], tokens=1), end])


@pytest.mark.parametrize(
    ("declared", "asked", "escalates"),
    [
        pytest.param(True, None, True, id="the task's"),
        pytest.param(True, False, False, id="the caller's no"),
        pytest.param(False, True, True, id="the caller's yes"),
        pytest.param(False, None, False, id="nobody's"),
    ],
)
async def test_a_poor_end_is_taken_back_where_task_or_caller_say_so(
    declared: bool, asked: bool | None, escalates: bool
) -> None:
    made = engine(plan(shown(escalate_at_end=declared)), [[unsure('{"a": "low"}')], [says('{"a": "high"}')]])
    replay = await ask(
        made, StreamPolicy(preview=True, escalate_at_end=asked), task_id="told", output=JsonOutput(schema="{}")
    )
    assert bool(replay.retracts) is escalates
    assert replay.text == ('{"a": "high"}' if escalates else '{"a": "low"}')


async def test_explain_shows_what_is_in_force() -> None:
    made = engine(plan(_FAIL), breaks())
    shown = made.router.explain(request(task_id="told", kind=None, stream=StreamPolicy())).stream
    assert shown.mode is SwitchMode.FAIL
    assert (shown.hold_back_tokens, shown.hold_back_ms) == (0, 0)
