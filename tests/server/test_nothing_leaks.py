"""No prompt, answer or key in any log line, metric, error or ledger row, whatever happens to a call."""

from __future__ import annotations

import io
import json
import logging
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import grpc.aio
import httpx
import pytest

from gearshift.core.words import Complexity, FailureKind, Sensitivity
from gearshift.server.logs import JsonFormatter, configure_logs
from gearshift.v1 import call_pb2, ops_pb2, router_pb2, task_pb2
from tests.support.blueprints import policy, stage
from tests.support.openai_bodies import openai_answer, openai_error, openai_stream
from tests.support.running_server import from_yaml, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, fails, says
from tests.support.scripted_server import End, Reply, scripted
from tests.support.served_config import one_openai

PROMPT = "canary-prompt-7f3a"
ANSWER = "canary-answer-91bc"
SYSTEM = "canary-system-55d0"
VALUE = "canary-variable-c2e8"
KEY = "sk-canary-key-1234567890abcdef"
RAW = "canary-raw-error-0e9d"
CANARIES = (PROMPT, ANSWER, SYSTEM, VALUE, KEY, RAW)


@contextmanager
def json_logs() -> Generator[io.StringIO]:
    """Write every log of the process, from debug on, as the service does, and give what was written."""
    root = logging.getLogger()
    old, level = root.handlers[:], root.level
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG)
    try:
        yield written
    finally:
        root.handlers[:] = old
        root.setLevel(level)


def leaks(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary in text]


def secret_call(task_id: str = "greet") -> call_pb2.Call:
    call = plain_call(f"{PROMPT} please", task_id=task_id)
    call.system.CopyFrom(
        call_pb2.SystemPrompt(text=f"{SYSTEM} {{{{name}}}} " + "and be kind. " * 50, variables={"name": VALUE})
    )
    return call


async def test_no_content_and_no_key_is_told_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    bad = Reply.json(openai_error(message=f"{RAW} {PROMPT} {KEY}"), status=400)
    replies = [
        Reply.json(openai_answer(f"{ANSWER} indeed")),
        Reply.sse(*openai_stream([ANSWER, " indeed"])),
        Reply.json(openai_error(message=f"{RAW} {KEY}", type_="server_error"), status=500),
        Reply.json(openai_error(message=f"{RAW} {KEY}"), status=401),
        bad,
        Reply.text(f"<html>{RAW}{PROMPT}</html>", status=503),
        Reply.json({"choices": RAW}),
        Reply.sse(f"data: {{{ANSWER}\n\n"),
        Reply.sse(*openai_stream([ANSWER], finish=None, done=False), end=End.CUT),
    ]
    errors: list[str] = []
    with json_logs() as logs:
        async with scripted(*replies) as upstream:
            text = one_openai(upstream.url).replace("api_key: ''", "api_key: '${UP_KEY}'")
            config = from_yaml(text + "\ntelemetry: {log_level: debug}", path=str(path), env={"UP_KEY": KEY})
            async with running_server(config) as server:
                for number in range(len(replies)):
                    call = secret_call()
                    try:
                        await (server.stream(call) if number in (1, 7, 8) else server.route(call))
                    except grpc.aio.AioRpcError as error:
                        errors.append(f"{error.code()} {error.details()} {error.trailing_metadata()}")
                call = secret_call()
                call.parameters.temperature = 99
                call.output.json.schema = f'{{"$ref": "https://{PROMPT}.example/x"}}'
                try:
                    await server.route(call)
                except grpc.aio.AioRpcError as error:
                    errors.append(str(error.code()))
                explained = await server.router.Explain(router_pb2.ExplainRequest(call=secret_call()))
                stages = await server.ops.ListStages(ops_pb2.ListStagesRequest())
                caches = await server.ops.ListCacheEntries(ops_pb2.ListCacheEntriesRequest())
                status = await server.ops.GetStatus(ops_pb2.GetStatusRequest())
                async with httpx.AsyncClient(trust_env=False) as client:
                    metrics = (await client.get(f"http://127.0.0.1:{server.app.http_port}/metrics")).text
                await server.app.ledger.flush()
            assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"
            assert PROMPT in upstream.requests[0].body.decode()
    assert len(errors) >= 6
    assert leaks("\n".join(errors)) == []
    assert leaks(metrics) == []
    assert leaks(f"{explained}{stages}{caches}{status}") == []
    lines = logs.getvalue().splitlines()
    assert leaks(logs.getvalue()) == []
    assert all(isinstance(json.loads(line), dict) for line in lines)
    with sqlite3.connect(path) as database:
        dumped = "\n".join(database.iterdump())
    database.close()
    assert "greet" in dumped
    assert leaks(dumped) == []


