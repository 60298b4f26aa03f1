"""Files that are followed while the service runs: keys and certificates.

Rules: looked at once a second, by what the file system says of them, so that it works for files that are replaced, for
mounted secrets (links that are switched) and on network file systems, which tell nobody of changes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio

from gearshift.server.status import lone

_log = logging.getLogger(__name__)

EVERY_S = 1.0

Followed = tuple[Callable[[], Sequence[str]], Callable[[], None]]
"""What gives the files, and what is called when one has changed."""


@asynccontextmanager
async def following(*followed: Followed, every_s: float = EVERY_S) -> AsyncGenerator[None]:
    """Follow files while the block runs; which they are may change meanwhile."""
    stamps = {number: _stamps(files()) for number, (files, _) in enumerate(followed)}

    async def look() -> None:
        while True:
            await anyio.sleep(every_s)
            for number, (files, changed) in enumerate(followed):
                seen = _stamps(files())
                if seen != stamps[number]:
                    stamps[number] = seen
                    try:
                        changed()
                    except Exception:  # noqa: BLE001  # one file's fault must not end the looking after the others
                        _log.exception("a changed file could not be put in force")

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise lone(group) from None


def _stamps(files: Sequence[str]) -> dict[str, tuple[int, int, int] | None]:
    return {path: _stamp(path) for path in files}


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Give what changes when a file is written or replaced; None while it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
