"""The house: one namespace, no Rust in the service's process, no wire in core."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]

# Imports core and every adapter, makes a call, and tells what the process has loaded.
_PROBE = """
import importlib, json, pkgutil, sys
import anyio
import gearshift.core, gearshift.core.providers
from gearshift.core.router import Router

def modules(package):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        # Commands of their own stand on the official SDKs, off the hot path; the service never imports them.
        if not found.name.startswith(("gearshift.core.sdk.", "gearshift.core.embedded.child")):
            yield found.name

for name in modules(gearshift.core):
    importlib.import_module(name)

sys.path.insert(0, ROOT)
from tests.support.blueprints import blueprint, stage
from tests.support.engine import engine, request
from tests.support.scripted_provider import says

async def call():
    made = engine(blueprint(stage(0)), [[says("Yes.")]])
    assert (await made.router.route(request())).text == "Yes."

anyio.run(call)
mapped = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if ".so" in line}
print(json.dumps({"modules": sorted(sys.modules), "mapped": sorted(mapped)}))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """What a process has loaded that imported all of core and made a call."""
    done = subprocess.run(
        [sys.executable, "-c", f"ROOT = {str(_ROOT)!r}\n{_PROBE}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("folder", ["core", "server", "clients", "protos"])
def test_each_folder_is_a_portion_of_the_namespace(folder: str) -> None:
    assert (_ROOT / folder / "gearshift").is_dir()
    assert not (_ROOT / folder / "gearshift" / "__init__.py").exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_core_loads_no_rust(loaded: dict[str, list[str]]) -> None:
    libraries = [path for path in loaded["mapped"] if Path(path).is_file()]
    assert any("msgspec" in path for path in libraries)  # the probe sees extension modules
    # rustc leaves its version in the .comment section, and its sources' paths in panics.
    rusty = [
        path for path in libraries if any(mark in Path(path).read_bytes() for mark in (b"rustc version", b"/rustc/"))
    ]
    assert not rusty


def test_core_knows_nothing_of_the_wire(loaded: dict[str, list[str]]) -> None:
    foreign = {name.split(".")[0] for name in loaded["modules"]}
    assert not foreign & {"grpc", "pydantic", "orjson", "jsonschema", "httpx", "anthropic", "ollama"}
    # redis-py looks whether it is there, and loads nothing of it.
    assert not any(name.startswith("cryptography.hazmat") for name in loaded["modules"])
    assert "google.protobuf" not in loaded["modules"]
    assert "gearshift.v1" not in loaded["modules"]
    assert "gearshift.server" not in loaded["modules"]


def test_every_adapter_was_loaded(loaded: dict[str, list[str]]) -> None:
    for kind in ("openai", "anthropic", "ollama", "voyage", "embedded"):
        assert f"gearshift.core.providers.{kind}" in loaded["modules"]
