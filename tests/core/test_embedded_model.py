"""The embedded model itself: real weights, a real child process, a real socket."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import anyio.from_thread
import pytest

from gearshift.core.answer import Usage
from gearshift.core.embedded import (
    AttachedModel,
    EmbeddedModel,
    EmbeddedSettings,
    LabelScorer,
    ModelState,
    Phase,
    Progress,
    Prompting,
    default_weights_are_installed,
    runtime_is_installed,
    supervisor,
)
from gearshift.core.embedded.prompts import continuation_prompt, json_prompt, label_prompt
from gearshift.core.embedded.scoring import LabelScores, Post
from gearshift.core.embedded.vectors import pooled, windows
from gearshift.core.embedded.wire import (
    COMPLETIONS,
    EMBEDDINGS,
    HEADERS,
    TOKENIZE,
    completion_body,
    embeddings_body,
    read_failure,
    read_tokens,
    tokens_body,
)
from gearshift.core.errors import EmbeddedModelError
from gearshift.core.events import TextDelta
from gearshift.core.failures import ProviderFailure
from gearshift.core.machines.kinds import question_url
from gearshift.core.machines.pressure import Pressure
from gearshift.core.machines.watch import Watch
from gearshift.core.provider import Chunk
from gearshift.core.providers._openai_answer import AnswerFold
from gearshift.core.providers._openai_answer import vectors as read_vectors
from gearshift.core.request import JsonOutput, LabelOutput, Parameters, user
from gearshift.core.words import FailureKind, FinishReason

pytestmark = pytest.mark.skipif(
    not (default_weights_are_installed() and runtime_is_installed()), reason="the extra `embedded` is not installed"
)

START_S = 60.0
"""Longest that a start may take on a busy machine; 1 to 3 s on a quiet one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    instruction: str
    output: LabelOutput
    tests: Sequence[tuple[str, str]]


