"""What simulated models answer: labels, JSON, text, quality, limits; and the formats that no adapter of ours sends."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gearshift.core.request import JsonOutput, LabelOutput, Parameters
from gearshift.core.schema import compile_schema, parse_document
from gearshift.core.words import FailureKind, FinishReason
from gearshift.server.simulator import parse_plan, running_simulator
from gearshift.server.simulator.answers import answer_to
from gearshift.server.simulator.ask import Ask, grammar_labels, spoken_labels
from gearshift.server.simulator.documents import broken_text, compiled, document_for, fits
from gearshift.server.simulator.draws import Draws
from gearshift.server.simulator.faults import Form
from gearshift.server.simulator.tokens import tokens_of
from tests.support.simulated_calls import calling

WIRES = ("openai", "anthropic", "ollama")
ALL = """
seed: 5
providers:
  openai: {wire: openai}
  anthropic: {wire: anthropic}
  ollama: {wire: ollama}
  voyage: {wire: voyage, models: {v: {dimensions: 16}}}
answers:
  - {contains: charged twice, label: billing}
  - {contains: invoice, json: {total: 12.5, paid: true}}
  - {header: "x-voice: loud", text: LOUD}
  - {contains: long, words: 200}
  - {contains: weather, text: "It is sunny.", poor: "Nobody knows."}
