"""The served process loads no Rust, whatever it is configured with: read from its own map while every provider is used."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc.aio
import httpx
import pytest

from gearshift.core.embedded import default_weights_are_installed, runtime_is_installed
from gearshift.v1 import ops_pb2, router_pb2, task_pb2
from tests.support import anthropic_wire, ollama_wire
from tests.support.openai_bodies import openai_answer, openai_stream, openai_vectors, voyage_answer
from tests.support.running_server import plain_call
from tests.support.scripted_server import Reply, scripted
from tests.support.served_process import served, stubs

MARKS = (b"/rustc/", b"rustc version", b"rust_begin_unwind", b"rust_eh_personality")
"""What rustc leaves in what it builds: paths of its standard library, its version, its unwinding."""

MODELS = {
    "openai": "gpt-5.4-mini",
    "groq": "gpt-oss-20b",
    "deepseek": "deepseek-flash",
    "anthropic": "claude-haiku-5-5",
    "ollama": "llama3.1:8b",
    "vllm": "own",
    "llamacpp": "own-too",
}
"""One model of each kind and dialect that answers."""


def loaded(pid: int) -> list[Path]:
    """Give the files that a process has mapped."""
    paths = {
        Path(found[1])
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
        if (found := re.search(r"\s(/\S.*)$", line)) is not None
    }
    return sorted(path for path in paths if path.is_file())


def with_rust(paths: Iterable[Path]) -> list[str]:
    return [str(path) for path in paths if any(mark in path.read_bytes() for mark in MARKS)]


def test_marks_are_found_in_what_rustc_built() -> None:
    import rpds  # what jsonschema needs here, for tests alone

    extensions = list(Path(str(rpds.__file__)).parent.glob("*.so"))
    assert extensions
    assert with_rust(extensions) == [str(each) for each in extensions]


@asynccontextmanager
async def upstreams() -> AsyncGenerator[dict[str, str]]:
    """Run a scripted server for each provider: a whole answer, then a stream, twice; give the base URLs."""
    whole, streamed = Reply.json(openai_answer("hello there")), Reply.sse(*openai_stream(["hello ", "there"]))
    replies: dict[str, tuple[Reply, ...]] = {name: (whole, streamed) for name in MODELS}
    replies["anthropic"] = (
        Reply.json(anthropic_wire.message(anthropic_wire.text("hello there"))),
        Reply.sse(
            anthropic_wire.frames(
                [anthropic_wire.start(), *anthropic_wire.text_block(0, "hello ", "there"), *anthropic_wire.stop()]
            )
        ),
    )
    replies["ollama"] = (
        Reply.json(ollama_wire.whole("hello there")),
        Reply.sse(
            ollama_wire.lines([ollama_wire.line("hello "), ollama_wire.line("there"), ollama_wire.last()]),
            content_type="application/x-ndjson",
        ),
    )
    replies["voyage"] = (Reply.json(voyage_answer([0.5] * 1024)),)
    replies["embeds"] = (Reply.json(openai_vectors([0.5] * 1536)),)
    async with AsyncExitStack() as stack:
        yield {name: (await stack.enter_async_context(scripted(*given, *given))).url for name, given in replies.items()}


def config(urls: dict[str, str], embedded: bool) -> str:
    # Nobody listens there: the sender is loaded all the same, and tries.
    lines = ["version: 1", "telemetry: {otlp: {endpoint: 'http://127.0.0.1:9', every_s: 0.05}}", "providers:"]
    paths = {"anthropic": "", "ollama": "", "groq": "/openai/v1", "deepseek": ""}
    for name in MODELS:
        lines.append(f"  {name}: {{base_url: '{urls[name]}{paths.get(name, '/v1')}', api_key: '${{CANARY}}'}}")
    lines.append(f"  voyage: {{base_url: '{urls['voyage']}/v1', api_key: '${{CANARY}}'}}")
    lines.append(
        f"  embeds: {{kind: openai, dialect: openai, base_url: '{urls['embeds']}/v1', api_key: '${{CANARY}}'}}"
    )
    if embedded:
        lines.append("  embedded: {embedded: {context_tokens: 1024, slots: 1, threads: 1}}")
    lines += [
        "models:",
        "  own: {provider: vllm, capability: high}",
        "  own-too: {provider: llamacpp, capability: high}",
    ]
    lines.append("chains:")
    for name, model in MODELS.items():
        lines.append(f"  {name}: {{stages: [{{provider: {name}, model: '{model}', max_retries: 0}}]}}")
    lines.append("  voyage: {stages: [{provider: voyage, model: voyage-4}]}")
    lines.append("  embeds: {stages: [{provider: embeds, model: text-embedding-3-small}]}")
    if embedded:
        lines.append("  embedded: {stages: [{provider: embedded, model: gemma3-270m}]}")
    lines += ["tasks:", "  declared:"]
    lines += [f"    {name}: {{type: generate, complexity: low, chain: {name}}}" for name in MODELS]
    lines += ["    voyage: {type: embed, chain: voyage}", "    embeds: {type: embed, chain: embeds}"]
    if embedded:
        lines.append("    embedded: {type: generate, complexity: low, chain: embedded, max_tokens: 8}")
    return "\n".join(lines)


@pytest.mark.parametrize("embedded", [False, True], ids=["over the network", "embedded"])
async def test_served_process_holds_no_rust_after_every_provider_was_used(tmp_path: Path, embedded: bool) -> None:
    if embedded and not (runtime_is_installed() and default_weights_are_installed()):
        pytest.skip("the embedded model is not installed")
    async with upstreams() as urls:
        path = tmp_path / "gearshift.yaml"
        path.write_text(config(urls, embedded))
        ledger = ("--ledger", str(tmp_path / "ledger.db"))
        async with (
            served(path, *ledger, env={"CANARY": "sk-canary"}) as process,
            stubs(process.address) as (router, ops),
        ):
            names = ["embedded"] if embedded else list(MODELS)
            for name in names:
                call = plain_call(task_id=name)
                answer = (await router.Route(router_pb2.RouteRequest(call=call), timeout=30)).answer
                assert embedded or answer.text == "hello there", name
                assert answer.completion.served_by.provider == name
                events = [
                    event
                    async for message in router.StreamRoute(router_pb2.StreamRouteRequest(call=call), timeout=30)
                    for event in message.events
                ]
                assert events[-1].WhichOneof("kind") == "completed", name
            for name in () if embedded else ("voyage", "embeds"):
                request = router_pb2.EmbedRequest(task=task_pb2.Task(id=name), inputs=["a"])
                assert (await router.Embed(request)).dimensions in (1024, 1536)
            async with httpx.AsyncClient(trust_env=False) as client:
                spoken: dict[str, object] = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}
                for name in names:
                    for stream in (False, True):
                        body = {"model": f"task:{name}", "stream": stream, **spoken}
                        answered = await client.post(f"{process.http}/v1/chat/completions", json=body, timeout=30)
                        assert answered.status_code == 200, (name, answered.text)
                for name in () if embedded else ("voyage", "embeds"):
                    body = {"model": f"task:{name}", "input": "a"}
                    assert (await client.post(f"{process.http}/v1/embeddings", json=body)).status_code == 200
                assert (await client.get(f"{process.http}/v1/models")).json()["data"]
            extract = plain_call(task_id=names[0])
            extract.output.json.schema = (
                '{"type": "object", "properties": {"a": {"type": "string", "pattern": "^[a-z]+$"}}}'
            )
            try:
                await router.Route(router_pb2.RouteRequest(call=extract), timeout=30)
            except grpc.aio.AioRpcError as error:
                assert error.code().name in ("ABORTED", "UNAVAILABLE", "FAILED_PRECONDITION")
            await ops.GetCostReport(ops_pb2.GetCostReportRequest())
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(f"{process.http}/metrics")).status_code == 200
            files = loaded(process.pid)
            assert any("cygrpc" in each.name for each in files)
            assert with_rust(files) == []
            process.send(signal.SIGTERM)
            assert await process.wait() == 0
        assert "sk-canary" not in process.said
