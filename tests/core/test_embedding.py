"""Texts to vectors: order, batches, spaces, bad vectors, failover and its costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.answer import Usage
from gearshift.core.blueprint import Blueprint, Stage
from gearshift.core.catalogue import Feature
from gearshift.core.config.model import LimitsConfig
from gearshift.core.embedding import checked
from gearshift.core.errors import ChainExhaustedError, InvalidRequestError, NoStageError, RateLimitedError
from gearshift.core.failures import ProviderFailure
from gearshift.core.provider import EmbedCall, EmbedResult
from gearshift.core.request import EmbedRequest, Policy, Task
from gearshift.core.router import Router
from gearshift.core.words import (
    AttemptCause,
    AttemptOutcome,
    Complexity,
    FailureKind,
    Outcome,
    Truncation,
    UsageSource,
)
from tests.support.blueprints import ALL_FEATURES, blueprint, policy, stage
from tests.support.changed import changed
from tests.support.engine import Engine, Notebook, engine
from tests.support.scripted_provider import Script, ScriptedProvider, fails

_WELL = Script()
Vectors = tuple[tuple[float, ...], ...]


def texts(count: int) -> tuple[str, ...]:
    """Texts whose scripted vectors tell them apart: (1, length, 0.5)."""
    return tuple("x" * (place + 1) for place in range(count))


def embed(inputs: Sequence[str] = ("a",), **options: object) -> EmbedRequest:
    values: dict[str, object] = {
        "request_id": "r",
        "tenant": "default",
        "task": Task(id="index"),
        "inputs": tuple(inputs),
        **options,
    }
    return EmbedRequest(**values)  # type: ignore[arg-type]


def shorten(plan: Blueprint, **chain: object) -> Blueprint:
    return changed(plan, chains={**plan.chains, "embed": changed(plan.chains["embed"], **chain)})


async def test_the_order_is_kept_over_batches() -> None:
    made = engine(blueprint(stage(0, max_batch=4)), [[_WELL]])
    answer = await made.router.embed(embed(texts(10)))
    assert [vector[1] for vector in answer.embeddings] == list(range(1, 11))
    assert [len(call.inputs) for call in made.providers["p0"].embed_calls] == [4, 4, 2]
    assert (answer.dimensions, answer.vector_space) == (3, "space")
    assert answer.completion.usage_served.input_tokens == 10
    assert answer.completion.cost.total_usd == Decimal("0.00001")
    assert [record.served for record in answer.completion.attempts] == [True] * 3
    made.check_settled()


async def test_batches_are_no_retries() -> None:
    made = engine(blueprint(stage(0, max_batch=1), chain_policy=policy(max_attempts=1)), [[_WELL]])
    assert len((await made.router.embed(embed(texts(20)))).embeddings) == 20


async def test_a_stage_that_dies_late_is_followed_by_one_that_does_all() -> None:
    made = engine(
        blueprint(stage(0, max_batch=1), stage(1, max_batch=1), chain_policy=policy(max_attempts=2)),
        [[*[_WELL] * 15, fails(FailureKind.SERVER, status=500)], [_WELL]],
    )
    answer = await made.router.embed(embed(texts(20)))
    assert [vector[1] for vector in answer.embeddings] == list(range(1, 21))
    assert len(made.providers["p1"].embed_calls) == 20
    assert answer.completion.served_by is not None
    assert answer.completion.served_by.position == 1
    assert answer.completion.usage_served.input_tokens == 20
    assert answer.completion.usage_total.input_tokens == 35
    assert answer.completion.attempts[15].failure is FailureKind.SERVER
    assert answer.completion.attempts[16].cause is AttemptCause.FALLBACK
    made.check_settled()


@pytest.mark.parametrize(
    "vectors",
    [
        pytest.param(((1.0, 2.0, 3.0),), id="too few"),
        pytest.param(((1.0, 2.0, 3.0),) * 3, id="too many"),
        pytest.param(((1.0, 2.0, 3.0), (1.0, 2.0)), id="of different lengths"),
        pytest.param(((1.0, 2.0, 3.0), (1.0, math.nan, 3.0)), id="not a number"),
        pytest.param(((1.0, 2.0, math.inf), (1.0, 2.0, 3.0)), id="infinite"),
        pytest.param(((1.0, 2.0, 3.0), (0.0, 0.0, 0.0)), id="zero"),
        pytest.param(((), ()), id="empty"),
    ],
)
async def test_bad_vectors_fall_back(vectors: Vectors) -> None:
    made = engine(blueprint(stage(0), stage(1)), [[Script(vectors=vectors)], [_WELL]])
    answer = await made.router.embed(embed(texts(2)))
    assert answer.completion.served_by is not None
    assert answer.completion.served_by.position == 1
    record = answer.completion.attempts[0]
    assert (record.failure, record.outcome) == (FailureKind.MALFORMED, AttemptOutcome.FAILED)
    assert record.usage.input_tokens == 2  # it was billed all the same


async def test_vectors_of_another_length_in_a_later_batch_fall_back() -> None:
    made = engine(blueprint(stage(0, max_batch=1), stage(1)), [[_WELL, Script(vectors=((1.0, 2.0),))], [_WELL]])
    answer = await made.router.embed(embed(texts(2)))
    assert {len(vector) for vector in answer.embeddings} == {3}
    assert answer.completion.attempts[1].failure is FailureKind.MALFORMED


@given(
    count=st.integers(1, 4),
    vectors=st.lists(st.lists(st.floats(-2, 2) | st.just(math.nan), max_size=3).map(tuple), max_size=4),
    dimensions=st.none() | st.integers(1, 3),
)
def test_what_passes_the_check_is_sound(count: int, vectors: list[tuple[float, ...]], dimensions: int | None) -> None:
    try:
        checked(EmbedResult(vectors=tuple(vectors), usage=Usage()), count, dimensions)
    except ProviderFailure as failure:
        assert failure.kind is FailureKind.MALFORMED
        return
    assert len(vectors) == count
    assert len({len(vector) for vector in vectors}) == 1
    assert dimensions in (None, len(vectors[0]))
    assert all(any(vector) and all(map(math.isfinite, vector)) for vector in vectors)


# -- spaces and dimensions -----------------------------------------------------------------------------------------------


async def test_spaces_are_never_mixed_unless_that_is_allowed() -> None:
    plan = blueprint(stage(0, vector_space="one"), stage(1, vector_space="two"))
    scripts = [[fails(FailureKind.SERVER)], [_WELL]]
    with pytest.raises(ChainExhaustedError) as caught:
        await engine(plan, scripts).router.embed(embed())
    assert [each.reason for each in caught.value.completion.skipped] == ["vector_space"]
    answer = await engine(plan, scripts).router.embed(embed(allow_space_change=True))
    assert answer.vector_space == "two"
    answer = await engine(shorten(plan, allow_space_change=True), scripts).router.embed(embed())
    assert answer.vector_space == "two"


async def test_the_space_asked_for_chooses_the_stage() -> None:
    plan = blueprint(stage(0, vector_space="one"), stage(1, vector_space="two"))
    answer = await engine(plan, [[_WELL], [_WELL]]).router.embed(embed(vector_space="two"))
    assert answer.vector_space == "two"
    with pytest.raises(NoStageError, match="mixing spaces"):
        await engine(plan, [[_WELL], [_WELL]]).router.embed(embed(vector_space="three"))


async def test_the_chains_first_stage_fixes_the_space_also_when_it_is_skipped() -> None:
    plan = blueprint(stage(0, vector_space="one", features=frozenset()), stage(1, vector_space="two"))
    with pytest.raises(NoStageError):
        await engine(plan, [[_WELL], [_WELL]]).router.embed(embed())


async def test_dimensions_are_those_that_the_model_gives() -> None:
    made = engine(blueprint(stage(0)), [[_WELL]])
    assert (await made.router.embed(embed(dimensions=3))).dimensions == 3
    assert made.providers["p0"].embed_calls[0].dimensions == 3
    with pytest.raises(NoStageError, match="gives 3 dimensions, not 4"):
        await made.router.embed(embed(dimensions=4))


async def test_a_model_that_does_not_embed_is_skipped() -> None:
    made = engine(blueprint(stage(0, features=ALL_FEATURES - {Feature.EMBED}), stage(1)), [[_WELL], [_WELL]])
    answer = await made.router.embed(embed())
    assert [(each.stage.position, each.reason) for each in answer.completion.skipped] == [(0, "feature")]


@pytest.mark.parametrize(
    "model",
    [
        pytest.param({"context_tokens": 100}, id="its context"),
        pytest.param({"max_input_tokens": 100}, id="the longest text that it embeds whole"),
    ],
)
async def test_a_long_text_fits_only_when_it_may_be_cut(model: dict[str, int]) -> None:
    small = stage(0)
    made = engine(blueprint(changed(small, model=changed(small.model, **model))), [[_WELL]])
    with pytest.raises(InvalidRequestError, match="do not fit") as caught:
        await made.router.embed(embed(["short", "x" * 4000]))
    assert caught.value.violations[0].field == "inputs[1]"
    assert made.upstream_calls == 0
    await made.router.embed(embed(["short", "x" * 4000], truncation=Truncation.END))
    assert made.providers["p0"].embed_calls[0].truncation is Truncation.END


async def test_a_text_that_is_perhaps_too_long_is_left_to_the_provider_and_another_stage() -> None:
    small = stage(0)
    plan = blueprint(changed(small, model=changed(small.model, max_input_tokens=100)), stage(1))
    made = engine(plan, [[fails(FailureKind.CONTEXT_LENGTH, status=400)], [_WELL]])
    answer = await made.router.embed(embed(["x" * 440]))
    assert answer.completion.served_by is not None
    assert answer.completion.served_by.position == 1


async def test_a_text_that_every_model_calls_too_long_is_invalid() -> None:
    made = engine(blueprint(stage(0), stage(1)), [[fails(FailureKind.CONTEXT_LENGTH, status=400)]] * 2)
    with pytest.raises(InvalidRequestError, match="m0, m1") as caught:
        await made.router.embed(embed())
    assert caught.value.violations[0].field == "inputs"
    assert [error for _, error in made.notebook.calls] == ["INVALID_REQUEST"]
    made.check_settled()


async def test_other_failures_beside_a_long_text_leave_the_chain_exhausted() -> None:
    made = engine(
        blueprint(stage(0), stage(1)), [[fails(FailureKind.CONTEXT_LENGTH, status=400)], [fails(FailureKind.SERVER)]]
    )
    with pytest.raises(ChainExhaustedError):
        await made.router.embed(embed())


# -- caps, limits and leaving ------------------------------------------------------------------------------------------


async def test_the_cap_on_cost_holds_for_all_batches() -> None:
    inputs = ["x" * 4000] * 40  # about 1,000 tokens each, 1 USD a million: 0.04 USD
    plan = blueprint(stage(0, max_batch=1))
    made = engine(plan, [[_WELL]])
    with pytest.raises(NoStageError, match="cap"):
        await made.router.embed(embed(inputs, policy=Policy(max_cost_usd=Decimal("0.03"))))
    assert made.upstream_calls == 0
    answer = await made.router.embed(embed(inputs, policy=Policy(max_cost_usd=Decimal("0.05"))))
    assert len(answer.embeddings) == 40


async def test_an_exhausted_chain_says_so_and_records_every_attempt() -> None:
    made = engine(
        blueprint(stage(0, max_retries=1), stage(1)),
        [[fails(FailureKind.SERVER)], [fails(FailureKind.RATE_LIMIT, retry_after_s=9)]],
    )
    with pytest.raises(ChainExhaustedError) as caught:
        await made.router.embed(embed())
    assert caught.value.retry_after_s == 9
    assert [record.cause for record in caught.value.attempts] == [
        AttemptCause.FIRST,
        AttemptCause.RETRY,
        AttemptCause.FALLBACK,
    ]
    assert made.notebook.calls[0][0].outcome is Outcome.FAILED
    made.check_settled()


async def test_a_spent_limit_says_how_long_to_wait() -> None:
    made = engine(blueprint(stage(0, limits=LimitsConfig(requests_per_minute=1))), [[_WELL]])
    await made.router.embed(embed())
    with anyio.fail_after(5), pytest.raises(RateLimitedError) as caught:
        await made.router.embed(embed(("b",)))
    assert caught.value.retry_after_s > 10


async def test_an_open_breaker_says_when_to_come_back() -> None:
    made = engine(blueprint(stage(0)), [[fails(FailureKind.AUTHENTICATION)]])
    with pytest.raises(ChainExhaustedError):
        await made.router.embed(embed())
    with pytest.raises(ChainExhaustedError) as caught:
        await made.router.embed(embed())
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 100


async def test_usage_that_no_provider_told_is_estimated_and_not_free() -> None:
    made = engine(blueprint(stage(0)), [[Script(counts=False)]])
    await made.router.embed(embed(["a text of some words"]))
    (record,) = made.notebook.attempts
    assert record.usage.source is UsageSource.ESTIMATED
    assert record.usage.input_tokens > 0
    assert record.cost_usd


@pytest.mark.parametrize(
    ("failed", "source"),
    [
        pytest.param(fails(FailureKind.MALFORMED), UsageSource.ESTIMATED, id="an answer that nobody can read"),
        pytest.param(fails(FailureKind.CONNECTION), UsageSource.ESTIMATED, id="a cut"),
        pytest.param(fails(FailureKind.IDLE_TIMEOUT), UsageSource.ESTIMATED, id="a stall"),
        pytest.param(fails(FailureKind.SERVER, status=500), UsageSource.REPORTED, id="an error of the provider's"),
        pytest.param(fails(FailureKind.RATE_LIMIT, status=429), UsageSource.REPORTED, id="a refusal"),
    ],
)
async def test_a_failed_call_that_may_be_billed_is_recorded_as_an_estimate(failed: Script, source: UsageSource) -> None:
    made = engine(blueprint(stage(0), stage(1)), [[failed], [_WELL]])
    await made.router.embed(embed(["a text of some words"]))
    record = made.notebook.attempts[0]
    assert record.usage.source is source
    assert record.cost_usd is not None
    assert (record.cost_usd > 0) is (source is UsageSource.ESTIMATED)


async def test_a_caller_that_leaves_is_billed_and_leaves_nothing_behind() -> None:
    made = engine(blueprint(stage(0, limits=LimitsConfig(concurrency=1))), [[Script(hangs=True)]])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.router.embed, embed())
        with anyio.fail_after(5):
            await made.providers["p0"].hanging.wait()
        tasks.cancel_scope.cancel()
    (record,) = made.notebook.attempts
    assert record.outcome is AttemptOutcome.CANCELLED
    assert record.usage.source is UsageSource.ESTIMATED
    assert record.usage.input_tokens > 0
    assert made.notebook.calls[0][1] == "CANCELLED"
    made.check_settled()


# -- properties ------------------------------------------------------------------------------------------------------


@dataclass
class Flaky(ScriptedProvider):
    """Fails where its plan says so, call by call."""

    plan: tuple[bool, ...] = ()

    async def embed(self, call: EmbedCall) -> EmbedResult:
        place = len(self.embed_calls)
        self.embed_calls.append(call)
        if place < len(self.plan) and self.plan[place]:
            raise ProviderFailure(FailureKind.CONNECTION, "scripted")
        return EmbedResult(
            vectors=tuple((1.0, float(len(text)), 0.5) for text in call.inputs),
            usage=Usage(input_tokens=len(call.inputs)),
        )


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 12),
    stages=st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 2), st.lists(st.booleans(), max_size=10)), min_size=1, max_size=3
    ),
    max_attempts=st.integers(1, 5),
)
def test_each_text_gets_its_own_vector_or_there_are_none(
    count: int, stages: list[tuple[int, int, list[bool]]], max_attempts: int
) -> None:
    plan = blueprint(
        *(
            stage(place, max_batch=batch, max_retries=retries, limits=LimitsConfig(concurrency=1))
            for place, (batch, retries, _) in enumerate(stages)
        ),
        chain_policy=policy(max_attempts=max_attempts),
    )
    providers = {f"p{place}": Flaky(plan=tuple(failing)) for place, (_, _, failing) in enumerate(stages)}
    notebook = Notebook()
    made = Engine(Router(plan, providers=providers, observers=[notebook], seed=1), providers, notebook)

    async def run() -> None:
        try:
            answer = await made.router.embed(embed(texts(count)))
        except ChainExhaustedError:
            pass
        else:
            assert [vector[1] for vector in answer.embeddings] == list(range(1, count + 1))
            assert answer.completion.usage_served.input_tokens == count
        made.check_settled()
        failures = sum(record.outcome is AttemptOutcome.FAILED for record in notebook.attempts)
        assert failures <= max_attempts

    anyio.run(run)


# -- what is expected of texts ---------------------------------------------------------------------------------------


async def test_what_a_model_makes_of_texts_is_learned_from_their_usage() -> None:
    made = engine(blueprint(stage(0)), [[_WELL]])
    model = made.router.blueprint.chains["embed"].stages[0].model
    estimator = made.router.state.estimator
    before = estimator.text_tokens(4000, model)
    for number in range(20):  # the scripted provider counts one token a text
        await made.router.embed(embed([f"{number:04}" * 100]))
    assert before == 1000
    assert estimator.text_tokens(4000, model) < 400


async def test_texts_whose_ends_were_cut_teach_nothing() -> None:
    made = engine(blueprint(stage(0)), [[_WELL]])
    model = made.router.blueprint.chains["embed"].stages[0].model
    await made.router.embed(embed(["x" * 4000], truncation=Truncation.END))
    assert made.router.state.estimator.text_tokens(4000, model) == 1000


def own_machine(place: int, *, capability: Complexity = Complexity.LOW, limits: LimitsConfig | None = None) -> Stage:
    made = stage(place, price=None, capability=capability, limits=limits)
    return changed(
        made,
        model=changed(made.model, self_hosted=True),
        provider=changed(made.provider, cost_per_hour_usd=Decimal(3600)),
    )


async def test_the_time_of_an_own_machine_is_reserved_as_money() -> None:
    plan = blueprint(own_machine(0, limits=LimitsConfig(usd_per_day=Decimal(1))))
    made = engine(plan, [[_WELL]])
    await made.router.embed(embed())
    (guard,) = made.guards
    guard.figures.total_ms = 10_000  # a call of 10 s costs 10 USD on a machine of 1 USD a second
    with pytest.raises(RateLimitedError):
        await made.router.embed(embed(("b",)))
    assert made.upstream_calls == 1


async def test_the_strongest_model_may_be_an_own_machine() -> None:
    made = engine(blueprint(stage(0), own_machine(1, capability=Complexity.HIGH)), [[_WELL], [_WELL]])
    strong = made.router.blueprint.chains["embed"].stages[1]
    made.router.state.admission.state_of(strong, 0.0).figures.total_ms = 500
    cost = (await made.router.embed(embed())).completion.cost
    assert cost.strongest_model == "m1"
    assert cost.strongest_usd == Decimal("0.5")
