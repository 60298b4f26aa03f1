"""Every fault in every wire format, as our adapters read it over real HTTP."""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import dataclass

import anyio
import pytest

from gearshift.core.failures import ProviderFailure
from gearshift.core.provider import Timeouts
from gearshift.core.request import JsonOutput, LabelOutput, Parameters
from gearshift.core.schema import compile_schema, parse_document
from gearshift.core.words import FailureKind, FinishReason
from gearshift.server.simulator import FaultKind, fault, parse_plan
from gearshift.server.simulator.faults import FACTS, Form
from gearshift.server.simulator.tokens import tokens_of
from tests.support.simulated_calls import Caller, calling

TEXT = "One two three four five six seven eight nine ten."
PLAN = parse_plan(
    f"""
providers:
  openai: {{wire: openai}}
  anthropic: {{wire: anthropic}}
  ollama: {{wire: ollama}}
  voyage: {{wire: voyage}}
answers:
  - {{contains: gears, text: "{TEXT}"}}
"""
)
SHORT = {
    FaultKind.HANG: Timeouts(connect_s=2, first_token_s=0.1, idle_s=5, total_s=10),
    FaultKind.STALL: Timeouts(connect_s=2, first_token_s=5, idle_s=0.1, total_s=10),
}
SHORT_UNARY = Timeouts(connect_s=2, first_token_s=5, idle_s=5, total_s=0.1)
PATIENT = Timeouts(connect_s=2, first_token_s=5, idle_s=5, total_s=10)
WIRES = ("openai", "anthropic", "ollama")


@dataclass(frozen=True)
class Ends:
    """How a fault ends for our adapters: a failure or a text, as a stream and unary; `other` wires may differ."""

    stream: FailureKind | str
    unary: FailureKind | str
    anthropic: FailureKind | str | None = None
    anthropic_unary: FailureKind | str | None = None
    ollama: FailureKind | str | None = None
    ollama_unary: FailureKind | str | None = None

    def of(self, wire: str, *, stream: bool) -> FailureKind | str:
        by_wire = {
            ("anthropic", True): self.anthropic,
            ("anthropic", False): self.anthropic_unary,
            ("ollama", True): self.ollama,
            ("ollama", False): self.ollama_unary,
        }
        return by_wire.get((wire, stream)) or (self.stream if stream else self.unary)


def both(end: FailureKind | str) -> Ends:
    return Ends(end, end)


K = FailureKind
ENDS: dict[str, Ends] = {
    "reset": both(K.CONNECTION),
    "hang:5": Ends(K.FIRST_TOKEN_TIMEOUT, K.TOTAL_TIMEOUT),
    "unauthorized": both(K.AUTHENTICATION),
    "payment_required": both(K.BILLING),
    "rate_limited": both(K.RATE_LIMIT),
    "rate_limited:2": both(K.RATE_LIMIT),
    "server_error": both(K.SERVER),
    "unavailable": both(K.OVERLOAD),
    "overloaded": both(K.OVERLOAD),
    "empty": both(K.EMPTY),
    "html": both(K.MALFORMED),
    "wrong_type": both(TEXT),
    "error_in_stream@4": both(K.OVERLOAD),
    "error_in_stream@4:server_error": both(K.SERVER),
    "cut@4": both(K.CONNECTION),
    "close@4": both(K.CONNECTION),
    "stall@4:5": Ends(K.IDLE_TIMEOUT, K.TOTAL_TIMEOUT),
    "drip@4:0.005": both(TEXT),
    "malformed@4": both(K.MALFORMED),
    "invalid_utf8@4": both(K.MALFORMED),
    "duplicate@4": Ends("One two three four four five six seven eight nine ten.", TEXT),
    "no_end@4": Ends(K.CONNECTION, TEXT),
    "no_done": Ends(TEXT, TEXT, anthropic=K.CONNECTION),
    "no_usage": both(TEXT),
    "bad_json@4": both(TEXT),
    "loop@4:60": both("One two three four" + " One two three four" * 15),
    "refusal@4": both("One two three four I'm sorry, but I can't help with that request."),
    "filtered@4": Ends("One two three four", "One two three four", ollama=TEXT, ollama_unary=TEXT),
    "language@4": both("One two three four "),
    "unsure@4": both(TEXT),
}
"""What docs/simulator.md says too, by fault."""

CASES = [
    pytest.param(text, wire, stream, id=f"{text} {wire} {'stream' if stream else 'unary'}")
    for text, wire, stream in itertools.product(ENDS, WIRES, (True, False))
]


def test_every_fault_is_in_the_table() -> None:
    assert {fault(text).kind for text in ENDS} == set(FaultKind) - {FaultKind.REFUSED}