MOOD = Corpus(
    instruction="Say whether the review is positive or negative.",
    output=LabelOutput(
        labels=("positive", "negative"),
        examples=(
            ("The staff were kind and the room was spotless.", "positive"),
            ("It broke after two days and nobody answered my letters.", "negative"),
            ("A dull story with wooden actors.", "negative"),
            ("The best soup I have had all winter.", "positive"),
        ),
    ),
    tests=(
        ("I would happily stay here again.", "positive"),
        ("The bread was stale and the coffee cold.", "negative"),
        ("What a lovely, warm film.", "positive"),
        ("The sound is terrible and the screen flickers.", "negative"),
        ("My children laughed from start to finish.", "positive"),
        ("A complete waste of money.", "negative"),
        ("Delivery was quick and everything fitted perfectly.", "positive"),
        ("The waiter was rude and forgot our order.", "negative"),
        ("The garden is beautiful and very well kept.", "positive"),
        ("I regret buying this lamp.", "negative"),
        ("The battery lasts for days, I am delighted.", "positive"),
        ("The book is boring and far too long.", "negative"),
        ("Friendly people, fair prices.", "positive"),
        ("The zip broke on the first morning.", "negative"),
        ("She sang wonderfully tonight.", "positive"),
        ("The seats were dirty and the train was late again.", "negative"),
    ),
)
DESK = Corpus(
    instruction="Route the message to a team.",
    output=LabelOutput(
        labels=("billing", "technical support", "sales"),
        examples=(
            ("I was charged twice this month.", "billing"),
            ("The app shows a blank page after I log in.", "technical support"),
            ("Do you offer a discount for fifty seats?", "sales"),
            ("Please send me a copy of last month's invoice.", "billing"),
            ("The upload stops at ninety percent.", "technical support"),
            ("I would like a quote for our school.", "sales"),
        ),
    ),
    tests=(
        ("My card was billed after I cancelled.", "billing"),
        ("The program crashes when I open a file.", "technical support"),
        ("How much would a yearly plan for our team cost?", "sales"),
        ("Why is there an extra fee on my invoice?", "billing"),
        ("I cannot connect to the server since this morning.", "technical support"),
        ("Can somebody show us a demo before we buy?", "sales"),
        ("I want a refund for the second payment.", "billing"),
        ("The password reset link gives an error.", "technical support"),
        ("We are thinking of buying two hundred licences.", "sales"),
        ("The receipt has the wrong address on it.", "billing"),
        ("The screen freezes whenever I press print.", "technical support"),
        ("Which package is best for a small shop?", "sales"),
        ("You took the money twice from my account.", "billing"),
        ("Search returns nothing, even for exact names.", "technical support"),
        ("Do you have special prices for charities?", "sales"),
        ("The update failed and now nothing starts.", "technical support"),
    ),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("weights")
    yield directory
    shutil.rmtree(directory)  # pytest would keep 253 MB for three runs


@pytest.fixture(scope="module")
def model(cache: Path) -> Iterator[EmbeddedModel]:
    """One child for the module, kept by an event loop in a thread of its own."""
    model = EmbeddedModel(EmbeddedSettings(cache_directory=cache))
    with anyio.from_thread.start_blocking_portal() as portal, portal.wrap_async_context_manager(model) as running:
        yield running


@asynccontextmanager
async def posting(socket: Path) -> AsyncGenerator[Post]:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session:

        async def post(path: str, body: dict[str, Any]) -> Mapping[str, Any]:
            async with session.post(f"http://embedded{path}", json=body, headers=HEADERS) as response:
                answer: dict[str, Any] = json.loads(await response.text())
                if response.status != 200:
                    raise read_failure(response.status, answer)
                return answer

        yield post


@asynccontextmanager
async def streaming(socket: Path, body: dict[str, Any]) -> AsyncGenerator[AsyncGenerator[Chunk]]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
        session.post(f"http://embedded/v1{COMPLETIONS}", json=body, headers=HEADERS) as response,
    ):
        assert response.status == 200

        async def chunks() -> AsyncGenerator[Chunk]:
            fold = AnswerFold(want_reasoning=False, keep_reasoning=False, may_be_empty=True)
            async for line in response.content:
                if data := line.removeprefix(b"data: ").strip():
                    chunk = Chunk()
                    fold.add(data, chunk)
                    if fold.done:
                        fold.end(chunk)
                    if fold.done or chunk.parts:
                        yield chunk

        yield chunks()


def read_completion(answer: Mapping[str, Any]) -> Chunk:
    chunk = Chunk()
    fold = AnswerFold(want_reasoning=False, keep_reasoning=False, may_be_empty=True)
    fold.add_whole(json.dumps(answer).encode(), chunk)
    fold.end(chunk)
    return chunk


def read_embeddings(answer: Mapping[str, Any], count: int) -> tuple[tuple[tuple[float, ...], ...], Usage]:
    vectors, usage = read_vectors(json.dumps(answer).encode(), count)
    assert usage is not None
    return vectors, usage


async def tokens(post: Post, text: str, *, begin: bool = True) -> list[int]:
    return read_tokens(await post(TOKENIZE, tokens_body(text, begin=begin)))


def text_of(*chunks: Chunk) -> str:
    return "".join(part.text for chunk in chunks for part in chunk.parts if isinstance(part, TextDelta))


async def scores(scorer: LabelScorer, post: Post, corpus: Corpus, prompting: Prompting) -> list[LabelScores]:
    prompt = label_prompt(corpus.instruction, corpus.output, prompting=prompting)
    return [
        await scorer.score(post, prompt, text, corpus.output.labels, calibrate=prompting.calibrate)
        for text, _ in corpus.tests
    ]


def right(found: Sequence[LabelScores], corpus: Corpus) -> int:
    return sum(score.label == label for score, (_, label) in zip(found, corpus.tests, strict=True))


