"""System prompts on their way through the router: stored, sent by key, filled, told to the provider's cache."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gearshift.core.answer import Usage
from gearshift.core.blueprint import Blueprint, DeclaredTask
from gearshift.core.catalogue import Feature
from gearshift.core.catalogue.load import Catalogue
from gearshift.core.classifier import Guess
from gearshift.core.config.model import CachingConfig, PriceConfig, TenantConfig
from gearshift.core.errors import ForbiddenError, InvalidRequestError, PromptNotCachedError
from gearshift.core.promptcache import USE_VARIABLES
from gearshift.core.provider import CacheHint, ProviderCall
from gearshift.core.request import JsonOutput, Request, SystemPrompt, Tool
from gearshift.core.reuse import PrefixReuse
from gearshift.core.words import Sensitivity, TaskType
from tests.support.blueprints import ALL_FEATURES, blueprint, declared_task, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, request
from tests.support.scripted_provider import says

_LONG = "You sort mail by topic. " * 40
_FIVE, _HOUR, _NONE = CacheHint.FIVE_MINUTES, CacheHint.ONE_HOUR, CacheHint.NONE


def house() -> Engine:
    return engine(blueprint(stage(0, clearance=Sensitivity.RESTRICTED)), [[says("Yes.")]])


def declared(
    task_id: str, plan: Blueprint, *, sensitivity: Sensitivity | None = None, static: bool = False
) -> DeclaredTask:
    return changed(declared_task(task_id, plan.chains["generate"]), sensitivity=sensitivity, static=static)


def asking(system: SystemPrompt, *, tenant: str = "default", sensitivity: Sensitivity | None = None) -> Request:
    return request(system=system, tenant=tenant, sensitivity=sensitivity)


def sent(made: Engine) -> ProviderCall:
    return made.providers["p0"].calls[-1]


async def test_a_stored_prompt_is_sent_by_its_key() -> None:
    made = house()
    key = made.router.put_prompt("default", "task", _LONG + "For {{name}}.", static=True)
    answer = await made.router.route(asking(SystemPrompt(key=key, variables={"name": "Ann"})))
    assert (sent(made).system_static, sent(made).system_dynamic) == (_LONG + "For ", "Ann.")
    assert answer.completion.prompt_key == key


async def test_a_prompt_is_stored_on_first_use() -> None:
    made = house()
    first = await made.router.route(asking(SystemPrompt(text=_LONG)))
    assert first.completion.prompt_key
    await made.router.route(asking(SystemPrompt(key=first.completion.prompt_key)))
    assert sent(made).system_static == _LONG


@pytest.mark.parametrize("tenant", ["default", "other"])
async def test_an_unknown_key_asks_for_the_text(tenant: str) -> None:
    made = house()
    key = made.router.put_prompt("acme", "task", _LONG)
    with pytest.raises(PromptNotCachedError):
        await made.router.route(asking(SystemPrompt(key=key), tenant=tenant))
    assert made.upstream_calls == 0


async def test_a_deleted_prompt_is_unknown() -> None:
    made = house()
    key = made.router.put_prompt("default", "task", _LONG)
    assert made.router.delete_prompt("default", key)
    with pytest.raises(PromptNotCachedError):
        await made.router.route(asking(SystemPrompt(key=key)))


async def test_a_prompt_too_short_to_keep_is_refused_by_put_and_used_by_route() -> None:
    made = house()
    with pytest.raises(InvalidRequestError, match="only prompts longer than 500"):
        made.router.put_prompt("default", "task", "Be brief.")
    answer = await made.router.route(asking(SystemPrompt(text="Be brief.")))
    assert (sent(made).system_static, answer.completion.prompt_key) == ("Be brief.", "")


async def test_prompts_that_differ_only_in_values_are_told_to_use_variables() -> None:
    made = house()
    notes = [
        (await made.router.route(asking(SystemPrompt(text=f"{_LONG} Customer {number}")))).completion.notes
        for number in range(5)
    ]
    assert [USE_VARIABLES in each for each in notes] == [False, False, False, True, True]


async def test_a_task_may_say_that_its_prompts_are_static() -> None:
    plan = blueprint(stage(0))
    task = declared("static", plan, static=True)
    made = engine(changed(plan, tasks={"static": task}), [[says("Yes.")]])
    for number in range(5):
        system = SystemPrompt(text=f"{_LONG} Customer {number}")
        completion = (await made.router.route(request(system=system, task_id="static", kind=None))).completion
        assert completion.prompt_key
        assert completion.notes == ()
        assert made.router.put_prompt("default", "static", f"{_LONG} Client {number}")


async def test_to_explain_a_call_is_no_use_of_its_prompt() -> None:
    made = house()
    key = made.router.put_prompt("default", "task", _LONG)
    for system in (SystemPrompt(text=_LONG * 2), SystemPrompt(key=key)):
        assert made.router.explain(asking(system)).stages
    counts = made.router.state.prompts.counts()
    assert (counts.entries, counts.hits) == (1, 0)
    with pytest.raises(PromptNotCachedError):
        made.router.explain(asking(SystemPrompt(key="0" * 32)))


def test_a_prompt_is_stored_only_for_tasks_that_the_tenant_may_use() -> None:
    plan = blueprint(stage(0))
    tenants = {"acme": TenantConfig(tasks=("mail",))}
    config = changed(plan.config, access=changed(plan.config.access, tenants=tenants))
    made = engine(changed(plan, config=config), [[]])
    assert made.router.put_prompt("acme", "mail", _LONG)
    with pytest.raises(ForbiddenError):
        made.router.put_prompt("acme", "other", _LONG)


async def test_a_restricted_prompt_is_never_kept() -> None:
    made = house()
    answer = await made.router.route(asking(SystemPrompt(text=_LONG), sensitivity=Sensitivity.RESTRICTED))
    assert answer.completion.prompt_key == ""
    assert made.router.state.prompts.counts().entries == 0
    assert sent(made).system_static == _LONG


async def test_a_prompt_of_restricted_calls_cannot_be_stored() -> None:
    plan = blueprint(stage(0, clearance=Sensitivity.RESTRICTED))
    task = declared("records", plan, sensitivity=Sensitivity.RESTRICTED)
    floors = {"clinic": TenantConfig(sensitivity_floor="restricted")}
    config = changed(plan.config, access=changed(plan.config.access, tenants=floors))
    made = engine(changed(plan, config=config, tasks={"records": task}), [[says("Yes.")]])
    for tenant, task_id in (("default", "records"), ("clinic", "task")):
        with pytest.raises(InvalidRequestError) as caught:
            made.router.put_prompt(tenant, task_id, _LONG)
        assert caught.value.violations[0].field == "task_id"
    assert made.router.state.prompts.counts().entries == 0


async def test_no_provider_is_asked_to_keep_a_restricted_prompt_sent_by_key() -> None:
    made = house()
    key = made.router.put_prompt("default", "task", _LONG * 20)
    for _ in range(3):
        answer = await made.router.route(asking(SystemPrompt(key=key), sensitivity=Sensitivity.RESTRICTED))
        assert answer.completion.prompt_key == ""
    assert [call.cache for call in made.providers["p0"].calls] == [_NONE] * 3


async def test_a_missing_or_unknown_variable_costs_nothing() -> None:
    made = house()
    for system in (
        SystemPrompt(text="For {{name}}."),
        SystemPrompt(text="For you.", variables={"name": "Ann"}),
        SystemPrompt(variables={"name": "Ann"}),
    ):
        with pytest.raises(InvalidRequestError):
            await made.router.route(asking(system))
    assert made.upstream_calls == 0


@pytest.mark.parametrize(
    ("example", "told"),
    [
        pytest.param("{}", "does not keep to the schema", id="wrong"),
        pytest.param('{"a": 1', "is not JSON", id="no JSON"),
    ],
)
async def test_a_json_example_that_breaks_the_schema_is_refused(example: str, told: str) -> None:
    made = house()
    output = JsonOutput(schema='{"required": ["a"]}', examples=(("right", '{"a": 1}'), ("wrong", example)))
    with pytest.raises(InvalidRequestError, match=told) as caught:
        await made.router.route(request(output=output, kind=TaskType.EXTRACT))
    assert caught.value.violations[0].field == "call.output.json.examples[1].json"
    assert made.upstream_calls == 0


async def test_an_example_of_any_json_is_json() -> None:
    made = house()
    output = JsonOutput(examples=(("right", "[1]"), ("wrong", "[1")))
    with pytest.raises(InvalidRequestError, match="is not JSON") as caught:
        await made.router.route(request(output=output, kind=TaskType.EXTRACT))
    assert caught.value.violations[0].field == "call.output.json.examples[1].json"


async def test_a_bad_schema_is_told_by_its_field() -> None:
    made = house()
    call = request(output=JsonOutput(schema='{"type": "nonsense"}'), kind=TaskType.EXTRACT)
    with pytest.raises(InvalidRequestError) as caught:
        await made.router.route(call)
    assert caught.value.violations[0].field == "call.output.json.schema"
    call = request(tools=(Tool(name="look", parameters_schema="{"),))
    with pytest.raises(InvalidRequestError) as caught:
        await made.router.route(call)
    assert caught.value.violations[0].field == "call.tools[0].parameters_schema"


async def test_the_cache_key_tells_nobody_the_tenants_name() -> None:
    made = house()
    await made.router.route(asking(SystemPrompt(text=_LONG), tenant="acme"))
    first = sent(made).cache_key
    await made.router.route(asking(SystemPrompt(text=_LONG), tenant="other"))
    assert len(first) == 32
    assert "acme" not in first
    assert sent(made).cache_key != first


# -- whether the provider is asked to keep the prefix ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "hints"),
    [
        pytest.param([0], [_NONE], id="seen for the first time"),
        pytest.param([0, 60, 120], [_NONE, _FIVE, _FIVE], id="seen again within five minutes"),
        pytest.param([0, 400, 800], [_NONE, _NONE, _HOUR], id="seen twice within the hour"),
        pytest.param([0, 4000, 8000], [_NONE, _NONE, _NONE], id="seen rarely"),
        pytest.param([0, 300], [_NONE, _NONE], id="just too late"),
    ],
)
def test_a_write_is_paid_for_only_where_it_comes_back(times: list[float], hints: list[CacheHint]) -> None:
    reuse, model = PrefixReuse(), stage(0).model
    assert [reuse.hint(model, "key", 5000, now) for now in times] == hints


@pytest.mark.parametrize(
    ("features", "key", "tokens"),
    [
        pytest.param(ALL_FEATURES, "", 5000, id="no key"),
        pytest.param(ALL_FEATURES, "key", 1023, id="below the model's minimum"),
        pytest.param(ALL_FEATURES - {Feature.CACHE_CONTROL}, "key", 5000, id="a model that does not cache"),
    ],
)
def test_no_write_is_asked_for(features: frozenset[Feature], key: str, tokens: int) -> None:
    model = changed(stage(0).model, features=features, cache_minimum_tokens=1024)
    reuse = PrefixReuse()
    assert [reuse.hint(model, key, tokens, now) for now in (0.0, 1.0, 2.0)] == [_NONE] * 3


async def test_the_hint_goes_out_with_the_call() -> None:
    made = house()
    for expected in (_NONE, _FIVE):
        await made.router.route(asking(SystemPrompt(text=_LONG)))
        assert sent(made).cache is expected


async def test_no_provider_is_asked_where_the_configuration_says_so() -> None:
    plan = blueprint(stage(0))
    config = changed(plan.config, caching=CachingConfig(provider_side=False))
    made = engine(changed(plan, config=config), [[says("Yes.")]])
    for _ in range(3):
        assert (await made.router.route(asking(SystemPrompt(text=_LONG)))).completion.prompt_key
    assert [call.cache for call in made.providers["p0"].calls] == [_NONE] * 3


class Reader:
    """A classifier that keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def guess(self, text: str) -> Guess:
        self.shown.append(text)
        return Guess(task_type=None, confidence=0.0, complexity=None, complexity_confidence=0.0, probabilities=())


