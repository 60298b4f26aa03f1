"""The response cache and single flight: who gets a kept answer, who never does, and what both cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import anyio
import pytest

from gearshift.core.answer import Answer
from gearshift.core.blueprint import DeclaredTask, Stage
from gearshift.core.cache.store import CacheFilter
from gearshift.core.config.model import CachingConfig, TaskCacheConfig, TenantConfig
from gearshift.core.errors import ChainExhaustedError, DeadlineError, ForbiddenError, NoStageError
from gearshift.core.request import LabelOutput, Parameters, Policy, Request, StreamPolicy
from gearshift.core.router import Router
from gearshift.core.words import Complexity, FailureKind, FinishReason, Outcome, Sensitivity, TaskType
from tests.support.blueprints import blueprint, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, entered, request
from tests.support.scripted_provider import Script, fails, says
from tests.support.stream_rules import Replay, replayed


def house(
    *scripts: Script,
    cache: TaskCacheConfig | None = None,
    sensitivity: Sensitivity | None = None,
    tenants: dict[str, TenantConfig] | None = None,
    stages: Sequence[Stage] = (),
    temperature: float | None = 0.0,
    definition_hash: str = "definition",
    max_bytes: int = 1_000_000,
) -> Engine:
    """Give an engine that declares `kept`, a task with a cache."""
    plan = blueprint(*(stages or [stage(0)]))
    task = DeclaredTask(
        id="kept",
        type=TaskType.GENERATE,
        complexity=None,
        sensitivity=sensitivity,
        prompt="",
        static=False,
        output=None,
        chain=plan.chains["generate"],
        policy=plan.chains["generate"].policy,
        stream=StreamPolicy(hold_back_tokens=0, hold_back_ms=0),
        max_tokens=None,
        temperature=temperature,
        limits=None,
        definition_hash=definition_hash,
        cache=cache or TaskCacheConfig(),
    )
    config = changed(plan.config, caching=CachingConfig(response_max_bytes=max_bytes))
    if tenants is not None:
        config = changed(config, access=changed(config.access, tenants=tenants))
    return engine(replace(plan, tasks={"kept": task}, config=config), [list(scripts)] * len(stages or [0]))


def ask(prompt: str = "Why?", **options: object) -> Request:
    return request(prompt, task_id="kept", kind=None, **options)  # type: ignore[arg-type]


def asked_as_stream(**options: object) -> Request:
    return changed(ask(**options), stream=StreamPolicy())  # type: ignore[arg-type]


async def test_an_equal_call_gets_the_kept_answer_for_nothing() -> None:
    async with entered(house(says("Because."))) as made:
        first = await made.router.route(ask(request_id="r1"))
        again = await made.router.route(ask(request_id="r2"))
        assert made.upstream_calls == 1
        assert again.text == first.text == "Because."
        assert again.request_id == "r2"
        done = again.completion
        assert (done.cached, done.outcome, done.attempts) == (True, Outcome.ACCEPTED, ())
        assert done.digest == first.completion.digest
        assert done.cost.total_usd == Decimal(0)
        assert done.cost.saved_usd == first.completion.cost.total_usd
        assert not first.completion.cached
        assert [completion.cached for completion, _ in made.notebook.calls] == [False, True]
        made.check_settled()


async def test_a_hit_streams_as_started_one_delta_completed() -> None:
    async with entered(house(says("Be", "cause."))) as made:
        await made.router.route(ask())
        replay = await replayed(made.router.stream(asked_as_stream()))
        assert replay.started is not None and replay.started.cached
        assert [delta.number for delta in replay.live] == [1]
        assert replay.text == "Because."
        assert replay.completed is not None and replay.completed.completion.cached
        assert made.upstream_calls == 1


async def test_a_streamed_answer_is_kept_for_unary_calls() -> None:
    async with entered(house(says("Be", "cause."))) as made:
        await replayed(made.router.stream(asked_as_stream()))
        assert (await made.router.route(ask())).completion.cached
        assert made.upstream_calls == 1


async def test_a_thousand_equal_calls_make_one_upstream_call() -> None:
    gate = anyio.Event()
    async with entered(house(changed(says("Because."), waits_for=gate))) as made:
        answers: list[Answer] = []

        async def route(number: int) -> None:
            answers.append(await made.router.route(ask(request_id=f"r{number}")))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for number in range(1000):
                    tasks.start_soon(route, number)
                await anyio.wait_all_tasks_blocked()
                gate.set()
        assert made.upstream_calls == 1
        assert {answer.request_id for answer in answers} == {f"r{number}" for number in range(1000)}
        paid = [answer for answer in answers if answer.completion.cost.total_usd]
        assert len(paid) == 1, "one call paid"
        assert made.router.state.answers.joined == 999
        assert len(made.notebook.calls) == 1000
        made.check_settled()


async def test_a_thousand_equal_calls_that_fail_make_one_upstream_call() -> None:
    async with entered(house(fails(FailureKind.SERVER), says("Because."))) as made:
        failures: list[str] = []

        async def route(number: int) -> None:
            with pytest.raises(ChainExhaustedError):
                await made.router.route(ask(request_id=f"r{number}"))
            failures.append("")

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for number in range(1000):
                    tasks.start_soon(route, number)
        assert len(failures) == 1000
        assert made.upstream_calls == 1
        assert (await made.router.route(ask())).text == "Because.", "a failure is not kept"
        made.check_settled()


async def test_who_joins_a_stream_gets_the_numbers_of_the_first_and_pays_nothing() -> None:
    gate = anyio.Event()
    async with entered(house(changed(says("Be", "cause", "."), waits_for=gate))) as made:
        replays = [Replay(), Replay()]

        async def read(replay: Replay, number: int) -> None:
            async for batch in made.router.stream(asked_as_stream(request_id=f"r{number}")):
                replay.apply(batch)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, replays[0], 0)
                await made.providers["p0"].waiting.wait()
                tasks.start_soon(read, replays[1], 1)
                await anyio.wait_all_tasks_blocked()
                gate.set()
        first, second = (replay.check_end() for replay in replays)
        assert [[delta.number for delta in replay.live] for replay in replays] == [[1, 2, 3], [1, 2, 3]]
        assert [replay.started.request_id for replay in replays if replay.started] == ["r0", "r1"]
        assert first.completion.cost.total_usd and not second.completion.cost.total_usd
        assert second.completion.cost.saved_usd == first.completion.cost.total_usd
        assert not second.completion.cached, "it did not come from the cache"
        assert made.upstream_calls == 1
        made.check_settled()


async def test_the_flight_goes_on_when_its_first_caller_leaves() -> None:
    gate = anyio.Event()
    async with entered(house(changed(says("Because."), waits_for=gate))) as made:
        answers: list[str] = []
        scope = anyio.CancelScope()

        async def lead() -> None:
            with scope:
                await made.router.route(ask(request_id="r1"))

        async def follow() -> None:
            answers.append((await made.router.route(ask(request_id="r2"))).text)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lead)
                await made.providers["p0"].waiting.wait()
                tasks.start_soon(follow)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
                await anyio.wait_all_tasks_blocked()
                gate.set()
        assert answers == ["Because."]
        assert made.upstream_calls == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"policy": Policy(max_cost_usd=Decimal(1))}, id="caps"),
        pytest.param({"stream": StreamPolicy(include_reasoning=True)}, id="stream policy"),
        pytest.param({"tenant": "acme"}, id="tenant"),
    ],
)
async def test_calls_with_other_caps_or_stream_policies_do_not_share_a_flight(other: dict[str, object]) -> None:
    gate = anyio.Event()
    async with entered(house(changed(says("Because."), waits_for=gate))) as made:
        calls = [asked_as_stream(), changed(asked_as_stream(), **other)]

        async def read(call: Request) -> None:
            await replayed(made.router.stream(call))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for call in calls:
                    tasks.start_soon(read, call)
                await anyio.wait_all_tasks_blocked()
                gate.set()
        assert made.upstream_calls == 2


async def test_a_call_with_no_time_left_leaves_the_others_their_flight() -> None:
    gate = anyio.Event()
    async with entered(house(changed(says("Because."), waits_for=gate))) as made:
        answers: list[str] = []

        async def follow() -> None:
            answers.append((await made.router.route(ask(request_id="r2"))).text)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow)
                await made.providers["p0"].waiting.wait()
                with pytest.raises(DeadlineError):
                    await made.router.route(ask(request_id="r1"), ends_by=time.monotonic() + 0.1)
                gate.set()
        assert answers == ["Because."]
        assert sorted(error for _, error in made.notebook.calls) == ["", "DEADLINE"]
        assert made.upstream_calls == 1


async def test_a_repeated_request_id_of_a_kept_answer_is_the_same_answer() -> None:
    async with entered(house(says("Because."))) as made:
        await made.router.route(ask(request_id="r1"))
        hit = await made.router.route(ask(request_id="r2"), joinable=True)
        assert hit.completion.cached
        assert await made.router.route(ask(request_id="r2"), joinable=True) is hit


@pytest.mark.parametrize(
    ("options", "call"),
    [
        pytest.param({}, ask(policy=Policy(no_cache=True)), id="the caller forbids it"),
        pytest.param({}, ask(parameters=Parameters(temperature=0.7)), id="drawn by chance"),
        pytest.param({"temperature": None}, ask(), id="a temperature that nobody set"),
        pytest.param({}, ask(sensitivity=Sensitivity.RESTRICTED), id="restricted"),
    ],
)
async def test_what_is_never_kept(options: dict[str, float | None], call: Request) -> None:
    cleared = stage(0, clearance=Sensitivity.RESTRICTED)
    async with entered(house(says("Because."), stages=[cleared], **options)) as made:  # type: ignore[arg-type]
        await made.router.route(call)
        assert not (await made.router.route(call)).completion.cached
        assert made.upstream_calls == 2
        assert made.router.state.answers.store.counts().entries == 0


async def test_chance_is_kept_where_the_task_says_so() -> None:
    async with entered(house(says("Because."), cache=TaskCacheConfig(any_temperature=True))) as made:
        await made.router.route(ask(parameters=Parameters(temperature=0.7)))
        assert (await made.router.route(ask(parameters=Parameters(temperature=0.7)))).completion.cached


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(says("Because", finish=FinishReason.LENGTH), id="cut off"),
        pytest.param(says("I'm sorry, but I cannot help with that."), id="refused"),
        pytest.param(says("neither"), id="no label"),
    ],
)
async def test_only_accepted_answers_are_kept(script: Script) -> None:
    call = ask(output=LabelOutput(labels=("a", "b"))) if script == says("neither") else ask()
    async with entered(house(script)) as made:
        await made.router.route(call)
        assert not (await made.router.route(call)).completion.cached
        assert made.upstream_calls == 2


async def test_rights_are_checked_before_the_look_up() -> None:
    tenants = {"acme": TenantConfig(), "small": TenantConfig(tasks=("other",)), "few": TenantConfig(models=("m7",))}
    async with entered(house(says("Because."), tenants=tenants)) as made:
        await made.router.route(ask(tenant="acme"))
        hits = made.router.state.answers.store.counts()
        with pytest.raises(ForbiddenError):
            await made.router.route(ask(tenant="small"))
        with pytest.raises(NoStageError):
            await made.router.route(ask(tenant="few"))
        with pytest.raises(NoStageError):
            await made.router.route(ask(tenant="acme", policy=Policy(allowed_providers=frozenset({"p7"}))))
        assert made.router.state.answers.store.counts() == hits
        assert not (await made.router.route(ask(tenant="default"))).completion.cached


async def test_a_kept_answer_is_given_while_every_stage_is_out_of_use() -> None:
    failing = [fails(FailureKind.SERVER)] * 6
    async with entered(house(says("Because."), *failing)) as made:
        await made.router.route(ask())
        for _ in range(6):
            with pytest.raises(ChainExhaustedError):
                await made.router.route(ask("Something else?"))
        assert (await made.router.route(ask())).completion.cached


async def test_a_purge_reaches_answers_that_are_being_made() -> None:
    gate = anyio.Event()
    async with entered(house(changed(says("Because."), waits_for=gate))) as made:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(made.router.route, ask())
                await made.providers["p0"].waiting.wait()
                await made.router.state.answers.purge(CacheFilter(), 0.0)
                gate.set()
        assert made.router.state.answers.store.counts().entries == 0


async def test_a_changed_task_starts_a_new_generation() -> None:
    made = house(says("Because."))
    async with entered(made):
        await made.router.route(ask())
        changed_one = house(says("Therefore."), definition_hash="another")
        router = Router(changed_one.router.blueprint, providers=changed_one.providers, state=made.router.state)
        answer = await router.route(ask())
        assert answer.text == "Therefore." and not answer.completion.cached


async def test_a_stage_of_higher_capability_is_asked_under_a_declared_complexity() -> None:
    stages = [stage(0), stage(1, capability=Complexity.HIGH)]
    async with entered(house(says("Because."), stages=stages)) as made:
        await made.router.route(ask())
        assert not (await made.router.route(ask(complexity=Complexity.HIGH))).completion.cached


async def test_calls_of_other_tasks_are_not_kept() -> None:
    async with entered(house(says("Because."))) as made:
        for _ in range(2):
            await made.router.route(request())
        assert made.upstream_calls == 2
