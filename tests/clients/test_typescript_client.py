"""The TypeScript client: types, linter, freshness of what is generated, and its own tests.

Its packages are installed once, from the lock file, into clients/web/node_modules.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.node_packages import node_of, program, run

HOME = Path(__file__).parents[2] / "clients/web"
LOCK = HOME / "package-lock.json"


@pytest.fixture(scope="module")
def node() -> str:
    """Give node, with the client's packages installed and the client built."""
    found = node_of(HOME)
    run(HOME, found, "node_modules/typescript/bin/tsc")
    run(HOME, found, "tools/bundle.js", "--only-here")
    return found


def test_the_typescript_client_keeps_its_types_and_rules(node: str) -> None:
    run(HOME, node, "node_modules/typescript/bin/tsc", "-p", "test")
    run(HOME, node, "node_modules/eslint/bin/eslint.js", ".")


def test_what_is_generated_for_typescript_is_fresh(node: str) -> None:
    run(HOME, node, "tools/generate.js", "--check")


def test_the_bundle_that_the_service_ships_is_fresh(node: str) -> None:
    run(HOME, node, "tools/bundle.js", "--check")


def test_the_tests_of_the_typescript_client_pass(node: str) -> None:
    files = sorted(str(path.relative_to(HOME)) for path in (HOME / "test").glob("*.test.js"))
    assert len(files) >= 5
    said = run(HOME, node, "--test", "--test-reporter=tap", *files)
    assert "\n# fail 0\n" in said
    if shutil.which("chromium") is not None:
        assert "\n# skipped 0\n" in said


def test_the_npm_package_holds_what_callers_need_and_runs_nothing_when_installed(node: str) -> None:
    (packed,) = json.loads(run(HOME, program("npm"), "pack", "--dry-run", "--json", "--loglevel=error"))
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
