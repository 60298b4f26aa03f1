"""Spent budgets of tasks, and of those who embed: a stop, or another chain whose vectors are alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import anyio
import pytest

from gearshift.core.answer import Usage
from gearshift.core.blueprint import Blueprint, DeclaredTask, Stage
from gearshift.core.config.model import AccessConfig, LimitsConfig, TenantConfig
from gearshift.core.errors import RateLimitedError
from gearshift.core.request import EmbedRequest, Policy, Request, StreamPolicy, Task
from gearshift.core.words import TaskType
from tests.support.blueprints import blueprint, policy, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, request
from tests.support.scripted_provider import Script, says
from tests.support.stream_rules import replayed

TWO = LimitsConfig(usd_per_day=Decimal(2), usd_per_month=Decimal(100))
DEAR = stage(0, price="1000")
"""1 USD for 1000 tokens."""
CHEAP = stage(0, provider="p1", model="m1", price="10")
CALL = Usage(input_tokens=500, output_tokens=500)
"""1 USD on the dear stage, 0.01 on the cheap one."""
TINY = LimitsConfig(usd_per_day=Decimal("0.95"), usd_per_month=Decimal(100))
TEN_TOKENS_A_USD = "100000"
"""A text of 32 letters is expected to be 8 tokens, and is 1: two of them go into the tiny budget."""


def house(
    task: LimitsConfig | None,
    tenant: LimitsConfig | None = None,
    *,
    kind: TaskType = TaskType.GENERATE,
    dear: Stage = DEAR,
    cheap: Sequence[Stage] = (CHEAP,),
    task_to: str = "small",
    tenant_to: str = "stop",
    free: bool = False,
) -> Blueprint:
    """Give a configuration with one task and one tenant, each with or without a budget, and a cheaper chain."""
    made = blueprint(dear)
    chain = changed(made.chains[kind.word], allow_space_change=free)
    small = changed(chain, name="small", stages=tuple(cheap), revision="small", allow_space_change=True)
    declared = DeclaredTask(
        id="job",
        type=kind,
        complexity=None,
        sensitivity=None,
        prompt="",
        static=False,
        output=None,
        chain=chain,
        policy=chain.policy,
        stream=StreamPolicy(),
        max_tokens=500,
        temperature=None,
        limits=task,
        definition_hash="job",
        on_exhausted=task_to,
    )
    tenants = {"default": TenantConfig(limits=tenant or LimitsConfig(), on_exhausted=tenant_to)}
    return replace(
        made,
        chains={**made.chains, kind.word: chain, "small": small},
        tasks={"job": declared},
        config=changed(made.config, access=AccessConfig(tenants=tenants)),
    )


def texts(plan: Blueprint) -> Engine:
    return engine(plan, [[says("by p0", usage=CALL)], [says("by p1", usage=CALL)]])


async def folded(made: Engine, call: Request) -> str:
    """Give the text of a call, streamed or not."""
    if call.stream is None:
        return (await made.router.route(call)).text
    replay = await replayed(made.router.stream(call))
    if replay.error is not None:
        raise replay.error
    return replay.text


async def written(made: Engine) -> str:
    return (await made.router.route(request(task_id="job", kind=None))).text


def left(made: Engine, kind: str, name: str, limits: LimitsConfig) -> list[float]:
    """Give what is left of the day's and the month's budget."""
    now = time.monotonic()
    buckets = made.router.state.admission.shared_buckets(kind, name, limits, now)
    return [round(each.level(now), 6) for each in buckets if each.unit == "cost"]


async def test_spent_budget_of_a_task_goes_on_in_the_cheaper_chain_and_is_counted() -> None:
    made = texts(house(TWO))
    assert [await written(made) for _ in range(4)] == ["by p0", "by p0", "by p1", "by p1"]
    assert left(made, "task", "job", TWO) == [-0.02, 97.98]
    answer = await made.router.route(request(task_id="job", kind=None))
    (note,) = answer.completion.notes
    assert note.startswith("the budget of the task job is spent until ")
    assert note.endswith(" UTC: the chain small serves instead")
    # Another task of the same tenant has nothing to do with it.
    assert (await made.router.route(request(task_id="other"))).text == "by p0"


async def test_budget_of_a_task_that_says_nothing_stops() -> None:
    made = texts(house(TWO, task_to="stop"))
    assert [await written(made) for _ in range(2)] == ["by p0", "by p0"]
    with pytest.raises(RateLimitedError, match="cost of task job"):
        await written(made)


async def test_budget_of_the_tenant_still_holds_where_that_of_the_task_is_spent() -> None:
    tenant = LimitsConfig(usd_per_day=Decimal("2.015"))
    made = texts(house(TWO, tenant))
    assert [await written(made) for _ in range(3)] == ["by p0", "by p0", "by p1"]
    with pytest.raises(RateLimitedError, match="cost of tenant default or task job"):
        await written(made)
    assert left(made, "task", "job", TWO) == [-0.01, 97.99]
    assert left(made, "tenant", "default", tenant) == [0.005]


async def test_both_budgets_spent_and_both_name_a_chain() -> None:
    tenant = LimitsConfig(usd_per_day=Decimal(1))
    made = texts(house(LimitsConfig(usd_per_day=Decimal("1.015")), tenant, tenant_to="small"))
    assert [await written(made) for _ in range(5)] == ["by p0", *["by p1"] * 4]
    assert left(made, "tenant", "default", tenant) == [-0.04]
    assert left(made, "task", "job", LimitsConfig(usd_per_day=Decimal("1.015"))) == [-0.025]


@pytest.mark.parametrize("streams", [False, True])
async def test_caps_of_the_chain_that_serves_instead_hold_there(streams: bool) -> None:
    plan = house(TWO)
    small = changed(plan.chains["small"], policy=policy(max_cost_usd=Decimal("0.001")))
    made = texts(replace(plan, chains={**plan.chains, "small": small}))
    call = request(task_id="job", kind=None, stream=StreamPolicy() if streams else None)
    for _ in range(2):
        assert (await folded(made, call)) == "by p0"
    with pytest.raises(RateLimitedError, match="cost of task job"):
        await folded(made, call)
    assert not made.providers["p1"].calls


async def test_attempts_are_capped_as_where_they_are_made() -> None:
    plan = house(TWO)
    small = changed(plan.chains["small"], policy=policy(max_attempts=3, max_hops=9))
    made = texts(replace(plan, chains={**plan.chains, "small": small}))
    for _ in range(2):
        await written(made)
    call = made.router.explain(request(task_id="job", kind=None)).call
    assert (call.resolved.chain.name, call.max_attempts, call.max_hops) == ("small", 3, 4)


async def test_caps_of_the_chain_that_embeds_instead_hold_there() -> None:
    plan = house(TINY, kind=TaskType.EMBED, dear=stage(0, price=TEN_TOKENS_A_USD))
    small = changed(plan.chains["small"], policy=policy(max_cost_usd=Decimal("0.000001")))
    made = engine(replace(plan, chains={**plan.chains, "small": small}), [[Script()], [Script()]])
    asked = EmbedRequest(request_id="r", tenant="default", task=Task(id="job"), inputs=("a" * 32, "b" * 32))
    with pytest.raises(RateLimitedError):
        await made.router.embed(asked)
    assert made.upstream_calls == 0


async def test_chain_that_may_not_serve_the_call_leaves_the_stop() -> None:
    made = texts(house(TWO))
    assert [await written(made) for _ in range(2)] == ["by p0", "by p0"]
    only_dear = Policy(allowed_models=frozenset({"m0"}))
    with pytest.raises(RateLimitedError, match="cost of task job"):
        await made.router.route(request(task_id="job", kind=None, policy=only_dear))
    assert await written(made) == "by p1"


def vectors(
    task: LimitsConfig | None,
    tenant: LimitsConfig | None = None,
    *,
    space: str = "space",
    length: int = 3,
    tenant_to: str = "stop",
    task_to: str = "small",
    free: bool = False,
) -> Engine:
    cheap = stage(0, provider="p1", model="m1", price="1", vector_space=space)
    cheap = changed(cheap, model=changed(cheap.model, dimensions=(length,)))
    plan = house(
        task,
        tenant,
        kind=TaskType.EMBED,
        dear=stage(0, price=TEN_TOKENS_A_USD),
        cheap=[cheap],
        tenant_to=tenant_to,
        task_to=task_to,
        free=free,
    )
    return engine(plan, [[Script()], [Script()]])


async def embedded(made: Engine, *inputs: str, **fields: object) -> tuple[str, tuple[str, ...]]:
    """Embed texts of 32 letters; give who served, and the notes."""
    sent = tuple(each * 32 for each in inputs)
    asked = EmbedRequest(request_id="r", tenant="default", task=Task(id="job"), inputs=sent, **fields)  # type: ignore[arg-type]
    completion = (await made.router.embed(asked)).completion
    return ("cache" if completion.cached else completion.served_by.provider if completion.served_by else ""), (
        completion.notes
    )


@pytest.mark.parametrize("whose", ["task", "tenant"])
async def test_spent_budget_of_one_who_embeds_goes_on_where_vectors_are_alike(whose: str) -> None:
    made = vectors(TINY) if whose == "task" else vectors(None, TINY, tenant_to="small", task_to="stop")
    assert [(await embedded(made, text))[0] for text in ("a", "b")] == ["p0", "p0"]
    served, (note,) = await embedded(made, "c")
    assert served == "p1"
    assert note.startswith(f"the budget of the {whose} {'job' if whose == 'task' else 'default'} is spent until ")
    # What is known costs nothing, whatever is spent.
    assert (await embedded(made, "a"))[0] == "cache"
    assert left(made, whose, "job" if whose == "task" else "default", TINY) == [0.749999, 99.799999]


async def test_embed_dearer_than_what_is_left_goes_on_as_a_whole() -> None:
    made = vectors(TINY)
    assert (await embedded(made, "a", "b", "c"))[0] == "p1"
    assert not made.providers["p0"].embed_calls


@pytest.mark.parametrize(
    ("space", "length"), [pytest.param("other", 3, id="space"), pytest.param("space", 2, id="length")]
)
async def test_embed_stops_where_the_cheaper_vectors_are_not_alike(space: str, length: int) -> None:
    made = vectors(TINY, space=space, length=length)
    assert [(await embedded(made, text))[0] for text in ("a", "b")] == ["p0", "p0"]
    with pytest.raises(RateLimitedError, match="cost of task job") as caught:
        await embedded(made, "c")
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 1
    assert not made.providers["p1"].embed_calls


async def test_embed_goes_to_another_space_where_the_call_or_its_chain_allows_that() -> None:
    made = vectors(LimitsConfig(usd_per_day=Decimal("0.5")), space="other")
    assert (await embedded(made, "a", allow_space_change=True))[0] == "p1"
    made = vectors(LimitsConfig(usd_per_day=Decimal("0.5")), space="other", free=True)
    assert (await embedded(made, "a"))[0] == "p1"


async def test_embeds_that_run_out_of_budget_together_are_planned_once_more() -> None:
    made = vectors(LimitsConfig(usd_per_day=Decimal("0.95")))
    served: list[str] = []

    async def one(text: str) -> None:
        served.append((await embedded(made, text))[0])

    async with made.router, anyio.create_task_group() as tasks:
        for text in "abcdefgh":
            tasks.start_soon(one, text)
    assert set(served) <= {"p0", "p1"}
    assert served.count("p0") >= 1
    assert len(served) == 8
