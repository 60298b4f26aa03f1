"""A document that does not fit its schema: its own stage is told why and mends it once, where the policy allows."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest

from gearshift.core.answer import Usage
from gearshift.core.blueprint import ChainPolicy
from gearshift.core.words import Complexity, FailureKind, FinishReason
from gearshift.v1 import answer_pb2, call_pb2, router_pb2, task_pb2
from tests.support.blueprints import policy, stage
from tests.support.openai_bodies import openai_answer
from tests.support.running_server import of_stages, running_server
from tests.support.scripted_provider import Script, ScriptedProvider, fails, says
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "total": {"type": "number", "minimum": 0}},
        "required": ["name", "total"],
    }
)
WRONG = '{"name": "Bolts", "total": "three"}'
RIGHT = '{"name": "Bolts", "total": 3}'


def call() -> call_pb2.Call:
    made = call_pb2.Call(task=task_pb2.Task(id="bill", type=task_pb2.TASK_TYPE_EXTRACT), prompt="Bolts: three.")
    made.output.json.schema = SCHEMA
    return made


def mending(**changes: Any) -> ChainPolicy:
    return replace(policy(), repair=True, **changes)


def two(*first: Script, second: str = RIGHT) -> dict[str, ScriptedProvider]:
    return {"p0": ScriptedProvider(list(first)), "p1": ScriptedProvider([says(second)])}


def stages_of(answer: answer_pb2.Answer) -> list[str]:
    return [each.stage.model for each in answer.completion.attempts]


PLAN = (stage(0), stage(1, capability=Complexity.HIGH))


async def test_the_same_stage_is_told_what_is_wrong_in_its_own_conversation() -> None:
    async with scripted(Reply.json(openai_answer(WRONG)), Reply.json(openai_answer(RIGHT))) as upstream:
        text = one_openai(upstream.url).replace("  extract:\n", "  extract:\n    policy: {repair: true}\n")
        async with running_server(text) as server:
            explained = await server.router.Explain(router_pb2.ExplainRequest(call=call()))
            answer = (await server.route(call())).answer
            bodies = [cast("dict[str, Any]", each.json) for each in upstream.requests]
    assert explained.policy["repair"] == "once"
    assert json.loads(answer.text) == {"name": "Bolts", "total": 3}
    assert answer.completion.outcome == answer_pb2.OUTCOME_ACCEPTED
    assert len(bodies) == 2
    *before, said, told = bodies[1]["messages"]
    assert before == bodies[0]["messages"]
    assert said == {"role": "assistant", "content": WRONG}
    assert told["role"] == "user"
    assert told["content"].startswith("This does not fit the schema: /total: ")
    assert len(told["content"]) < 200
    first, second = answer.completion.attempts
    assert first.detail.startswith("schema: /total")
    assert second.cause == answer_pb2.ATTEMPT_CAUSE_RETRY


@pytest.mark.parametrize("streams", [False, True])
async def test_it_is_mended_before_a_dearer_stage_is_asked_and_only_once(streams: bool) -> None:
    providers = two(says(WRONG), says(WRONG), says(WRONG))
    async with running_server(of_stages(*PLAN, chain_policy=mending()), providers=providers) as server:
        if streams:
            events = await server.stream(call())
            text = "".join(p.text for e in events if e.HasField("delta") for p in e.delta.parts)
            assert not any(e.HasField("retract") for e in events)
        else:
            answer = (await server.route(call())).answer
            text = answer.text
            assert stages_of(answer) == ["m0", "m0", "m1"]
    assert text == RIGHT
    assert len(providers["p0"].calls) == 2
    # The stronger stage begins anew: it is not shown what another wrote.
    assert len(providers["p1"].calls[0].messages) == 1


async def test_a_stream_shows_the_mended_document_alone() -> None:
    providers = two(says(WRONG[:9], WRONG[9:]), says(RIGHT))
    async with running_server(of_stages(*PLAN, chain_policy=mending()), providers=providers) as server:
        events = await server.stream(call())
    assert "".join(p.text for e in events if e.HasField("delta") for p in e.delta.parts) == RIGHT
    assert not providers["p1"].calls
    assert len([e for e in events if e.HasField("attempt")]) == 2


async def test_text_that_is_no_document_at_all_is_told_so() -> None:
    providers = two(says('{"name": "Bolts", '), says(RIGHT))
    async with running_server(of_stages(*PLAN, chain_policy=mending()), providers=providers) as server:
        assert (await server.route(call())).answer.text == RIGHT
    (told,) = providers["p0"].calls[1].messages[-1].parts
    assert "This cannot be read: not JSON: " in str(told)


async def test_without_the_policy_a_wrong_document_escalates() -> None:
    providers = two(says(WRONG))
    async with running_server(of_stages(*PLAN), providers=providers) as server:
        assert stages_of((await server.route(call())).answer) == ["m0", "m1"]


async def test_a_mending_that_fails_upstream_is_retried_as_itself_and_then_left() -> None:
    plan = (stage(0, max_retries=1), stage(1, capability=Complexity.HIGH))
    providers = two(says(WRONG), fails(FailureKind.SERVER), says(RIGHT))
    async with running_server(of_stages(*plan, chain_policy=mending()), providers=providers) as server:
        answer = (await server.route(call())).answer
    assert answer.text == RIGHT
    assert [len(each.messages) for each in providers["p0"].calls] == [1, 3, 3]
    assert not providers["p1"].calls


@pytest.mark.parametrize("changes", [{"max_attempts": 1}, {"max_cost_usd": Decimal("0.0006")}])
async def test_the_caps_hold_for_mending_too(changes: dict[str, Any]) -> None:
    wrong = says(WRONG, usage=Usage(input_tokens=60, output_tokens=20))
    providers = {"p0": ScriptedProvider([wrong, says(RIGHT)])}
    async with running_server(of_stages(stage(0), chain_policy=mending(**changes)), providers=providers) as server:
        answer = (await server.route(call())).answer
    assert answer.text == WRONG
    assert len(providers["p0"].calls) == 1


async def test_a_document_that_was_cut_off_is_not_sent_back() -> None:
    providers = two(says('{"name": "Bo', finish=FinishReason.LENGTH))
    async with running_server(of_stages(*PLAN, chain_policy=mending()), providers=providers) as server:
        assert stages_of((await server.route(call())).answer) == ["m0", "m1"]


@pytest.mark.parametrize(("tenant", "said"), [("repair: false", None), ("repair: true", "once"), ("", "once")])
async def test_a_tenant_may_only_forbid_it(tenant: str, said: str | None) -> None:
    text = one_openai("http://127.0.0.1:9").replace("  extract:\n", "  extract:\n    policy: {repair: true}\n")
    text += f"\naccess: {{tenants: {{default: {{policy: {{{tenant}}}}}}}}}\n"
    async with running_server(text) as server:
        explained = await server.router.Explain(router_pb2.ExplainRequest(call=call()))
    assert explained.policy.get("repair") == said
