"""Nothing is left over after a thousand faulty streams: tasks, calls, sockets, descriptors, objects of streams."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from gearshift.clients import Client, RpcError, background, call, dial
from gearshift.clients.calls import stream_policy
from gearshift.core.http import Http
from gearshift.server.simulator import parse_plan, running_simulator
from tests.support.running_server import from_yaml, running_server

_STREAMS = 1000
_CROWD = 40
_FAULTS = (
    "reset",
    "unauthorized",
    "rate_limited",
    "server_error",
    "overloaded",
    "empty",
    "html",
    "wrong_type",
    "error_in_stream@7",
    "cut@7",
    "close@7",
    "stall@7:30",
    "malformed@7",
    "invalid_utf8@7",
    "duplicate@7",
    "no_end@7",
    "no_done",
    "no_usage",
    "filtered@7",
    "loop@40",
    "language@40:ru",
)
_PLAN = "providers:\n" + "".join(
    f"""\
  {name}:
    wire: openai
    latency: {{first_token_ms: 2, token_ms: 0.2}}
    faults: [{faults}]
"""
    for name, faults in (
        ("weak", ", ".join(f'{{fault: "{fault}", contains: "[[{fault}]]"}}' for fault in _FAULTS)),
        ("strong", ""),
    )
)
_CONFIG = """\
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
"""
_PROVIDER = (
    "  {name}: {{kind: openai, base_url: '{url}', api_key: k, breaker: {{consecutive_faults: 1000, fault_rate: 1, "
    "window: 10000, open_s: 0.001, max_open_s: 0.001, authentication_open_s: 0.001}}}}"
)
_OF_STREAMS = ("Attempt", "Composer", "HttpResponse", "PreparedCall", "Transcript", "_Run")


def _alive() -> Counter[str]:
    gc.collect()
    kinds = Counter(type(each).__name__ for each in gc.get_objects())
    return Counter({name: kinds[name] for name in _OF_STREAMS if kinds[name]})


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _stream(client: Client, number: int, chance: random.Random) -> str:
    prompt = f"[[{chance.choice(_FAULTS)}]] number {number}"
    leaves = chance.randint(0, 12) if number % 5 == 0 else None
    seconds = chance.uniform(0.01, 0.1) if number % 17 == 0 else 15.0
    policy = stream_policy(hold_back_tokens=0 if number % 2 else None)
    seen = 0
    try:
        async with client.stream_route(background().with_timeout(seconds), call("faulty", prompt), policy) as stream:
            async for event in stream:
                seen += 1
                if event.HasField("completed"):
                    return "completed"
                if leaves is not None and seen > leaves:
                    return "left"
    except RpcError as error:
        return error.code.name
    return "ended without completed"


async def _streams(client: Client, count: int) -> Counter[str]:
    chance, ended, numbers = random.Random(count), Counter[str](), iter(range(count))

    async def lane() -> None:
        for number in numbers:
            ended[await _stream(client, number, chance)] += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(_CROWD):
            tasks.start_soon(lane)
    return ended


async def _until(holds: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Wait for what other tasks of this process, and the kernel, do next."""
    with anyio.fail_after(10):
        while not holds():
            await anyio.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
async def test_nothing_is_left_over_after_a_thousand_faulty_streams() -> None:
    async with running_simulator(parse_plan(_PLAN)) as simulator:
        providers = "\n".join(_PROVIDER.format(name=name, url=url) for name, url in simulator.base_urls.items())
        config = _CONFIG.format(providers=providers)
        async with running_server(from_yaml(config)) as server, dial(server.address) as client:

            def is_idle() -> bool:
                playing = simulator.statistics()["playing"]
                return server.app.guard.in_flight == 0 and playing == 0

            await _streams(client, 100)
            await _until(is_idle)
            tasks, alive, descriptors = len(asyncio.all_tasks()), _alive(), _descriptors()
            ended = await _streams(client, _STREAMS)
            await _until(is_idle)
            pooled = simulator.statistics()["connections"]
            assert ended["completed"] > _STREAMS / 2
            assert sum(ended.values()) == _STREAMS
            assert not ended.keys() - {"completed", "left", "DEADLINE_EXCEEDED", "CANCELLED"}
            # A pooled connection has a task at the simulator; ours are the rest.
            await _until(lambda: len(asyncio.all_tasks()) - pooled <= tasks)
            assert _alive() <= alive
            # Both ends of each pooled connection are this process's.
            assert _descriptors() - 2 * pooled <= descriptors
            assert pooled <= _CROWD + 8
            assert all(each.statistics()["used"] == 0 for each in gc.get_objects() if isinstance(each, Http))
