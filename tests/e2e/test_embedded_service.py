"""The embedded model in its three places: in a program of one's own, in the demo, and behind the service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import anyio
import grpc
import grpc.aio
import pytest

from gearshift.clients import Accumulator, call, stream_policy
from gearshift.core import Router, open_router
from gearshift.core.catalogue import Catalogue
from gearshift.core.config.default import default_config
from gearshift.core.config.model import Config
from gearshift.core.embedded import prepare_weights
from gearshift.core.embedded.weights import DEFAULT_SHA256
from gearshift.core.errors import EmbeddedModelError, InvalidRequestError
from gearshift.core.execute import CallOptions
from gearshift.core.words import Outcome, Source
from gearshift.v1 import answer_pb2, ops_pb2, router_pb2
from tests.support.embedded_child import child_settings, needs_embedded, weights_home
from tests.support.openai_bodies import openai_answer, openai_stream
from tests.support.running_server import RunningServer, failure_of, from_yaml, running_server
from tests.support.scripted_server import Reply, scripted

pytestmark = needs_embedded

BOUND_S = 90.0
"""How long one test may take on a busy machine; the slowest takes 12 s on a quiet one."""
EXAMPLES = [
    ("I loved every minute of it.", "positive"),
    ("What a waste of money.", "negative"),
    ("The staff were kind and quick.", "positive"),
    ("It broke after a single day.", "negative"),
]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the default weights be put together once for all tests, and not in the user's own home."""
    monkeypatch.setenv("HOME", str(weights_home()))
    return weights_home()


def plain_config() -> Config:
    """Give what is served when nothing is configured and nothing else is there."""
    return default_config(ollama_models=[], env=None, embedded=True, catalogue=Catalogue.load())[0]


@asynccontextmanager
async def router_here() -> AsyncGenerator[Router]:
    with anyio.fail_after(BOUND_S):
        async with open_router(plain_config()) as router:
            yield router


async def test_a_router_in_this_process_answers_without_a_server() -> None:
    async with router_here() as router:
        mood = await router.execute(
            "classify",
            "A wonderful evening, thank you!",
            {"task": "mood", "labels": ["positive", "negative"], "examples": EXAMPLES},
        )
        assert mood.text == "positive"
        assert mood.resolution.task_id == "mood"
        assert mood.completion.outcome is Outcome.ACCEPTED
        assert sum(mood.completion.label_probabilities.values()) == pytest.approx(1.0)
        assert mood.completion.confidence is not None
        assert mood.completion.served_by is not None and mood.completion.served_by.provider == "embedded"

        schema = {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
            "required": ["name", "age"],
            "additionalProperties": False,
        }
        person = await router.execute(
            "person",
            "Tom Hale, 29, has a flat in Dublin.",
            {"schema": schema, "examples": [("Maria Lopez is 34 years old.", {"name": "Maria Lopez", "age": 34})]},
        )
        assert set(json.loads(person.text)) == {"name", "age"}
        assert person.resolution.type_source is Source.OUTPUT

        story = await router.execute("generate", "Tell me about the sea.", {"max_tokens": 12, "request_id": "mine"})
        again = await router.execute("generate", "Tell me about the sea.", {"max_tokens": 12, "request_id": "mine"})
        assert story.text
        assert again == story

        with pytest.raises(InvalidRequestError, match=r"context\.lables: is not known; did you mean 'labels'\?"):
            await router.execute("classify", "hello", cast("CallOptions", {"lables": []}))


