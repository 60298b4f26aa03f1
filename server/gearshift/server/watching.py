"""A file, looked at until it changes.

Rules: looked at once a second; polling sees what is renamed into place, a link that is pointed elsewhere and a mounted
volume, which the kernel's notices do not. A change counts once the file has looked the same twice, so that nobody reads
half of it. A file that is away for a moment has not changed.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import anyio

LOOK_S: Final = 1.0

Look = tuple[int, int, int, int]
"""Device, inode, size, time of the last change (ns)."""


class FileWatch:
    """What a file looked like. Pure."""

    def __init__(self, first: Look | None) -> None:
        self._known = first
        self._last = first

    def has_changed(self, seen: Look | None) -> bool:
        """Note how it looks now; tell whether it is another one than before, and has settled."""
        settled = seen == self._last
        self._last = seen
        if seen is None or not settled or seen == self._known:
            return False
        self._known = seen
        return True


def look_at(path: Path) -> Look | None:
    """Give how a file looks; None when it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


async def watch_file(path: Path, changed: Callable[[], Awaitable[object]], *, every_s: float = LOOK_S) -> None:
    """Have `changed` called whenever a file has changed, until cancelled."""
    watch = FileWatch(look_at(path))
    while True:
        await anyio.sleep(every_s)
        if watch.has_changed(look_at(path)):
            await changed()