"""
LABELS = LabelOutput(labels=("question", "billing", "bug"))


@pytest.mark.parametrize(
    "text", ["", " a  b\n\nc\t", "naïve — 漢字, x²!", "antidisestablishmentarianism_2", "\n \n", "a" * 50]
)
def test_tokens_lose_nothing(text: str) -> None:
    assert "".join(tokens_of(text)) == text
    assert all(1 <= len(token) <= 8 for token in tokens_of(text))


@pytest.mark.parametrize("wire", WIRES)
async def test_label_is_the_plans_or_the_one_that_the_question_names(wire: str) -> None:
    async with calling(parse_plan(ALL)) as caller:
        for prompt, label in (("I was charged twice.", "billing"), ("It is a bug, is it not?", "bug")):
            for stream in (True, False):
                got = await caller.ask(caller.call(wire, prompt, output=LABELS, stream=stream))
                assert got.answer.text == label


@pytest.mark.parametrize("wire", WIRES)
async def test_label_is_read_from_the_prompt_where_the_format_has_none(wire: str) -> None:
    async with calling(parse_plan(ALL)) as caller:
        call = caller.call(wire, "I was charged twice.", output=LABELS)
        told = await caller.ask(replace(call, model=replace(call.model, features=frozenset())))
        assert told.answer.text == "billing"


async def test_share_of_right_labels_is_the_quality() -> None:
    plan = parse_plan("providers: {a: {wire: openai, models: {m: {quality: 0.7}}}}")
    provider = plan.providers["a"]
    right = 0
    for number in range(400):
        ask = Ask(form=Form.UNARY, model="m", texts=(f"Number {number} is a bug.",), labels=LABELS.labels)
        quality = provider.models["m"].quality
        assert quality is not None
        answer = answer_to(ask, (), provider="a", headers={}, quality=quality, draws=Draws(1, number))
        right += answer.right
        assert (answer.text == "bug") is answer.right
        least = min(token.logprob for token in answer.tokens)
        assert least > -0.1 if answer.right else least < -0.5
    assert 250 <= right <= 310


@pytest.mark.parametrize("wire", WIRES)
async def test_json_is_the_plans_or_fits_the_schema(wire: str) -> None:
    async with calling(parse_plan(ALL)) as caller:
        got = await caller.ask(caller.call(wire, "Read the invoice.", output=JsonOutput()))
        assert json.loads(got.answer.text) == {"total": 12.5, "paid": True}
        schema = '{"type":"object","properties":{"n":{"type":"integer","minimum":3}},"required":["n"]}'
        got = await caller.ask(caller.call(wire, "Count.", output=JsonOutput(schema=schema)))
        assert compile_schema(schema).is_valid(parse_document(got.answer.text))
        call = caller.call(wire, "Count again.", output=JsonOutput(schema=schema))
        told = await caller.ask(replace(call, model=replace(call.model, features=frozenset())))
        assert compile_schema(schema).is_valid(parse_document(told.answer.text))


SCHEMAS: list[Mapping[str, Any]] = [
    {"type": "array", "items": {"type": "string", "minLength": 12, "maxLength": 14}, "minItems": 2},
    {"type": ["string", "null"], "format": "date"},
    {"anyOf": [{"type": "integer", "multipleOf": 7, "minimum": 8}, {"const": "none"}]},
    {
        "allOf": [
            {"properties": {"a": {"type": "boolean"}}, "required": ["a"]},
            {"properties": {"b": {"type": "number"}}},
        ]
    },
    {"$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}}, "$ref": "#/$defs/node"},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    {"type": "object", "required": ["x"], "additionalProperties": {"type": "integer"}},
    {"enum": [1, "two", None]},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_document_fits_its_schema_and_its_broken_twin_does_not(schema: Mapping[str, Any]) -> None:
    checker = compiled(schema)
    assert checker is not None
    for number in range(5):
        document = document_for(schema, Draws(number))
        assert fits(checker, document)
        text = json.dumps(document)
        broken = broken_text(text, schema, 0)
        try:
            assert not fits(checker, json.loads(broken))
        except json.JSONDecodeError:
            pass


async def test_text_goes_by_header_words_and_quality() -> None:
    async with calling(parse_plan(ALL)) as caller:
        loud = await caller.ask(caller.call("openai", "Hello", headers={"X-Voice": "loud"}))
        assert loud.answer.text == "LOUD"
        long = await caller.ask(caller.call("openai", "Tell a long story.", parameters=Parameters()))
        assert 200 <= len(long.answer.text.split()) <= 220
        assert (await caller.ask(caller.call("openai", "How is the weather?"))).answer.text == "It is sunny."
    poor = parse_plan(ALL.replace("openai: {wire: openai}", "openai: {wire: openai, quality: 0}"))
    async with calling(poor) as caller:
        assert (await caller.ask(caller.call("openai", "How is the weather?"))).answer.text == "Nobody knows."
        assert "not sure" in (await caller.ask(caller.call("openai", "Hello"))).answer.text


@pytest.mark.parametrize("wire", WIRES)
async def test_limit_and_stop_sequence_end_the_answer(wire: str) -> None:
    async with calling(parse_plan(ALL)) as caller:
        short = await caller.ask(caller.call(wire, "How is the weather?", parameters=Parameters(max_tokens=2)))
        assert (short.answer.text, short.answer.finish_reason) == ("It is", FinishReason.LENGTH)
        stopped = await caller.ask(caller.call(wire, "How is the weather?", parameters=Parameters(stop=("sun",))))
        assert (stopped.answer.text, stopped.answer.finish_reason) == ("It is ", FinishReason.STOP)


@pytest.mark.parametrize("wire", WIRES)
async def test_prefill_is_continued(wire: str) -> None:
    async with calling(parse_plan(ALL)) as caller:
        got = await caller.ask(caller.call(wire, "How is the weather?", prefill="It is"))
        assert got.answer.text.lstrip() == "sunny."


async def test_same_text_has_the_same_vector_and_like_texts_near_ones() -> None:
    def near(first: tuple[float, ...], second: tuple[float, ...]) -> float:
        return sum(a * b for a, b in zip(first, second, strict=True))

    async with calling(parse_plan(ALL)) as caller:
        for wire, model, length in (("openai", "m", 8), ("ollama", "m", 8), ("voyage", "v", 16)):
            result = await caller.embed(wire, "red gear", "red gear", "a red gear", "blue sky", model=model)
            first, same, like, other = result.vectors
            assert len(first) == length
            assert first == same
            assert near(first, like) > near(first, other)
            assert result.usage is not None and result.usage.input_tokens == 16


async def test_model_that_the_plan_lacks_is_not_found() -> None:
    async with calling(parse_plan("providers: {a: {wire: openai, models: {m: {}}}}")) as caller:
        got = await caller.ask(caller.call("a", model="other"))
        assert got.kind is FailureKind.MODEL_NOT_FOUND


async def test_lists_and_signs_of_life() -> None:
    plan = parse_plan(
        """
