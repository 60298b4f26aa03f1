"""The command line against a real server: what goes to which stream, exit codes, every command."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import anyio
import anyio.to_thread
import grpc
import pytest

from gearshift.clients.cli import main
from gearshift.v1 import answer_pb2, call_pb2, ops_pb2, router_pb2, stream_pb2
from tests.support.fake_router import (
    CACHE,
    RESOLUTION,
    Context,
    attempt,
    checkpoint,
    completed,
    completion_of,
    delta,
    fail,
    retract,
    running_fake_router,
    started,
    stream_of,
    switch,
)

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEARSHIFT_TARGET", "GEARSHIFT_API_KEY", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


async def _run(*words: str, target: str = "") -> int:
    """Run the command line in a thread, so that the server can answer."""
    with anyio.fail_after(20):
        return await anyio.to_thread.run_sync(main, [*words, *(["--target", target] if target else [])])


async def test_route_prints_the_answer_and_nothing_else(capsys: Captured) -> None:
    async with running_fake_router() as (router, address):
        code = await _run("route", "hello there", target=address)
    out, err = capsys.readouterr()
    assert (code, out, err) == (0, "hello there\n", "")
    assert router.requests[0].call.task.id == "cli"


async def test_route_says_the_decision_when_asked(capsys: Captured) -> None:
    async with running_fake_router() as (_, address):
        await _run("route", "hello there", "-v", target=address)
    out, err = capsys.readouterr()
    assert out == "hello there\n"
    for part in (
        "email-triage (declared) · classify from the output spec · low by default · internal by default",
        "accepted · served by anthropic/claude-haiku-5-5 · confidence 0.91",
        "failed (connection): nothing listens on 127.0.0.1:9",
        "fallback",
        "ollama/llama: feature, the model does not see images",
        "confidence pass 0.91",
        "120 in, 30 out (reported)",
        "315 ms",
        "$0.00012 · claude-opus-5-5 would have cost $0.0021 · 94% less",
        "temperature was dropped",
    ):
        assert part in err
    assert "\x1b" not in err


async def test_route_sends_what_its_options_say(tmp_path: Path, capsys: Captured) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    system = tmp_path / "system.txt"
    system.write_text("Answer in {{language}}.")
    words = ["--task", "mail", "--type", "extract", "--schema", str(schema), "--example", 'a=b={"x": "="}']
    words += ["--system-file", str(system), "--var", "language=French", "--max-tokens", "7", "--temperature", "0"]
    words += ["--seed", "3", "--sensitivity", "restricted", "--require-valid", "--max-cost", "0.02", "--timeout", "9"]
    async with running_fake_router() as (router, address):
        code = await _run("route", "hello", *words, target=address)
    call: call_pb2.Call = router.requests[0].call
    assert code == 0
    assert call.output.json.schema == '{"type": "object"}'
    assert (call.output.json.examples[0].text, call.output.json.examples[0].json) == ("a", 'b={"x": "="}')
    assert call.system.text == "Answer in {{language}}." and call.system.variables == {"language": "French"}
    assert (call.parameters.max_tokens, call.parameters.temperature, call.parameters.seed) == (7, 0.0, 3)
    assert (call.policy.require_valid, call.policy.max_cost_usd) == (True, "0.02")
    assert router.timeouts[0] is not None and router.timeouts[0] < 9.5


async def test_labels_and_their_examples_are_sent(capsys: Captured) -> None:
    words = ["--label", "a", "--label", "b", "--example", "one = two=b"]
    async with running_fake_router() as (router, address):
        await _run("route", "hello", *words, target=address)
    labels = router.requests[0].call.output.labels
    assert list(labels.labels) == ["a", "b"]
    assert (labels.examples[0].text, labels.examples[0].label) == ("one = two", "b")


@pytest.mark.parametrize("words", [["-"], []], ids=["a dash", "nothing"])
async def test_the_prompt_comes_from_standard_input(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))
    async with running_fake_router() as (_, address):
        assert await _run("route", *words, target=address) == 0
    assert capsys.readouterr().out == "from a pipe\n"


async def test_json_is_one_document(capsys: Captured) -> None:
    async with running_fake_router() as (_, address):
        await _run("route", "hello", "--json", target=address)
    document = json.loads(capsys.readouterr().out)
    assert document["completion"]["cost"]["total_usd"] == "0.00012"


async def test_tool_calls_without_text_are_printed_as_json(capsys: Captured) -> None:
    async def calls_tool(_: Any, __: Context) -> router_pb2.RouteResponse:
        tool_call = call_pb2.ToolCall(id="c1", name="time", arguments="{}")
        return router_pb2.RouteResponse(
            answer=answer_pb2.Answer(tool_calls=[tool_call], resolution=RESOLUTION, completion=completion_of(""))
        )

    async with running_fake_router() as (router, address):
        router.scripts["Route"] = calls_tool
        await _run("route", "hello", target=address)
    assert json.loads(capsys.readouterr().out) == [{"id": "c1", "name": "time", "arguments": "{}"}]


async def test_an_answer_that_was_not_accepted_has_its_own_exit_code(capsys: Captured) -> None:
    async def poor(_: Any, __: Context) -> router_pb2.RouteResponse:
        completion = completion_of("x", outcome=answer_pb2.OUTCOME_NOT_ACCEPTED)
        return router_pb2.RouteResponse(answer=answer_pb2.Answer(text="x", completion=completion))

    async with running_fake_router() as (router, address):
        router.scripts["Route"] = poor
        assert await _run("route", "hello", target=address) == 4
    assert capsys.readouterr().out == "x\n"


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        pytest.param(grpc.StatusCode.RESOURCE_EXHAUSTED, "TENANT_REQUESTS", 5, id="a spent limit"),
        pytest.param(grpc.StatusCode.ABORTED, "NOTHING_ACCEPTED", 4, id="nothing accepted"),
        pytest.param(grpc.StatusCode.UNAVAILABLE, "CHAIN_EXHAUSTED", 1, id="an exhausted chain"),
        pytest.param(grpc.StatusCode.INVALID_ARGUMENT, "", 1, id="an invalid call"),
    ],
)
async def test_failed_calls_have_exit_codes(status: grpc.StatusCode, reason: str, code: int, capsys: Captured) -> None:
    async def refuse(_: Any, context: Context) -> None:
        await fail(context, status, "it \x1b[31mfailed", reason=reason, retry_after=2 if code == 5 else None)

    async with running_fake_router() as (router, address):
        router.scripts["Route"] = refuse
        assert await _run("route", "hello", target=address) == code
    out, err = capsys.readouterr()
    assert out == "" and status.name in err and "\x1b" not in err
    assert ("try again in 2 s" in err) == (code == 5)


async def test_a_failed_call_is_json_on_standard_error_when_asked(capsys: Captured) -> None:
    async def refuse(_: Any, context: Context) -> None:
        await fail(context, grpc.StatusCode.UNAVAILABLE, reason="X", details=list(completion_of("").attempts))

    async with running_fake_router() as (router, address):
        router.scripts["Route"] = refuse
        await _run("route", "hello", "--json", target=address)
    out, err = capsys.readouterr()
    error = json.loads(err)["error"]
    assert out == "" and (error["code"], error["reason"]) == ("UNAVAILABLE", "X")
    assert len(error["attempts"]) == 2


async def test_a_passed_deadline_is_a_limit(capsys: Captured) -> None:
    async def stay(_: Any, __: Context) -> None:
        await anyio.sleep_forever()

    async with running_fake_router() as (router, address):
        router.scripts["Route"] = stay
        assert await _run("route", "hello", "--timeout", "0.2", target=address) == 5


def test_no_server_says_how_to_start_one(capsys: Captured) -> None:
    assert main(["status", "--target", "127.0.0.1:1"]) == 3
    assert "gearshift serve" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["rout"], "did you mean 'route'", id="unknown command"),
        pytest.param(["route", "x", "--file", "y"], "not both", id="two prompts"),
        pytest.param(["route", "--file", "/nonexistent"], "cannot read", id="no file"),
        pytest.param(["route", "x", "--example", "y"], "TEXT=LABEL", id="bad example"),
        pytest.param(["route", "x", "--var", "y"], "K=V", id="bad variable"),
        pytest.param(["route", "x", "--max-cost", "cheap"], "'cheap' is not an amount", id="bad cost"),
        pytest.param(["route", "x", "--timeout", "-1"], "above 0", id="bad timeout"),
        pytest.param(["route", "x", "--api-key-env", "NOT_SET"], "NOT_SET is not set", id="no key"),
        pytest.param(["route", "x", "--tls-ca", "/nonexistent"], "cannot read", id="no certificate"),
        pytest.param(["cache", "purge"], "say what to drop", id="purge of nothing"),
        pytest.param(["cache", "purge", "--all", "--task", "x"], "say what to drop", id="purge of all and some"),
        pytest.param(["costs", "--since", "yesterday"], "not a time", id="bad time"),
        pytest.param(["embed", "x", "--file", "y"], "not both", id="two inputs"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(words: list[str], message: str, capsys: Captured) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


async def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("GEARSHIFT_API_KEY", "gs_1.secret")
    monkeypatch.setenv("OTHER", "gs_2.secret")
    async with running_fake_router() as (router, address):
        monkeypatch.setenv("GEARSHIFT_TARGET", address)
        await _run("status")
        await _run("status", "--api-key-env", "OTHER")
    assert [sent["authorization"] for sent in router.metadata] == ["Bearer gs_1.secret", "Bearer gs_2.secret"]


def test_a_key_is_not_sent_over_a_network_in_the_clear(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("GEARSHIFT_API_KEY", "gs_1.secret")
    assert main(["status", "--target", "example.org:50051"]) == 2
    err = capsys.readouterr().err
    assert "--tls" in err and "secret" not in err


async def test_stream_in_a_pipe_prints_only_what_is_final(capsys: Captured) -> None:
    async with running_fake_router() as (router, address):
        router.scripts["StreamRoute"] = stream_of(
            [started(), attempt(1), delta(1, "bad")],
            [switch(), attempt(2), retract(0), delta(2, "good"), delta(3, " news")],
            [completed("good news")],
        )
        code = await _run("stream", "hello", target=address)
    assert (code, capsys.readouterr().out) == (0, "good news\n")


async def test_stream_in_a_pipe_keeps_what_was_committed_when_the_rest_fails(capsys: Captured) -> None:
    async def script(_: Any, context: Context) -> None:
        end = completed("one two", outcome=answer_pb2.OUTCOME_FAILED)
        events = [started(), delta(1, "one"), checkpoint(1), delta(2, " two"), end]
        await context.write(router_pb2.StreamRouteResponse(events=events))
        await fail(context, grpc.StatusCode.UNAVAILABLE, reason="CHAIN_EXHAUSTED")

    async with running_fake_router() as (router, address):
        router.scripts["StreamRoute"] = script
        code = await _run("stream", "hello", "--mode", "fail", target=address)
    out, err = capsys.readouterr()
    assert (code, out) == (1, "one") and "CHAIN_EXHAUSTED" in err


async def test_stream_as_json_is_an_event_a_line(capsys: Captured) -> None:
    async with running_fake_router() as (_, address):
        await _run("stream", "hello there", "--json", target=address)
    kinds = [next(iter(json.loads(line))) for line in capsys.readouterr().out.splitlines()]
    assert kinds == ["started", "attempt", "delta", "delta", "completed"]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        pytest.param([started(), delta(1, "a"), completed("ab")], "not what the server says", id="a lost delta"),
        pytest.param([started(), delta(1, "a")], "before its answer was complete", id="no end"),
        pytest.param([started(), delta(2, "a"), delta(1, "b")], "break the contract", id="numbers that fall"),
    ],
)
async def test_a_stream_that_cannot_be_trusted_fails(
    events: list[stream_pb2.Event], message: str, capsys: Captured
) -> None:
    async with running_fake_router() as (router, address):
        router.scripts["StreamRoute"] = stream_of(events)
        assert await _run("stream", "hello", target=address) == 1
    assert message in capsys.readouterr().err


async def test_embed_prints_a_vector_a_line_or_the_similarity(capsys: Captured) -> None:
    async with running_fake_router() as (_, address):
        await _run("embed", "a", "bcd", target=address)
        vectors = capsys.readouterr().out
        await _run("embed", "a", "bcd", "--similarity", target=address)
        similar = capsys.readouterr().out
    assert [json.loads(line) for line in vectors.splitlines()] == [[1.0, 1.0], [3.0, 1.0]]
    assert similar.splitlines()[1].split() == ["1", "1.00", "0.89", "a"]


async def test_explain_shows_the_plan_and_why_stages_are_left_out(capsys: Captured) -> None:
    async with running_fake_router() as (_, address):
        await _run("explain", "hello", target=address)
    out = capsys.readouterr().out
    for part in (
        "chain    cheap",
        "planned",
        "skipped: feature",
        "the model does not see images",
        "min_confidence 0.85",
    ):
        assert part in out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        pytest.param(
            ["status"], ["0.1.0", "2 running, 40 ended", "without TLS", "ready · process 77 · 390.0 MiB"], id="status"
        ),
        pytest.param(["chains"], ["embedded/gemma3-270m → anthropic/claude-haiku-5-5", "email-triage"], id="chains"),
        pytest.param(["stages"], ["open, probe in 12 s: 5 faults in a row", "tokens 62000/100000"], id="stages"),
        pytest.param(["cache", "stats"], ["prompt", "4.0 KiB", "80%"], id="cache stats"),
        pytest.param(["cache", "list"], ["prompt-1", "12", "90 s", "58 min"], id="cache list"),
        pytest.param(["cache", "purge", "--task", "t"], ["3 dropped"], id="cache purge"),
        pytest.param(["costs", "--by", "task"], ["email-triage", "$0.42", "$3.10", "86% less", "2 rows"], id="costs"),
        pytest.param(["reload"], ["reloaded: revision abc123"], id="reload"),
    ],
)
async def test_operations_are_shown_and_given_as_json(words: list[str], parts: list[str], capsys: Captured) -> None:
    async with running_fake_router() as (_, address):
        assert await _run(*words, target=address) == 0
        text = capsys.readouterr().out
        assert await _run(*words, "--json", target=address) == 0
    json.loads(capsys.readouterr().out)
    for part in parts:
        assert part in text, text


async def test_cache_list_reads_page_after_page(capsys: Captured) -> None:
    async def pages(request: ops_pb2.ListCacheEntriesRequest, _: Context) -> ops_pb2.ListCacheEntriesResponse:
        token = str(int(request.page_token or "0") + 1)
        return ops_pb2.ListCacheEntriesResponse(entries=CACHE.entries, next_page_token=token)

    async with running_fake_router() as (router, address):
        router.scripts["ListCacheEntries"] = pages
        await _run("cache", "list", "--limit", "3", target=address)
    assert len(router.requests) == 3 and capsys.readouterr().out.count("prompt-1") == 3


def _process(*words: str) -> list[str]:
    return [sys.executable, "-m", "gearshift.clients.cli", *words]


@pytest.fixture
def heeded_interrupts() -> Generator[None]:
    """Let processes that are started heed Ctrl-C also where we ourselves were started to ignore it, as in a background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


