"""What importing the client needs, and whether the synchronous twin is fresh."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_ONLY_BASE = """
import sys

BASE = {"grpc", "google", "anyio", "sniffio", "idna", "typing_extensions", "gearshift", "exceptiongroup"}

class OnlyBase:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in BASE:
            if name.startswith("google.") and not name.startswith("google.protobuf"):
                raise ModuleNotFoundError(f"{name} is not in the base install", name=name)
            if name.startswith(("gearshift.core", "gearshift.server")):
                raise ModuleNotFoundError(f"{name} is not the client's", name=name)
            return None
        raise ModuleNotFoundError(f"{name} is not in the base install", name=name)

sys.meta_path.insert(0, OnlyBase())
import importlib, pkgutil
import gearshift.clients
for name in gearshift.clients.__all__:
    getattr(gearshift.clients, name)
for module in pkgutil.walk_packages(gearshift.clients.__path__, "gearshift.clients."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from gearshift.clients._details import read_details
assert read_details(b"").reason == ""
print("ok")
"""


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_whole_client_needs_the_base_install_only() -> None:
    assert _python(_ONLY_BASE) == "ok"


def test_generated_details_may_be_imported_after_ours() -> None:
    code = "import gearshift.clients._details; from google.rpc import error_details_pb2, status_pb2; print('ok')"
    assert _python(code) == "ok"


@pytest.mark.parametrize("arguments", [["--help"], ["route", "--help"], ["version"]])
def test_help_does_not_load_grpc(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from gearshift.clients.cli import main\n"
        f"code = main({arguments!r})\n"
        "heavy = {'grpc', 'google.protobuf', 'anyio', 'asyncio'} & set(sys.modules)\n"
        "print(code, sorted(heavy))"
    )
    assert _python(code).splitlines()[-1] == "0 []"


def test_the_synchronous_twin_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "clients" / "unasync.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_synchronous_twin_awaits_nothing() -> None:
    for path in (ROOT / "clients" / "gearshift" / "clients" / "sync").glob("*.py"):
        text = path.read_text()
        assert "async" not in text.replace("clients/unasync.py", "") and "await" not in text, path.name