def test_a_program_of_ones_own_loads_no_grpc(home: Path) -> None:
    program = textwrap.dedent(
        """
        import sys

        import anyio
        from gearshift.core import open_router

        async def main() -> None:
            async with open_router("gearshift.yaml") as router:
                answer = await router.execute("classify", "It broke.", {"labels": ["bug", "praise"]})
                print(answer.text, [name for name in ("grpc", "google.protobuf", "pydantic") if name in sys.modules])

        anyio.run(main)
        """
    )
    (home / "gearshift.yaml").write_text(
        "version: 1\n"
        "providers: {embedded: {kind: embedded}}\n"
        "chains: {classify: {stages: [{provider: embedded, model: gemma3-270m}]}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=BOUND_S, cwd=home, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(" ", 1)[0] in ("bug", "praise")
    assert done.stdout.endswith("[]\n")


def test_the_demo_shows_the_main_job_and_ends_by_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gearshift.clients.cli", "demo"],
        capture_output=True,
        text=True,
        timeout=2 * BOUND_S,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    headings = [line[:2] for line in lines if line[:2] in {f"{number}." for number in range(1, 8)}]
    assert headings == ["1.", "2.", "3.", "4.", "5.", "6.", "7."]
    shown = [
        word for word in ("Classify", "Extract", "Generate", "Embed", "Fall back", "Escalate") if word in done.stdout
    ]
    assert len(shown) == 6
    assert "Gemma" in done.stdout  # whose licence was shown
    assert "What to try next" in done.stdout
    assert not done.stderr


# The service. What is endless goes on until its child is killed: 7000 tokens take minutes.

ENDLESS = "extra_body: {ignore_eos: true, max_tokens: 7000}"


def served(url: str, *, embedded: str = "") -> str:
    return textwrap.dedent(
        f"""
        version: 1
        providers:
          embedded: {{kind: embedded, embedded: {{{embedded}}}}}
          up: {{kind: openai, dialect: compatible, base_url: '{url}/v1', api_key: ''}}
        models:
          strong: {{provider: up, capability: high, prices: {{input_usd: 1, output_usd: 2}}}}
        retry: {{base_s: 0.001, max_s: 0.01}}
        chains:
          generate: {{stages: [{{provider: embedded, model: gemma3-270m}}]}}
          falls-over:
            stages:
              - {{provider: embedded, model: gemma3-270m, max_retries: 0, {ENDLESS}}}
              - {{provider: up, model: strong}}
          alone: {{stages: [{{provider: embedded, model: gemma3-270m, max_retries: 0, {ENDLESS}}}]}}
        tasks:
          declared:
            endless: {{type: generate, chain: falls-over, complexity: medium}}
            endless-alone: {{type: generate, chain: alone, complexity: medium}}
        """
    )


async def status_of(server: RunningServer) -> ops_pb2.EmbeddedStatus:
    return (await server.ops.GetStatus(ops_pb2.GetStatusRequest(), timeout=BOUND_S)).embedded


async def until_state(server: RunningServer, state: str, *, restarts: int = 0) -> ops_pb2.EmbeddedStatus:
    """Ask until the child stands there; the enclosing deadline bounds the wait."""
    while True:
        status = await status_of(server)
        if status.state == state and status.restarts >= restarts:
            return status
        await anyio.sleep(0.02)


async def streamed(server: RunningServer, task: str, begun: anyio.Event) -> Accumulator:
    """Give what a stream comes to; `begun` is set by its first text."""
    request = router_pb2.StreamRouteRequest(
        call=call(task, "Tell me about the sea."), stream=stream_policy(hold_back_tokens=0)
    )
    seen = Accumulator()
    async for message in server.router.StreamRoute(request, timeout=BOUND_S):
        for event in message.events:
            if seen.apply(event):
                begun.set()
    return seen


async def test_calls_survive_the_death_of_the_child() -> None:
    with anyio.fail_after(BOUND_S):
        async with (
            scripted(Reply.sse(*openai_stream(["From the ", "strong one."]))) as up,
            running_server(served(up.url)) as server,
        ):
            first = await status_of(server)
            assert (first.state, first.restarts, first.last_error) == ("ready", 0, "")
            assert first.resident_bytes > 300e6

            begun = [anyio.Event(), anyio.Event()]
            found: list[Accumulator] = []
            failures: list[grpc.aio.AioRpcError] = []

            async def ask_with_fallback() -> None:
                found.append(await streamed(server, "endless", begun[0]))

            async def ask_alone() -> None:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await streamed(server, "endless-alone", begun[1])
                failures.append(caught.value)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask_with_fallback)
                tasks.start_soon(ask_alone)
                for each in begun:
                    await each.wait()
                os.kill(first.pid, signal.SIGKILL)

            (answered,) = found
            assert answered.text == "From the strong one."
            assert answered.completed is not None
            assert [(each.outcome, each.failure) for each in answered.completed.completion.attempts] == [
                (answer_pb2.ATTEMPT_OUTCOME_FAILED, answer_pb2.FAILURE_KIND_CONNECTION),
                (answer_pb2.ATTEMPT_OUTCOME_ACCEPTED, answer_pb2.FAILURE_KIND_UNSPECIFIED),
            ]
            (failure,) = [failure_of(error) for error in failures]
            assert failure.code is grpc.StatusCode.UNAVAILABLE
            assert failure.reason == "CHAIN_EXHAUSTED"
            assert "embedded" in failure.message
            assert "connection" in failure.message

            # At once: the call waits for the new process.
            sent = call("greet", "Tell me about the sea.", task_type="generate", max_tokens=4)
            answer = (await server.route(sent, timeout=BOUND_S)).answer
            assert answer.completion.served_by.provider == "embedded"
            after = await until_state(server, "ready", restarts=1)
            assert after.restarts == 1
            assert after.pid not in (0, first.pid)
            assert "killed, most likely for memory" in after.last_error


