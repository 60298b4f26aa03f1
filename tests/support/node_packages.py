"""Node packages of this repository: their packages installed once, their programs run within bounds.

node = node_of(HOME)                       # skips by name without Node; with CI=true that is a failure
run(HOME, node, "--test", ...)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

BOUND_S = 240.0
TYPESCRIPT = Path(__file__).parents[2] / "clients/web"


def program(name: str) -> str:
    """Give the path of node or npm, or skip the test."""
    found = shutil.which(name)
    if found is not None:
        return found
    told = f"needs {name}: Node 20 or newer, https://nodejs.org"
    if os.environ.get("CI") == "true":
        pytest.fail(told)
    pytest.skip(told)


def run(home: Path, *command: str) -> str:
    """Run a command in a folder and give what it printed; it and its children are ended when time is up."""
    process = subprocess.Popen(
        command,
        cwd=home,
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


def node_of(home: Path) -> str:
    """Give node, with a folder's packages installed as its lock file says."""
    found, npm = program("node"), program("npm")
    stamp = home / "node_modules/.installed"
    wanted = hashlib.sha256((home / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        run(home, npm, "ci", "--ignore-scripts")
        stamp.write_text(wanted)
    return found


@cache
def built_typescript_client() -> str:
    """Give node, with the TypeScript client's packages installed and the client built from its sources."""
    found = node_of(TYPESCRIPT)
    run(TYPESCRIPT, found, "node_modules/typescript/bin/tsc")
    run(TYPESCRIPT, found, "tools/bundle.js", "--only-here")
    return found
