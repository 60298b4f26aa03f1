"""What was recorded, over the wire and in a terminal: searches, one request's way, traffic, the screen of `top`."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import anyio.to_thread
import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from gearshift.clients.cli import main
from gearshift.clients.cli.terminal import cut
from gearshift.core.answer import Usage
from gearshift.core.words import FailureKind
from gearshift.v1 import answer_pb2, ops_pb2
from tests.support.blueprints import stage
from tests.support.running_server import RunningServer, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, fails, says

Captured = pytest.CaptureFixture[str]


def two_stages() -> dict[str, ScriptedProvider]:
    usage = Usage(input_tokens=100, output_tokens=20)
    return {
        "p0": ScriptedProvider([fails(FailureKind.SERVER, status=500)]),
        "p1": ScriptedProvider([says("hi", usage=usage)]),
    }


async def run(server: RunningServer, *words: str) -> int:
    target = f"127.0.0.1:{server.app.port}"
    with anyio.fail_after(20):
        return await anyio.to_thread.run_sync(main, [*words, "--target", target])


async def recorded(server: RunningServer) -> None:
    await server.route(plain_call())
    await server.app.ledger.flush()


async def test_a_request_is_found_with_its_whole_way(tmp_path: Path) -> None:
    blueprint = of_stages(stage(0), stage(1), path=str(tmp_path / "ledger.db"))
    async with running_server(blueprint, providers=two_stages()) as server:
        await recorded(server)
        await recorded(server)
        page = await server.ops.ListAttempts(ops_pb2.ListAttemptsRequest(page_size=3))
        rest = await server.ops.ListAttempts(ops_pb2.ListAttemptsRequest(page_size=3, page_token=page.next_page_token))
        request_id = page.attempts[0].request_id
        way = await server.ops.ListAttempts(ops_pb2.ListAttemptsRequest(request_id=request_id))
        failed = await server.ops.ListAttempts(
            ops_pb2.ListAttemptsRequest(outcome=answer_pb2.ATTEMPT_OUTCOME_FAILED, text="serv")
        )
    assert (len(page.attempts), len(rest.attempts), rest.next_page_token) == (3, 1, "")
    second, first = way.attempts
    assert (first.attempt.number, first.attempt.stage.provider, first.reason) == (1, "p0", "server")
    assert first.attempt.failure == answer_pb2.FAILURE_KIND_SERVER
    assert (second.attempt.cause, second.served, second.reason) == (answer_pb2.ATTEMPT_CAUSE_FALLBACK, True, "")
    assert second.attempt.usage.output_tokens == 20
    assert second.started_at.ToNanoseconds() >= first.started_at.ToNanoseconds() > 0
    assert {each.attempt.number for each in failed.attempts} == {1}


async def test_traffic_is_the_ledgers(tmp_path: Path) -> None:
    blueprint = of_stages(stage(0), stage(1), path=str(tmp_path / "ledger.db"))
    async with running_server(blueprint, providers=two_stages()) as server:
        for _ in range(3):
            await recorded(server)
        whole = await server.ops.GetTraffic(ops_pb2.GetTrafficRequest())
        report = await server.ops.GetCostReport(ops_pb2.GetCostReportRequest())
    assert sum(point.calls for point in whole.points) == report.total.calls == 3
    assert sum(point.attempts for point in whole.points) == report.total.attempts == 6
    assert whole.step_seconds == 60
    assert whole.until.seconds - whole.since.seconds == 3600
    assert all(point.p95_ms >= point.p50_ms > 0 for point in whole.points)


@pytest.mark.parametrize(
    ("method", "request_", "told"),
    [
        ("ListAttempts", ops_pb2.ListAttemptsRequest(page_token="7"), "page_token"),
        ("ListAttempts", ops_pb2.ListAttemptsRequest(text="x" * 201), "text"),
        ("ListAttempts", ops_pb2.ListAttemptsRequest(outcome=77), "outcome"),  # type: ignore[arg-type]
        ("ListAttempts", ops_pb2.ListAttemptsRequest(since=Timestamp(seconds=2**60)), "since"),
        ("GetTraffic", ops_pb2.GetTrafficRequest(step_seconds=0.5), "step_seconds"),
        ("GetTraffic", ops_pb2.GetTrafficRequest(step_seconds=float("nan")), "step_seconds"),
        ("GetTraffic", ops_pb2.GetTrafficRequest(since=Timestamp(seconds=1), step_seconds=1), "step_seconds"),
        ("GetTraffic", ops_pb2.GetTrafficRequest(since=Timestamp(seconds=2**32)), "since"),
        ("GetTraffic", ops_pb2.GetTrafficRequest(group_by=ops_pb2.COST_GROUP_DAY), "group_by"),
    ],
)
async def test_wrong_questions_name_their_field(method: str, request_: object, told: str) -> None:
    async with running_server(of_stages(stage(0)), providers={"p0": ScriptedProvider([says("hi")])}) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(server.ops, method)(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert told in (caught.value.details() or "")


async def test_trail_shows_attempts_and_one_requests_way(tmp_path: Path, capsys: Captured) -> None:
    blueprint = of_stages(stage(0), stage(1), path=str(tmp_path / "ledger.db"))
    async with running_server(blueprint, providers=two_stages()) as server:
        await recorded(server)
        assert await run(server, "trail") == 0
        shown = capsys.readouterr().out
        assert await run(server, "trail", "--outcome", "failed", "--json") == 0
        (failed,) = json.loads(capsys.readouterr().out)["attempts"]
        assert await run(server, "trail", failed["request_id"]) == 0
        way = capsys.readouterr().out
        assert await run(server, "trail", "nobody") == 1
        assert await run(server, "trail", "--follow", "--model", "m0") == 2
    assert "#1 p0/m0" in shown
    assert "failed (server)" in shown
    lines = way.splitlines()
    assert lines[0] == failed["request_id"]
    assert "#1 p0/m0 · first · failed (server)" in lines[3]
    assert "served" in way and "refusal: pass" in way
    assert capsys.readouterr().out == "no attempt was recorded that fits\n"


async def test_top_shows_the_service_at_a_glance(tmp_path: Path, capsys: Captured) -> None:
    blueprint = of_stages(stage(0), stage(1), path=str(tmp_path / "ledger.db"))
    async with running_server(blueprint, providers=two_stages()) as server:
        await recorded(server)
        assert await run(server, "top", "--once") == 0
        shown = capsys.readouterr().out
        assert await run(server, "top", "--json") == 0
        whole = json.loads(capsys.readouterr().out)
    assert "all served" in shown
    assert "█" in shown
    assert "p1/m1" in shown and "fallback" not in shown
    assert whole["costs"]["total"]["attempts"] == "2"
    assert len(whole["attempts"]) == 2


def test_a_line_is_cut_with_its_colours() -> None:
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"
    assert cut("ab\x1b[32mcdefg\x1b[0m", 6) == "ab\x1b[32mcde…\x1b[0m"
    assert cut("ab\x1b[32mcd\x1b[0mefg", 6) == "ab\x1b[32mcd\x1b[0me…"
    assert cut("日本語", 4) == "日…"
