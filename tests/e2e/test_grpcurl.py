"""A real grpcurl and a real buf curl, with nothing but the address: reflection (v1alpha and v1) tells them the rest."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from gearshift.core.words import FailureKind
from tests.support.blueprints import stage
from tests.support.running_server import RunningServer, of_stages, running_server
from tests.support.scripted_provider import ScriptedProvider, fails, says

BIN = Path(sys.executable).parent
README = Path(__file__).parents[2] / "README.md"
GRPCURL = BIN / "grpcurl"
BUF = BIN / "buf"
TRIAGE = {"call": {"task": {"id": "email-triage", "type": "TASK_TYPE_GENERATE"}, "prompt": "hello"}}
LONGEST_S = 20.0


async def ran(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    with anyio.fail_after(LONGEST_S):
        return await anyio.run_process([str(each) for each in command], check=False)


async def grpcurl(*arguments: str) -> str:
    """Run it; it must succeed."""
    done = await ran(GRPCURL, "-plaintext", *arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


async def asked(server: RunningServer, method: str, request: object = None) -> Any:
    """Call a method; give its answer, or its answers where there are several."""
    text = await grpcurl("-d", json.dumps(request or {}), server.address, method)
    decoder, found, at = json.JSONDecoder(), list[Any](), 0
    while at < len(text.rstrip()):
        value, at = decoder.raw_decode(text, len(text) - len(text[at:].lstrip()))
        found.append(value)
    return found[0] if len(found) == 1 else found


def scripts() -> dict[str, ScriptedProvider]:
    return {"p0": ScriptedProvider([says("hello ", "you")]), "p1": ScriptedProvider([says("never")])}


async def test_list_and_describe_need_nothing_but_the_address() -> None:
    async with running_server(of_stages(stage(0)), providers=scripts()) as server:
        listed = (await grpcurl(server.address, "list")).split()
        methods = (await grpcurl(server.address, "list", "gearshift.v1.RouterService")).split()
        described = await grpcurl(server.address, "describe", "gearshift.v1.RouterService.StreamRoute")
        message = await grpcurl(server.address, "describe", "gearshift.v1.Call")
        await grpcurl(server.address, "describe")
        template = await grpcurl("-msg-template", server.address, "describe", "gearshift.v1.RouteRequest")
    assert {"gearshift.v1.RouterService", "gearshift.v1.OpsService", "grpc.health.v1.Health"} <= set(listed)
    assert "gearshift.v1.RouterService.Explain" in methods
    assert "rpc StreamRoute ( .gearshift.v1.StreamRouteRequest )" in described
    assert "prompt" in message
    assert '"task"' in template


async def test_every_method_of_the_readme_s_list_answers() -> None:
    async with running_server(of_stages(stage(0), stage(1)), providers=scripts()) as server:
        router, ops = "gearshift.v1.RouterService", "gearshift.v1.OpsService"
        answer = (await asked(server, f"{router}/Route", TRIAGE))["answer"]
        assert answer["text"] == "hello you"
        assert answer["completion"]["served_by"]["model"] == "m0"
        assert answer["completion"]["outcome"] == "OUTCOME_ACCEPTED"
        messages = await asked(server, f"{router}/StreamRoute", TRIAGE)
        events = [event for message in messages for event in message["events"]]
        assert "started" in events[0] and "completed" in events[-1]
        text = "".join(part["text"] for event in events if "delta" in event for part in event["delta"]["parts"])
        assert text == "hello you"
        embedded = await asked(server, f"{router}/Embed", {"task": {"id": "search"}, "inputs": ["a", "bc"]})
        assert embedded["dimensions"] == 3
        assert [len(each["values"]) for each in embedded["embeddings"]] == [3, 3]
        explained = await asked(server, f"{router}/Explain", TRIAGE)
        assert explained["chain"] == "generate"
        assert [each["planned"] for each in explained["stages"]] == [True, True]
        status = await asked(server, f"{ops}/GetStatus")
        assert status["calls_ended"] == "4"
        assert len((await asked(server, f"{ops}/ListChains"))["chains"]) == 5
        assert len((await asked(server, f"{ops}/ListStages"))["stages"]) == 2
        assert (await asked(server, f"{ops}/ListCacheEntries"))["stats"][0]["cache"] == "prompt"
        assert "total" in await asked(server, f"{ops}/GetCostReport", {"group_by": ["COST_GROUP_MODEL"]})
        # The two vectors of the Embed call above were kept.
        assert await asked(server, f"{ops}/PurgeCache", {"all": True}) == {"purged": "2"}
        for service in ("", router, ops):
            health = await asked(server, "grpc.health.v1.Health/Check", {"service": service})
            assert health == {"status": "SERVING"}


async def test_errors_show_their_details() -> None:
    failing = {"p0": ScriptedProvider([fails(FailureKind.SERVER, status=500)])}
    async with running_server(of_stages(stage(0)), providers=failing) as server:
        method = "gearshift.v1.RouterService/Route"
        bad = await ran(GRPCURL, "-plaintext", "-d", "{}", server.address, method)
        down = await ran(GRPCURL, "-plaintext", "-d", json.dumps(TRIAGE), server.address, method)
        unknown = await ran(GRPCURL, "-plaintext", "-d", '{"call": {"promt": "x"}}', server.address, method)
    assert bad.returncode != 0
    told = bad.stderr.decode()
    assert "Code: InvalidArgument" in told
    assert "google.rpc.BadRequest" in told and "call.task.id" in told
    assert "google.rpc.ErrorInfo" in told and "INVALID_REQUEST" in told
    told = down.stderr.decode()
    assert "Code: Unavailable" in told and "CHAIN_EXHAUSTED" in told and "p0/m0" in told
    assert unknown.returncode != 0 and "promt" in unknown.stderr.decode()


async def test_buf_curl_works_through_reflection_v1() -> None:
    async with running_server(of_stages(stage(0)), providers=scripts()) as server:
        url = f"http://{server.address}"
        reflected = ("curl", "--protocol", "grpc", "--http2-prior-knowledge", "--reflect-protocol", "grpc-v1")
        done = await ran(BUF, *reflected, "-d", json.dumps(TRIAGE), f"{url}/gearshift.v1.RouterService/Route")
        assert done.returncode == 0, done.stderr.decode()
        assert json.loads(done.stdout)["answer"]["text"] == "hello you"
        listed = await ran(BUF, *reflected, "--list-methods", url)
        assert listed.returncode == 0, listed.stderr.decode()
        assert "gearshift.v1.OpsService/GetStatus" in listed.stdout.decode()
        alpha = await ran(BUF, *reflected[:-1], "grpc-v1alpha", "--list-services", url)
        assert alpha.returncode == 0, alpha.stderr.decode()


def readme_commands(text: str) -> list[str]:
    """Give the grpcurl commands of the fenced blocks, continued lines joined, prompts taken off."""
    found: list[str] = []
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        lines = iter(block.splitlines())
        for line in lines:
            command = line.strip().removeprefix("$ ")
            if not command.startswith("grpcurl -plaintext"):
                continue
            # A command goes on while a line ends with a backslash or a quote is open.
            while command.endswith("\\") or _is_open(command):
                command = command.removesuffix("\\") + ("" if command.endswith("\\") else "\n") + next(lines)
            found.append(command)
    return found


def _is_open(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return True
    return False


def at_address(command: str, address: str) -> list[str]:
    """Give a command's words, with another address."""
    words = shlex.split(command)
    assert words[0] == "grpcurl"
    changed = [re.sub(r"^(127\.0\.0\.1|localhost):\d+$", address, word) for word in words[1:]]
    assert changed != words[1:], f"the command names no address of this machine: {command}"
    return changed


def test_commands_are_found_in_fenced_blocks_only() -> None:
    text = """
grpcurl -plaintext 127.0.0.1:1 not-in-a-block

```sh
$ grpcurl -plaintext 127.0.0.1:50051 list
grpc.health.v1.Health
grpcurl -plaintext -d '{"call":
  {"prompt": "hi"}}' \\
  localhost:50051 gearshift.v1.RouterService/Route
```
"""
    first, second = readme_commands(text)
    assert at_address(first, "127.0.0.1:7") == ["-plaintext", "127.0.0.1:7", "list"]
    words = at_address(second, "127.0.0.1:7")
    assert json.loads(words[2]) == {"call": {"prompt": "hi"}}
    assert words[3:] == ["127.0.0.1:7", "gearshift.v1.RouterService/Route"]


async def test_commands_of_the_readme_work_as_they_stand() -> None:
    commands = readme_commands(README.read_text()) if README.exists() else []
    if not commands:
        pytest.skip("the README has no grpcurl command")
    async with running_server(of_stages(stage(0), stage(1)), providers=scripts()) as server:
        for command in commands:
            done = await ran(GRPCURL, *at_address(command, server.address))
            assert done.returncode == 0, f"{command}\n{done.stderr.decode()}"
