"""The simulator's own account: what it sent, what it would bill, and when clients left."""

from __future__ import annotations

import json
from contextlib import aclosing
from decimal import Decimal

import anyio
import httpx
import pytest

from gearshift.core.provider import Timeouts
from gearshift.core.request import Parameters
from gearshift.server.simulator import parse_plan
from tests.support.simulated_calls import Caller, calling

TEXT = "One two three four five six seven eight nine ten."
WIRES = ("openai", "anthropic", "ollama")


def plan(**provider: object) -> str:
    fields = "".join(f", {name}: {value}" for name, value in provider.items())
    lines = [f"  {wire}: {{wire: {wire}, models: {{m: {PRICED}, n: {PRICED}}}{fields}}}" for wire in WIRES]
    return "\n".join(["providers:", *lines, "answers:", f'  - {{text: "{TEXT}"}}'])


PRICED = "{prices: {input_usd: 0.15, output_usd: 0.60}}"
INPUT, OUTPUT = Decimal("0.15") / 1_000_000, Decimal("0.60") / 1_000_000


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("wire", WIRES)
async def test_bill_is_what_the_wire_reported(wire: str, stream: bool) -> None:
    async with calling(parse_plan(plan())) as caller:
        got = await caller.ask(caller.call(wire, stream=stream))
        usage = got.answer.usage
        assert usage is not None
        assert (
            (usage.input_tokens, usage.output_tokens) == (got.booked.input_tokens, got.booked.output_tokens) == (13, 11)
        )
        assert got.booked.billed_usd == 13 * INPUT + 11 * OUTPUT
        assert got.booked.usage_told


@pytest.mark.parametrize("wire", WIRES)
async def test_tokens_sent_are_the_tokens_that_arrived(wire: str) -> None:
    async with calling(parse_plan(plan())) as caller:
        for after in (0, 1, 6, 11):
            got = await caller.ask(caller.call(wire, fault=f"no_end@{after}"))
            billed = max(after, 1) if wire == "anthropic" else after  # which says that the first one has been drawn
            assert (got.booked.tokens_written, got.booked.output_tokens) == (after, billed)
            assert (
                got.answer.text == "".join(["One", " two", " three", " four", " five", " six", " seven"][:after])
                or after == 11
            )
            assert got.booked.billed_usd == 13 * INPUT + billed * OUTPUT


@pytest.mark.parametrize("wire", WIRES)
async def test_failure_without_an_answer_is_not_billed(wire: str) -> None:
    async with calling(parse_plan(plan())) as caller:
        for text in ("reset", "unauthorized", "429", "500", "503", "529", "empty", "html", "hang:0"):
            got = await caller.ask(caller.call(wire, fault=text))
            assert got.booked.billed_usd == (0 if text != "hang:0" else 13 * INPUT + 11 * OUTPUT)


async def test_duplicate_frame_is_sent_twice_and_billed_once() -> None:
    async with calling(parse_plan(plan())) as caller:
        got = await caller.ask(caller.call("openai", fault="duplicate@3"))
        assert (got.booked.tokens_written, got.booked.output_tokens) == (12, 11)


@pytest.mark.parametrize("wire", WIRES)
async def test_usage_that_counts_every_frame_is_right_at_a_cut(wire: str) -> None:
    async with calling(parse_plan(plan(usage="cumulative", latency="{token_ms: 2}"))) as caller:
        got = await caller.ask(caller.call(wire, fault="cut@7"))
        if wire == "ollama":  # its format counts in the last line only
            assert got.answer.usage is None
            return
        assert got.answer.usage is not None
        assert (got.answer.usage.input_tokens, got.answer.usage.output_tokens) == (13, 7)
        assert got.booked.billed_usd == 13 * INPUT + 7 * OUTPUT


async def test_client_that_leaves_is_billed_what_was_generated_until_then() -> None:
    async with calling(parse_plan(plan(latency="{token_ms: 60}"))) as caller:
        for wire in WIRES:
            call = caller.call(wire, parameters=Parameters(max_tokens=400))
            async with aclosing(caller.providers[wire].stream(call)) as chunks:
                async for chunk in chunks:
                    if chunk.parts:
                        break
            with anyio.fail_after(5):
                await caller.settled()
            entry = list(caller.simulator.account.entries)[-1]
            assert entry.end == "client left"
            assert entry.left_after_ms is not None
            assert 0 < entry.output_tokens < 11
            assert entry.billed_usd == 13 * INPUT + entry.output_tokens * OUTPUT
        assert caller.simulator.account.total.clients_left == 3


async def test_client_that_leaves_a_unary_answer_is_billed_what_was_generated_until_then() -> None:
    async with calling(parse_plan(plan(latency="{token_ms: 150}"))) as caller:
        with anyio.move_on_after(0.6):
            await caller.ask(caller.call("openai", stream=False))
        with anyio.fail_after(5):
            await caller.settled()
        (entry,) = caller.simulator.account.entries
        assert entry.end == "client left"
        assert 0 < entry.output_tokens < 11
        assert entry.tokens_written == 0


async def test_cut_says_what_the_clients_kernel_took() -> None:
    async with calling(parse_plan(plan())) as caller:
        got = await caller.ask(caller.call("openai", fault="cut@5"))
        assert got.booked.bytes_unacknowledged == 0
        assert got.booked.bytes_written > 0


async def test_account_is_given_and_begun_anew_over_http() -> None:
    async with calling(parse_plan(plan())) as caller, httpx.AsyncClient(trust_env=False) as client:
        await caller.ask(caller.call("openai"))
        await caller.ask(caller.call("openai", model="n"))
        await caller.ask(caller.call("ollama", fault="cut@4"))
        url = f"{caller.simulator.url}/account"
        account = (await client.get(url)).json()
        assert account["total"]["requests"] == 3
        assert account["total"]["faults"] == 1
        assert set(account["providers"]["openai"]) == {"m", "n"}
        billed = sum(Decimal(entry["billed_usd"]) for entry in account["requests"])
        assert Decimal(account["total"]["billed_usd"]) == billed == caller.simulator.account.billed_usd
        assert json.loads(json.dumps(account)) == account
        await client.post(f"{url}/reset")
        assert (await client.get(url)).json()["total"]["requests"] == 0


async def test_response_names_the_entry_it_is_booked_under() -> None:
    async with calling(parse_plan(plan())) as caller, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"{caller.simulator.base_urls['openai']}/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
        )
        await caller.settled()
        assert [entry.id for entry in caller.simulator.account.entries] == [answer.headers["x-request-id"]]


async def test_slow_reader_stops_the_simulator() -> None:
    text = "word " * 60_000
    answers = f'answers:\n  - {{text: "{text}"}}'
    async with calling(parse_plan(f"providers: {{a: {{wire: openai}}}}\n{answers}")) as caller:
        call = caller.call("a", parameters=Parameters(), timeouts=Timeouts())
        async with aclosing(caller.providers["openai"].stream(call)) as chunks:
            await anext(chunks)
            written = -1
            with anyio.fail_after(10):
                while (now := _written(caller)) != written:
                    written = now
                    await anyio.sleep(0.2)
        with anyio.fail_after(5):
            await caller.settled()
        (entry,) = caller.simulator.account.entries
        assert entry.end == "client left"
        assert entry.bytes_written < 16 * 1024 * 1024
        assert entry.output_tokens < entry.tokens


def _written(caller: Caller) -> int:
    return sum(each.written for each in caller.simulator._connections)  # pyright: ignore[reportPrivateUsage]