async def test_ctrl_c_ends_a_trail_that_is_followed_as_interrupted(heeded_interrupts: None) -> None:
    async with running_fake_router() as (router, address):
        with anyio.fail_after(20):
            async with await anyio.open_process(
                _process("trail", "--follow", "--target", address), stderr=None
            ) as process:
                assert process.stdout is not None
                line = (await process.stdout.receive()).decode()
                process.send_signal(signal.SIGINT)
                assert await process.wait() == 130
            await router.cancelled.wait()
    assert "email-triage (classify) #1 embedded/gemma3-270m first · failed (connection)" in line


async def test_a_reader_that_leaves_is_no_traceback() -> None:
    async with running_fake_router() as (router, address):
        router.scripts["Route"] = _big
        command = f"{' '.join(_process('route', 'hello', '--target', address))} | head -c 1; exit ${{PIPESTATUS[0]}}"
        with anyio.fail_after(20):
            done = await anyio.run_process(["bash", "-c", command], check=False)
    assert (done.returncode, done.stderr) == (141, b"")


async def test_a_terminal_sees_text_taken_back_and_written_again() -> None:
    async with running_fake_router() as (router, address):
        router.scripts["StreamRoute"] = stream_of(
            [started(), attempt(1), delta(1, "a bad\nstart")],
            [switch(), attempt(2), retract(0), delta(2, "a good\x1b[2J one")],
            [completed("a good\x1b[2J one")],
        )
        with anyio.fail_after(20):
            shown, code = await anyio.to_thread.run_sync(_on_a_terminal, ("stream", "hello", "--target", address))
    assert code == 0
    before, taken_back, after = shown.partition("\x1b[1A\r\x1b[J")
    assert taken_back and before.endswith("a bad\r\nstart")
    assert "switch (regenerate) · embedded/gemma3-270m → anthropic/claude-haiku-5-5: the connection broke" in after
    assert "a good[2J one\r\n" in after  # it cannot command the terminal
    assert "\x1b[32maccepted\x1b[0m" in after


async def test_no_color_is_respected_on_a_terminal() -> None:
    async with running_fake_router() as (_, address):
        with anyio.fail_after(20):
            shown, _ = await anyio.to_thread.run_sync(
                _on_a_terminal, ("route", "hello", "--target", address), {"NO_COLOR": "1"}
            )
    assert "accepted" in shown and "\x1b" not in shown


async def _big(_: Any, __: Context) -> router_pb2.RouteResponse:
    return router_pb2.RouteResponse(answer=answer_pb2.Answer(text="x" * 1_000_000, completion=completion_of("")))


def _on_a_terminal(words: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})) -> tuple[str, int]:
    """Run a command with a terminal for its output; give what it would show, and its exit code."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        _process(*words),
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", **environment},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # Linux says so at the end
            break
        if not part:
            break
        shown += part
    os.close(leader)
    return shown.decode(), process.wait(10)
