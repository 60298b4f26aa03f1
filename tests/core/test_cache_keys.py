"""Keys of what is cached never cross a tenant, a task definition, a sensitivity, a right, or anything the model reads."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.admission import Admission
from gearshift.core.blueprint import Blueprint
from gearshift.core.cache.keys import embedding_keys, generation_of, response_key
from gearshift.core.call import PreparedCall
from gearshift.core.config.model import AccessConfig, TaskCacheConfig, TenantConfig
from gearshift.core.errors import RouteError
from gearshift.core.estimate import Estimator
from gearshift.core.plan import Caps
from gearshift.core.prepare import Preparer
from gearshift.core.promptcache import PromptCache
from gearshift.core.request import (
    EmbedRequest,
    Image,
    JsonOutput,
    LabelOutput,
    Message,
    Parameters,
    Policy,
    Request,
    StreamPolicy,
    SystemPrompt,
    Task,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    user,
)
from gearshift.core.resolve import resolve_embed
from gearshift.core.schema import SchemaCache
from gearshift.core.words import Complexity, InputType, Role, Sensitivity, TaskType, ToolMode, Truncation
from tests.support.blueprints import blueprint, declared_task, policy, stage
from tests.support.changed import changed

TENANTS = {
    "acme": TenantConfig(),
    "acme2": TenantConfig(),
    "few": TenantConfig(models=("m0",)),
}
# Made to collide wherever parts are merely put one after the other.
_TEXTS = st.sampled_from(["a", "ab", "b", "a\n", '"', "a,b", "{{v}}", "\x00", "é", "1", ""])


def plan(
    *, definition: str = "definition", revision: str = "revision", confidence: float = 0.85, valid: bool = False
) -> Blueprint:
    stages = (stage(0), stage(1, capability=Complexity.HIGH))
    chain_policy = changed(policy(require_valid=valid), min_confidence=confidence)
    plain = blueprint(*stages, chain_policy=chain_policy)
    chain = changed(plain.chains["generate"], revision=revision)
    task = changed(
        declared_task("kept", chain),
        policy=chain_policy,
        temperature=0.0,
        definition_hash=definition,
        cache=TaskCacheConfig(any_temperature=True),
    )
    chains = {**plain.chains, "embed": changed(plain.chains["embed"], revision=revision)}
    config = changed(plain.config, access=AccessConfig(tenants=TENANTS))
    return replace(plain, tasks={"kept": task, "other": changed(task, id="other")}, chains=chains, config=config)


def key_of(made: Blueprint, call: Request) -> str | None:
    return response_key(prepared(made, call))


def prepared(made: Blueprint, call: Request) -> PreparedCall:
    admission = Admission()
    preparer = Preparer(
        made,
        None,
        PromptCache(made.config.caching),
        SchemaCache(),
        admission,
        Estimator(),
        (),
        random.Random(1),
    )
    return preparer.prepare(call, float("inf"))


_PARTS = st.one_of(
    _TEXTS.filter(bool).map(Text),
    st.sampled_from([b"x", b"y"]).map(lambda data: Image(data=data, media_type="image/png")),
    st.just(Image(url="https://example.com/a.png")),
)
_MESSAGES = st.lists(
    st.one_of(
        st.lists(_PARTS, min_size=1, max_size=2).map(lambda parts: Message(role=Role.USER, parts=tuple(parts))),
        st.just(Message(role=Role.ASSISTANT, parts=(ToolCall(id="c", name="look", arguments="{}"),))),
        st.just(Message(role=Role.TOOL, parts=(ToolResult(tool_call_id="c", content="a"),))),
    ),
    min_size=1,
    max_size=3,
)
_OUTPUTS = st.sampled_from(
    [
        None,
        LabelOutput(labels=("a", "b")),
        LabelOutput(labels=("a", "b"), examples=(("a", "b"),)),
        LabelOutput(labels=("b", "a")),
        JsonOutput(),
        JsonOutput(schema='{"type": "object"}'),
    ]
)
_TOOLS = st.sampled_from([(), (Tool(name="look"),), (Tool(name="look", description="a"),), (Tool(name="see"),)])
_SYSTEMS = st.one_of(
    st.none(),
    _TEXTS.filter(bool).map(lambda text: SystemPrompt(text="" + text.replace("{{v}}", "v"))),
    _TEXTS.map(lambda value: SystemPrompt(text="Say {{v}} well", variables={"v": value})),
)
_PARAMETERS = st.builds(
    Parameters,
    temperature=st.sampled_from([None, 0.0, 0.5]),
    top_p=st.sampled_from([None, 0.5]),
    max_tokens=st.sampled_from([None, 1, 2]),
    stop=st.sampled_from([(), ("a",), ("a", "b"), ("ab",)]),
    seed=st.sampled_from([None, 1]),
)
_POLICIES = st.builds(
    Policy,
    min_confidence=st.sampled_from([None, 0.9, 0.95]),
    escalation_threshold=st.sampled_from([None, 0.8]),
    require_valid=st.booleans(),
    allowed_models=st.sampled_from([frozenset[str](), frozenset({"m0"}), frozenset({"m1"}), frozenset({"m0", "m1"})]),
    allowed_providers=st.sampled_from([frozenset[str](), frozenset({"p0"}), frozenset({"p0", "p1"})]),
    no_escalation=st.booleans(),
    no_second_look=st.booleans(),
)


@st.composite
def _calls(draw: st.DrawFn) -> tuple[Blueprint, Request]:
    made = plan(
        definition=draw(st.sampled_from(["definition", "another"])),
        revision=draw(st.sampled_from(["revision", "another"])),
        confidence=draw(st.sampled_from([0.85, 0.95])),
        valid=draw(st.booleans()),
    )
    call = Request(
        request_id=draw(st.sampled_from(["r1", "r2"])),
        tenant=draw(st.sampled_from(["default", *TENANTS])),
        task=Task(
            id=draw(st.sampled_from(["kept", "other"])),
            complexity=draw(st.sampled_from([None, Complexity.LOW, Complexity.HIGH])),
            sensitivity=draw(st.sampled_from([None, Sensitivity.PUBLIC, Sensitivity.INTERNAL])),
        ),
        messages=tuple(draw(_MESSAGES)),
        system=draw(_SYSTEMS),
        tools=draw(_TOOLS),
        tool_choice=draw(st.sampled_from([ToolChoice(), ToolChoice(mode=ToolMode.NONE)])),
        output=draw(_OUTPUTS),
        parameters=draw(_PARAMETERS),
        policy=draw(_POLICIES),
        stream=draw(st.sampled_from([None, StreamPolicy(), StreamPolicy(preview=True)])),
    )
    return made, call


def meaning(made: Blueprint, call: Request) -> list[Any]:
    """Give what a key must tell apart, as the engine understands it, by another way than the key is made."""
    understood = prepared(made, call)
    resolved = understood.resolved
    return [
        resolved.resolution.tenant,
        resolved.resolution.sensitivity,
        resolved.resolution.task_id,
        resolved.definition_hash,
        resolved.resolution.complexity,
        resolved.complexity_declared,
        resolved.chain.revision,
        understood.caps.allowed_models,
        understood.caps.allowed_providers,
        understood.prompt,
        call.system.variables if call.system is not None else {},
        call.messages,
        call.tools,
        call.tool_choice,
        type(resolved.output),
        resolved.output,
        understood.parameters,
        changed(understood.policy, max_cost_usd=None, max_attempts=1, max_hops=1),
        call.policy.no_escalation,
        call.policy.no_second_look,
    ]


@settings(max_examples=600, deadline=None)
@given(first=_calls(), second=_calls(), same=st.sets(st.sampled_from(Request.__struct_fields__)))
def test_two_calls_share_a_key_if_and_only_if_they_mean_the_same(
    first: tuple[Blueprint, Request], second: tuple[Blueprint, Request], same: set[str]
) -> None:
    # Most fields are made equal, so that calls which differ in one thing only are common.
    other = changed(second[1], **{name: getattr(first[1], name) for name in same})
    made = first[0] if len(same) % 3 else second[0]
    try:
        keys = key_of(first[0], first[1]), key_of(made, other)
        meant = meaning(first[0], first[1]) == meaning(made, other)
    except RouteError:
        return  # one of them is refused before anything is looked up
    assert None not in keys
    assert (keys[0] == keys[1]) == meant


def test_who_asks_and_how_it_is_streamed_are_no_part_of_a_key() -> None:
    made, call = plan(), Request(request_id="r1", tenant="acme", task=Task(id="kept"), messages=(user("a"),))
    key = key_of(made, call)
    assert key == key_of(made, changed(call, request_id="r2"))
    assert key == key_of(made, changed(call, stream=StreamPolicy()))
    assert key == key_of(made, changed(call, policy=Policy(max_cost_usd=Decimal(1), max_attempts=2)))


def test_restricted_and_forbidden_calls_have_no_key() -> None:
    made = blueprint(stage(0, clearance=Sensitivity.RESTRICTED))
    task = changed(plan().tasks["kept"], chain=made.chains["generate"])
    made = replace(made, tasks={"kept": task})
    call = Request(request_id="r1", tenant="acme", task=Task(id="kept"), messages=(user("a"),))
    assert key_of(made, call)
    assert key_of(made, changed(call, task=Task(id="kept", sensitivity=Sensitivity.RESTRICTED))) is None
    assert key_of(made, changed(call, policy=Policy(no_cache=True))) is None
    assert key_of(made, changed(call, task=Task(id="undeclared", type=TaskType.GENERATE))) is None


# -- embeddings ------------------------------------------------------------------------------------------------------


@st.composite
def _embeddings(draw: st.DrawFn) -> tuple[Blueprint, EmbedRequest, int, Caps]:
    made = plan(revision=draw(st.sampled_from(["revision", "another"])))
    call = EmbedRequest(
        request_id=draw(st.sampled_from(["r1", "r2"])),
        tenant=draw(st.sampled_from(["default", *TENANTS])),
        task=Task(
            id=draw(st.sampled_from(["e1", "e2"])),
            sensitivity=draw(st.sampled_from([None, Sensitivity.PUBLIC, Sensitivity.INTERNAL])),
        ),
        inputs=(draw(_TEXTS),),
        input_type=draw(st.sampled_from([None, InputType.QUERY, InputType.DOCUMENT])),
        dimensions=draw(st.sampled_from([None, 3])),
        truncation=draw(st.sampled_from(Truncation)),
    )
    models = draw(st.sampled_from([frozenset[str](), frozenset({"m0"})]))
    caps = Caps(max_cost_usd=None, allowed_models=models, allowed_providers=frozenset(), require_confidence=False)
    return made, call, draw(st.integers(0, 1)), caps


@settings(max_examples=600, deadline=None)
@given(first=_embeddings(), second=_embeddings(), same=st.booleans())
def test_two_texts_share_a_vector_if_and_only_if_they_mean_the_same(
    first: tuple[Blueprint, EmbedRequest, int, Caps], second: tuple[Blueprint, EmbedRequest, int, Caps], same: bool
) -> None:
    if same:
        second = (first[0], replace(second[1], tenant=first[1].tenant, task=first[1].task), *first[2:])
    keys: list[list[str] | None] = []
    meant: list[object] = []
    for made, call, position, caps in (first, second):
        resolved = resolve_embed(call, made)
        used = resolved.chain.stages[position]
        keys.append(embedding_keys(call, resolved, caps, used))
        meant.append(
            (
                resolved.resolution.tenant,
                resolved.resolution.sensitivity,
                resolved.resolution.task_id,
                resolved.chain.revision,
                used.model.id,
                caps,
                call.inputs,
                call.input_type,
                call.dimensions,
                call.truncation,
            )
        )
    assert (keys[0] == keys[1]) == (meant[0] == meant[1])


def test_restricted_texts_have_no_key() -> None:
    made = plan()
    call = EmbedRequest(request_id="r", tenant="acme", task=Task(id="e"), inputs=("a",))
    caps = Caps(max_cost_usd=None, allowed_models=frozenset(), allowed_providers=frozenset(), require_confidence=False)
    for refused in (
        replace(call, task=Task(id="e", sensitivity=Sensitivity.RESTRICTED)),
        replace(call, policy=Policy(no_cache=True)),
    ):
        resolved = resolve_embed(refused, made)
        assert embedding_keys(refused, resolved, caps, resolved.chain.stages[0]) is None


_DIFFERENT: list[Callable[[str], str]] = [lambda text: text + "a", lambda text: "a" + text]


@given(definition=_TEXTS, revision=_TEXTS)
def test_generations_do_not_collide(definition: str, revision: str) -> None:
    known = generation_of(definition, revision)
    for change in _DIFFERENT:
        assert generation_of(change(definition), revision) != known
        assert generation_of(definition, change(revision)) != known
