"""The context of a call: its deadline, its cancellation, its metadata.

Rules: a context is frozen, and deriving makes another one; a derived context never outlives its parent. Contexts may
be shared by tasks and threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gearshift.clients.errors import Code, RpcError


@dataclass(frozen=True, slots=True)
class Context:
    """What travels with a call; begin with `background()`."""

    deadline: float | None = None
    """A point on `time.monotonic()`; None leaves it to the client's default timeout."""
    metadata: tuple[tuple[str, str], ...] = ()
    """What is sent beside the request, in order; keys are lower case."""
    _cancellation: _Cancellation | None = field(default=None, repr=False, compare=False)

    def with_timeout(self, timeout: float) -> Context:
        """Derive a context that ends after timeout seconds, or with its parent, whichever comes first.

        Zero or less is a deadline that has passed: calls fail before anything is sent.
        """
        deadline = time.monotonic() + timeout
        return replace(self, deadline=deadline if self.deadline is None else min(deadline, self.deadline))

    def with_cancel(self) -> tuple[Context, Callable[[], None]]:
        """Derive a context and the function that cancels it, its calls, and all that derives from it.

        The function may be called from any thread, and twice.
        """
        cancellation = _Cancellation(self._cancellation)
        return replace(self, _cancellation=cancellation), cancellation.cancel

    def with_metadata(self, metadata: Mapping[str, str]) -> Context:
        """Derive a context that sends these as well; a key that is there already is sent twice.

        Raises:
            ValueError: a key is not lower-case ASCII of letters, digits, `-`, `_`, `.`, or is gRPC's own.

        """
        for key in metadata:
            plain = key.isascii() and key.replace("-", "").replace("_", "").replace(".", "").isalnum()
            if not plain or key != key.lower() or key.startswith("grpc-") or key.endswith("-bin"):
                raise ValueError(f"{key!r} cannot be a metadata key: lower-case letters, digits, '-', '_', '.'")
        return replace(self, metadata=(*self.metadata, *metadata.items()))

    @property
    def is_cancelled(self) -> bool:
        """Whether it, or what it derives from, was cancelled."""
        return self._cancellation is not None and self._cancellation.is_cancelled

    def remaining(self) -> float | None:
        """Seconds until the deadline, 0 when it has passed, None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def check(self) -> None:
        """Return when a call may still begin.

        Raises:
            RpcError: it was cancelled (CANCELLED), or its deadline has passed (DEADLINE_EXCEEDED).

        """
        if self.is_cancelled:
            raise RpcError(Code.CANCELLED, "the context was cancelled")
        if self.remaining() == 0.0:
            raise RpcError(Code.DEADLINE_EXCEEDED, "the deadline had passed before the call; nothing was sent")

    def on_cancel(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have callback called once when the context is cancelled, at once if it is; return what undoes it."""
        if self._cancellation is None:
            return _nothing
        return self._cancellation.add(callback)


def background() -> Context:
    """Give the empty context that all others derive from: no deadline, no metadata, never cancelled."""
    return _BACKGROUND


class _Cancellation:
    """A flag that is raised once and tells those who asked, its children included."""

    def __init__(self, parent: _Cancellation | None) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[_Once, None] = {}  # in the order in which they came
        self._cancelled = False
        self._parent = parent

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled or (self._parent is not None and self._parent.is_cancelled)

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            callbacks = list(self._callbacks)
            self._callbacks.clear()
        for callback in callbacks:
            callback()

    def add(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Register with this and every ancestor, so that children need not be kept by their parents."""
        once = _Once(callback)
        links: list[_Cancellation] = []
        link: _Cancellation | None = self
        while link is not None:
            links.append(link)
            link = link._parent
        for link in links:
            with link._lock:
                if not link._cancelled:
                    link._callbacks[once] = None
                    continue
            once()
            break

        def remove() -> None:
            for link in links:
                with link._lock:
                    link._callbacks.pop(once, None)

        return remove


class _Once:
    """A callback that is called by the first of those who hold it."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self._lock = threading.Lock()
        self._callback = callback

    def __call__(self) -> None:
        if self._lock.acquire(blocking=False):  # never released: once is enough
            self._callback()


def _nothing() -> None:
    """Undo nothing."""


_BACKGROUND = Context()