async def test_examples_and_calibration_make_a_classifier_of_it(model: EmbeddedModel) -> None:
    async with posting(model.socket_path) as post:
        scorer = LabelScorer()
        mood = await scores(scorer, post, MOOD, Prompting())
        desk = {
            "zero-shot": await scores(scorer, post, DESK, Prompting(use_examples=False, calibrate=False)),
            "few-shot": await scores(scorer, post, DESK, Prompting(calibrate=False)),
            "calibrated": await scores(scorer, post, DESK, Prompting()),
        }
    counts = {name: right(found, DESK) for name, found in desk.items()}
    print(f"mood: {right(mood, MOOD)} of 16; desk: {counts}")
    assert right(mood, MOOD) >= 13
    assert counts["calibrated"] >= 12
    assert counts["calibrated"] >= counts["few-shot"] + 2
    assert counts["calibrated"] >= counts["zero-shot"] + 2
    for score in [*mood, *(score for found in desk.values() for score in found)]:
        assert sum(score.probabilities.values()) == pytest.approx(1.0)
        assert score.logprob == pytest.approx(math.log(max(score.probabilities.values())))
        assert score.runner_up is not None and score.runner_up <= score.logprob


async def test_the_same_question_gets_the_same_answer_alone_and_in_company(model: EmbeddedModel) -> None:
    prompt = label_prompt("", MOOD.output, prompting=Prompting())
    texts = [text for text, _ in MOOD.tests[:4]]
    async with posting(model.socket_path) as post:
        scorer = LabelScorer()
        alone = [await scorer.score(post, prompt, text, MOOD.output.labels) for text in texts]
        together: dict[str, LabelScores] = {}

        async def ask(text: str) -> None:
            together[text] = await scorer.score(post, prompt, text, MOOD.output.labels)

        async with anyio.create_task_group() as tasks:
            for text in texts:
                tasks.start_soon(ask, text)
    for text, score in zip(texts, alone, strict=True):
        assert together[text].label == score.label
        assert dict(together[text].probabilities) == pytest.approx(dict(score.probabilities), abs=0.05)


async def test_the_bias_is_measured_once_and_the_prompt_is_read_once(model: EmbeddedModel) -> None:
    prompt = label_prompt("", DESK.output, prompting=Prompting())
    async with posting(model.socket_path) as post:
        scorer = LabelScorer()
        first = await scorer.score(post, prompt, "The invoice is wrong.", DESK.output.labels)
        second = await scorer.score(post, prompt, "The program is slow.", DESK.output.labels)
    assert first.usage.input_tokens > 3 * second.usage.input_tokens
    assert second.usage.cache_read_tokens > second.usage.input_tokens / 2
    assert first.bias == second.bias


async def test_labels_that_begin_alike_or_begin_each_other_are_told_apart(model: EmbeddedModel) -> None:
    labels = ("good", "good service", "good food", "bad food")
    examples = (
        ("The waiters were quick and kind.", "good service"),
        ("The pasta was delicious.", "good food"),
        ("The fish was burnt.", "bad food"),
        ("Nice.", "good"),
    )
    prompt = label_prompt("", LabelOutput(labels=labels, examples=examples), prompting=Prompting())
    async with posting(model.socket_path) as post:
        found = await LabelScorer().score(post, prompt, "The potatoes were burnt and cold.", labels)
    assert list(found.probabilities) == list(labels)
    assert sum(found.probabilities.values()) == pytest.approx(1.0)
    assert found.label == "bad food"


async def test_one_label_needs_no_call(model: EmbeddedModel) -> None:
    async with posting(model.socket_path) as post:
        found = await LabelScorer().score(post, label_prompt("", MOOD.output, prompting=Prompting()), "x", ["only"])
    assert found.probabilities == {"only": 1.0}
    assert found.runner_up is None
    assert found.usage.input_tokens == 0


