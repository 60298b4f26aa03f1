"""The conformance files: folded alone, and over the wire by both clients."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import grpc
import pytest
from google.protobuf import json_format

from gearshift.clients import Accumulator, Code, RpcError, StreamProtocolError, background, call, dial, digest, sync
from gearshift.server.simulator import FaultKind
from gearshift.v1 import answer_pb2, router_pb2
from tests.conformance import make
from tests.conformance.format import FOLDER, RULES, Json, read
from tests.conformance.recordings import recorded, skeleton
from tests.conformance.simulated_streams import FAULTS
from tests.support.fake_router import Context, running_fake_router

STREAMS = read("streams.json")
RECORDED = read("recorded.json")
ERRORS = read("errors.json")
EVERY_STREAM = [*STREAMS, *RECORDED]
BOUND_S = 120.0


def messages_of(case: Json) -> list[router_pb2.StreamRouteResponse]:
    return [
        json_format.ParseDict(message, router_pb2.StreamRouteResponse(), ignore_unknown_fields=True)
        for message in case["messages"]
    ]


def snapshot_of(answer: Accumulator) -> Json:
    return {
        "text": answer.text,
        "reasoning": answer.reasoning,
        "toolCalls": [{"id": one.id, "name": one.name, "arguments": one.arguments} for one in answer.tool_calls],
        "live": list(answer.live),
        "checkpoint": answer.checkpoint,
        "committed": answer.committed,
        "completed": answer.completed is not None,
    }


def outcome_of(answer: Accumulator) -> str:
    if answer.completed is None or not answer.completed.completion.outcome:
        return ""
    return answer_pb2.Outcome.Name(answer.completed.completion.outcome)


def told(error: RpcError) -> Json:
    return {
        "code": error.code.name,
        "message": error.message,
        "reason": error.reason,
        "domain": error.domain,
        "info": dict(error.info),
        "retryAfter": error.retry_after,
        "violations": [{"field": one.field, "description": one.description} for one in error.violations],
        "quota": [{"subject": one.subject, "description": one.description} for one in error.quota],
        "attempts": len(error.attempts),
    }


def check(case: Json, answer: Accumulator, error: Exception | None) -> None:
    """Compare what a client made of a stream with what it must make of it."""
    expected = case["expected"]
    wanted = expected["error"]
    match error:
        case None:
            assert wanted is None
        case StreamProtocolError():
            assert wanted is not None
            assert (wanted["kind"], wanted.get("rule")) == ("protocol", error.rule)
        case RpcError():
            assert wanted == {"kind": "status"} | told(error)
        case _:
            raise error
    check_stands(expected, answer)


def check_stands(expected: Json, answer: Accumulator) -> None:
    """Compare what stands at the end of a stream."""
    found = snapshot_of(answer)
    assert found == {key: expected[key] for key in found}
    assert outcome_of(answer) == expected["outcome"]
    calls = answer.completed.tool_calls if answer.completed is not None else ()
    assert digest(answer.text, calls) == expected["digest"]
    assert answer.digest_matches() == expected["digestMatches"]


@pytest.mark.parametrize("case", EVERY_STREAM, ids=[case["name"] for case in EVERY_STREAM])
def test_every_stream_is_folded_as_its_case_says(case: Json) -> None:
    answer = Accumulator()
    snapshots: list[Json] = []
    broken: Json | None = None
    for at, message in enumerate(messages_of(case)):
        for within, event in enumerate(message.events):
            try:
                answer.apply(event)
            except StreamProtocolError as error:
                broken = {"kind": "protocol", "rule": error.rule, "message": at, "event": within}
                break
        if broken is not None:
            break
        snapshots.append(snapshot_of(answer))
    if broken is None and case["status"]["code"] == "OK":
        try:
            assert answer.finish().text == case["expected"]["text"]
        except StreamProtocolError as error:
            broken = {"kind": "protocol", "rule": error.rule}
    if broken is not None or case["status"]["code"] == "OK":
        assert broken == case["expected"]["error"]
    assert snapshots == case.get("snapshots", snapshots)
    check_stands(case["expected"], answer)


def plays(cases: Sequence[Json]) -> Callable[[Any, Context], Any]:
    """Give a script that plays the case whose place is the prompt."""

    async def script(request: Any, context: Context) -> Any:
        case = cases[int(request.call.prompt)]
        if "messages" in case:
            for message in messages_of(case):
                await context.write(message)
        status = case["status"]
        if status["code"] != "OK":
            raw = base64.b64decode(status["detailsBin"])
            trailers = (("grpc-status-details-bin", raw),) if raw else ()
            await context.abort(grpc.StatusCode[status["code"]], status["message"], trailers)

    return script


async def test_the_asynchronous_client_makes_of_every_stream_what_its_case_says() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["StreamRoute"] = plays(EVERY_STREAM)
        with anyio.fail_after(BOUND_S):
            for at, case in enumerate(EVERY_STREAM):
                answer, failed = Accumulator(), None
                try:
                    async with client.stream_route(background(), call("task", str(at))) as stream:
                        await stream.fold(answer)
                except (RpcError, StreamProtocolError) as error:
                    failed = error
                check(case, answer, failed)


async def test_the_synchronous_client_makes_of_every_stream_what_its_case_says() -> None:
    def run(address: str) -> None:
        with sync.dial(address) as client:
            for at, case in enumerate(EVERY_STREAM):
                answer, failed = Accumulator(), None
                try:
                    with client.stream_route(background(), call("task", str(at))) as stream:
                        stream.fold(answer)
                except (RpcError, StreamProtocolError) as error:
                    failed = error
                check(case, answer, failed)

    async with running_fake_router() as (router, address):
        router.scripts["StreamRoute"] = plays(EVERY_STREAM)
        with anyio.fail_after(BOUND_S):
            await anyio.to_thread.run_sync(run, address)


async def test_both_clients_make_of_every_failed_call_what_its_case_says() -> None:
    def run(address: str) -> None:
        with sync.dial(address) as client:
            for at, case in enumerate(ERRORS):
                with pytest.raises(RpcError) as caught:
                    client.route(background(), call("task", str(at)))
                assert told(caught.value) == case["expected"]

    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["Route"] = plays(ERRORS)
        with anyio.fail_after(BOUND_S):
            for at, case in enumerate(ERRORS):
                with pytest.raises(RpcError) as caught:
                    await client.route(background(), call("task", str(at)))
                assert told(caught.value) == case["expected"], case["name"]
            await anyio.to_thread.run_sync(run, address)


def test_the_files_are_what_their_sources_say() -> None:
    assert make.main(["--check"]) == 0, "run: python -m tests.conformance.make"


async def test_a_recording_made_anew_tells_the_same() -> None:
    with anyio.fail_after(BOUND_S):
        made = await recorded()
    assert [case["name"] for case in made] == [case["name"] for case in RECORDED]
    for now, before in zip(made, RECORDED, strict=True):
        assert skeleton(now) == skeleton(before), now["name"]


def test_every_rule_is_broken_by_some_case_and_every_name_is_said_once() -> None:
    rules = {case["expected"]["error"].get("rule") for case in STREAMS if case["expected"]["error"]}
    assert rules >= set(RULES)
    for cases in (STREAMS, RECORDED, ERRORS):
        names = [case["name"] for case in cases]
        assert len(names) == len(set(names))


def test_every_fault_of_the_simulator_is_recorded() -> None:
    asked = {fault.partition("@")[0].partition(":")[0] for fault in FAULTS}
    assert asked >= {kind.value for kind in FaultKind}


def test_the_files_are_plain_json_that_names_no_machine() -> None:
    for path in sorted(Path(FOLDER).glob("*.json")):
        text = path.read_text()
        assert text.isascii()
        assert json.loads(text)["format"] == 1
        assert "/work" not in text
        assert "127.0.0.1:" not in text.replace("127.0.0.1:0", "")


def test_each_code_has_its_number() -> None:
    assert {code.name: code.value for code in Code} == {code.name: code.value[0] for code in grpc.StatusCode}