providers:
  o: {wire: openai, models: {m: {}, n: {}}}
  a: {wire: anthropic, models: {m: {}}}
  l: {wire: ollama, models: {m: {}}}
"""
    )
    async with running_simulator(plan) as simulator, httpx.AsyncClient(trust_env=False) as client:
        urls = simulator.base_urls
        listed = (await client.get(f"{urls['o']}/models")).json()
        assert [model["id"] for model in listed["data"]] == ["m", "n"]
        assert (await client.get(f"{urls['a']}/v1/models")).json()["data"][0]["id"] == "m"
        assert (await client.get(f"{urls['l']}/api/tags")).json()["models"][0]["name"] == "m"
        assert (await client.get(f"{urls['l']}/")).text == "Ollama is running"
        counted = await client.post(
            f"{urls['a']}/v1/messages/count_tokens",
            json={"model": "m", "messages": [{"role": "user", "content": "x" * 40}]},
        )
        assert counted.json() == {"input_tokens": 18}
        assert (await client.get(simulator.url)).json()["providers"] == dict(urls)
        assert (await client.get(f"{simulator.url}/p/none/v1/models")).status_code == 404
        assert (await client.get(f"{urls['o']}/elsewhere")).json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"model": 5, "messages": []}',
        b'{"model": "m"}',
        b'{"model": "m", "messages": {}}',
        b'{"model": "m", "messages": [5]}',
        b"\xff",
        b'{"model":"m","messages":[{}],"grammar":7,"response_format":{"type":"json_schema","json_schema":{"schema":{"enum":5}}}}',
        b'{"model":"m","messages":[{}],"response_format":{"json_schema":{"schema":{"type":"number","minimum":"x"}}}}',
    ],
)
async def test_wrong_request_is_a_bad_request(body: bytes) -> None:
    plan = parse_plan("providers: {a: {wire: openai}}")
    async with running_simulator(plan) as simulator, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{simulator.base_urls['a']}/chat/completions", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert simulator.account.total.requests == 0


async def test_body_may_come_in_chunks_and_connections_are_kept() -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        for piece in (b'{"model":"m","messages":[', b'{"role":"user","content":"Hi"}', b"]}"):
            yield piece

    plan = parse_plan("providers: {a: {wire: openai}}")
    async with running_simulator(plan) as simulator, httpx.AsyncClient(trust_env=False) as client:
        for _ in range(3):
            answer = await client.post(f"{simulator.base_urls['a']}/chat/completions", content=pieces())
            assert answer.status_code == 200
        assert simulator.statistics()["connections"] == 1


def test_labels_are_read_as_gateways_write_them() -> None:
    assert spoken_labels("Choose one of these labels.\n- a b\n- c\n\nText") == ("a b", "c")
    assert spoken_labels("A list:\n- a\n- b") == ()
    assert grammar_labels('root ::= "a" | "b\\U0000002Fc"') == ("a", "b/c")
    assert grammar_labels('root ::= "a" other') == ()


async def test_same_request_has_the_same_bytes() -> None:
    seen: list[str] = []
    for _ in range(2):
        async with running_simulator(parse_plan(ALL)) as simulator, httpx.AsyncClient(trust_env=False) as client:
            body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
            answer = await client.post(f"{simulator.base_urls['openai']}/chat/completions", json=body)
            seen.append(answer.text)
    assert seen[0] == seen[1]
    assert re.search(r"data: \[DONE\]\n\n$", seen[0])
