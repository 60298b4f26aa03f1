"""System prompts on their way through the router: stored, sent by key, filled, told to the provider's cache."""

from __future__ import annotations

import pytest

from gearshift.core.blueprint import DeclaredTask
from gearshift.core.catalogue import Feature
from gearshift.core.config.model import TenantConfig
from gearshift.core.errors import InvalidRequestError, PromptNotCachedError
from gearshift.core.promptcache import USE_VARIABLES
from gearshift.core.provider import CacheHint, ProviderCall
from gearshift.core.request import JsonOutput, Request, StreamPolicy, SystemPrompt, Tool
from gearshift.core.reuse import PrefixReuse
from gearshift.core.words import Sensitivity, TaskType
from tests.support.blueprints import ALL_FEATURES, blueprint, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, request
from tests.support.scripted_provider import says

_LONG = "You sort mail by topic. " * 40
_FIVE, _HOUR, _NONE = CacheHint.FIVE_MINUTES, CacheHint.ONE_HOUR, CacheHint.NONE


def house() -> Engine:
    return engine(blueprint(stage(0, clearance=Sensitivity.RESTRICTED)), [[says("Yes.")]])


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


async def test_a_restricted_prompt_is_never_kept() -> None:
    made = house()
    answer = await made.router.route(asking(SystemPrompt(text=_LONG), sensitivity=Sensitivity.RESTRICTED))
    assert answer.completion.prompt_key == ""
    assert made.router.state.prompts.counts().entries == 0
    assert sent(made).system_static == _LONG


async def test_a_prompt_of_restricted_calls_cannot_be_stored() -> None:
    plan = blueprint(stage(0, clearance=Sensitivity.RESTRICTED))
    task = DeclaredTask(
        id="records",
        type=TaskType.GENERATE,
        complexity=None,
        sensitivity=Sensitivity.RESTRICTED,
        prompt="",
        static=True,
        output=None,
        chain=plan.chains["generate"],
        policy=plan.chains["generate"].policy,
        stream=StreamPolicy(),
        max_tokens=None,
        temperature=None,
        limits=None,
        definition_hash="records",
    )
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
