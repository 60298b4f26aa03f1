"""The embedded adapter over the real model: real weights, a real child process, a real socket."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import structs

from gearshift.core.catalogue import Catalogue, Model
from gearshift.core.embedded import AttachedModel, EmbeddedModel, ModelState
from gearshift.core.errors import EmbeddedModelError
from gearshift.core.events import TextDelta
from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http
from gearshift.core.http._response import LINGER_S
from gearshift.core.machines.kinds import question_url
from gearshift.core.machines.pressure import Pressure
from gearshift.core.machines.watch import Watch
from gearshift.core.provider import Account, Chunk, EmbedCall, ProviderCall, Timeouts
from gearshift.core.providers.embedded import EmbeddedProvider
from gearshift.core.request import JsonOutput, LabelOutput, Message, Parameters, Text, user
from gearshift.core.schema import SchemaCache
from gearshift.core.words import FailureKind, FinishReason, Role
from tests.support.embedded_child import child_settings, needs_embedded, running_child

pytestmark = needs_embedded

BOUND_S = 60.0
"""How long one test may take on a busy machine; the slowest takes 4 s on a quiet one."""
ACCOUNT = Account(name="default", base_url="")
STORY = "Tell me a story about a fox."

DESK = LabelOutput(
    labels=("billing", "technical support", "sales"),
    examples=(
        ("I was charged twice this month.", "billing"),
        ("The app shows a blank page after I log in.", "technical support"),
        ("Do you offer a discount for fifty seats?", "sales"),
    ),
)
PERSON = JsonOutput(
    schema=json.dumps(
        {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
            "required": ["name", "age"],
            "additionalProperties": False,
        }
    ),
    examples=(
        ("Maria Lopez is 34 years old.", '{"name":"Maria Lopez","age":34}'),
        ("From Bern comes Urs Keller, aged 51.", '{"name":"Urs Keller","age":51}'),
    ),
)


@pytest.fixture(scope="module")
def model() -> Iterator[EmbeddedModel]:
    with running_child() as model:
        yield model


@asynccontextmanager
async def opened(base_url: str) -> AsyncGenerator[EmbeddedProvider]:
    """Give an adapter for a socket; a test that hangs fails."""
    http = Http()
    try:
        with anyio.fail_after(BOUND_S):
            yield EmbeddedProvider(http, base_url)
        with anyio.move_on_after(LINGER_S + 1):  # a finished stream's connection waits for its end
            await until(lambda: http.statistics()["used"] == 0)
        assert http.statistics()["used"] == 0
    finally:
        await http.aclose()


def entry(name: str = "gemma3-270m") -> Model:
    found = Catalogue.load().find("embedded", name)
    assert found is not None
    return found


def call(prompt: str | Sequence[Message], *, model_name: str = "gemma3-270m", **fields: Any) -> ProviderCall:
    messages = (user(prompt),) if isinstance(prompt, str) else tuple(prompt)
    timeouts = Timeouts(first_token_s=BOUND_S, idle_s=BOUND_S, total_s=BOUND_S)
    plain = ProviderCall(model=entry(model_name), account=ACCOUNT, timeouts=timeouts, messages=messages)
    return replace(plain, **fields)


def embed_call(*inputs: str) -> EmbedCall:
    return EmbedCall(model=entry(), account=ACCOUNT, timeouts=Timeouts(total_s=BOUND_S), inputs=inputs)


async def answered(provider: EmbeddedProvider, asked: ProviderCall) -> list[Chunk]:
    async with aclosing(provider.stream(asked)) as chunks:
        given = [chunk async for chunk in chunks]
    assert [chunk.finish_reason for chunk in given[:-1]] == [None] * (len(given) - 1)
    assert asked.stream or len(given) == 1
    return given


async def failed(provider: EmbeddedProvider, asked: ProviderCall) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        await answered(provider, asked)
    return caught.value


async def fill_cache(provider: EmbeddedProvider, asked: ProviderCall) -> None:
    """Have the prompt read: read in other steps, its numbers differ in their last digits, which decides near ties."""
    await answered(provider, replace(asked, parameters=structs.replace(asked.parameters, max_tokens=1)))


def text_of(chunks: Sequence[Chunk]) -> str:
    return "".join(part.text for chunk in chunks for part in chunk.parts if isinstance(part, TextDelta))


async def test_few_shot_labels_are_scored_and_calibrated(model: EmbeddedModel) -> None:
    texts = {
        "Why is there an extra fee on my invoice?": "billing",
        "The update failed and now nothing starts.": "technical support",
        "How much would a yearly plan for our team cost?": "sales",
    }
    async with opened(model.base_url) as provider:
        for text, label in texts.items():
            (chunk,) = await answered(provider, call(text, output=DESK, want_logprobs=True))
            probabilities = chunk.label_probabilities
            assert probabilities is not None
            assert list(probabilities) == list(DESK.labels)
            assert sum(probabilities.values()) == pytest.approx(1.0)
            assert text_of([chunk]) == max(probabilities, key=probabilities.__getitem__) == label
            (score,) = chunk.logprobs
            assert math.exp(score.logprob) == pytest.approx(probabilities[label])
            assert score.runner_up is not None and score.runner_up < score.logprob
            assert chunk.finish_reason is FinishReason.STOP
            assert chunk.usage is not None and chunk.usage.input_tokens > 0
            (again,) = await answered(provider, call(text, output=DESK, want_logprobs=True))
            assert again.label_probabilities == pytest.approx(probabilities, abs=0.02)
            assert text_of([again]) == label


async def test_calibration_and_examples_can_be_switched_off(model: EmbeddedModel) -> None:
    text = "How much would a yearly plan for our team cost?"
    plain = replace(entry(), options={"calibration": "off"})
    bare = replace(entry(), options={"calibration": "off", "examples": "off"})
    async with opened(model.base_url) as provider:
        (calibrated,) = await answered(provider, call(text, output=DESK))
        (raw,) = await answered(provider, call(text, output=DESK, model=plain))
        (zero_shot,) = await answered(provider, call(text, output=DESK, model=bare))
    found = [chunk.label_probabilities for chunk in (calibrated, raw, zero_shot)]
    assert all(each is not None and sum(each.values()) == pytest.approx(1.0) for each in found)
    assert found[0] != pytest.approx(found[1], abs=0.02)
    assert found[1] != pytest.approx(found[2], abs=0.02)


async def test_scored_labels_come_as_one_chunk_of_a_stream_too(model: EmbeddedModel) -> None:
    async with opened(model.base_url) as provider:
        given = await answered(provider, call("I want a refund.", output=DESK, stream=True))
    assert len(given) == 1
    assert text_of(given) in DESK.labels


async def test_the_zero_shot_model_writes_its_answer_as_text(model: EmbeddedModel) -> None:
    asked = call(
        "The package never came.",
        model_name="gemma3-270m-zero-shot",
        output=DESK,
        want_logprobs=True,
        parameters=Parameters(max_tokens=8),
    )
    async with opened(model.base_url) as provider:
        await fill_cache(provider, asked)
        (whole,) = await answered(provider, asked)
        streamed = await answered(provider, replace(asked, stream=True))
    assert whole.label_probabilities is None
    assert text_of([whole]).strip()
    assert "\n" not in text_of([whole])
    assert whole.logprobs
    assert text_of(streamed) == text_of([whole])


async def test_json_is_held_to_its_schema_streamed_and_unary(model: EmbeddedModel) -> None:
    asked = call(
        "Tom Hale, 29, has a flat in Dublin.",
        output=PERSON,
        want_logprobs=True,
        parameters=Parameters(max_tokens=64),
    )
    async with opened(model.base_url) as provider:
        whole = await answered(provider, asked)
        streamed = await answered(provider, replace(asked, stream=True))
    assert len(streamed) > 3
    for given in (whole, streamed):
        assert SchemaCache().get(PERSON.schema).is_valid(json.loads(text_of(given)))
        assert json.loads(text_of(given)) == {"name": "Tom Hale", "age": 29}
        assert given[-1].finish_reason is FinishReason.STOP
        assert sum(len(chunk.logprobs) for chunk in given) >= 8


async def test_any_json_needs_no_schema(model: EmbeddedModel) -> None:
    asked = call("Tom Hale, 29.", output=replace(PERSON, schema=""), parameters=Parameters(max_tokens=64))
    async with opened(model.base_url) as provider:
        json.loads(text_of(await answered(provider, asked)))


async def test_streamed_and_unary_text_agree_and_their_tokens_are_reported(model: EmbeddedModel) -> None:
    asked = call(STORY, parameters=Parameters(max_tokens=16, temperature=0), system_static="A fable.")
    async with opened(model.base_url) as provider:
        await fill_cache(provider, asked)
        (whole,) = await answered(provider, asked)
        streamed = await answered(provider, replace(asked, stream=True))
        (again,) = await answered(provider, asked)
    assert text_of(streamed) == text_of([whole]) == text_of([again])
    assert len(streamed) > 5
    assert not text_of([whole])[0].isspace()
    assert whole.usage is not None
    last = streamed[-1].usage
    assert last is not None
    assert whole.usage.output_tokens == last.output_tokens == 16
    assert whole.usage.input_tokens == last.input_tokens > 10
    assert again.usage is not None and again.usage.cache_read_tokens > 0
    assert whole.finish_reason is streamed[-1].finish_reason is FinishReason.LENGTH
    assert sum(chunk.tokens for chunk in streamed) == pytest.approx(16, abs=1)


async def test_a_stop_word_ends_the_answer_and_is_not_part_of_it(model: EmbeddedModel) -> None:
    count = "one two three four five six seven one two three four five six seven one two"
    asked = call(
        "Count.",
        prefill=count,
        parameters=Parameters(max_tokens=20, stop=("five",)),
        extra_body={"repeat_penalty": 1.0},
    )
    async with opened(model.base_url) as provider:
        (whole,) = await answered(provider, asked)
        streamed = await answered(provider, replace(asked, stream=True))
    assert text_of([whole]).strip() == text_of(streamed).strip() == "three four"
    assert whole.finish_reason is streamed[-1].finish_reason is FinishReason.STOP


async def test_a_begun_answer_is_continued_with_its_spaces(model: EmbeddedModel) -> None:
    asked = call("What is the capital of France?", prefill="The capital of France is", stream=True)
    async with opened(model.base_url) as provider:
        given = await answered(provider, replace(asked, parameters=Parameters(max_tokens=4)))
    assert text_of(given).startswith(" Paris")


async def test_begun_json_is_refused(model: EmbeddedModel) -> None:
    async with opened(model.base_url) as provider:
        failure = await failed(provider, call("Tom Hale, 29.", output=PERSON, prefill='{"name":'))
    assert failure.kind is FailureKind.INVALID_REQUEST


async def test_a_seed_repeats_what_chance_wrote(model: EmbeddedModel) -> None:
    def seeded(seed: int) -> ProviderCall:
        return call(STORY, parameters=Parameters(max_tokens=16, temperature=1.5, seed=seed))

    async with opened(model.base_url) as provider:
        await fill_cache(provider, seeded(7))
        texts = [text_of(await answered(provider, seeded(seed))) for seed in (7, 7, 8)]
    assert texts[0] == texts[1]
    assert texts[1] != texts[2]


async def test_a_conversation_and_marks_of_the_model_stay_text(model: EmbeddedModel) -> None:
    turns = [
        user("Hello <end_of_turn> there"),
        Message(role=Role.ASSISTANT, parts=(Text("Hi."),)),
        user("Who are you?"),
    ]
    async with opened(model.base_url) as provider:
        (chunk,) = await answered(provider, call(turns, parameters=Parameters(max_tokens=12)))
    assert text_of([chunk])


@pytest.mark.parametrize("stream", [pytest.param(False, id="unary"), pytest.param(True, id="streamed")])
async def test_a_prompt_beyond_the_context_is_told(model: EmbeddedModel, stream: bool) -> None:
    async with opened(model.base_url) as provider:
        failure = await failed(provider, call("the sea " * 5000, stream=stream))
        assert failure.kind is FailureKind.CONTEXT_LENGTH
        assert "8192" in failure.detail
        labels = await failed(provider, call("the sea " * 5000, output=DESK, stream=stream))
        assert labels.kind is FailureKind.CONTEXT_LENGTH


async def test_half_a_character_is_an_invalid_request(model: EmbeddedModel) -> None:
    async with opened(model.base_url) as provider:
        failure = await failed(provider, call("\ud83d"))
    assert failure.kind is FailureKind.INVALID_REQUEST


async def test_vectors_tell_paraphrases_from_the_rest(model: EmbeddedModel) -> None:
    texts = (
        "The cat sleeps on the sofa.",
        "A kitten is napping on the couch.",
        "The central bank raised interest rates.",
        "Interest rates were increased by the bank.",
        "The cat sleeps on the sofa. " * 30,  # two windows
    )
    async with opened(model.base_url) as provider:
        result = await provider.embed(embed_call(*texts))
        (alone,) = (await provider.embed(embed_call(texts[3]))).vectors
    vectors = result.vectors
    assert {len(vector) for vector in vectors} == set(entry().dimensions)
    assert all(math.hypot(*vector) == pytest.approx(1.0) for vector in vectors)
    assert result.usage is not None and result.usage.input_tokens > 30 * 6

    def likeness(one: Sequence[float], other: Sequence[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    cat, kitten, bank, rates, long = vectors
    assert min(likeness(cat, kitten), likeness(bank, rates)) > max(likeness(cat, bank), likeness(kitten, rates))
    assert likeness(cat, long) > likeness(bank, long)
    assert likeness(rates, alone) > 0.999  # the order is kept


async def test_readers_that_leave_free_their_slots(model: EmbeddedModel) -> None:
    endless = call(STORY, stream=True, parameters=Parameters(max_tokens=7000), extra_body={"ignore_eos": True})
    async with opened(model.base_url) as provider:
        for _ in range(2):  # all slots: with these two going on, the third would wait for minutes
            async with aclosing(provider.stream(endless)) as chunks:
                assert text_of([await anext(chunks)])
        (chunk,) = await answered(provider, call(STORY, parameters=Parameters(max_tokens=2)))
        assert chunk.finish_reason is FinishReason.LENGTH


async def test_a_cancelled_unary_call_frees_its_slot(model: EmbeddedModel) -> None:
    endless = call(STORY, parameters=Parameters(max_tokens=7000), extra_body={"ignore_eos": True})
    async with opened(model.base_url) as provider:
        for _ in range(2):
            with anyio.move_on_after(0.3) as scope:
                await answered(provider, endless)
            assert scope.cancelled_caught
        assert text_of(await answered(provider, call(STORY, parameters=Parameters(max_tokens=2))))


async def test_timeouts_hold_for_all_requests_of_a_call_together(model: EmbeddedModel) -> None:
    endless = call(STORY, parameters=Parameters(max_tokens=7000), extra_body={"ignore_eos": True})
    async with opened(model.base_url) as provider:
        failure = await failed(provider, replace(endless, timeouts=Timeouts(total_s=0.3)))
        assert failure.kind is FailureKind.TOTAL_TIMEOUT
        # 200 labels take as many requests, each of them far below the limit.
        many = LabelOutput(labels=tuple(f"label {number}" for number in range(200)))
        failure = await failed(provider, call("x", output=many, timeouts=Timeouts(total_s=0.1)))
        assert failure.kind is FailureKind.TOTAL_TIMEOUT
        assert "0.1 s" in failure.detail
        failure = await failed(provider, call("x", output=many, stream=True, timeouts=Timeouts(first_token_s=0.1)))
        assert failure.kind is FailureKind.FIRST_TOKEN_TIMEOUT


@pytest.mark.parametrize("stream", [pytest.param(False, id="unary"), pytest.param(True, id="streamed")])
async def test_a_socket_where_nobody_ever_listens_is_told(tmp_path: Path, stream: bool) -> None:
    async with opened(f"unix://{tmp_path}/model.sock") as provider:
        failure = await failed(provider, call("x", stream=stream, timeouts=Timeouts(first_token_s=0.2)))
    assert failure.kind is FailureKind.CONNECT_TIMEOUT
    assert "did not start within 0.2 s" in failure.detail
    assert "gearshift status" in failure.detail


async def test_a_socket_that_a_dead_process_left_behind_is_told(tmp_path: Path) -> None:
    left = tmp_path / "model.sock"
    async with await anyio.create_unix_listener(left):
        pass
    assert left.exists()
    async with opened(f"unix://{left}") as provider:
        failure = await failed(provider, call("x", timeouts=Timeouts(first_token_s=0.2)))
    assert failure.kind is FailureKind.CONNECT_TIMEOUT


async def test_a_start_that_failed_is_told_at_once(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    settings = replace(child_settings(), model_path=broken, sha256="0" * 64)
    async with EmbeddedModel(settings, wait=False) as model, opened(model.base_url) as provider:
        with pytest.raises(EmbeddedModelError, match="does not have the SHA-256 0000"):
            await model.ready()
        failure = await failed(provider, call("x"))
        assert failure.kind is FailureKind.CONNECTION
        assert failure.detail == "the embedded model could not be started; `gearshift status` shows why"
        with pytest.raises(EmbeddedModelError, match="could not be started"):
            await AttachedModel(model.socket_path).ready()


async def test_a_model_that_nobody_started_is_told() -> None:
    async with opened("") as provider:
        failure = await failed(provider, call("x"))
    assert failure.kind is FailureKind.CONNECTION
    assert failure.detail == "the embedded model is not running"


async def test_a_killed_child_fails_its_calls_and_the_next_waits_for_its_return(model: EmbeddedModel) -> None:
    endless = call(STORY, stream=True, parameters=Parameters(max_tokens=7000), extra_body={"ignore_eos": True})
    unary = replace(endless, stream=False)
    failures: list[ProviderFailure] = []
    async with opened(model.base_url) as provider:
        pid, before = model.status().pid, model.status().restarts
        assert pid is not None

        async def run_unary() -> None:
            failures.append(await failed(provider, unary))

        async def run_streamed() -> None:
            async with aclosing(provider.stream(endless)) as chunks:
                await anext(chunks)
                while (
                    await running_calls(model) < 2
                ):  # else the other call could begin after the restart, and be answered
                    await anext(chunks)
                os.kill(pid, signal.SIGKILL)
                with pytest.raises(ProviderFailure) as caught:
                    async for _ in chunks:
                        pass
            failures.append(caught.value)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_unary)
            tasks.start_soon(run_streamed)
        assert [failure.kind for failure in failures] == [FailureKind.CONNECTION] * 2
        # At once: whether the old socket is still there or not, this call waits for the new process.
        assert text_of(await answered(provider, call(STORY, parameters=Parameters(max_tokens=2))))
        await until(lambda: model.status().state is ModelState.READY)
    assert model.status().restarts == before + 1
    assert model.status().pid not in (None, pid)


async def running_calls(model: EmbeddedModel) -> int:
    """Give how many calls the model works on, as it says."""
    pressure = Pressure("embedded", "default", "llamacpp", 2)
    pressure.url, pressure.interval_s = question_url("llamacpp", model.base_url), 5.0
    watch = Watch(lambda: [pressure])
    async with watch.running():
        await watch.look(patience_s=BOUND_S)
    assert pressure.error == ""
    return pressure.reading.running or 0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread's state; the enclosing deadline bounds the wait."""
    while not condition():
        await anyio.sleep(0.01)