@pytest.mark.parametrize(("text", "wire", "stream"), CASES)
async def test_fault_ends_as_documented(text: str, wire: str, stream: bool) -> None:
    kind = fault(text).kind
    slow = kind in (FaultKind.HANG, FaultKind.STALL)
    timeouts = PATIENT if not slow else SHORT[kind] if stream else SHORT_UNARY
    wanted = ENDS[text].of(wire, stream=stream)
    async with calling(PLAN) as caller:
        got = await caller.ask(caller.call(wire, fault=text, stream=stream, timeouts=timeouts))
        entry = got.booked
        assert entry.fault == str(fault(text))
        if isinstance(wanted, FailureKind):
            assert got.kind is wanted
            assert "One two three four".startswith(got.answer.text) or got.answer.text == TEXT
            assert entry.end in ("fault", "client left") or kind is FaultKind.NO_DONE
        else:
            assert got.failure is None
            assert got.answer.text.startswith(wanted) if kind is FaultKind.LANGUAGE else got.answer.text == wanted
            assert entry.end == "complete"
        assert entry.applied == fault(text).applies(wire, Form.STREAM if stream else Form.UNARY, structured=False)
        if FACTS[kind].positioned and isinstance(wanted, FailureKind) and stream:
            assert (entry.output_tokens, entry.tokens_written) == (4, 4)


@pytest.mark.parametrize("wire", ["openai", "voyage", "ollama"])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("reset", K.CONNECTION),
        ("unauthorized", K.AUTHENTICATION),
        ("payment_required", K.BILLING),
        ("rate_limited:1", K.RATE_LIMIT),
        ("server_error", K.SERVER),
        ("unavailable", K.OVERLOAD),
        ("overloaded", K.OVERLOAD),
        ("html", K.MALFORMED),
        ("error_in_stream", K.MALFORMED),
        ("cut", K.CONNECTION),
        ("close", K.CONNECTION),
        ("malformed", K.MALFORMED),
        ("invalid_utf8", K.MALFORMED),
    ],
)
async def test_fault_of_vectors_ends_as_documented(wire: str, text: str, kind: FailureKind) -> None:
    async with calling(PLAN) as caller:
        with pytest.raises(ProviderFailure) as caught:
            await caller.embed(wire, "a text", "another", fault=text)
        assert caught.value.kind is kind


async def test_fault_that_vectors_do_not_have_changes_nothing() -> None:
    async with calling(PLAN) as caller:
        result = await caller.embed("voyage", "a text", "another", fault="loop@3")
        assert len(result.vectors) == 2
        assert [entry.applied for entry in caller.simulator.account.entries] == [False]


@pytest.mark.parametrize("wire", WIRES)
async def test_retry_after_reaches_the_caller(wire: str) -> None:
    async with calling(PLAN) as caller:
        for text, wait in (("rate_limited:7", 7.0), ("rate_limited", None), ("unavailable:3", 3.0)):
            got = await caller.ask(caller.call(wire, fault=text))
            assert got.failure is not None
            assert got.failure.retry_after_s == wait


async def test_provider_that_is_down_refuses_connections_until_it_is_up() -> None:
    plan = parse_plan("providers: {a: {wire: openai, port: 0, down: true}}")
    async with calling(plan) as caller:
        refused = await caller.ask(caller.call("a"))
        assert refused.kind is FailureKind.CONNECTION
        assert refused.entry is None
        await caller.simulator.up("a")
        assert (await caller.ask(caller.call("a"))).failure is None
        await caller.simulator.down("a")
        assert (await caller.ask(caller.call("a"))).kind is FailureKind.CONNECTION
        await caller.simulator.up("a")
        assert (await caller.ask(caller.call("a"))).failure is None


@pytest.mark.parametrize("wire", WIRES)
async def test_wrong_label_is_none_of_the_asked_ones(wire: str) -> None:
    output = LabelOutput(labels=("billing", "bug", "question"))
    async with calling(PLAN) as caller:
        right = await caller.ask(caller.call(wire, "Is this a bug?", output=output))
        assert right.answer.text == "bug"
        wrong = await caller.ask(caller.call(wire, "Is this a bug?", output=output, fault="bad_json"))
        assert wrong.failure is None
        assert wrong.answer.text not in output.labels
        assert wrong.booked.applied
        assert not wrong.booked.right


@pytest.mark.parametrize("wire", WIRES)
async def test_loop_ends_at_the_limit_that_was_asked(wire: str) -> None:
    async with calling(PLAN) as caller:
        got = await caller.ask(caller.call(wire, fault="loop@6", parameters=Parameters(max_tokens=40)))
        assert got.answer.finish_reason is FinishReason.LENGTH
        assert got.booked.output_tokens == 40


async def test_low_log_probabilities_begin_where_they_are_asked_for() -> None:
    async with calling(PLAN) as caller:
        for wire in ("openai", "ollama"):
            got = await caller.ask(caller.call(wire, fault="unsure@6", logprobs=True))
            scores = [token.logprob for token in got.answer.logprobs]
            assert len(scores) == 11
            assert min(scores[:6]) > -0.1
            assert max(scores[6:]) < -0.5
            assert [token.token for token in got.answer.logprobs] == [
                "One",
                *(f" {word}" for word in TEXT[4:-1].split()),
                ".",
            ]