async def test_weights_that_went_bad_are_told_and_recovered_from(tmp_path: Path) -> None:
    right = prepare_weights(cache_directory=child_settings().cache_directory).path
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"GGUF" + bytes(100))
    link = tmp_path / "model.gguf"
    link.symlink_to(right)
    with anyio.fail_after(BOUND_S):
        embedded = f"model_path: '{link}', sha256: {DEFAULT_SHA256}"
        async with (
            scripted(Reply.json(openai_answer("From the strong one."))) as up,
            running_server(served(up.url, embedded=embedded)) as server,
        ):
            first = await status_of(server)
            assert first.state == "ready"
            point(link, wrong)
            os.kill(first.pid, signal.SIGKILL)
            failed = await until_state(server, "failed")
            assert "does not have the SHA-256" in failed.last_error
            assert failed.pid == 0

            answer = (await server.route(call("endless", "Tell me about the sea."), timeout=BOUND_S)).answer
            assert answer.text == "From the strong one."
            assert "could not be started" in answer.completion.attempts[0].detail
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.route(call("endless-alone", "Tell me about the sea."), timeout=BOUND_S)
            failure = failure_of(caught.value)
            assert failure.code is grpc.StatusCode.UNAVAILABLE
            assert str(tmp_path) not in failure.message + str(answer)

            point(link, right)
            await until_state(server, "ready", restarts=1)
            sent = call("greet", "Tell me about the sea.", task_type="generate", max_tokens=4)
            answer = (await server.route(sent, timeout=BOUND_S)).answer
            assert answer.completion.served_by.provider == "embedded"


async def test_wrong_weights_keep_the_service_from_starting() -> None:
    weights = prepare_weights(cache_directory=child_settings().cache_directory)
    config = served("http://127.0.0.1:9", embedded=f"model_path: '{weights.path}', sha256: '{'0' * 64}'")
    with anyio.fail_after(BOUND_S), pytest.raises(EmbeddedModelError, match="SHA-256 0000.*download it again"):
        async with running_server(from_yaml(config)):
            pytest.fail("it started")


def point(link: Path, target: Path) -> None:
    """Let a link lead elsewhere, in one step."""
    fresh = link.with_suffix(".new")
    fresh.symlink_to(target)
    os.replace(fresh, link)
