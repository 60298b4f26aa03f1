"""A repeated request id of an embedding joins the running call, or gets its result."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest

from gearshift.core.answer import EmbedAnswer
from gearshift.core.config.model import CachingConfig
from gearshift.core.errors import ChainExhaustedError, DeadlineError, InvalidRequestError
from gearshift.core.request import EmbedRequest, Task
from gearshift.core.words import FailureKind, Sensitivity
from tests.support.blueprints import blueprint, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, entered
from tests.support.scripted_provider import Script, fails


def asked(*inputs: str, **options: object) -> EmbedRequest:
    values: dict[str, object] = {
        "request_id": "r",
        "tenant": "default",
        "task": Task(id="index"),
        "inputs": inputs or ("a text",),
        **options,
    }
    return EmbedRequest(**values)  # type: ignore[arg-type]


def house(*scripts: Script, clearance: Sensitivity = Sensitivity.INTERNAL) -> Engine:
    """One stage, and no cache of vectors, so that whoever does not join goes upstream."""
    plan = blueprint(stage(0, clearance=clearance))
    config = changed(plan.config, caching=CachingConfig(embedding_max_bytes=0))
    return engine(changed(plan, config=config), [list(scripts or (Script(),))])


async def test_a_repeat_gets_the_same_vectors_and_costs_nothing_more() -> None:
    async with entered(house()) as made:
        first = await made.router.embed(asked(), joinable=True)
        assert await made.router.embed(asked(), joinable=True) is first
        assert made.upstream_calls == 1
        made.check_settled()


async def test_ids_that_callers_did_not_choose_never_join() -> None:
    async with entered(house()) as made:
        await made.router.embed(asked())
        await made.router.embed(asked())
        assert made.upstream_calls == 2


async def test_an_id_used_for_other_texts_is_invalid() -> None:
    async with entered(house()) as made:
        await made.router.embed(asked("one"), joinable=True)
        with pytest.raises(InvalidRequestError, match="another call") as caught:
            await made.router.embed(asked("two"), joinable=True)
        assert caught.value.violations[0].field == "request_id"


async def test_tenants_do_not_share_ids() -> None:
    async with entered(house()) as made:
        for tenant in ("acme", "other"):
            await made.router.embed(asked(tenant=tenant), joinable=True)
        assert made.upstream_calls == 2


async def test_a_failed_call_is_tried_again() -> None:
    async with entered(house(fails(FailureKind.SERVER), Script())) as made:
        with pytest.raises(ChainExhaustedError):
            await made.router.embed(asked(), joinable=True)
        assert (await made.router.embed(asked(), joinable=True)).embeddings


async def test_nothing_is_kept_of_a_restricted_call() -> None:
    restricted = Task(id="index", sensitivity=Sensitivity.RESTRICTED)
    async with entered(house(clearance=Sensitivity.RESTRICTED)) as made:
        for _ in range(2):
            await made.router.embed(asked(task=restricted), joinable=True)
        assert made.upstream_calls == 2
        assert repr(made.router.state.embed_repeats) == "Repeats(calls=0, bytes=0)"


async def test_the_call_goes_on_when_the_first_caller_leaves() -> None:
    gate = anyio.Event()
    async with entered(house(Script(waits_for=gate))) as made:
        answers: list[EmbedAnswer] = []
        leader = anyio.CancelScope()

        async def lead() -> None:
            with leader:
                await made.router.embed(asked(), joinable=True)

        async def follow() -> None:
            answers.append(await made.router.embed(asked(), joinable=True))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lead)
                await made.providers["p0"].waiting.wait()
                tasks.start_soon(follow)
                await anyio.wait_all_tasks_blocked()
                leader.cancel()
                await anyio.wait_all_tasks_blocked()
                gate.set()
        assert len(answers) == 1
        assert made.upstream_calls == 1


async def test_who_has_longer_is_not_ended_by_the_first_callers_deadline() -> None:
    async with entered(house(Script(stalls=True), Script())) as made:
        now, served = anyio.current_time(), list[float]()

        async def ask(seconds: float) -> None:
            with suppress(DeadlineError):
                await made.router.embed(asked(), joinable=True, ends_by=now + seconds)
                served.append(seconds)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, 0.2)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(ask, 8.0)
        assert 8.0 in served
        assert made.upstream_calls == 2
        made.check_settled()
