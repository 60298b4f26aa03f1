"""The order with the least expected cost of an accepted answer, and what it is measured by."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.adaptive import Prospect, beside, choose
from gearshift.core.answer import AttemptRecord, StageRef, Usage
from gearshift.core.config.model import AdaptiveConfig
from gearshift.core.experience import Experience
from gearshift.core.request import Message, ProviderState, Tool, ToolCall, ToolResult, user
from gearshift.core.router import Router
from gearshift.core.words import AttemptCause, AttemptOutcome, AttemptRole, Complexity, FailureKind, Role, TaskType
from tests.support.blueprints import blueprint, policy, stage
from tests.support.changed import changed
from tests.support.engine import engine, request
from tests.support.scripted_provider import says

_KEY = ("generate", "p0", "m0")
_DAY = 86_400.0


def prospect(cost: float, accepted: float, capability: int = 1, failed: float = 0.0, place: int = 0) -> Prospect:
    return Prospect(cost=cost, accepted=accepted * (1 - failed), failed=failed, capability=capability, place=place)


_PROSPECTS = st.lists(
    st.builds(
        prospect,
        st.floats(0, 10),
        st.floats(0, 1),
        st.integers(1, 3),
        st.floats(0, 1),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=6,
)


def simulated(prospects: Sequence[Prospect], order: Sequence[int], chance: random.Random) -> float:
    """Give what one call costs: a walk over the order, and, beyond it, the strongest until it is accepted."""
    best = max(prospects, key=lambda each: each.capability)
    cost, place = 0.0, 0
    while place < len(order):
        each = prospects[order[place]]
        cost += each.cost
        drawn = chance.random()
        if drawn < each.accepted:
            return cost
        ahead = range(place + 1, len(order))
        if drawn < each.accepted + each.failed:
            place += 1
        else:
            place = next((one for one in ahead if prospects[order[one]].capability > each.capability), len(order))
    return cost + best.cost / best.accepted


@given(_PROSPECTS)
def test_the_chosen_order_is_never_dearer_than_the_written_one(prospects: list[Prospect]) -> None:
    choice = choose(prospects)
    assert choice.cost <= choice.written * (1 + 1e-12)


@given(_PROSPECTS)
def test_stages_are_left_out_only_before_a_stage_of_higher_capability(prospects: list[Prospect]) -> None:
    order = choose(prospects).order
    for gone in set(range(len(prospects))) - set(order):
        assert any(each > gone and prospects[each].capability > prospects[gone].capability for each in order)


@given(_PROSPECTS)
def test_stages_never_pass_one_of_another_capability_or_clearance(prospects: list[Prospect]) -> None:
    order = choose(prospects).order
    for first, second in itertools.combinations(order, 2):
        if first > second:
            between = prospects[second : first + 1]
            assert len({(each.capability, each.place) for each in between}) == 1


@given(st.lists(st.builds(prospect, st.floats(0.1, 10), st.floats(0, 1), st.integers(1, 9)), min_size=9, max_size=14))
@settings(max_examples=25)
def test_long_chains_are_ordered_step_by_step_and_no_dearer(prospects: list[Prospect]) -> None:
    choice = choose(prospects)
    assert choice.cost <= choice.written * (1 + 1e-12)


@pytest.mark.parametrize(
    ("prospects", "order"),
    [
        pytest.param([prospect(1, 0.3), prospect(2, 0.99, 3)], (1,), id="a try costs more than it saves"),
        pytest.param([prospect(1, 0.9), prospect(2, 0.99, 3)], (0, 1), id="it saves more"),
        pytest.param([prospect(2, 0.8), prospect(1, 0.8), prospect(9, 0.9, 3)], (1, 0, 2), id="the cheaper twin first"),
        pytest.param([prospect(0, 0.01), prospect(1, 0.9, 3)], (0, 1), id="what is free always pays"),
        pytest.param([prospect(9, 0.9, 3), prospect(1, 0.9, 1)], (0, 1), id="a weaker one behind is for failures"),
        pytest.param(
            [prospect(1, 0.9, 2, failed=0.9), prospect(1, 0.9, 2), prospect(9, 0.9, 3)], (1, 0, 2), id="the safer twin"
        ),
        pytest.param(
            [prospect(2, 0.8, 1, 0.5), prospect(1, 0.8, 1, 0.5, place=1), prospect(9, 0.9, 3)],
            (0, 1, 2),
            id="clearance",
        ),
    ],
)
def test_the_cheapest_order(prospects: list[Prospect], order: tuple[int, ...]) -> None:
    assert choose(prospects).order == order


def test_expected_costs_are_those_of_simulated_calls() -> None:
    prospects = [
        prospect(1, 0.5, 1, 0.1),
        prospect(3, 0.7, 2, 0.05),
        prospect(2, 0.6, 1, 0.2),
        prospect(9, 0.9, 3, 0.02),
    ]
    choice, chance = choose(prospects), random.Random(7)
    calls = 40_000
    for order, expected in ((choice.order, choice.cost), (range(4), choice.written)):
        mean = sum(simulated(prospects, order, chance) for _ in range(calls)) / calls
        assert mean == pytest.approx(expected, rel=0.02)


def test_with_and_without_a_stage_are_told() -> None:
    prospects = [prospect(1, 0.3), prospect(1, 0.9), prospect(2, 0.99, 3)]
    choice = choose(prospects)
    left, kept, last = (beside(prospects, choice, index) for index in range(3))
    assert last is None
    assert kept is not None
    assert kept[0] < kept[1]
    assert left is not None
    assert left[1] <= left[0]


def test_without_data_there_is_the_prior() -> None:
    odds = Experience().odds(_KEY, TaskType.GENERATE, 0.0)
    assert (odds.accepted, round(odds.failed, 3), odds.seconds, odds.answers) == (0.75, 0.02, None, 0.0)


def test_a_few_answers_do_not_condemn_a_stage() -> None:
    experience = Experience()
    experience.seed(_KEY, TaskType.CLASSIFY, [(AttemptOutcome.POOR, 3)], 0.0)
    assert experience.odds(_KEY, TaskType.CLASSIFY, 0.0).accepted > 0.5


def test_many_answers_outweigh_the_prior() -> None:
    experience = Experience()
    experience.seed(_KEY, TaskType.CLASSIFY, [(AttemptOutcome.POOR, 270), (AttemptOutcome.ACCEPTED, 30)], 0.0)
    assert experience.odds(_KEY, TaskType.CLASSIFY, 0.0).accepted == pytest.approx(0.1, abs=0.03)


def test_other_task_types_inform_the_prior_of_a_new_one() -> None:
    experience = Experience()
    experience.seed(_KEY, TaskType.CLASSIFY, [(AttemptOutcome.POOR, 200)], 0.0)
    odds = experience.odds(_KEY, TaskType.EXTRACT, 0.0)
    assert odds.accepted < 0.1
    assert odds.answers == 0


def test_what_was_measured_fades_by_half_after_its_half_life() -> None:
    experience = Experience()
    experience.seed(_KEY, TaskType.CLASSIFY, [(AttemptOutcome.POOR, 64)], 0.0)
    assert experience.odds(_KEY, TaskType.CLASSIFY, _DAY).answers == pytest.approx(32)
    assert experience.odds(_KEY, TaskType.CLASSIFY, 30 * _DAY).accepted == pytest.approx(0.75, abs=0.001)


def test_a_change_is_seen_after_some_hundred_answers_however_many_there_were() -> None:
    experience = Experience()
    for _ in range(20_000):
        experience.count(_KEY, TaskType.CLASSIFY, AttemptOutcome.ACCEPTED, 1.0, 1.0, 0.0)
    for _ in range(1000):
        experience.count(_KEY, TaskType.CLASSIFY, AttemptOutcome.POOR, 1.0, 1.0, 0.0)
    assert experience.odds(_KEY, TaskType.CLASSIFY, 0.0).accepted < 0.45


@given(
    st.lists(
        st.tuples(
            st.sampled_from([AttemptOutcome.ACCEPTED, AttemptOutcome.POOR, AttemptOutcome.FAILED]), st.floats(0, 1e7)
        ),
        max_size=40,
    )
)
def test_odds_are_probabilities(outcomes: list[tuple[AttemptOutcome, float]]) -> None:
    experience = Experience()
    for outcome, at in outcomes:
        experience.count(_KEY, TaskType.EXTRACT, outcome, 0.5, 1.0, at)
    odds = experience.odds(_KEY, TaskType.EXTRACT, 1e7)
    assert 0 < odds.accepted < 1
    assert 0 < odds.failed < 1


@pytest.mark.parametrize("seed", range(5))
def test_with_measured_outcomes_the_order_becomes_the_best_one(seed: int) -> None:
    chance = random.Random(seed)
    truth = [prospect(1.0, 0.9, 1), prospect(1.5, 0.35, 1), prospect(4.0, 0.3, 2), prospect(9.0, 0.95, 3)]
    keys = [("c", f"p{index}", "m") for index in range(len(truth))]
    best, experience = choose(truth).order, Experience()
    wrong = 0
    for call in range(3000):
        measured: list[Prospect] = []
        for key, each in zip(keys, truth, strict=True):
            odds = experience.odds(key, TaskType.CLASSIFY, 0.0)
            measured.append(
                Prospect(
                    cost=each.cost,
                    accepted=odds.accepted * (1 - odds.failed),
                    failed=odds.failed,
                    capability=each.capability,
                )
            )
        order = choose(measured).order if chance.random() >= 0.05 else tuple(range(len(truth)))
        if call >= 2500 and order != best:
            wrong += 1
        place = 0
        while place < len(order):
            index = order[place]
            accepted = chance.random() < truth[index].accepted
            outcome = AttemptOutcome.ACCEPTED if accepted else AttemptOutcome.POOR
            experience.count(keys[index], TaskType.CLASSIFY, outcome, 1.0, 1.0, 0.0)
            if accepted:
                break
            ahead = range(place + 1, len(order))
            place = next((one for one in ahead if truth[order[one]].capability > truth[index].capability), len(order))
    assert wrong < 60  # probes, and little else


def _chain(*prices: str, **weights: object) -> Router:
    made = blueprint(
        *(stage(place, price=price, capability=Complexity(place + 1)) for place, price in enumerate(prices)),
        adaptive=True,
        chain_policy=policy(),
    )
    chains = {
        name: changed(chain, weights=AdaptiveConfig(**weights))  # type: ignore[arg-type]
        for name, chain in made.chains.items()
    }
    return engine(changed(made, chains=chains), [[says("fine")] for _ in prices]).router


def _measure(router: Router, place: int, **outcomes: float) -> None:
    words = [(AttemptOutcome.from_word(word), weight) for word, weight in outcomes.items()]
    router.state.experience.seed(("generate", f"p{place}", f"m{place}"), TaskType.GENERATE, words, time.time())


async def test_attempts_are_measured_where_the_order_is_adaptive() -> None:
    async with _chain("1", "9") as router:
        for number in range(4):
            await router.route(request(request_id=f"r{number}"))
        odds = router.state.experience.odds(("generate", "p0", "m0"), TaskType.GENERATE, time.time())
        assert odds.answers == pytest.approx(4, rel=0.01)
        assert odds.seconds is not None


async def test_nothing_is_measured_where_the_order_is_written() -> None:
    made = engine(blueprint(stage(0)), [[says("fine")]])
    await made.router.route(request())
    odds = made.router.state.experience.odds(("generate", "p0", "m0"), TaskType.GENERATE, time.time())
    assert odds.answers == 0
    assert made.router.explain(request()).weighing is None


async def test_a_stage_that_does_not_pay_is_skipped_and_explained() -> None:
    async with _chain("5", "9") as router:
        _measure(router, 0, poor=90, accepted=10)
        answer = await router.route(request())
        assert answer.completion.served_by is not None
        assert answer.completion.served_by.model == "m1"
        told = router.explain(request())
        assert [each.reason for each in told.skipped] == ["does_not_pay"]
        assert told.weighing is not None
        weighed = told.weighing.stages[0]
        assert weighed.accepted == pytest.approx(0.15, abs=0.03)
        assert weighed.answers == pytest.approx(100, rel=0.01)
        assert weighed.cost_with is not None
        assert weighed.cost_without is not None
        assert weighed.cost_with > weighed.cost_without
        assert told.weighing.cost is not None
        assert told.weighing.written_cost is not None
        assert told.weighing.cost < told.weighing.written_cost


@pytest.mark.parametrize(("share", "skipped"), [(1.0, 0), (0.0, 1)])
async def test_skipped_stages_are_probed_at_the_declared_share(share: float, skipped: int) -> None:
    async with _chain("5", "9", probe_share=share) as router:
        _measure(router, 0, poor=100)
        answer = await router.route(request())
        assert len(answer.completion.skipped) == skipped
        assert [each.reason for each in router.explain(request()).skipped] == ["does_not_pay"]  # never by chance


async def test_probes_are_as_frequent_as_declared_and_repeatable() -> None:
    served: list[list[bool]] = []
    for _ in range(2):
        async with _chain("5", "9", probe_share=0.2) as router:
            _measure(router, 0, poor=1000)
            probed = [
                not (await router.route(request(request_id=f"r{number}"))).completion.skipped for number in range(200)
            ]
        served.append(probed[:20])  # later ones have learned
    assert served[0] == served[1]


async def test_what_waiting_is_worth_decides_between_a_slow_and_a_quick_stage() -> None:
    for second_usd, skipped in (("0", 0), ("0.01", 1)):
        async with _chain("1", "9", second_usd=Decimal(second_usd)) as router:
            experience, key = router.state.experience, ("generate", "p0", "m0")
            for _ in range(50):
                experience.count(key, TaskType.GENERATE, AttemptOutcome.POOR, 20.0, 1.0, time.time())
                experience.count(key, TaskType.GENERATE, AttemptOutcome.ACCEPTED, 20.0, 1.0, time.time())
            assert len(router.explain(request()).skipped) == skipped


async def test_an_unknown_price_keeps_the_written_order() -> None:
    made = blueprint(stage(0, price="5"), stage(1, price=None, capability=Complexity.HIGH), adaptive=True)
    router = engine(made, [[says("fine")], [says("fine")]]).router
    _measure(router, 0, poor=100)
    told = router.explain(request())
    assert not told.skipped
    assert told.weighing is not None
    assert "unknown" in told.weighing.reason


async def test_an_open_tool_loop_stays_on_its_model() -> None:
    async with _chain("5", "9") as router:
        _measure(router, 0, poor=100)
        state = ProviderState(provider="p0", model="m0", data=b"x")
        asked = Message(
            role=Role.ASSISTANT, parts=(ToolCall(id="1", name="look", arguments="{}"),), provider_state=state
        )
        result = Message(role=Role.USER, parts=(ToolResult(tool_call_id="1", content="seen"),))
        call = request(messages=(user("?"), asked, result), tools=(Tool(name="look"),))
        assert router.explain(call).stages[0].stage.model.id == "m0"


def attempt(**fields: Any) -> AttemptRecord:
    plain: dict[str, Any] = {
        "number": 1,
        "stage": StageRef(position=0, provider="p0", model="m0", capability=Complexity.LOW),
        "account": "default",
        "role": AttemptRole.ANSWER,
        "cause": AttemptCause.FIRST,
        "outcome": AttemptOutcome.FAILED,
        "failure": FailureKind.SERVER,
        "detail": "",
        "verdicts": (),
        "usage": Usage(),
        "cost_usd": None,
        "queue_ms": 0.0,
        "first_token_ms": None,
        "total_ms": 1000.0,
        "started_at": 0.0,
    }
    return AttemptRecord(**(plain | fields))


@pytest.mark.parametrize(
    ("fields", "counted"),
    [
        pytest.param({}, True, id="a fault of the provider"),
        pytest.param({"failure": FailureKind.INVALID_REQUEST}, False, id="a fault of the request"),
        pytest.param({"outcome": AttemptOutcome.CANCELLED, "failure": None}, False, id="the caller left"),
        pytest.param({"outcome": AttemptOutcome.POOR, "failure": None, "role": AttemptRole.CHECK}, False, id="a check"),
    ],
)
async def test_what_says_something_of_a_stage(fields: dict[str, Any], counted: bool) -> None:
    experience = Experience(clock=lambda: 0.0)
    context = engine(blueprint(stage(0)), [[says("fine")]]).router.explain(request()).call.context
    experience.attempt_ended(context, attempt(**fields))
    odds = experience.odds(_KEY, TaskType.GENERATE, 0.0)
    assert (odds.failed > 0.05 or odds.answers > 0) == counted


async def test_a_new_stage_is_weighed_by_what_the_others_write_and_not_by_a_guess() -> None:
    async with _chain("1", "9", probe_share=0) as router:
        strong = router.blueprint.chains["generate"].stages[1].model
        for _ in range(50):
            router.state.estimator.learn("task", strong, 40, 10, 4)
        # Four tokens at 9 cost less than the 512 that are guessed of an unknown model at 1.
        assert not router.explain(request()).skipped
