"""The contract as earlier commits had it, from git's history, and stubs made of it."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
BOUND_S = 60.0


def commits() -> list[str]:
    """Give the commits that changed the contract, the newest first."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        _skip("there is no git history here")
    changed = _git("log", "--format=%H", "--", "protos/**/*.proto", "protos/*.proto").decode().split()
    if not changed:
        _skip("the history has no contract")
    return changed


def previous() -> str:
    """Give the contract before the last change: before what is not committed, else before the last commit that changed it."""
    changed = commits()
    if _git("status", "--porcelain", "--", "protos/**/*.proto").strip():
        return changed[0]
    if len(changed) < 2:
        _skip("the history is too short: the contract was never changed")
    return changed[1]


def stubs_of(commit: str, folder: Path) -> Path:
    """Make Python stubs of a commit's contract; give the folder to import them from."""
    with tarfile.open(fileobj=io.BytesIO(_git("archive", commit, "protos"))) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:  # Python before 3.11.4
            archive.extractall(folder)
    root = folder / "protos"
    for stub in root.rglob("*_pb2*"):
        stub.unlink()
    protos = [str(path) for path in sorted(root.rglob("*.proto"))]
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{root}",
        f"--python_out={root}",
        f"--grpc_python_out={root}",
    ]
    subprocess.run([*command, *protos], check=True, capture_output=True, timeout=BOUND_S)
    (root / "gearshift" / "v1" / "__init__.py").touch()
    return root


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, timeout=BOUND_S, check=False)
    if done.returncode:
        _skip(f"git cannot tell: {done.stderr.decode().strip()}")
    return done.stdout


def _skip(reason: str) -> NoReturn:
    """Skip: a clone may have been made without its history."""
    pytest.skip(reason)
