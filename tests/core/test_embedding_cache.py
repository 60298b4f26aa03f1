"""Vectors that are known are not asked for again; embeddings that come together go upstream together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.answer import EmbedAnswer
from gearshift.core.cache.store import CacheFilter
from gearshift.core.config.model import CachingConfig
from gearshift.core.errors import ChainExhaustedError, InvalidRequestError, RouteError
from gearshift.core.request import EmbedRequest, Policy, Task
from gearshift.core.words import FailureKind, InputType, Sensitivity
from tests.support.blueprints import blueprint, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, entered
from tests.support.scripted_provider import Script, fails

_WELL = Script()


def house(
    *scripts: Script, max_batch: int = 16, merge_ms: float = 20.0, max_bytes: int = 1_000_000, stages: int = 1
) -> Engine:
    plan = blueprint(*[stage(place, max_batch=max_batch, clearance=Sensitivity.RESTRICTED) for place in range(stages)])
    caching = CachingConfig(embedding_merge_ms=merge_ms, embedding_max_bytes=max_bytes)
    return engine(replace(plan, config=changed(plan.config, caching=caching)), [list(scripts or [_WELL])] * stages)


def embed(inputs: Sequence[str] = ("a",), **options: object) -> EmbedRequest:
    values: dict[str, object] = {
        "request_id": "r",
        "tenant": "default",
        "task": Task(id="index"),
        "inputs": tuple(inputs),
        **options,
    }
    return EmbedRequest(**values)  # type: ignore[arg-type]


def asked(made: Engine) -> list[tuple[str, ...]]:
    """Give what each upstream call was asked for."""
    return [call.inputs for call in made.providers["p0"].embed_calls]


def of(*texts: str) -> tuple[tuple[float, ...], ...]:
    """Give the scripted vectors of texts."""
    return tuple((1.0, float(len(text)), 0.5) for text in texts)


async def test_a_batch_asks_only_for_what_is_lacking_and_keeps_the_order() -> None:
    async with entered(house()) as made:
        await made.router.embed(embed(("aa", "bbbb")))
        answer = await made.router.embed(embed(("c", "bbbb", "ddd", "aa", "c")))
        assert answer.embeddings == of("c", "bbbb", "ddd", "aa", "c")
        assert asked(made) == [("aa", "bbbb"), ("c", "ddd")]
        assert not answer.completion.cached
        assert answer.completion.cost.saved_usd
        made.check_settled()


async def test_what_is_known_altogether_costs_nothing() -> None:
    async with entered(house()) as made:
        await made.router.embed(embed(("aa", "b")))
        answer = await made.router.embed(embed(("b", "aa")))
        assert answer.embeddings == of("b", "aa")
        done = answer.completion
        assert (done.cached, done.attempts, done.cost.total_usd) == (True, (), Decimal(0))
        assert done.cost.saved_usd
        assert made.upstream_calls == 1
        assert [completion.cached for completion, _ in made.notebook.calls] == [False, True]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"tenant": "acme"}, id="tenant"),
        pytest.param({"task": Task(id="other")}, id="task"),
        pytest.param({"task": Task(id="index", sensitivity=Sensitivity.PUBLIC)}, id="sensitivity"),
        pytest.param({"input_type": InputType.QUERY}, id="input type"),
        pytest.param({"dimensions": 3}, id="dimensions"),
        pytest.param({"policy": Policy(no_cache=True)}, id="the caller forbids it"),
    ],
)
async def test_who_asks_otherwise_gets_its_own(other: dict[str, object]) -> None:
    async with entered(house()) as made:
        await made.router.embed(embed())
        await made.router.embed(embed(("a",), **other))
        assert made.upstream_calls == 2


async def test_restricted_texts_are_never_kept() -> None:
    async with entered(house()) as made:
        for _ in range(2):
            await made.router.embed(embed(task=Task(id="index", sensitivity=Sensitivity.RESTRICTED)))
        assert made.upstream_calls == 2
        assert made.router.state.vectors.store.counts().entries == 0


async def test_a_size_of_zero_keeps_nothing() -> None:
    async with entered(house(max_bytes=0)) as made:
        for _ in range(2):
            await made.router.embed(embed(("a", "a")))
        assert asked(made) == [("a", "a"), ("a", "a")]


async def test_another_model_in_the_chain_does_not_mix_its_vectors_with_kept_ones() -> None:
    made = house(stages=2)
    made.providers["p0"].scripts = [_WELL, fails(FailureKind.SERVER)]
    made.providers["p1"].scripts = [_WELL]
    async with entered(made):
        await made.router.embed(embed(("aa",)))
        await made.router.embed(embed(("aa", "b")))
        assert [call.inputs for call in made.providers["p1"].embed_calls] == [("aa", "b")]


async def test_a_purge_forgets_vectors() -> None:
    async with entered(house()) as made:
        await made.router.embed(embed())
        assert await made.router.state.vectors.purge(CacheFilter(task_id="index"), time.monotonic()) == 1
        await made.router.embed(embed())
        assert made.upstream_calls == 2


@settings(max_examples=100, deadline=None)
@given(calls=st.lists(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd", "eeeee"]), min_size=1), max_size=5))
def test_every_text_gets_its_vector_whatever_was_known(calls: list[list[str]]) -> None:
    async def run() -> None:
        async with entered(house(max_batch=2)) as made:
            for texts in calls:
                assert (await made.router.embed(embed(texts))).embeddings == of(*texts)
            upstream = [text for each in asked(made) for text in each]
            assert len(upstream) == len(set(upstream)), "no text was asked for twice"

    anyio.run(run)


# -- calls that come together ----------------------------------------------------------------------------------------


async def together(made: Engine, calls: Sequence[EmbedRequest], gate: anyio.Event) -> list[EmbedAnswer | RouteError]:
    """Make the first call, and the others while it is upstream."""
    answers: dict[int, EmbedAnswer | RouteError] = {}

    async def ask(number: int) -> None:
        try:
            answers[number] = await made.router.embed(calls[number])
        except (ChainExhaustedError, InvalidRequestError) as error:
            answers[number] = error

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, 0)
            await made.providers["p0"].waiting.wait()
            for number in range(1, len(calls)):
                tasks.start_soon(ask, number)
            while len(made.providers["p0"].embed_calls) < 2:
                await anyio.sleep(0.001)
            gate.set()
    return [answers[number] for number in range(len(calls))]


async def test_calls_that_come_while_one_is_upstream_go_as_one() -> None:
    gate = anyio.Event()
    async with entered(house(Script(waits_for=gate), _WELL)) as made:
        calls = [embed((f"{'x' * number}a", f"{'x' * number}bb"), request_id=f"r{number}") for number in range(5)]
        answers = await together(made, calls, gate)
        assert [answer.embeddings for answer in answers if isinstance(answer, EmbedAnswer)] == [
            of(*call.inputs) for call in calls
        ]
        assert [len(each) for each in asked(made)] == [2, 8]
        assert [answer.request_id for answer in answers if isinstance(answer, EmbedAnswer)] == [
            call.request_id for call in calls
        ]
        shares = [answer.completion.cost.total_usd for answer in answers if isinstance(answer, EmbedAnswer)]
        spent = sum(record.cost_usd or 0 for record in made.notebook.attempts)
        assert sum(share or 0 for share in shares) == spent, "shares add up to what was spent"
        assert all(shares)
        assert made.router.state.vectors.merged == 3
        assert len(made.notebook.calls) == 5
        made.check_settled()


async def test_a_full_batch_does_not_wait() -> None:
    gate = anyio.Event()
    async with entered(house(Script(waits_for=gate), _WELL, max_batch=3, merge_ms=1000.0)) as made:
        calls = [embed((f"{'x' * number}a",), request_id=f"r{number}") for number in range(4)]
        began = anyio.current_time()
        await together(made, calls, gate)
        assert anyio.current_time() - began < 0.9
        assert [len(each) for each in asked(made)] == [1, 3]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"tenant": "acme"}, id="tenant"),
        pytest.param({"task": Task(id="other")}, id="task"),
        pytest.param({"task": Task(id="index", sensitivity=Sensitivity.PUBLIC)}, id="sensitivity"),
        pytest.param({"task": Task(id="index", sensitivity=Sensitivity.RESTRICTED)}, id="restricted"),
        pytest.param({"policy": Policy(max_cost_usd=Decimal(1))}, id="a cap of its own"),
    ],
)
async def test_calls_of_another_kind_are_not_merged(other: dict[str, object]) -> None:
    gate = anyio.Event()
    async with entered(house(Script(waits_for=gate), _WELL)) as made:
        await together(made, [embed(("a",)), embed(("b",)), embed(("c",), **other)], gate)
        assert sorted(len(each) for each in asked(made)) == [1, 1, 1]


async def test_one_bad_text_does_not_fail_its_neighbours() -> None:
    gate = anyio.Event()
    merged = fails(FailureKind.CONTEXT_LENGTH)
    async with entered(house(Script(waits_for=gate), merged, _WELL, fails(FailureKind.CONTEXT_LENGTH))) as made:
        answers = await together(made, [embed(("a",)), embed(("b",)), embed(("c",))], gate)
        assert isinstance(answers[0], EmbedAnswer)
        kinds = [type(answer) for answer in answers[1:]]
        assert sorted(kind.__name__ for kind in kinds) == ["EmbedAnswer", "InvalidRequestError"]


async def test_a_provider_that_fails_is_not_asked_once_for_each_caller() -> None:
    gate = anyio.Event()
    async with entered(house(Script(waits_for=gate), fails(FailureKind.SERVER))) as made:
        answers = await together(made, [embed((text,)) for text in "abcdef"], gate)
        assert sum(isinstance(answer, ChainExhaustedError) for answer in answers) == 5
        assert made.upstream_calls == 2
        made.check_settled()


async def test_calls_by_themselves_do_not_wait() -> None:
    async with entered(house(merge_ms=1000.0)) as made:
        with anyio.fail_after(0.9):
            for text in "abc":
                await made.router.embed(embed((text,)))