async def test_call_has_one_line_with_position_tokens_and_cost() -> None:
    providers = {"p0": ScriptedProvider([fails(FailureKind.SERVER, status=500)]), "p1": ScriptedProvider([says("hi")])}
    with json_logs() as logs:
        async with running_server(of_stages(stage(0), stage(1)), providers=providers) as server:
            answer = (await server.route(plain_call())).answer
    (line,) = [each for each in map(json.loads, logs.getvalue().splitlines()) if each["logger"] == "gearshift.calls"]
    assert line["level"] == "info"
    expected = {
        "request_id": answer.request_id,
        "tenant": "default",
        "task": "greet",
        "task_type": "generate",
        "chain": "generate",
        "outcome": "accepted",
        "error": "",
        "chain_position": 1,
        "provider": "p1",
        "model": "m1",
        "attempts": 2,
        "output_tokens": 1,
        "stream": False,
    }
    assert {key: line[key] for key in expected} == expected
    assert float(line["cost_usd"]) == float(answer.completion.cost.total_usd)


async def test_restricted_call_has_its_audit_line_before_it_goes_out_and_no_content() -> None:
    with json_logs() as logs:

        class Looks(ScriptedProvider):
            before: str = ""

            def _next(self, made: int):  # type: ignore[no-untyped-def]
                self.before = logs.getvalue()
                return super()._next(made)

        looks = Looks([says(ANSWER)])
        config = of_stages(stage(0, clearance=Sensitivity.RESTRICTED))
        async with running_server(config, providers={"p0": looks}) as server:
            call = secret_call()
            call.task.sensitivity = task_pb2.SENSITIVITY_RESTRICTED
            answer = (await server.route(call)).answer
    audits = [line for line in map(json.loads, looks.before.splitlines()) if line["logger"] == "gearshift.audit"]
    assert len(audits) == 1
    audit = audits[0]
    assert (audit["request_id"], audit["provider"], audit["model"]) == (answer.request_id, "p0", "m0")
    assert leaks(logs.getvalue()) == []


async def test_rejected_restricted_answer_is_not_quoted() -> None:
    """What gates say of an answer must not quote it where it is restricted."""
    stages = (
        stage(0, clearance=Sensitivity.RESTRICTED),
        stage(1, clearance=Sensitivity.RESTRICTED, capability=Complexity.HIGH),
    )
    providers = {"p0": ScriptedProvider([says(f"{ANSWER}-")]), "p1": ScriptedProvider([says(f"{ANSWER}+")])}
    with json_logs() as logs:
        async with running_server(
            of_stages(*stages, chain_policy=policy(require_valid=True)), providers=providers
        ) as server:
            call = secret_call()
            call.task.type = task_pb2.TASK_TYPE_CLASSIFY
            call.task.sensitivity = task_pb2.SENSITIVITY_RESTRICTED
            call.output.labels.labels[:] = ["billing", "bug"]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.route(call)
    assert caught.value.code().name == "ABORTED"
    assert leaks(f"{caught.value.details()}{caught.value.trailing_metadata()}") == []
    assert leaks(logs.getvalue()) == []
    _, completion, error = server.seen.ended[0]
    assert error == "NOT_ACCEPTED"
    assert leaks(str(completion)) == []


def test_lines_are_json_whatever_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    old, level = root.handlers[:], root.level
    try:
        configure_logs("warning")
        log = logging.getLogger("gearshift.test")
        log.info("not shown")
        log.warning("two\nlines \u2028 %s", "é", extra={"fields": {"path": Path("/x"), "number": 1}})
        try:
            raise ValueError("why")
        except ValueError:
            log.exception("it failed")
    finally:
        root.handlers[:] = old
        root.setLevel(level)
    first, second = (json.loads(line) for line in capsys.readouterr().err.split("\n")[:-1])
    assert (first["message"], first["level"], first["path"], first["number"]) == (
        "two\nlines \u2028 é",
        "warning",
        "/x",
        1,
    )
    assert first["time"].endswith("Z")
    assert "ValueError: why" in second["exception"]
