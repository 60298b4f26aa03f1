"""The wheel of this checkout, and environments that hold nothing else.

Rules: the package index is needed; where it cannot be reached the test is skipped by name, and fails when CI=true.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOUND_S = 180.0
_OFFLINE = ("Failed to establish a new connection", "No matching distribution", "Could not fetch", "Temporary failure")


def wheel_of_checkout(folder: Path) -> Path:
    """Build it, as pip does for whoever installs from a checkout."""
    _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("gearshift-*.whl")
    return wheel


def environment_with(wheel: Path, folder: Path) -> Path:
    """Make an environment with the wheel and what it needs; give its Python."""
    made = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(made, check=True, capture_output=True, timeout=BOUND_S, env=_plain())
    python = folder / "bin" / "python"
    _pip("--python", str(python), "install", "--no-compile", str(wheel))
    return python


def run_in(python: Path, *arguments: str) -> str:
    """Run the environment's Python, away from the checkout; give what it prints."""
    command = [str(python), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=BOUND_S, check=False, cwd=python.parent, env=_plain()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--retries", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False, env=_plain())
    if done.returncode and os.environ.get("CI") != "true" and any(word in done.stderr for word in _OFFLINE):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr


def _plain() -> dict[str, str]:
    """Give the environment's variables without those that would lead back to the checkout."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
