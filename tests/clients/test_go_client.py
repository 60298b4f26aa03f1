"""The Go client: freshness of what is generated, formatting, vet, staticcheck, and its own tests.

Its modules come from the Go module proxy once; go.sum and tools.sum say what they must be.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2] / "clients/go"
BIN = Path(sys.executable).parent
NEEDED = "needs Go 1.26 or newer, https://go.dev/dl"
BOUND_S = 600.0
"""A cold build of the tools on two busy cores takes minutes; a warm one seconds."""


def run(*command: str) -> tuple[int, str]:
    """Run a command in clients/go, give its exit code and what it printed; it and its children are ended with the time."""
    process = subprocess.Popen(
        command,
        cwd=HOME,
        env=os.environ | {"GEARSHIFT_PROGRAM": str(BIN / "gearshift")},
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
    return process.returncode, said


def quiet(*command: str) -> None:
    """Run a command that has nothing to say when all is well."""
    code, said = run(*command)
    assert (code, said) == (0, "")


def missing(told: str) -> None:
    """Skip, where a program is missing; in CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(told)
    pytest.skip(told)


@pytest.fixture(scope="module")
def go() -> str:
    """Give go, with the modules of the client and of its tools there."""
    found = shutil.which("go")
    if found is None:
        missing(NEEDED)
    assert found is not None
    for module in ("go.mod", "tools.mod"):
        code, said = run(found, "mod", "download", f"-modfile={module}")
        if code:
            missing(f"{NEEDED}, and the modules of clients/go/{module}: {said}")
    return found


def test_the_committed_code_is_what_the_contract_generates(go: str, tmp_path: Path) -> None:
    quiet(str(BIN / "buf"), "generate", "--output", str(tmp_path))
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.pb.go")}
    kept = {path.relative_to(HOME): path.read_text() for path in (HOME / "gearshiftv1").rglob("*.pb.go")}
    assert made == kept, "clients/go/gearshiftv1 is stale; run: make go-generate"


def test_its_code_is_formatted(go: str) -> None:
    quiet(str(Path(go).resolve().with_name("gofmt")), "-l", ".")


def test_vet_and_staticcheck_find_nothing(go: str) -> None:
    quiet(go, "vet", "./...")
    quiet(go, "tool", "-modfile=tools.mod", "staticcheck", "-checks=all", "./...")


def test_its_own_tests_and_examples_pass_against_the_service(go: str) -> None:
    code, said = run(go, "test", "-count=1", "./...")
    assert code == 0, said


def test_its_own_tests_find_no_race(go: str) -> None:
    _, said = run(go, "env", "CGO_ENABLED", "CC")
    cgo, compiler = said.splitlines()
    if cgo != "1" or shutil.which(compiler.split()[0]) is None:
        pytest.skip("Go's race detector needs a C compiler: apt-get install gcc libc6-dev")
    code, said = run(go, "test", "-race", "-count=1", "-run", "^Test", "./...")
    assert code == 0, said
