"""The client as it is installed by somebody who has no use for a server."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import anyio
import anyio.to_thread

from tests.support.blueprints import stage
from tests.support.made_wheel import BOUND_S, environment_with, run_in, wheel_of_checkout
from tests.support.running_server import of_stages, running_server
from tests.support.scripted_provider import ScriptedProvider, says

_NEEDED = {"anyio", "gearshift", "grpcio", "idna", "protobuf", "typing_extensions"}
_MAY_COME = {"pip", "setuptools", "sniffio", "exceptiongroup"}

_CALLS = """
import importlib, json, pkgutil, sys
from importlib.metadata import distributions

import anyio
import gearshift.clients
from gearshift.clients import Accumulator, RpcError, background, call, dial, sync

for module in pkgutil.walk_packages(gearshift.clients.__path__, "gearshift.clients."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

asked = call("greet", "hello", task_type="generate")

async def main(target):
    async with dial(target) as client:
        ctx = background().with_timeout(10)
        said = [(await client.route(ctx, asked)).text]
        async with client.stream_route(ctx, asked) as stream:
            said.append((await stream.fold()).text)
        said.append(len((await client.embed(ctx, "search", ["a", "b"])).embeddings))
        said.append((await client.explain(ctx, asked)).chain)
        try:
            await client.route(ctx, call("", "x"))
        except RpcError as error:
            said += [error.code.name, error.reason, error.violations[0].field]
        return said

def blocking(target):
    with sync.dial(target) as client:
        with client.stream_route(background().with_timeout(10), asked) as stream:
            return [client.execute("generate", "hello").text, stream.fold().text]

said = anyio.run(main, sys.argv[1]) + blocking(sys.argv[1])
foreign = sorted(name for name in sys.modules if name.startswith(("gearshift.core", "gearshift.server", "google.rpc")))
packages = sorted({found.metadata["Name"].lower().replace("-", "_") for found in distributions()})
print(json.dumps({"said": said, "foreign": foreign, "packages": packages, "file": gearshift.clients.__file__}))
"""


async def test_the_client_works_where_nothing_else_is_installed(tmp_path: Path) -> None:
    wheel = await anyio.to_thread.run_sync(wheel_of_checkout, tmp_path)
    python = await anyio.to_thread.run_sync(environment_with, wheel, tmp_path / "empty")
    provider = ScriptedProvider([says("hi")])
    async with running_server(of_stages(stage(0)), providers={"p0": provider}) as server:
        with anyio.fail_after(BOUND_S):
            run = functools.partial(run_in, python, "-W", "error", "-c", _CALLS, server.address)
            found = json.loads(await anyio.to_thread.run_sync(run))
            helped = await anyio.to_thread.run_sync(run_in, python, "-m", "gearshift.clients.cli", "--help")
            status = await anyio.to_thread.run_sync(
                run_in, python, "-m", "gearshift.clients.cli", "route", "hello", "--target", server.address
            )
    assert found["said"] == [
        "hi",
        "hi",
        2,
        "generate",
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        "call.task.id",
        "hi",
        "hi",
    ]
    assert found["foreign"] == []
    assert str(tmp_path) in found["file"]
    assert set(found["packages"]) >= _NEEDED
    assert set(found["packages"]) <= _NEEDED | _MAY_COME, "the base install grew"
    assert "gearshift" in helped and "route" in helped
    assert "hi" in status
