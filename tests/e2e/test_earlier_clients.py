"""Clients that were generated from an earlier contract: they still work, and buf knows why."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from gearshift.core.words import FailureKind
from tests.support import earlier_contract
from tests.support.blueprints import stage
from tests.support.earlier_contract import BUF, FIRST, PROTOS, Earlier, declared
from tests.support.running_server import of_stages, running_server
from tests.support.scripted_provider import ScriptedProvider, fails, says

BOUND_S = 60.0

_CALLS = """
import hashlib, json, sys
import grpc
import gearshift.v1
from gearshift.v1 import call_pb2, ops_pb2, ops_pb2_grpc, router_pb2, router_pb2_grpc, task_pb2

target, folder = sys.argv[1:]
assert gearshift.v1.__file__.startswith(folder), gearshift.v1.__file__
with grpc.insecure_channel(target) as channel:
    router, ops = router_pb2_grpc.RouterServiceStub(channel), ops_pb2_grpc.OpsServiceStub(channel)
    task = task_pb2.Task(id="greet", type=task_pb2.TASK_TYPE_GENERATE)
    call = call_pb2.Call(task=task, prompt="hello")
    policy = call_pb2.StreamPolicy(hold_back_tokens=0)
    answer = router.Route(router_pb2.RouteRequest(call=call), timeout=10).answer
    live, completed, kinds = {}, None, []
    for message in router.StreamRoute(router_pb2.StreamRouteRequest(call=call, stream=policy), timeout=10):
        for event in message.events:
            kind = event.WhichOneof("kind")
            kinds.append(kind)
            if kind == "delta":
                live[event.delta.number] = "".join(part.text for part in event.delta.parts)
            elif kind == "retract":
                live = {number: text for number, text in live.items() if number <= event.retract.after}
            elif kind == "completed":
                completed = event.completed.completion
    text = "".join(live.values())
    embedded = router.Embed(router_pb2.EmbedRequest(task=task_pb2.Task(id="s"), inputs=["a", "b"]), timeout=10)
    explained = router.Explain(router_pb2.ExplainRequest(call=call), timeout=10)
    try:
        router.Route(router_pb2.RouteRequest(), timeout=10)
        code = "OK"
    except grpc.RpcError as error:
        code = error.code().name
    print(json.dumps({
        "route": answer.text,
        "attempts": len(answer.completion.attempts),
        "stream": text,
        "kinds": sorted(set(kinds), key=kinds.index),
        "digest": completed.digest == hashlib.sha256(text.encode()).hexdigest(),
        "vectors": len(embedded.embeddings),
        "chain": explained.chain,
        "chains": len(ops.ListChains(ops_pb2.ListChainsRequest(), timeout=10).chains) > 0,
        "refused": code,
    }))
"""


def _called(root: Path, target: str) -> dict[str, object]:
    """Run the calls in a process that has the earlier stubs."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _CALLS, target, str(root)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


EARLIER = [
    pytest.param(earlier_contract.previous, id="before the last change"),
    pytest.param(earlier_contract.first, id="the first one"),
]
Chosen = Callable[[Path], Earlier]


@pytest.mark.parametrize("chosen", EARLIER)
async def test_a_client_generated_from_an_earlier_contract_still_works(chosen: Chosen, tmp_path: Path) -> None:
    earlier = await anyio.to_thread.run_sync(chosen, tmp_path)
    weak = ScriptedProvider([fails(FailureKind.CONNECTION, "So, ", "well")])
    strong = ScriptedProvider([says("All", " is well.")])
    async with running_server(of_stages(stage(0), stage(1)), providers={"p0": weak, "p1": strong}) as server:
        with anyio.fail_after(BOUND_S):
            found = await anyio.to_thread.run_sync(functools.partial(_called, earlier.stubs, server.address))
    assert found == {
        "route": "All is well.",
        "attempts": 2,
        "stream": "All is well.",
        "kinds": ["started", "attempt", "delta", "switch", "retract", "completed"],
        "digest": True,
        "vectors": 2,
        "chain": "generate",
        "chains": True,
        "refused": "INVALID_ARGUMENT",
    }


@pytest.mark.parametrize("chosen", EARLIER)
def test_the_contract_breaks_no_earlier_one(chosen: Chosen, tmp_path: Path) -> None:
    done = _breaking(chosen(tmp_path).against, PROTOS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("chosen", EARLIER)
def test_an_earlier_contract_is_another_one_than_todays(chosen: Chosen, tmp_path: Path) -> None:
    assert declared(chosen(tmp_path).against) != declared(PROTOS)


def test_the_first_contract_that_is_kept_is_the_first_that_there_was(tmp_path: Path) -> None:
    sources = earlier_contract.sources_of(earlier_contract.first_commit(), tmp_path)
    assert declared(sources) == declared(FIRST)


def test_a_clone_without_an_earlier_contract_is_skipped(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    contract = whole / "protos" / "a.proto"
    contract.parent.mkdir(parents=True)
    _git(tmp_path, "init", "--quiet", str(whole))
    made = list[str]()
    for text, other in (("one", ""), ("two", ""), ("two", "later")):
        contract.write_text(text)
        (whole / "other").write_text(other)
        _git(whole, "add", ".")
        _git(whole, "commit", "--quiet", "--message", f"{text} {other}")
        made.append(_git(whole, "rev-parse", "HEAD"))
    earlier, first = earlier_contract.earlier_commits, earlier_contract.first_commit
    assert earlier(whole) == [made[0]]
    assert first(whole) == made[0]
    for depth in (1, 2):
        clone = tmp_path / str(depth)
        _git(tmp_path, "clone", "--quiet", "--depth", str(depth), whole.as_uri(), str(clone))
        for ask in (earlier, first):
            with pytest.raises(pytest.skip.Exception, match="too little history"):
                ask(clone)
    contract.write_text("three")
    assert earlier(whole) == [made[1], made[0]], "what is not committed is a change"


def test_a_field_that_was_renumbered_is_found(tmp_path: Path) -> None:
    broken = tmp_path / "protos"
    shutil.copytree(PROTOS, broken, ignore=shutil.ignore_patterns("*_pb2*", "__pycache__"))
    path = broken / "gearshift" / "v1" / "stream.proto"
    text = path.read_text()
    assert "uint32 after = 1;" in text
    path.write_text(text.replace("uint32 after = 1;", "uint32 after = 7;"))
    for before in (PROTOS, FIRST):
        done = _breaking(before, broken)
        assert done.returncode != 0
        assert "after" in done.stdout


def _breaking(before: Path, now: Path) -> subprocess.CompletedProcess[str]:
    if not BUF.exists():
        pytest.skip("buf is not installed: make install")
    command = [str(BUF), "breaking", str(now), "--against", str(before)]
    return subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False)


def _git(folder: Path, *arguments: str) -> str:
    person = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", *person, *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=BOUND_S)
    return done.stdout.strip()