async def test_extraction_is_held_to_its_schema_and_reads_the_text(model: EmbeddedModel) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
        "required": ["name", "age", "city"],
        "additionalProperties": False,
    }
    examples = (
        ("Maria Lopez is 34 years old and lives in Madrid.", '{"name":"Maria Lopez","age":34,"city":"Madrid"}'),
        ("From Bern comes Urs Keller, aged 51.", '{"name":"Urs Keller","age":51,"city":"Bern"}'),
    )
    output = JsonOutput(schema=json.dumps(schema), examples=examples)
    prompt = json_prompt("", [user("Tom Hale, 29, has a flat in Dublin.")], output, prompting=Prompting())
    async with posting(model.socket_path) as post:
        row = await tokens(post, prompt.text)
        body = completion_body(row, Parameters(max_tokens=64), output=output, stream=True, logprobs=True)
    async with streaming(model.socket_path, body) as chunks:
        got = [chunk async for chunk in chunks]
    assert json.loads(text_of(*got)) == {"name": "Tom Hale", "age": 29, "city": "Dublin"}
    assert got[-1].finish_reason is FinishReason.STOP
    assert all(chunk.logprobs for chunk in got[:-1])


async def test_streamed_and_whole_answers_are_the_same_text(model: EmbeddedModel) -> None:
    prompt = continuation_prompt("", [user("Name three colours.")])
    async with posting(model.socket_path) as post:
        row = await tokens(post, prompt.text)
        unary = completion_body(row, Parameters(max_tokens=12), stop=prompt.stop, stream=False, logprobs=False)
        whole = read_completion(await post(f"/v1{COMPLETIONS}", unary))
    body = completion_body(row, Parameters(max_tokens=12), stop=prompt.stop, stream=True, logprobs=True)
    async with streaming(model.socket_path, body) as chunks:
        got = [chunk async for chunk in chunks]
    assert text_of(*got) == text_of(whole)
    usage = got[-1].usage
    assert usage is not None
    assert usage.input_tokens == len(row)
    assert usage.output_tokens == sum(chunk.tokens for chunk in got)
    assert whole.usage is not None
    assert whole.usage.output_tokens == usage.output_tokens


async def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(model: EmbeddedModel) -> None:
    async with posting(model.socket_path) as post:
        row = await tokens(post, "one two three four five six seven one two three four five six seven one two")
        body = completion_body(row, Parameters(max_tokens=20, stop=("five",)), stream=False, logprobs=False)
        found = read_completion(await post(f"/v1{COMPLETIONS}", body | {"repeat_penalty": 1.0}))
    assert text_of(found).strip() == "three four"
    assert found.finish_reason is FinishReason.STOP


async def test_special_tokens_in_a_text_stay_text(model: EmbeddedModel) -> None:
    async with posting(model.socket_path) as post:
        row = await tokens(post, "<bos><end_of_turn>")
    assert row.count(2) == 1  # the opening token, put there by us
    assert len(row) > 5


async def test_a_prompt_beyond_the_context_is_a_typed_failure(model: EmbeddedModel) -> None:
    async with posting(model.socket_path) as post:
        body = completion_body([2] + [506] * 9000, Parameters(), stream=False, logprobs=False)
        with pytest.raises(ProviderFailure) as caught:
            await post(f"/v1{COMPLETIONS}", body)
    assert caught.value.kind is FailureKind.CONTEXT_LENGTH
    assert "8192" in caught.value.detail


async def test_like_sentences_have_like_vectors(model: EmbeddedModel) -> None:
    texts = [
        "The cat sleeps on the sofa.",
        "A kitten is napping on the couch.",
        "The central bank raised interest rates.",
        "Interest rates were increased by the bank.",
    ]
    async with posting(model.socket_path) as post:
        rows = [await tokens(post, text) for text in texts]
        raw, usage = read_embeddings(await post(f"/v1{EMBEDDINGS}", embeddings_body(rows)), len(rows))
    vectors = [pooled([vector], [len(row)]) for vector, row in zip(raw, rows, strict=True)]
    assert usage.input_tokens == sum(len(row) for row in rows)
    assert {len(vector) for vector in vectors} == {640}

    def likeness(one: int, other: int) -> float:
        return sum(a * b for a, b in zip(vectors[one], vectors[other], strict=True))

    assert likeness(0, 0) == pytest.approx(1.0)
    assert min(likeness(0, 1), likeness(2, 3)) > max(likeness(0, 2), likeness(1, 3))


