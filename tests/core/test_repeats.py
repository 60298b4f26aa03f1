"""A repeated request id joins the running call, live, or gets its result."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest

from gearshift.core.answer import Answer
from gearshift.core.errors import ChainExhaustedError, InvalidRequestError, NotAcceptedError
from gearshift.core.flight import Flight, Flights, Horizon
from gearshift.core.repeats import MOST_BYTES, Repeats
from gearshift.core.request import LabelOutput, Policy, Request, StreamPolicy
from gearshift.core.words import FailureKind, Outcome, Sensitivity, TaskType
from tests.support.blueprints import blueprint, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, entered, request
from tests.support.scripted_provider import Script, fails, says
from tests.support.stream_rules import Replay, replayed


def call(**options: object) -> Request:
    return request(**options)  # type: ignore[arg-type]


def streaming(**options: object) -> Request:
    return changed(call(**options), stream=StreamPolicy())


def house(*scripts: Script) -> Engine:
    return engine(blueprint(stage(0)), [list(scripts)])


async def test_a_repeat_gets_the_same_result() -> None:
    async with entered(house(says("Yes."))) as made:
        first = await made.router.route(call(), joinable=True)
        assert await made.router.route(call(), joinable=True) is first
        assert made.upstream_calls == 1


async def test_a_repeat_joins_the_running_call() -> None:
    async with entered(house(says("Yes."))) as made:
        answers: list[Answer] = []

        async def route() -> None:
            answers.append(await made.router.route(call(), joinable=True))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(route)
        assert made.upstream_calls == 1
        assert all(answer is answers[0] for answer in answers)


async def test_ids_that_callers_did_not_choose_never_join() -> None:
    async with entered(house(says("Yes."))) as made:
        await made.router.route(call())
        await made.router.route(call())
        assert made.upstream_calls == 2


async def test_an_id_used_for_another_call_is_invalid() -> None:
    async with entered(house(says("Yes."))) as made:
        await made.router.route(call(prompt="One?"), joinable=True)
        with pytest.raises(InvalidRequestError, match="another call"):
            await made.router.route(call(prompt="Two?"), joinable=True)


async def test_tenants_do_not_share_ids() -> None:
    async with entered(house(says("Yes."))) as made:
        await made.router.route(call(tenant="acme"), joinable=True)
        await made.router.route(call(tenant="other"), joinable=True)
        assert made.upstream_calls == 2


async def test_the_call_goes_on_when_the_first_caller_leaves() -> None:
    gate = anyio.Event()
    async with entered(house(Script(chunks=says("Yes.").chunks, waits_for=gate))) as made:
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
                await made.providers["p0"].waiting.wait()
                tasks.start_soon(follow)
                tasks.start_soon(follow)
                await anyio.wait_all_tasks_blocked()
                leader.cancel()
                await anyio.wait_all_tasks_blocked()
                gate.set()
        assert [answer.text for answer in answers] == ["Yes.", "Yes."]
        assert made.upstream_calls == 1
        made.check_settled()


async def test_the_call_ends_when_everybody_has_left_and_the_next_makes_it_anew() -> None:
    async with entered(house(Script(hangs=True), says("Yes."))) as made:
        scopes = [anyio.CancelScope() for _ in range(3)]

        async def ask(scope: anyio.CancelScope) -> None:
            with scope:
                await made.router.route(call(), joinable=True)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for scope in scopes:
                    tasks.start_soon(ask, scope)
                await made.providers["p0"].hanging.wait()
                for scope in scopes:
                    scope.cancel()
            assert (await made.router.route(call(), joinable=True)).text == "Yes."
        assert made.upstream_calls == 2
        made.check_settled()


async def test_those_who_wait_for_a_call_that_fails_hear_of_it_and_do_not_try_again() -> None:
    async with entered(house(fails(FailureKind.SERVER), says("Yes."))) as made:
        failures: list[ChainExhaustedError] = []

        async def ask() -> None:
            try:
                await made.router.route(call(), joinable=True)
            except ChainExhaustedError as error:
                failures.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask)
        assert len(failures) == 10
        assert made.upstream_calls == 1


async def test_a_failed_call_is_tried_again() -> None:
    async with entered(house(fails(FailureKind.SERVER), says("Yes."))) as made:
        with pytest.raises(ChainExhaustedError):
            await made.router.route(call(), joinable=True)
        assert (await made.router.route(call(), joinable=True)).text == "Yes."


async def test_a_streamed_repeat_is_the_same_answer() -> None:
    async with entered(house(says("Yes", ", it", " is."))) as made:
        first = await replayed(made.router.stream(streaming(), joinable=True))
        again = await replayed(made.router.stream(streaming(), joinable=True))
        assert first.text == again.text == "Yes, it is."
        assert made.upstream_calls == 1


async def test_a_failed_stream_is_tried_again_and_never_replayed_as_an_answer() -> None:
    async with entered(house(fails(FailureKind.SERVER, "Ye"), says("Yes."))) as made:
        first = await replayed(made.router.stream(streaming(), joinable=True))
        assert isinstance(first.error, ChainExhaustedError)
        assert (await replayed(made.router.stream(streaming(), joinable=True))).text == "Yes."


async def test_an_answer_refused_under_require_valid_is_not_replayed() -> None:
    async with entered(house(says("neither"))) as made:
        asked = streaming(
            output=LabelOutput(labels=("a", "b")), kind=TaskType.CLASSIFY, policy=Policy(require_valid=True)
        )
        for _ in range(2):
            assert isinstance((await replayed(made.router.stream(asked, joinable=True))).error, NotAcceptedError)
        assert made.upstream_calls == 2


async def test_a_reader_that_leaves_after_completed_leaves_the_answer() -> None:
    async with entered(house(says("Yes."))) as made:
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
    repeats: Repeats[str, str] = Repeats(10.0, lambda request, answer: len(request) + len(answer))
    async with Flights() as flights:

        async def ask(now: float, answer: str) -> str:
            async def work(_flight: Flight[str]) -> str:
                return answer

            until = Horizon(float("inf"))
            flight = repeats.flight("acme", "r", "same", now, lambda ended: flights.launch(work, 0.0, ended))
            flight.join(until)
            try:
                return await flight.wait(until)
            finally:
                flight.leave()

        assert await ask(0.0, "one") == "one"
        assert await ask(9.9, "two") == "one"
        assert await ask(10.0, "three") == "three"


async def test_what_nobody_may_ask_for_any_more_is_not_kept() -> None:
    repeats: Repeats[str, str] = Repeats(10.0, lambda request, answer: len(request) + len(answer))
    async with Flights() as flights:

        async def ask(name: str, now: float) -> None:
            async def work(_flight: Flight[str]) -> str:
                return "answer"

            until = Horizon(float("inf"))
            flight = repeats.flight("acme", name, "same", now, lambda ended: flights.launch(work, 0.0, ended))
            flight.join(until)
            await flight.wait(until)
            flight.leave()

        for second in range(100):
            await ask(f"r{second}", float(second))
    assert repr(repeats) == "Repeats(calls=10, bytes=100)"


async def test_what_is_kept_is_bounded_and_the_oldest_goes_first() -> None:
    repeats: Repeats[str, str] = Repeats(10.0, lambda _request, _answer: MOST_BYTES // 2)
    made: list[str] = []
    async with Flights() as flights:

        async def ask(name: str) -> None:
            async def work(_flight: Flight[str]) -> str:
                made.append(name)
                return name

            until = Horizon(float("inf"))
            flight = repeats.flight("acme", name, "same", 0.0, lambda ended: flights.launch(work, 0.0, ended))
            flight.join(until)
            assert await flight.wait(until) == name
            flight.leave()

        for name in ("a", "b", "b", "c", "b", "a"):
            await ask(name)
    assert made == ["a", "b", "c", "a"]


async def test_nothing_is_kept_of_a_restricted_call() -> None:
    made = engine(blueprint(stage(0, clearance=Sensitivity.RESTRICTED)), [[says("Yes.")]])
    async with entered(made):
        answers: list[Answer] = []

        async def route() -> None:
            answers.append(await made.router.route(call(sensitivity=Sensitivity.RESTRICTED), joinable=True))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(route)
        assert made.upstream_calls == 1, "those that come together still share the call"
        assert repr(made.router.state.repeats) == "Repeats(calls=0, bytes=0)"
        await route()
        assert made.upstream_calls == 2


async def test_a_router_that_was_not_entered_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with Router"):
        await house(says("Yes.")).router.route(call(), joinable=True)
