"""The watchers of one attempt, and the windows that they are shown.

Rules: fed with every upstream read, synchronous; a window ends after so many tokens or milliseconds, whichever is
first. `clean` says up to which character nothing can be found any more; what lies behind it may be committed.
"""

from __future__ import annotations

from collections.abc import Sequence

from gearshift.core.answer import Verdict
from gearshift.core.gates.window.base import TAIL, Watcher, Window
from gearshift.core.provider import TokenLogprob


class Watch:
    """Cuts an attempt's text into windows and shows them to the watchers.

    Args:
        tokens / seconds: a window's size.
        now: when the attempt began, seconds.
    """

    __slots__ = (
        "_began",
        "_end",
        "_logprobs",
        "_lookback",
        "_pieces",
        "_seconds",
        "_since",
        "_size",
        "_tail",
        "_timed",
        "_tokens",
        "_waited_s",
        "_watchers",
        "_window_tokens",
        "clean",
        "passed",
    )

    def __init__(self, watchers: Sequence[Watcher], *, tokens: int, seconds: float, now: float) -> None:
        self._watchers = watchers
        self._lookback = max((watcher.lookback for watcher in watchers), default=0)
        self._window_tokens = tokens
        self._seconds = seconds
        self._began = now
        self._since = -1.0
        self._waited_s = 0.0
        self._timed = 0
        self._tail = ""
        self._pieces: list[str] = []
        self._size = 0
        self._tokens = 0
        self._end = 0
        self._logprobs: list[TokenLogprob] = []
        self.passed = 0
        """Characters from the beginning that have been in a window: nothing was found in them so far."""
        self.clean = 0
        """Characters from the beginning in which nothing can be found any more."""

    def feed(self, text: str, tokens: int, logprobs: Sequence[TokenLogprob], now: float) -> Verdict | None:
        """Take one upstream read; give a hard failure that is certain now, or None."""
        count = tokens or max(1, len(text) // 4)
        if self._since >= 0.0:
            self._waited_s += now - self._since
            self._timed += count
        else:
            self._began = now  # the time to the first token is no part of a window
        self._since = now
        self._pieces.append(text)
        self._size += len(text)
        self._tokens += count
        if logprobs:
            self._logprobs += logprobs
        if self._tokens < self._window_tokens and now - self._began < self._seconds:
            return None
        return self.look(now)

    def resume(self, now: float) -> None:
        """Begin to wait for the provider again: what passed since the last read was the caller's time, or reasoning."""
        if self._since >= 0.0:
            self._since = now

    def look(self, now: float) -> Verdict | None:
        """End the window here and show it, however short it is."""
        if not self._size:
            return None
        self._end += self._size
        self._tail = (self._tail + "".join(self._pieces))[-TAIL:]
        window = Window(
            tail=self._tail,
            size=self._size,
            end=self._end,
            tokens=self._tokens,
            logprobs=self._logprobs,
            waited_s=self._waited_s,
            timed_tokens=self._timed,
        )
        self._pieces, self._logprobs = [], []
        self._size = self._tokens = self._timed = 0
        self._waited_s = 0.0
        self._began = now
        for watcher in self._watchers:
            verdict = watcher.look(window)
            if verdict is not None:
                return verdict
        self.passed = self._end
        self.clean = max(self.clean, self._end - self._lookback)
        return None