async def test_a_text_longer_than_one_step_is_embedded_in_windows(model: EmbeddedModel) -> None:
    async with posting(model.socket_path) as post:
        row = await tokens(post, "The cat sleeps on the sofa. " * 40)
        assert len(row) > 128
        with pytest.raises(ProviderFailure):
            await post(f"/v1{EMBEDDINGS}", embeddings_body([row]))
        cut = windows(row, 128)
        raw, _ = read_embeddings(await post(f"/v1{EMBEDDINGS}", embeddings_body(cut)), len(cut))
    assert math.hypot(*pooled(raw, [len(each) for each in cut])) == pytest.approx(1.0)


async def test_a_reader_that_leaves_frees_its_slot(model: EmbeddedModel) -> None:
    with anyio.fail_after(START_S):
        async with posting(model.socket_path) as post:
            row = await tokens(post, "Once upon a time")
            # With these two going on to the end, the third would wait for minutes.
            endless = completion_body(
                row, Parameters(max_tokens=8000), stream=True, logprobs=False, extra={"ignore_eos": True}
            )
            for _ in range(2):
                async with streaming(model.socket_path, endless) as chunks:
                    assert text_of(await anext(chunks))
                    await chunks.aclose()
            short = completion_body(row, Parameters(max_tokens=2), stream=False, logprobs=False)
            assert read_completion(await post(f"/v1{COMPLETIONS}", short)).finish_reason is FinishReason.LENGTH


def test_no_tcp_port_is_opened_and_no_llama_is_loaded_here(model: EmbeddedModel) -> None:
    pid = model.status().pid
    assert pid is not None
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:")}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        lines = path.read_text().splitlines()[1:] if path.exists() else []
        assert not inodes & {line.split()[9] for line in lines}
    assert "xllamacpp" not in Path("/proc/self/maps").read_text()
    assert model.socket_path.parent.stat().st_mode & 0o777 == 0o700


def test_its_state_is_told(model: EmbeddedModel) -> None:
    status = model.status()
    assert status.state is ModelState.READY
    assert status.restarts == 0
    assert status.load_s
    assert 300e6 < (status.rss_bytes or 0) < 1.2e9
    assert model.base_url == f"unix://{status.socket_path}"
    print(f"loaded in {status.load_s} s, {(status.rss_bytes or 0) / 1e6:.0f} MB resident")


async def test_other_processes_attach_by_the_socket(model: EmbeddedModel, tmp_path: Path) -> None:
    with anyio.fail_after(START_S):
        await AttachedModel(model.socket_path).ready()
    with anyio.move_on_after(0.2) as nothing_there:
        await AttachedModel(tmp_path / "none.sock").ready()
    assert nothing_there.cancelled_caught


async def test_a_killed_process_comes_back_at_the_same_place_and_a_stop_leaves_nothing(cache: Path) -> None:
    seen: list[Progress] = []
    with anyio.fail_after(2 * START_S):
        async with EmbeddedModel(EmbeddedSettings(cache_directory=cache), progress=seen.append) as model:
            before = model.status()
            assert before.pid is not None
            os.kill(before.pid, signal.SIGKILL)
            await until(lambda: not before.socket_path.exists())
            await until(before.socket_path.exists)
            await until(lambda: model.status().restarts == 1)
            await model.ready()
            after = model.status()
            assert after.pid not in (None, before.pid)
            assert after.socket_path == before.socket_path
            assert "killed" in after.last_error
            async with posting(model.socket_path) as post:
                assert await tokens(post, "hello")
    assert not before.socket_path.parent.exists()
    assert after.pid is not None
    assert not is_running(after.pid)
    assert model.status().state is ModelState.STOPPED
    with pytest.raises(EmbeddedModelError, match="stopped"):
        await model.ready()
    phases = [progress.phase for progress in seen]
    assert [phase for phase in Phase if phase in phases] == list(Phase)
    assert phases[-1] is Phase.READY


