"""The TypeScript client: types, linter, freshness of what is generated, and its own tests.

Its packages are installed once, from the lock file, into clients/web/node_modules.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2] / "clients/web"
LOCK = HOME / "package-lock.json"
BOUND_S = 240.0


def program(name: str) -> str:
    """Give the path of node or npm, or skip the test."""
    found = shutil.which(name)
    if found is not None:
        return found
    told = f"needs {name}: Node 20 or newer, https://nodejs.org"
    if os.environ.get("CI") == "true":
        pytest.fail(told)
    pytest.skip(told)


def run(*command: str) -> str:
    """Run a command in clients/web and give what it printed; it and its children are ended when time is up."""
    process = subprocess.Popen(
        command,
        cwd=HOME,
        env=os.environ | {"GEARSHIFT_PYTHON": sys.executable, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=BOUND_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        pytest.fail(f"{command} did not end within {BOUND_S:g} s:\n{said}")
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def node() -> str:
    """Give node, with the client's packages installed and the client built."""
    found, npm = program("node"), program("npm")
    stamp = HOME / "node_modules/.installed"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        run(npm, "ci", "--ignore-scripts")
        stamp.write_text(wanted)
    run(found, "node_modules/typescript/bin/tsc")
    run(found, "tools/bundle.js", "--only-here")
    return found


def test_the_typescript_client_keeps_its_types_and_rules(node: str) -> None:
    run(node, "node_modules/typescript/bin/tsc", "-p", "test")
    run(node, "node_modules/eslint/bin/eslint.js", ".")


def test_what_is_generated_for_typescript_is_fresh(node: str) -> None:
    run(node, "tools/generate.js", "--check")


def test_the_bundle_that_the_service_ships_is_fresh(node: str) -> None:
    run(node, "tools/bundle.js", "--check")


def test_the_tests_of_the_typescript_client_pass(node: str) -> None:
    files = sorted(str(path.relative_to(HOME)) for path in (HOME / "test").glob("*.test.js"))
    assert len(files) >= 5
    said = run(node, "--test", "--test-reporter=tap", *files)
    assert "\n# fail 0\n" in said
    if shutil.which("chromium") is not None:
        assert "\n# skipped 0\n" in said


def test_the_npm_package_holds_what_callers_need_and_runs_nothing_when_installed(node: str) -> None:
    (packed,) = json.loads(run(program("npm"), "pack", "--dry-run", "--json", "--loglevel=error"))
    names = {file["path"] for file in packed["files"]}
    assert names >= {"package.json", "README.md", "dist/node.js", "dist/node.d.ts", "dist/web.js", "dist/gearshift.js"}
    assert not [name for name in names if not name.startswith("dist/") and name not in {"package.json", "README.md"}]
    package = json.loads((HOME / "package.json").read_text())
    assert package["private"] is False
    assert not {"preinstall", "install", "postinstall", "prepare"} & package["scripts"].keys()


def test_the_lock_file_names_no_registry_and_no_machine() -> None:
    locked = json.loads(LOCK.read_text())
    for name, package in locked["packages"].items():
        assert "resolved" not in package, name
        assert not name or "integrity" in package, name