async def test_filtered_before_the_first_token_is_a_refusal() -> None:
    async with calling(PLAN) as caller:
        for wire in ("openai", "anthropic"):
            assert (await caller.ask(caller.call(wire, fault="filtered@0"))).kind is FailureKind.CONTENT_REFUSED


async def test_wrong_type_that_hides_a_stream_is_malformed() -> None:
    async with calling(PLAN) as caller:
        got = await caller.ask(caller.call("openai", fault="wrong_type:application/json"))
        assert got.kind is FailureKind.MALFORMED


@pytest.mark.parametrize("wire", WIRES)
async def test_position_before_the_first_and_behind_the_last_token(wire: str) -> None:
    async with calling(PLAN) as caller:
        first = await caller.ask(caller.call(wire, fault="cut@0"))
        assert (first.answer.text, first.booked.tokens_written) == ("", 0)
        last = await caller.ask(caller.call(wire, fault="cut@999"))
        assert (last.kind, last.booked.output_tokens) == (FailureKind.CONNECTION, 11)
        half = await caller.ask(caller.call(wire, fault="cut"))
        assert half.booked.output_tokens == 5


@pytest.mark.parametrize("write_bytes", [1, 7])
@pytest.mark.parametrize("wire", WIRES)
async def test_answer_is_the_same_in_any_pieces(wire: str, write_bytes: int) -> None:
    plan = parse_plan(
        f"""
providers: {{p: {{wire: {wire}, write_bytes: {write_bytes}, tokens_per_frame: 3}}}}
answers: [{{text: "Zähne, Öl und 齿轮 — ёж."}}]
"""
    )
    async with calling(plan) as caller:
        for stream in (True, False):
            got = await caller.ask(caller.call("p", stream=stream))
            assert got.answer.text == "Zähne, Öl und 齿轮 — ёж."


@pytest.mark.parametrize("wire", WIRES)
async def test_json_breaks_its_schema_at_the_token(wire: str) -> None:
    schema = (
        '{"type":"object","properties":{"name":{"type":"string"},"total":{"type":"number"},'
        '"lines":{"type":"array","items":{"type":"object","properties":{"sku":{"type":"string"},'
        '"count":{"type":"integer"}},"required":["sku","count"],"additionalProperties":false}}},'
        '"required":["name","total","lines"],"additionalProperties":false}'
    )
    checker = compile_schema(schema)
    async with calling(PLAN) as caller:
        good = await caller.ask(caller.call(wire, "Read this invoice.", output=JsonOutput(schema=schema)))
        assert checker.is_valid(parse_document(good.answer.text))
        for after in (0, 5, 12):
            call = caller.call(wire, "Read this invoice.", output=JsonOutput(schema=schema), fault=f"bad_json@{after}")
            bad = await caller.ask(call)
            assert bad.failure is None
            assert not checker.is_valid(parse_document(bad.answer.text))
            same = len(common(good.answer.text, bad.answer.text))
            assert same >= len("".join(tokens_up_to(good.answer.text, after)))


def common(first: str, second: str) -> str:
    return "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def tokens_up_to(text: str, count: int) -> list[str]:
    return tokens_of(text)[:count]


async def test_nothing_is_left_after_many_faults_at_once() -> None:
    texts = ("cut@2", "close@2", "malformed@2", "no_end", "reset", "html", "empty", "500", "loop@3:20", "duplicate")
    kinds = list(itertools.product(WIRES, texts))

    async with calling(PLAN) as caller:

        async def ask(number: int) -> None:
            wire, text = kinds[number % len(kinds)]
            await caller.ask(caller.call(wire, f"gears {number}", fault=text, timeouts=PATIENT))

        tasks_before, files_before = len(asyncio.all_tasks()), _open_files()
        for start in range(0, 600, 60):
            async with anyio.create_task_group() as tasks:
                for number in range(start, start + 60):
                    tasks.start_soon(ask, number)
        assert caller.simulator.account.total.requests == 600
        await caller.http.aclose()
        await _gone(caller)
        assert caller.simulator.statistics() == {"connections": 0, "playing": 0}
        assert len(asyncio.all_tasks()) <= tasks_before
        assert _open_files() <= files_before


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _gone(caller: Caller) -> None:
    with anyio.fail_after(5):
        while caller.simulator.statistics()["connections"]:
            await anyio.sleep(0.001)


@pytest.mark.parametrize("wire", ["openai", "voyage", "ollama"])
async def test_empty_answer_to_an_embedding_is_empty_in_every_format(wire: str) -> None:
    async with calling(PLAN) as caller:
        with pytest.raises(ProviderFailure) as caught:
            await caller.embed(wire, "one", fault="empty")
    assert caught.value.kind is FailureKind.EMPTY
