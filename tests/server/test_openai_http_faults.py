"""The official client over simulated providers with every fault: what ends well is whole, and nothing is left over."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import anyio
import openai
import pytest

from gearshift.server.simulator import parse_plan, running_simulator
from tests.support.openai_clients import openai_at
from tests.support.running_server import BOUND_S, from_yaml, running_server

STREAMS = 120
CROWD = 20
TEXT = (
    "The small wheel helps you climb, and the large one helps you hurry; a gearbox does the same with toothed wheels in "
    "oil, and wastes very little on the way."
)
OTHER = "A gearbox does what it must, quietly, and with very little fuss or noise at all on any road that you take."
FAULTS = (
    "reset",
    "rate_limited",
    "server_error",
    "empty",
    "html",
    "error_in_stream@7",
    "cut@7",
    "close@7",
    "stall@7:30",
    "malformed@7",
    "invalid_utf8@7",
    "no_end@7",
    "no_done",
    "no_usage",
)
RULES = ", ".join(f'{{fault: "{fault}", contains: "[[{fault}]]"}}' for fault in FAULTS)
PLAN = f"""\
providers:
  weak: {{wire: openai, latency: {{first_token_ms: 2, token_ms: 0.2}}, faults: [{RULES}]}}
  strong: {{wire: openai, latency: {{first_token_ms: 2, token_ms: 0.2}}}}
answers:
  - {{provider: strong, text: "{OTHER}"}}
  - {{text: "{TEXT}"}}
"""
PROVIDER = (
    "  {name}: {{kind: openai, base_url: '{url}', api_key: k, breaker: {{consecutive_faults: 1000, fault_rate: 1, "
    "window: 10000, open_s: 0.001, max_open_s: 0.001, authentication_open_s: 0.001}}}}"
)
CONFIG = """\
version: 1
providers:
{providers}
models:
  m-weak: {{provider: weak, wire_id: m, capability: medium, context_tokens: 8192, prices: {{input_usd: 1, output_usd: 2}}}}
  m-strong: {{provider: strong, wire_id: m, capability: high, context_tokens: 8192, prices: {{input_usd: 1, output_usd: 2}}}}
chains:
  two:
    stages:
      - {{provider: weak, model: m-weak, max_retries: 0, timeouts: {{first_token_s: 1, idle_s: 0.1}}}}
      - {{provider: strong, model: m-strong, max_retries: 0}}
tasks:
  declared:
    faulty: {{type: generate, complexity: low, chain: two}}
server: {{openai: {{stream: {mode}, hold_back_tokens: {held}, hold_back_ms: {held}}}}}
"""


async def streamed(client: openai.AsyncOpenAI, number: int, chance: random.Random) -> tuple[str, str, str]:
    """Give the fault, how the stream ended, and what was shown."""
    fault = chance.choice(FAULTS)
    asked: Any = [{"role": "user", "content": f"[[{fault}]] number {number}"}]
    shown, finish = "", None
    try:
        async for chunk in await client.chat.completions.create(model="task:faulty", messages=asked, stream=True):
            if chunk.choices:
                shown += chunk.choices[0].delta.content or ""
                finish = chunk.choices[0].finish_reason or finish
    except openai.APIStatusError as error:
        return fault, f"status {error.status_code}", shown
    except openai.APIError:
        return fault, "broken", shown
    return fault, finish or "no finish", shown


@pytest.mark.parametrize(("mode", "held"), [("fail", 0), ("fail", 4), ("hold_all", 0)])
async def test_stream_that_ends_well_is_whole_and_every_other_is_an_error(mode: str, held: int) -> None:
    ended: list[tuple[str, str, str]] = []
    chance, numbers = random.Random(f"{mode}{held}"), iter(range(STREAMS))
    async with running_simulator(parse_plan(PLAN)) as simulator:
        providers = "\n".join(PROVIDER.format(name=name, url=url) for name, url in simulator.base_urls.items())
        config = from_yaml(CONFIG.format(providers=providers, mode=mode, held=held))
        async with running_server(config) as server, openai_at(server) as client:

            async def lane() -> None:
                for number in numbers:
                    ended.append(await streamed(client, number, chance))

            async with anyio.create_task_group() as tasks:
                for _ in range(CROWD):
                    tasks.start_soon(lane)
            with anyio.fail_after(BOUND_S):
                while server.app.guard.in_flight or simulator.statistics()["playing"]:
                    await anyio.sleep(0.01)
    assert len(ended) == STREAMS
    for fault, end, shown in ended:
        if end == "stop":
            assert shown in (TEXT, OTHER), fault
        else:
            assert end == "broken" and TEXT.startswith(shown) and shown != TEXT, (fault, end, shown)
    ways = Counter(end for _, end, _ in ended)
    if mode == "hold_all":
        assert ways == {"stop": STREAMS}  # a healthy stage is left, so each is mended
    else:
        assert ways["stop"] and ways["broken"]
