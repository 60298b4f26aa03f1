"""A repeated request id joins the running call or gets its result."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest

from gearshift.core.answer import Answer
from gearshift.core.errors import ChainExhaustedError, InvalidRequestError, NotAcceptedError
from gearshift.core.repeats import Repeats, Turn
from gearshift.core.request import LabelOutput, Policy, Request, StreamPolicy
from gearshift.core.words import FailureKind, Outcome, TaskType
from tests.support.blueprints import blueprint, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, request
from tests.support.scripted_provider import Script, fails, says
from tests.support.stream_rules import Replay, replayed


def call(**options: object) -> Request:
    return request(**options)  # type: ignore[arg-type]


def streaming(**options: object) -> Request:
    return changed(call(**options), stream=StreamPolicy())


def house(*scripts: Script) -> Engine:
    return engine(blueprint(stage(0)), [list(scripts)])


async def test_a_repeat_gets_the_same_result() -> None:
    made = house(says("Yes."))
    first = await made.router.route(call(), joinable=True)
    assert await made.router.route(call(), joinable=True) is first
    assert made.upstream_calls == 1


async def test_a_repeat_joins_the_running_call() -> None:
    made = house(says("Yes."))
    answers: list[Answer] = []

    async def route() -> None:
        answers.append(await made.router.route(call(), joinable=True))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(route)
    assert made.upstream_calls == 1
    assert all(answer is answers[0] for answer in answers)


async def test_ids_that_callers_did_not_choose_never_join() -> None:
    made = house(says("Yes."))
    await made.router.route(call())
    await made.router.route(call())
    assert made.upstream_calls == 2


async def test_an_id_used_for_another_call_is_invalid() -> None:
    made = house(says("Yes."))
    await made.router.route(call(prompt="One?"), joinable=True)
    with pytest.raises(InvalidRequestError, match="another call"):
        await made.router.route(call(prompt="Two?"), joinable=True)


async def test_tenants_do_not_share_ids() -> None:
    made = house(says("Yes."))
    await made.router.route(call(tenant="acme"), joinable=True)
    await made.router.route(call(tenant="other"), joinable=True)
    assert made.upstream_calls == 2


async def test_the_next_runs_the_call_when_the_first_leaves() -> None:
    made = house(Script(hangs=True), says("Yes."))
    answers: list[Answer] = []

    async def follow() -> None:
        answers.append(await made.router.route(call(), joinable=True))

    leader = anyio.CancelScope()

    async def lead() -> None:
        with leader:
            await made.router.route(call(), joinable=True)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lead)
            await made.providers["p0"].hanging.wait()
            tasks.start_soon(follow)
            tasks.start_soon(follow)
            await anyio.wait_all_tasks_blocked()
            assert made.upstream_calls == 1
            leader.cancel()
    assert [answer.text for answer in answers] == ["Yes.", "Yes."]
    assert made.upstream_calls == 2
    made.check_settled()


async def test_a_failed_call_is_tried_again() -> None:
    made = house(fails(FailureKind.SERVER), says("Yes."))
    with pytest.raises(ChainExhaustedError):
        await made.router.route(call(), joinable=True)
    assert (await made.router.route(call(), joinable=True)).text == "Yes."


async def test_a_streamed_repeat_is_the_same_answer() -> None:
    made = house(says("Yes", ", it", " is."))
    first = await replayed(made.router.stream(streaming(), joinable=True))
    again = await replayed(made.router.stream(streaming(), joinable=True))
    assert first.text == again.text == "Yes, it is."
    assert made.upstream_calls == 1


async def test_a_failed_stream_is_tried_again_and_never_replayed_as_an_answer() -> None:
    made = house(fails(FailureKind.SERVER, "Ye"), says("Yes."))
    first = await replayed(made.router.stream(streaming(), joinable=True))
    assert isinstance(first.error, ChainExhaustedError)
    assert (await replayed(made.router.stream(streaming(), joinable=True))).text == "Yes."


async def test_an_answer_refused_under_require_valid_is_not_replayed() -> None:
    made = house(says("neither"))
    asked = streaming(output=LabelOutput(labels=("a", "b")), kind=TaskType.CLASSIFY, policy=Policy(require_valid=True))
    for _ in range(2):
        assert isinstance((await replayed(made.router.stream(asked, joinable=True))).error, NotAcceptedError)
    assert made.upstream_calls == 2


async def test_a_reader_that_leaves_after_completed_leaves_the_answer() -> None:
    made = house(says("Yes."))
    replay = Replay()
    async with aclosing(made.router.stream(streaming(), joinable=True)) as stream:
        async for batch in stream:
            replay.apply(batch)
            if replay.completed is not None:
                assert replay.completed.completion.outcome is Outcome.ACCEPTED
                break
    assert (await replayed(made.router.stream(streaming(), joinable=True))).text == "Yes."
    assert made.upstream_calls == 1


async def test_an_answer_is_kept_for_its_window_only() -> None:
    repeats: Repeats[str, str] = Repeats(10.0)

    async def ask(now: float, answer: str) -> str | None:
        turn: Turn[str]
        async with repeats.turn("acme", "r", "same", now) as turn:
            if turn.answer is None:
                turn.give(answer)
            return turn.answer

    assert await ask(0.0, "one") == "one"
    assert await ask(9.9, "two") == "one"
    assert await ask(10.0, "three") == "three"
