"""Self-assessment through the service and the providers' real wire formats: asked behind the prompt, taken out, learned from."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest

from gearshift.core.confidence.assessment import ASK
from gearshift.core.ledger.outcomes import measured
from gearshift.server.calibrating import recalibrate
from gearshift.v1 import call_pb2, router_pb2, task_pb2
from tests.support import anthropic_wire, ollama_wire
from tests.support.openai_bodies import openai_answer
from tests.support.running_server import BOUND_S, running_server
from tests.support.scripted_server import Reply, scripted

SAID = "A gear is a toothed wheel.\n[[sure: 99]]"
STATIC = "You explain bicycles. " * 300
"""Long enough for a provider's cache."""

_KINDS = {
    "openai": ("{{kind: openai, dialect: compatible, base_url: '{url}/v1', api_key: k}}", openai_answer(SAID)),
    "anthropic": (
        "{{kind: anthropic, base_url: '{url}', api_key: k}}",
        anthropic_wire.message(anthropic_wire.text(SAID)),
    ),
    "ollama": ("{{kind: ollama, base_url: '{url}'}}", ollama_wire.whole(SAID)),
}


def configuration(provider: str, policy: str = "self_assessment: true") -> str:
    return f"""
version: 1
providers:
  up: {provider}
models:
  m: {{provider: up, capability: high, context_tokens: 32768, prices: {{input_usd: 1, output_usd: 2}}, features: [json_object, cache_control]}}
chains:
  generate:
    policy: {{{policy}}}
    stages: [{{provider: up, model: m, max_retries: 0}}]
  extract:
    policy: {{{policy}}}
    stages: [{{provider: up, model: m, max_retries: 0}}]
"""


def call(**variables: str) -> call_pb2.Call:
    system = call_pb2.SystemPrompt(text=f"{STATIC}{{{{who}}}} asks.", variables=variables)
    return call_pb2.Call(
        task=task_pb2.Task(id="explain", type=task_pb2.TASK_TYPE_GENERATE), system=system, prompt="What is a gear?"
    )


def system_of(kind: str, body: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Give the system prompt as one text, and Anthropic's blocks of it."""
    if kind == "anthropic":
        blocks = cast("list[dict[str, Any]]", body["system"])
        return "".join(each["text"] for each in blocks), blocks
    first = body["messages"][0]
    assert first["role"] == "system"
    return first["content"], []


@pytest.mark.parametrize("kind", list(_KINDS))
async def test_every_format_asks_behind_the_static_prompt_and_the_caller_sees_the_answer_alone(kind: str) -> None:
    provider, reply = _KINDS[kind]
    async with (
        scripted(Reply.json(reply)) as upstream,
        running_server(configuration(provider.format(url=upstream.url))) as server,
    ):
        first = (await server.route(call(who="Anna"))).answer
        await server.route(call(who="Ben"))
        await server.route(call(who="Cleo"))
        bodies = [cast("dict[str, Any]", each.json) for each in upstream.requests if b"What is a gear?" in each.body]
    assert first.text == "A gear is a toothed wheel."
    (verdict,) = [each for each in first.completion.verdicts if each.gate == "confidence"]
    assert verdict.confidence == pytest.approx(0.965, abs=0.01)
    assert "measured by self_assessment" in verdict.detail
    for body, who in zip(bodies, ("Anna", "Ben", "Cleo"), strict=True):
        system, blocks = system_of(kind, body)
        assert system == f"{STATIC}{who} asks.\n\n{ASK}"
        if blocks:  # what is asked is no part of what the provider keeps
            assert blocks[0]["text"] == STATIC
            assert ASK in blocks[1]["text"]
            assert "cache_control" not in blocks[1]


async def test_explain_says_whether_it_is_asked_and_why_not() -> None:
    async with running_server(configuration("{kind: ollama, base_url: 'http://127.0.0.1:9'}")) as server:
        asked = await server.router.Explain(router_pb2.ExplainRequest(call=call(who="Anna")))
        assert (
            asked.policy["self_assessment"]
            == "asked for whole answers, not in streams that are released before their end"
        )
        held = call(who="Anna")
        held.task.type = task_pb2.TASK_TYPE_EXTRACT
        seen = await server.router.Explain(router_pb2.ExplainRequest(call=held))
        assert seen.policy["self_assessment"] == "asked"
        document = call(who="Anna")
        document.output.json.schema = "{}"
        refused = await server.router.Explain(router_pb2.ExplainRequest(call=document))
        assert refused.policy["self_assessment"] == "not asked: a document is asked for"


async def test_outcomes_that_callers_report_teach_what_the_word_is_worth() -> None:
    provider, reply = _KINDS["openai"]
    async with (
        scripted(Reply.json(reply)) as upstream,
        running_server(configuration(provider.format(url=upstream.url))) as server,
    ):
        before = (await server.route(call(who="Anna"))).answer
        with anyio.fail_after(BOUND_S):
            await server.router.ReportOutcome(
                router_pb2.ReportOutcomeRequest(
                    request_id=before.request_id, verdict=router_pb2.OUTCOME_VERDICT_REJECTED
                )
            )
        assert await recalibrate(server.app.ledger, server.app.router) == 1
        (learned,) = measured(await server.app.ledger.outcomes(10))
        assert (learned.measure, learned.right) == ("self_assessment", False)
        after = (await server.route(call(who="Ben"))).answer
    assert after.completion.confidence < before.completion.confidence


async def test_a_tenant_may_forbid_it_but_not_ask_for_it() -> None:
    provider, _ = _KINDS["openai"]
    told = configuration(provider.format(url="http://127.0.0.1:9"))
    forbidden = told + "access: {tenants: {default: {policy: {self_assessment: false}}}}\n"
    wished = (
        told.replace("self_assessment: true", "") + "access: {tenants: {default: {policy: {self_assessment: true}}}}\n"
    )
    for each in (forbidden, wished):
        async with running_server(each) as server:
            explained = await server.router.Explain(router_pb2.ExplainRequest(call=call(who="Anna")))
            assert "self_assessment" not in explained.policy
