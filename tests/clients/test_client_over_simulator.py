"""Both clients against the service over the simulator: a switch in mid-stream, and cancels that reach the provider."""

from __future__ import annotations

import functools
import statistics
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio
import anyio.to_thread
import pytest

from gearshift.clients import (
    Accumulator,
    Client,
    Code,
    Context,
    RpcError,
    background,
    call,
    dial,
    stream_policy,
    sync,
)
from gearshift.server.simulator import Simulator, parse_plan, running_simulator
from gearshift.v1 import answer_pb2, call_pb2, stream_pb2
from tests.support.running_server import RunningServer, from_yaml, running_server

BOUND_S = 30.0
TRIES = 5
SOON_MS = 100.0
"""From a client's own cancel to the moment when the provider has seen it."""

WEAK = "So, a gearbox is basically a box with gears in it, and they go round and round until somebody stops them."
STRONG = "A gearbox lets an engine run at the speed that suits it while the wheels turn at another."
_PLAN = f"""\
providers:
  weak:
    wire: openai
    latency: {{first_token_ms: 2, token_ms: 2}}
    faults:
      - {{fault: "cut@12", contains: "gearbox"}}
      - {{fault: "stall@6:60", contains: "for ever"}}
  strong:
    wire: anthropic
    latency: {{first_token_ms: 2, token_ms: 2}}
answers:
  - {{provider: strong, text: "{STRONG}"}}
  - {{text: "{WEAK}"}}
"""
_CONFIG = """\
version: 1
providers:
  weak: {{kind: openai, base_url: "{weak}"}}
  strong: {{kind: anthropic, base_url: "{strong}"}}
models:
  m-weak: {{provider: weak, wire_id: m, capability: medium, context_tokens: 8192, prices: {{input_usd: 1, output_usd: 2}}}}
  m-strong: {{provider: strong, wire_id: m, capability: high, context_tokens: 8192, prices: {{input_usd: 1, output_usd: 2}}}}
chains:
  two:
    stages:
      - {{provider: weak, model: m-weak, max_retries: 0, timeouts: {{first_token_s: 60, idle_s: 60}}}}
      - {{provider: strong, model: m-strong, max_retries: 0}}
tasks:
  declared:
    tell: {{type: generate, complexity: low, chain: two}}
"""


@asynccontextmanager
async def service() -> AsyncGenerator[tuple[RunningServer, Simulator]]:
    async with running_simulator(parse_plan(_PLAN), seed=1) as simulator:
        config = _CONFIG.format(**simulator.base_urls)
        async with running_server(from_yaml(config)) as server:
            yield server, simulator


SHIFTS = call("tell", "How does a gearbox work?")
ENDLESS = call("tell", "Go on for ever.")
AT_ONCE = stream_policy(hold_back_tokens=0)


def check_switch(events: list[stream_pb2.Event], answer: answer_pb2.Answer) -> None:
    kinds = [event.WhichOneof("kind") for event in events]
    assert kinds.count("switch") == kinds.count("retract") == 1
    assert kinds.index("delta") < kinds.index("switch") < kinds.index("retract")
    assert answer.text == STRONG
    assert answer.completion.outcome == answer_pb2.OUTCOME_ACCEPTED
    assert [attempt.outcome for attempt in answer.completion.attempts] == [
        answer_pb2.ATTEMPT_OUTCOME_FAILED,
        answer_pb2.ATTEMPT_OUTCOME_ACCEPTED,
    ]


async def test_a_switch_in_mid_stream_ends_in_the_better_models_text() -> None:
    seen: list[str] = []
    async with service() as (server, _), dial(server.address) as client:
        answer, events = Accumulator(), list[stream_pb2.Event]()
        async with client.stream_route(background().with_timeout(10), SHIFTS, AT_ONCE) as stream:
            async for event in stream:
                events.append(event)
                answer.apply(event)
                seen.append(answer.text)
    check_switch(events, answer.finish())
    assert any(text and WEAK.startswith(text) for text in seen), "the weak model's words were shown"


async def test_the_twin_shows_the_same_switch() -> None:
    def run(address: str) -> tuple[list[stream_pb2.Event], answer_pb2.Answer]:
        with sync.dial(address) as client:
            with client.stream_route(background().with_timeout(10), SHIFTS, AT_ONCE) as stream:
                events = list(stream)
            with client.stream_route(background().with_timeout(10), SHIFTS, AT_ONCE) as stream:
                return events, stream.fold()

    async with service() as (server, _):
        check_switch(*await anyio.to_thread.run_sync(run, server.address))


async def test_folding_goes_on_where_a_reader_stopped() -> None:
    async with service() as (server, _), dial(server.address) as client:
        into = Accumulator()
        async with client.stream_route(background().with_timeout(10), SHIFTS, AT_ONCE) as stream:
            while not into.text:
                event = await stream.receive()
                assert event is not None
                into.apply(event)
            answer = await stream.fold(into)
    assert answer.text == into.text == STRONG