async def test_a_prompt_sent_by_its_key_means_what_its_text_means() -> None:
    reader = Reader()
    made = engine(blueprint(stage(0)), [[says("Yes.")]], classifier=reader)
    key = (await made.router.route(request(system=SystemPrompt(text=_LONG), kind=None))).completion.prompt_key
    await made.router.route(request(system=SystemPrompt(key=key), kind=None))
    first, by_key = reader.shown
    assert first == by_key
    assert _LONG in first


# -- what a prefix that is kept costs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "asked", "is_warm"),
    [
        pytest.param([0], 10, False, id="never asked to keep it"),
        pytest.param([0, 60], 359, True, id="within five minutes"),
        pytest.param([0, 60], 360, False, id="five minutes later"),
        pytest.param([0, 400, 800], 4399, True, id="within the hour that was asked for"),
        pytest.param([0, 400, 800, 900], 4399, True, id="reading it does not shorten the hour"),
        pytest.param([0, 400, 800], 4400, False, id="an hour later"),
    ],
)
def test_a_prefix_is_warm_for_as_long_as_it_was_asked_for(sent: list[float], asked: float, is_warm: bool) -> None:
    reuse, model = PrefixReuse(), stage(0).model
    for now in sent:
        reuse.hint(model, "key", 1000, now)
    assert reuse.warm_tokens(model, "key", 4000, asked) == (1000 if is_warm else 0)
    assert reuse.warm_tokens(model, "other", 4000, asked) == 0


async def test_the_plan_counts_a_warm_prefix() -> None:
    cheaper = Catalogue.price_config(
        PriceConfig(input_usd=Decimal(10), output_usd=Decimal(0), cache_read_usd=Decimal(1))
    )
    small = stage(0)
    told = Usage(input_tokens=(len(_LONG) + len("Write a line.")) // 4 + 8, output_tokens=1)  # teaches nothing new
    made = engine(blueprint(changed(small, model=changed(small.model, prices=cheaper))), [[says("Yes.", usage=told)]])
    asked = asking(SystemPrompt(text=_LONG))

    def expected() -> Decimal:
        cost = made.router.explain(asked).stages[0].expected_cost
        assert cost is not None
        return cost

    costs = [expected()]
    for _ in range(3):
        await made.router.route(asked)
        costs.append(expected())
    assert costs[0] == costs[1]  # nobody was asked to keep it yet
    assert costs[2] == costs[3]
    tokens = len(_LONG) // 4
    assert costs[1] - costs[2] == tokens * Decimal(9) / 1_000_000
