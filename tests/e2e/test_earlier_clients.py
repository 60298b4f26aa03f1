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


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(earlier_contract.previous, id="before the last change"),
        pytest.param(lambda: earlier_contract.commits()[-1], id="the first one"),
    ],
)
async def test_a_client_generated_from_an_earlier_contract_still_works(
    chosen: Callable[[], str], tmp_path: Path
) -> None:
    root = await anyio.to_thread.run_sync(earlier_contract.stubs_of, chosen(), tmp_path)
    weak = ScriptedProvider([fails(FailureKind.CONNECTION, "So, ", "well")])
    strong = ScriptedProvider([says("All", " is well.")])
    async with running_server(of_stages(stage(0), stage(1)), providers={"p0": weak, "p1": strong}) as server:
        with anyio.fail_after(BOUND_S):
            found = await anyio.to_thread.run_sync(functools.partial(_called, root, server.address))
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


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(earlier_contract.previous, id="before the last change"),
        pytest.param(lambda: earlier_contract.commits()[-1], id="the first one"),
    ],
)
def test_the_contract_breaks_no_earlier_one(chosen: Callable[[], str], tmp_path: Path) -> None:
    done = _breaking(earlier_contract.stubs_of(chosen(), tmp_path), earlier_contract.ROOT / "protos")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_field_that_was_renumbered_is_found(tmp_path: Path) -> None:
    protos = earlier_contract.ROOT / "protos"
    broken = tmp_path / "protos"
    shutil.copytree(protos, broken, ignore=shutil.ignore_patterns("*_pb2*", "__pycache__"))
    path = broken / "gearshift" / "v1" / "stream.proto"
    text = path.read_text()
    assert "uint32 after = 1;" in text
    path.write_text(text.replace("uint32 after = 1;", "uint32 after = 7;"))
    done = _breaking(protos, broken)
    assert done.returncode != 0
    assert "after" in done.stdout


def _breaking(before: Path, now: Path) -> subprocess.CompletedProcess[str]:
    buf = Path(sys.executable).parent / "buf"
    if not buf.exists():
        pytest.skip("buf is not installed: make install")
    return subprocess.run(
        [str(buf), "breaking", str(now), "--against", str(before)],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
