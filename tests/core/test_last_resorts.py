"""Calls that have nowhere else to go: stages whose breaker is open are asked all the same, one call at a time."""

from __future__ import annotations

import time

import anyio
import pytest

from gearshift.core.config.model import BreakerConfig
from gearshift.core.errors import ChainExhaustedError, RouteError
from gearshift.core.failures import BreakerCount
from gearshift.core.request import EmbedRequest, StreamPolicy, Task
from gearshift.core.words import AttemptCause, BreakerState, Complexity, FailureKind, TaskType
from tests.support.blueprints import blueprint, stage
from tests.support.engine import Engine, engine, request
from tests.support.scripted_provider import Script, fails, says
from tests.support.stream_rules import replayed

_BREAKER = BreakerConfig(consecutive_faults=1, open_s=60.0)
_REFUSAL = "I'm sorry, but I can't help with that request."


async def answered(made: Engine, request_id: str, *, streamed: bool = False) -> str:
    """Give the text of a call that is answered."""
    if not streamed:
        return (await made.router.route(request(request_id=request_id))).text
    return (await replayed(made.router.stream(request(request_id=request_id, stream=StreamPolicy())))).text


async def opened(made: Engine) -> Engine:
    """Make a call that opens every breaker."""
    with pytest.raises(ChainExhaustedError):
        await made.router.route(request(request_id="opening"))
    assert all(guard.breaker.state is BreakerState.OPEN for guard in made.guards)
    return made


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
async def test_a_provider_that_is_back_serves_the_next_call_though_its_breaker_is_open(streamed: bool) -> None:
    down = fails(FailureKind.CONNECTION)
    plan = blueprint(stage(0, breaker=_BREAKER), stage(1, breaker=_BREAKER, capability=Complexity.HIGH))
    made = await opened(engine(plan, [[down, says("Back.")], [down]]))
    assert await answered(made, "r2", streamed=streamed) == "Back."
    assert made.guards[0].breaker.state is BreakerState.CLOSED
    assert made.guards[1].breaker.state is BreakerState.OPEN  # it was not asked
    made.check_settled()


async def test_all_of_them_are_asked_before_a_call_fails() -> None:
    down = fails(FailureKind.CONNECTION)
    plan = blueprint(*(stage(place, breaker=_BREAKER) for place in range(3)))
    made = await opened(engine(plan, [[down], [down], [down, says("Back.")]]))
    assert await answered(made, "r2") == "Back."
    assert [len(each.calls) for each in made.providers.values()] == [2, 2, 2]


async def test_one_call_asks_while_the_others_are_refused_at_once() -> None:
    made = await opened(
        engine(blueprint(stage(0, breaker=_BREAKER)), [[fails(FailureKind.SERVER), Script(hangs=True)]])
    )
    ended: list[BaseException] = []

    async def ask(number: int) -> None:
        with pytest.raises(ChainExhaustedError) as caught:
            await made.router.route(request(request_id=f"r{number}"))
        ended.append(caught.value)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.router.route, request(request_id="probe"))
            await made.providers["p0"].hanging.wait()
            async with anyio.create_task_group() as others:
                for number in range(10):
                    others.start_soon(ask, number)
            tasks.cancel_scope.cancel()
    assert len(ended) == 10
    assert made.upstream_calls == 2
    assert made.guards[0].breaker.state is BreakerState.OPEN  # who leaves decides nothing
    made.check_settled()


async def test_a_provider_that_stays_away_is_asked_at_most_so_often() -> None:
    made = await opened(engine(blueprint(stage(0, breaker=_BREAKER)), [[fails(FailureKind.CONNECTION)]]))
    left = made.guards[0].breaker.probe_in(time.monotonic())
    ends, calls = time.monotonic() + 0.4, 0
    while time.monotonic() < ends:
        with pytest.raises(ChainExhaustedError) as caught:
            await made.router.route(request(request_id=f"r{calls}"))
        if not caught.value.attempts:  # it was not asked, and is told when to come again
            assert caught.value.retry_after_s is not None
            assert caught.value.retry_after_s <= 0.5
        calls += 1
        await anyio.sleep(0.002)
    # At once, and after 0.05, 0.1 and 0.2 s.
    assert 2 <= made.upstream_calls - 1 <= 5 < calls
    # They leave it open for as long as it would have been.
    assert made.guards[0].breaker.probe_in(time.monotonic()) == pytest.approx(left, abs=2.0)
    made.check_settled()


