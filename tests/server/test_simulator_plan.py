"""Plan files, faults as text, and that the same seed gives the same faults."""

from __future__ import annotations

import itertools

import anyio
import httpx
import pytest

from gearshift.core.errors import ConfigError
from gearshift.server.simulator import FaultKind, fault, parse_plan, running_simulator
from gearshift.server.simulator.faults import FACTS
from tests.support.simulated_calls import Caller, calling

FLAKY = """
seed: 11
providers:
  a:
    wire: openai
    faults:
      - {fault: "429", probability: 0.3}
      - {fault: "cut@3", probability: 0.5}
answers:
  - {text: "One two three four five."}
"""


async def faults_of(caller: Caller, prompts: list[str]) -> dict[str, list[str]]:
    """Ask all at once; give the faults by what was asked, in the order of the repeats."""

    async def ask(prompt: str) -> None:
        await caller.ask(caller.call("a", prompt))

    async with anyio.create_task_group() as tasks:
        for prompt in prompts:
            tasks.start_soon(ask, prompt)
    found: dict[str, list[tuple[int, str]]] = {}
    for entry in caller.simulator.account.entries:
        found.setdefault(entry.key, []).append((entry.repeat, entry.fault))
    return {key: [text for _, text in sorted(each)] for key, each in found.items()}


async def test_same_seed_gives_the_same_faults_in_any_order() -> None:
    prompts = [f"question {number}" for number in range(40)]
    seen: list[dict[str, list[str]]] = []
    for order in (prompts, prompts[::-1]):
        async with calling(parse_plan(FLAKY)) as caller:
            seen.append(await faults_of(caller, order))
    assert seen[0] == seen[1]
    texts = list(itertools.chain.from_iterable(seen[0].values()))
    assert {"", "rate_limited", "cut@3"} == set(texts)
    async with calling(parse_plan(FLAKY), seed=12) as caller:
        assert await faults_of(caller, prompts) != seen[0]


async def test_retry_draws_anew_and_alike() -> None:
    seen: list[list[str]] = []
    for _ in range(2):
        async with calling(parse_plan(FLAKY)) as caller:
            for _ in range(12):
                await caller.ask(caller.call("a", "the same"))
            seen.append([entry.fault for entry in caller.simulator.account.entries])
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 1


async def test_key_of_the_request_goes_before_its_words() -> None:
    async with calling(parse_plan(FLAKY)) as caller:
        for number in range(10):
            await caller.ask(caller.call("a", f"words {number}", key="run-1"))
        assert [entry.repeat for entry in caller.simulator.account.entries] == list(range(1, 11))


async def test_share_of_faults_is_the_probability() -> None:
    plan = parse_plan("providers: {a: {wire: openai, faults: [{fault: reset, probability: 0.25}]}}")
    async with running_simulator(plan) as simulator, httpx.AsyncClient(trust_env=False) as client:
        for number in range(300):
            body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": str(number)}]}
            try:
                await client.post(f"{simulator.base_urls['a']}/chat/completions", json=body)
            except httpx.HTTPError:
                pass
        assert 50 <= simulator.account.total.faults <= 100


async def test_rules_hold_by_ordinal_repeat_model_prompt_and_form() -> None:
    plan = parse_plan(
        """
providers:
  a:
    wire: openai
    faults:
      - {fault: "500", requests: [2]}
      - {fault: "503", repeats: [1], contains: retried}
      - {fault: "529", model: other}
      - {fault: "401", only: unary}
"""
    )
    async with calling(plan) as caller:
        asked = [
            caller.call("a", "first"),
            caller.call("a", "second"),
            caller.call("a", "retried"),
            caller.call("a", "retried"),
            caller.call("a", "third", model="other"),
            caller.call("a", "fourth", stream=False),
            caller.call("a", "fifth", stream=False, fault="none"),
        ]
        got = [await caller.ask(call) for call in asked]
        assert [each.booked.fault for each in got] == [
            "", "server_error", "unavailable", "", "overloaded", "unauthorized", "",
        ]  # fmt: skip


async def test_place_is_drawn_from_its_range() -> None:
    plan = parse_plan('providers: {a: {wire: openai, faults: [{fault: "cut@3-9"}]}}')
    seen: list[list[str]] = []
    for _ in range(2):
        async with calling(plan) as caller:
            for number in range(40):
                await caller.ask(caller.call("a", f"question {number}", stream=False))
            seen.append([entry.fault for entry in caller.simulator.account.entries])
    assert seen[0] == seen[1]
    assert set(seen[0]) == {f"cut@{after}" for after in range(3, 10)}


@pytest.mark.parametrize("kind", list(FaultKind), ids=lambda kind: kind.value)
def test_fault_is_its_text(kind: FaultKind) -> None:
    facts = FACTS[kind]
    texts = [kind.value, f"{kind.value}@7"] if facts.positioned else [kind.value]
    if facts.default:
        texts += [f"{text}:{facts.default}" for text in texts]
    for text in texts:
        read = fault(text)
        assert fault(str(read)) == read
        assert read.kind is kind
        assert read.after == (7 if "@7" in text else None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("explode", "there is no fault 'explode'"),
        ("cut@x", "is not a fault"),
        ("cut@9-3", "ends before it begins"),
        ("html@3", "has no place in the answer"),
        ("cut@3:5", "takes no value"),
        ("stall@3:long", "must be seconds"),
        ("language:fr", "must be de or ru"),
        ("stall:99999", "must be seconds"),
        ("wrong_type:a\r\nb: c", "is not a fault"),
    ],
)
def test_wrong_fault_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fault(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("providers: {}", "must not be empty"),
        ("providers: {a: {wire: openia}}", "did you mean `openai`"),
        ("providers: {a: {wire: openai, latncy: {}}}", "did you mean `latency`"),
        ("providers: {a: {wire: openai, quality: 2}}", "from 0 to 1"),
        ("providers: {a: {wire: openai, down: true}}", "a `port` of its own"),
        ("providers: {a/b: {wire: openai}}", "stands in addresses"),
        ("providers: {a: {wire: openai, faults: [{fault: refused}]}}", "write `down: true`"),
        ("providers: {a: {wire: ollama, faults: [{fault: filtered}]}}", "does not exist in the ollama format"),
        ("providers: {a: {wire: openai, faults: [{fault: 'cut@'}]}}", "is not a fault"),
        ("providers: {a: {wire: openai, models: {m: {prices: {input_usd: 0.0000001}}}}}", "decimals"),
    ],
)
def test_wrong_plan_says_what_and_where(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_plan(text)
    assert said in str(caught.value)
    assert str(caught.value).startswith("plan.yaml")


async def test_simulator_listens_on_loopback_only() -> None:
    plan = parse_plan("providers: {a: {wire: openai}}")
    for host in ("0.0.0.0", "example.com", "::"):
        with pytest.raises(ConfigError, match="loopback only"):
            async with running_simulator(plan, host=host):
                pass


async def test_port_that_is_taken_is_said() -> None:
    plan = parse_plan("providers: {a: {wire: openai}}")
    async with running_simulator(plan) as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(ConfigError, match=str(port)):
            async with running_simulator(plan, port=port):
                pass