async def test_the_process_dies_with_a_killed_parent(cache: Path) -> None:
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        import anyio
        from gearshift.core.embedded import EmbeddedModel, EmbeddedSettings

        async def main():
            async with EmbeddedModel(EmbeddedSettings(cache_directory=Path({str(cache)!r}))) as model:
                print(f"{{model.status().pid}} {{model.socket_path.parent}}", flush=True)
                await anyio.sleep_forever()

        anyio.run(main)
        """
    )
    with anyio.fail_after(START_S):
        async with await anyio.open_process([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as parent:
            assert parent.stdout is not None
            pid, directory = (await parent.stdout.receive()).decode().split()
            assert is_running(int(pid))
            parent.kill()
            await until(lambda: not is_running(int(pid)))
    shutil.rmtree(directory)  # nobody was left to do it


async def test_a_broken_file_is_told_and_leaves_nothing(cache: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    model = EmbeddedModel(EmbeddedSettings(cache_directory=cache, model_path=broken, runtime_directory=tmp_path))
    with anyio.fail_after(START_S), pytest.raises(EmbeddedModelError, match="could not be loaded.*check model_path"):
        async with model:
            pytest.fail("it started")
    assert os.listdir(tmp_path) == [broken.name]
    assert model.status().state is ModelState.STOPPED


async def test_a_start_that_nobody_waits_for_fails_when_asked(cache: Path, tmp_path: Path) -> None:
    settings = EmbeddedSettings(cache_directory=cache, model_path=tmp_path / "none.gguf")
    with anyio.fail_after(START_S):
        async with EmbeddedModel(settings, wait=False) as model:
            with pytest.raises(EmbeddedModelError, match="there is no GGUF file"):
                await model.ready()
            assert model.status().state is ModelState.FAILED


async def test_a_missing_runtime_names_the_command(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "runtime_is_installed", lambda: False)
    with anyio.fail_after(START_S), pytest.raises(EmbeddedModelError, match=r"pip install 'gearshift\[embedded\]'"):
        async with EmbeddedModel(EmbeddedSettings(cache_directory=cache)):
            pytest.fail("it started")


async def test_an_error_of_the_block_comes_out_as_itself(cache: Path, tmp_path: Path) -> None:
    settings = EmbeddedSettings(cache_directory=cache, model_path=tmp_path / "none.gguf")
    with pytest.raises(KeyError, match="mine"):
        async with EmbeddedModel(settings, wait=False):
            raise KeyError("mine")


async def test_a_start_can_be_given_up(cache: Path) -> None:
    model = EmbeddedModel(EmbeddedSettings(cache_directory=cache))
    with anyio.move_on_after(0.3) as scope:
        async with model:
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert not model.socket_path.parent.exists()


async def test_a_place_too_deep_for_a_socket_is_told(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with pytest.raises(EmbeddedModelError, match="too long for a Unix socket"):
        async with EmbeddedModel(EmbeddedSettings(runtime_directory=deep)):
            pytest.fail("it started")
    assert os.listdir(deep) == []


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a state of another process; the enclosing deadline bounds the wait."""
    while not condition():
        await anyio.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_it_says_how_many_calls_run_and_wait(model: EmbeddedModel) -> None:
    pressure = Pressure("embedded", "default", "llamacpp", 2)
    pressure.url, pressure.interval_s = question_url("llamacpp", model.base_url), 5.0
    watch = Watch(lambda: [pressure])
    with anyio.fail_after(30):
        async with watch.running():
            await watch.look(patience_s=20)
    assert pressure.error == ""
    assert (pressure.reading.running, pressure.reading.queued) == (0, 0)