async def test_after_the_last_closed_stage_has_failed_an_open_one_is_asked() -> None:
    made = engine(
        blueprint(stage(0, breaker=_BREAKER), stage(1)),
        [[fails(FailureKind.SERVER), says("Back.")], [says("One."), fails(FailureKind.SERVER)]],
    )
    assert await answered(made, "r1") == "One."
    answer = await made.router.route(request(request_id="r2"))
    assert answer.text == "Back."
    first, second = answer.completion.attempts
    assert (first.stage.position, second.stage.position, second.cause) == (1, 0, AttemptCause.FALLBACK)
    assert [(each.stage.position, each.reason) for each in answer.completion.skipped] == [(0, "breaker")]
    made.check_settled()


async def test_who_has_an_answer_does_not_wait_for_an_open_one() -> None:
    plan = blueprint(stage(0), stage(1, breaker=_BREAKER, capability=Complexity.HIGH))
    made = engine(plan, [[says(_REFUSAL)], [fails(FailureKind.SERVER), says("Back.")]])
    first = await made.router.route(request())
    assert first.text == _REFUSAL
    assert (await made.router.route(request(request_id="r2"))).text == _REFUSAL
    assert len(made.providers["p1"].calls) == 1
    made.check_settled()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(FailureKind.AUTHENTICATION, id="a refused key"),
        pytest.param(FailureKind.RATE_LIMIT, id="a rate limit"),
    ],
)
async def test_where_asking_again_is_vain_or_unwelcome_nobody_does(kind: FailureKind) -> None:
    made = await opened(engine(blueprint(stage(0, breaker=_BREAKER)), [[fails(kind), says("Never.")]]))
    for number in range(3):
        with pytest.raises(RouteError):
            await made.router.route(request(request_id=f"r{number}"))
    assert made.upstream_calls == 1


async def test_of_several_accounts_the_one_that_may_be_asked_is() -> None:
    made = engine(blueprint(stage(0, accounts=("a", "b"), breaker=_BREAKER)), [[says("Back.")]])
    chain = made.router.blueprint.chains["generate"].stages[0]
    now = time.monotonic()
    for spec, count in zip(chain.provider.accounts, (BreakerCount.AUTHENTICATION, BreakerCount.FAULT), strict=True):
        made.router.state.admission.guard(chain, spec, now).breaker.fail(count, "x", now)
    answer = await made.router.route(request())
    assert (answer.text, answer.completion.attempts[0].account) == ("Back.", "b")


async def test_explain_says_that_an_open_one_would_be_asked() -> None:
    made = await opened(engine(blueprint(stage(0, breaker=_BREAKER)), [[fails(FailureKind.SERVER)]]))
    told = made.router.explain(request(request_id="r2"))
    assert [each.is_last_resort for each in told.stages] == [True]
    assert not told.skipped
    assert told.breakers[0] is BreakerState.OPEN


async def test_embeddings_come_back_as_soon() -> None:
    vectors = Script(vectors=((1.0, 2.0, 3.0),))
    made = engine(blueprint(stage(0, breaker=_BREAKER)), [[fails(FailureKind.CONNECTION), vectors]])
    call = EmbedRequest(request_id="e1", tenant="default", task=Task(id="t", type=TaskType.EMBED), inputs=("a",))
    with pytest.raises(ChainExhaustedError):
        await made.router.embed(call)
    assert made.guards[0].breaker.state is BreakerState.OPEN
    assert (await made.router.embed(call)).embeddings == ((1.0, 2.0, 3.0),)


async def test_an_embedding_falls_back_to_an_open_stage_of_its_own_space_alone() -> None:
    vectors = Script(vectors=((1.0, 2.0, 3.0),))
    made = engine(
        blueprint(stage(0, breaker=_BREAKER), stage(1), stage(2, vector_space="other")),
        [[fails(FailureKind.CONNECTION), vectors], [vectors, fails(FailureKind.CONNECTION)], [vectors]],
    )
    call = EmbedRequest(request_id="e1", tenant="default", task=Task(id="t", type=TaskType.EMBED), inputs=("a",))
    assert (await made.router.embed(call)).completion.served_by.model == "m1"  # type: ignore[union-attr]
    answer = await made.router.embed(EmbedRequest(request_id="e2", tenant="default", task=call.task, inputs=("b",)))
    assert answer.completion.served_by is not None
    assert answer.completion.served_by.model == "m0"
    assert not made.providers["p2"].embed_calls


async def test_the_call_that_opens_a_breaker_is_not_refused_its_retry_for_that() -> None:
    made = engine(
        blueprint(stage(0, breaker=_BREAKER, max_retries=1)), [[fails(FailureKind.CONNECTION), says("Back.")]]
    )
    assert await answered(made, "r1") == "Back."
    assert made.guards[0].breaker.state is BreakerState.CLOSED
    made.check_settled()