@dataclass(frozen=True, kw_only=True)
class Try:
    """A call that is to be cancelled; `at_work` waits until the provider is at it."""

    client: Client
    address: str
    asked: call_pb2.Call
    at_work: Callable[[], Awaitable[None]]


Way = Callable[[Try], Awaitable[float]]
"""Makes the call, waits, cancels; gives the moment of the cancel."""


async def leaves_the_block(given: Try) -> float:
    cancelled = 0.0
    async with given.client.stream_route(background(), given.asked, AT_ONCE) as stream:
        async for event in stream:
            if event.HasField("delta"):
                await given.at_work()
                break
        cancelled = time.monotonic()
    return cancelled


async def closes_the_stream(given: Try) -> float:
    stream = given.client.stream_route(background(), given.asked, AT_ONCE)
    await stream.receive()
    await given.at_work()
    cancelled = time.monotonic()
    await stream.aclose()
    assert await stream.receive() is None
    return cancelled


async def cancels_the_scope_of_a_stream(given: Try) -> float:
    cancelled = 0.0

    async def cancel(scope: anyio.CancelScope) -> None:
        nonlocal cancelled
        await given.at_work()
        cancelled = time.monotonic()
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(cancel, scope)
            async with given.client.stream_route(background(), given.asked, AT_ONCE) as stream:
                async for _ in stream:
                    pass
        assert scope.cancelled_caught
    return cancelled


async def cancels_the_context_of_a_stream(given: Try) -> float:
    return await _cancelling_context(given, lambda ctx: given.client.stream_route(ctx, given.asked, AT_ONCE).fold())


async def cancels_the_scope_of_a_whole_answer(given: Try) -> float:
    cancelled = 0.0

    async def cancel(scope: anyio.CancelScope) -> None:
        nonlocal cancelled
        await given.at_work()
        cancelled = time.monotonic()
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(cancel, scope)
            await given.client.route(background(), given.asked)
        assert scope.cancelled_caught
    return cancelled


async def cancels_the_context_of_a_whole_answer(given: Try) -> float:
    return await _cancelling_context(given, lambda ctx: given.client.route(ctx, given.asked))


async def _cancelling_context(given: Try, make: Callable[[Context], Awaitable[object]]) -> float:
    ctx, cancel = background().with_cancel()
    cancelled = 0.0

    async def cancel_it() -> None:
        nonlocal cancelled
        await given.at_work()
        cancelled = time.monotonic()
        cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel_it)
        with pytest.raises(RpcError) as caught:
            await make(ctx)
        assert caught.value.code is Code.CANCELLED
    return cancelled


async def closes_the_client(given: Try) -> float:
    stream = given.client.stream_route(background(), given.asked, AT_ONCE)
    await stream.receive()
    await given.at_work()
    cancelled = time.monotonic()
    await given.client.aclose()
    return cancelled


async def twin_closes_its_stream(given: Try) -> float:
    return await _twin(given, lambda twin, ctx: twin.stream_route(ctx, given.asked, AT_ONCE).fold())


async def twin_cancels_a_whole_answer(given: Try) -> float:
    return await _twin(given, lambda twin, ctx: twin.route(ctx, given.asked))


async def _twin(given: Try, make: Callable[[sync.Client, Context], object]) -> float:
    """Have a thread make the call, and another cancel it."""
    ctx, cancel = background().with_cancel()
    ended = threading.Event()

    def run() -> None:
        with sync.dial(given.address) as twin, suppress(RpcError):
            make(twin, ctx)
        ended.set()

    cancelled = 0.0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, run)
        await given.at_work()
        cancelled = time.monotonic()
        await anyio.to_thread.run_sync(cancel)
    assert ended.is_set()
    return cancelled


WAYS: list[Way] = [
    leaves_the_block,
    closes_the_stream,
    cancels_the_scope_of_a_stream,
    cancels_the_context_of_a_stream,
    cancels_the_scope_of_a_whole_answer,
    cancels_the_context_of_a_whole_answer,
    closes_the_client,
    twin_closes_its_stream,
    twin_cancels_a_whole_answer,
]


async def _until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(BOUND_S):
        while not holds():
            await anyio.sleep(0.001)


@pytest.mark.parametrize("way", [pytest.param(way, id=getattr(way, "__name__", "")) for way in WAYS])
async def test_a_cancel_reaches_the_provider_within_100_ms(way: Way) -> None:
    took: list[float] = []
    async with service() as (server, simulator):
        for number in range(TRIES):
            asked = call_pb2.Call()
            asked.CopyFrom(ENDLESS)
            asked.prompt += f" ({number})"

            def is_at_work() -> bool:
                return simulator.statistics()["playing"] == 1

            async with dial(server.address) as client:
                at_work = functools.partial(_until, is_at_work)
                cancelled = await way(Try(client=client, address=server.address, asked=asked, at_work=at_work))
            await _until(lambda: simulator.statistics()["playing"] == 0)
            took.append((time.monotonic() - cancelled) * 1000)
        entries = list(simulator.account.entries)
    assert [entry.end for entry in entries] == ["client left"] * TRIES, "nobody else was asked"
    assert statistics.median(took) <= SOON_MS, took
