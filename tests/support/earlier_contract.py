"""The contract as it was before, and stubs made of it.

    first(folder)        the first contract, which is kept beside the tests
    previous(folder)     the contract before its last change, from git's history

Rules: what is given declares something else than today's contract, or the test is skipped and says why: a clone without
history has no earlier contract, a commit that changed comments alone has the same, and comparing a contract with itself
would prove nothing. The first contract is there in any clone.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
FIRST = ROOT / "tests" / "contract" / "first.binpb"
"""`buf build protos --exclude-source-info` of the commit that brought the contract. It is never written anew."""
BUF = Path(sys.executable).with_name("buf")
BOUND_S = 60.0
_FILES = ("protos/**/*.proto", "protos/*.proto")
_ALONE = "this clone has too little history to hold an earlier contract: git fetch --unshallow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An earlier contract: what buf compares with, and the folder that its Python stubs are imported from."""

    against: Path
    stubs: Path


def first(folder: Path) -> Earlier:
    """Give the first contract; its stubs are written into the folder."""
    files = descriptor_pb2.FileDescriptorSet.FromString(FIRST.read_bytes()).file
    names = [file.name for file in files if file.name.startswith("gearshift/")]
    _generate(folder, f"--descriptor_set_in={FIRST}", *names)
    return Earlier(against=FIRST, stubs=folder)


def previous(folder: Path) -> Earlier:
    """Give the last contract that declared something else than today's; it is written into the folder."""
    today = declared(PROTOS)
    for commit in earlier_commits():
        root = sources_of(commit, folder / commit)
        if declared(root) != today:
            _generate(root, f"-I{root}", *(str(path.relative_to(root)) for path in sorted(root.rglob("*.proto"))))
            return Earlier(against=root, stubs=root)
    _skip(_ALONE)


def declared(contract: Path) -> dict[str, bytes]:
    """Give what each file of a contract declares: all but its comments."""
    if not BUF.exists():
        _skip("buf is not installed: make install")
    command = [str(BUF), "build", str(contract), "--exclude-source-info", "-o", "-#format=binpb"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=BOUND_S)
    files = descriptor_pb2.FileDescriptorSet.FromString(done.stdout).file
    ours = [file for file in files if file.name.startswith("gearshift/")]
    return {file.name: file.SerializeToString(deterministic=True) for file in ours}


def earlier_commits(repository: Path = ROOT) -> list[str]:
    """Give the commits before the last change of the contract, the newest first; what is not committed is a change too."""
    changed = _commits(repository)
    if not _git(repository, "status", "--porcelain", "--", *_FILES).strip():
        del changed[0]
    if not changed:
        _skip(_ALONE)
    return changed


def first_commit(repository: Path = ROOT) -> str:
    """Give the commit that brought the contract; only a whole history tells."""
    if _git(repository, "rev-parse", "--is-shallow-repository").strip() != b"false":
        _skip(_ALONE)
    return _commits(repository)[-1]


def sources_of(commit: str, folder: Path) -> Path:
    """Write a commit's contract into a folder, without its stubs; give the root of its protos."""
    with tarfile.open(fileobj=io.BytesIO(_git(ROOT, "archive", commit, "protos"))) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:  # Python before 3.11.4
            archive.extractall(folder)
    root = folder / "protos"
    for stub in root.rglob("*_pb2*"):
        stub.unlink()
    return root


def _commits(repository: Path) -> list[str]:
    """Give the commits that changed the contract, the newest first; a shallow clone's oldest seems to bring it."""
    if shutil.which("git") is None or not (repository / ".git").exists():
        _skip("there is no git history here")
    changed = _git(repository, "log", "--format=%H", "--", *_FILES).decode().split()
    if not changed:
        _skip("the history has no contract")
    return changed


def _generate(folder: Path, *what: str) -> None:
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
        *what,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=BOUND_S)
    (folder / "gearshift" / "v1" / "__init__.py").touch()


def _git(repository: Path, *arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, timeout=BOUND_S, check=False)
    if done.returncode:
        _skip(f"git cannot tell: {done.stderr.decode().strip()}")
    return done.stdout


def _skip(reason: str) -> NoReturn:
    pytest.skip(reason)
