"""What the caller sees of the attempts: numbered deltas, commitments, retractions (streams.md).

Rules: pure, time is passed in. Numbers rise strictly over the whole stream and are never reused. Hold-back applies to
every attempt. A retraction is lazy: it travels with the first delta that the next attempt releases, so that the partial
is not lost when the rest of the chain dies. Nothing at or before a checkpoint is ever retracted.

    begin ─▶ feed* ─▶ settle (the attempt stands: what is held is released, what differs is resent)
                  └─▶ drop   (it does not: a retraction is pending)  ─▶ begin …   or   restore (an earlier answer is resent)
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence

from gearshift.core.events import (
    Checkpoint,
    Delta,
    DeltaPart,
    Event,
    ReasoningDelta,
    Retract,
    TextDelta,
    ToolCallFragment,
)
from gearshift.core.pieces import Pieces
from gearshift.core.request import ToolCall
from gearshift.core.schema import canonical_json

_LONGEST_OVERLAP = 400
_LEAST_OVERLAP = 12
"""Shorter agreements between an ending and a beginning happen by chance."""


class Composer:
    """The caller's view of one stream.

    Args:
        hold_all: hold every attempt until it is settled (JSON, labels, tool calls, unary).
        hold_tokens: hold an attempt's text until so many tokens came ...
        hold_s: ... or so long after its first one; whichever is first.
        reasoning: pass reasoning on; it is never held.
        commit: give checkpoints as windows pass (only when every stage ahead can continue from them).

    """

    __slots__ = (
        "_commit",
        "_committed_length",
        "_ended",
        "_ending",
        "_first_at",
        "_held",
        "_held_tokens",
        "_hold_all",
        "_hold_s",
        "_hold_tokens",
        "_live",
        "_newest",
        "_next",
        "_open",
        "_passed",
        "_prefix",
        "_reasoning",
        "_retract",
        "_seam",
        "_seams",
        "_sent_from",
        "_thought",
        "committed",
    )

    def __init__(
        self, *, hold_all: bool, hold_tokens: int, hold_s: float, reasoning: bool, commit: bool = False
    ) -> None:
        self._hold_all = hold_all
        self._hold_tokens = hold_tokens
        self._hold_s = hold_s
        self._reasoning = reasoning
        self._commit = commit
        self._next = 1
        # Of the live deltas no more is kept than what a retraction or a checkpoint may ask for: either names the end of all,
        # or a seam.
        self._live = Pieces()
        """Their text."""
        self._newest = 0
        """The last one's number."""
        self._ended, self._ending = 0, ""
        """The number and the last character of the last one that has text."""
        self._committed_length = 0
        """Characters up to the last checkpoint."""
        self._seams: deque[tuple[int, int]] = deque()
        """Where a checkpoint may stand: the number of a delta and the characters up to its end."""
        self._retract: tuple[int, str] | None = None
        self._held: list[DeltaPart] = []
        self._held_tokens = 0
        self._first_at: float | None = None
        self._open = hold_tokens == 0 and not hold_all
        self._sent_from: int | None = None
        """Where this attempt's text begins in the live text, once something of it was released."""
        self._prefix = ""
        self._seam: tuple[str, int] | None = None
        """How the continuation was joined, once that was seen: what was put before it, and how much of it was cut off."""
        self._thought: list[str] = []
        """Reasoning that this attempt released before its first text, while an earlier partial still stands."""
        self._passed = 0
        self.committed = 0
        """The last checkpoint, or 0."""

    @property
    def holding(self) -> bool:
        """Whether this attempt's text has not been released yet."""
        return not self._open

    @property
    def holds_for_a_time(self) -> bool:
        """Whether this attempt's text is held, and only until it is old enough."""
        return not (self._open or self._hold_all)

    @property
    def released(self) -> str:
        """The live text, as the caller has it once a pending retraction is done."""
        return self._live.text()

    @property
    def shows_content(self) -> bool:
        """Whether the caller has seen any content of an attempt that may be dropped."""
        return self._newest > self.committed

    def committed_text(self) -> str:
        """Give the text up to the last checkpoint: what a continuation begins with."""
        return self._live.text()[: self._committed_length] if self._committed_length else ""

    def begin(self, *, prefix: str = "") -> None:
        """Begin an attempt; `prefix` is the committed text that it continues."""
        self._held = []
        self._held_tokens = 0
        self._first_at = None
        self._open = self._hold_tokens == 0 and not self._hold_all
        self._sent_from = None
        self._prefix = prefix
        self._seam = None
        self._thought = []

    def feed(self, parts: Sequence[DeltaPart], tokens: int, now: float) -> list[Event]:
        """Take what one upstream read brought; give what is released by it."""
        events: list[Event] = []
        kept: list[DeltaPart] = []
        for part in parts:
            if isinstance(part, ReasoningDelta):
                if self._reasoning:
                    events.append(self._number((part,), ""))
                    if self._retract is not None:
                        self._thought.append(part.text)
            else:
                kept.append(part)
        if not kept:
            return events
        if self._open:
            if self._held:  # a continuation's white space, which waits for a visible character
                kept = [*self._held, *kept]
                self._held = []
            events += self._release(kept)
            return events
        self._held += kept
        self._held_tokens += tokens or sum(_rough_tokens(part) for part in kept)
        if self._hold_all:
            return events
        if self._first_at is None:
            self._first_at = now
        return events

    def due(self, now: float) -> bool:
        """Tell whether the hold-back window is full, so that the held text should be judged and released."""
        if self._open or self._hold_all or not self._held:
            return False
        return self._held_tokens >= self._hold_tokens or (
            self._first_at is not None and now - self._first_at >= self._hold_s
        )

    def hold_left(self, now: float) -> float | None:
        """Give the seconds until held text is due by its age alone; None when there is none, or when age does not count."""
        if self._open or self._first_at is None or not self._held:
            return None
        return max(0.0, self._first_at + self._hold_s - now)

    def release(self, *, is_last: bool = False) -> list[Event]:
        """Release what is held and hold nothing more of this attempt, but for a seam that is not seen yet.

        Args:
            is_last: nothing more will come.
        """
        self._open = True
        held, self._held = self._held, []
        if not held:
            return []
        events = self._release(held, is_last=is_last)
        self._passed = self._next - 1
        return events

    def pass_window(self, clean: int) -> list[Event]:
        """Note that a window has passed, and commit what may be.

        Args:
            clean: characters of this attempt's own text, from its beginning, in which no later window can find anything.
        """
        if self._open:
            self._passed = self._next - 1
        if not self._seams or self._retract is not None:
            return []
        before, cut = self._seam if self._seam is not None else ("", 0)
        limit = len(self._prefix) + len(before) + clean - cut
        last = length = 0
        while self._seams and self._seams[0][1] <= limit:
            last, length = self._seams.popleft()
        if last <= self.committed:
            return []
        self.committed, self._committed_length = last, length
        return [Checkpoint(last)]

    def drop(self, reason: str) -> None:
        """Drop this attempt: what it released is retracted once another attempt releases something."""
        self._held = []
        if self.shows_content and self._retract is None:
            self._retract = (self.committed, reason)

    def keep(self) -> list[Event]:
        """Keep what was released although the attempt failed; what is held is released too, so that nothing is lost."""
        if self._hold_all or self._retract is not None:
            # Held whole; or an earlier partial stands, which this attempt's must not be appended to.
            self._retract = None
            self._held = []
            return []
        return self.release(is_last=True)

    def continued(self, text: str) -> str:
        """Give a continuation's text as it stands in the answer, joined as its beginning was when that was released."""
        if not self._prefix or not text.strip():
            return text
        before, cut = self._seam if self._seam is not None else seam(self._prefix, text)
        return before + text[cut:]

    def settle(self, final: str, tool_calls: Sequence[ToolCall], reason: str) -> list[Event]:
        """End the attempt that stands: release what is held, resend what differs from its final text."""
        if self._sent_from is None and not self._prefix:
            return self._whole(final, tool_calls)
        events = self.release(is_last=True)
        if self._retract is not None:
            events += self._retraction()
        if self._prefix + self._sent() != final:
            self._retract = (self.committed, reason)
            self._prefix = ""
            events += self._whole(final[len(self.committed_text()) :], tool_calls)
        return events

    def restore(self, final: str, tool_calls: Sequence[ToolCall], reason: str) -> list[Event]:
        """Resend an earlier answer under new numbers."""
        if self._newest:
            self._retract = (self.committed, reason)
        self._prefix = ""
        return self._whole(final, tool_calls)

    def _sent(self) -> str:
        """Give what this attempt has released."""
        return "" if self._sent_from is None else self._live.text(self._sent_from)

    def _whole(self, final: str, tool_calls: Sequence[ToolCall]) -> list[Event]:
        self._held = []
        self._open = True
        parts: list[DeltaPart] = [TextDelta(final)] if final else []
        parts += [ToolCallFragment(index, call.id, call.name, call.arguments) for index, call in enumerate(tool_calls)]
        if parts:
            return self._release(parts)
        return self._retraction() if self._retract is not None else []

    def _release(self, parts: Sequence[DeltaPart], *, is_last: bool = False) -> list[Event]:
        text = "".join([part.text for part in parts if isinstance(part, TextDelta)])
        if self._prefix and self._sent_from is None:
            before, cut = seam(self._prefix, text)
            if not text[cut:].strip() or (not is_last and _may_overlap(self._prefix, text)):
                # The seam is not seen until a visible character has come, and one that the ending does not have there.
                self._held = [*parts, *self._held]
                return []
            self._seam = before, cut
            text = before + text[cut:]
            parts = [TextDelta(text), *(part for part in parts if not isinstance(part, TextDelta))]
        events: list[Event] = []
        if self._retract is not None:
            if self._thought:  # it is dropped with the partial that it stands after, and so said again
                parts = [ReasoningDelta("".join(self._thought)), *parts]
                self._thought = []
            events = self._retraction()
        if self._commit and text[:1].isspace() and self._ended > self.committed and not self._ending.isspace():
            # A seam: what stands does not end in white space and its successor begins with it.
            self._seams.append((self._ended, self._live.length))
        if self._sent_from is None:
            self._sent_from = self._live.length
        events.append(self._number(tuple(parts), text))
        return events

    def _number(self, parts: tuple[DeltaPart, ...], text: str) -> Delta:
        number = self._next
        self._next += 1
        self._newest = number
        if text:
            self._live.append(text)
            self._ended, self._ending = number, text[-1]
        return Delta(number, parts, self._passed)

    def _retraction(self) -> list[Event]:
        assert self._retract is not None
        after, reason = self._retract
        self._retract = None
        if self._newest <= after:
            return []
        self._passed = min(self._passed, after)
        self._live = Pieces(self.committed_text())  # which is all that may stand: nothing is retracted to anywhere else
        self._newest = self._ended = after
        self._ending = ""
        self._seams.clear()
        return [Retract(after, reason)]


def seam(standing: str, continuation: str) -> tuple[str, int]:
    """Say how a continuation follows what stands: what goes before it, and how many of its characters are cut off.

    Overlap is trimmed, and it begins with white space, as what once followed there did.
    """
    tail = standing[-_LONGEST_OVERLAP:]
    bare = continuation.lstrip()
    cut = 0
    for size in range(min(len(tail), len(bare)), _LEAST_OVERLAP - 1, -1):
        if bare.startswith(tail[-size:]):
            cut = len(continuation) - len(bare) + size
            break
    rest = continuation[cut : cut + 1]
    return "" if not rest or rest.isspace() else " ", cut


def _may_overlap(standing: str, continuation: str) -> bool:
    """Tell whether what follows may yet make an overlap of a continuation's beginning."""
    tail, bare = standing[-_LONGEST_OVERLAP:], continuation.lstrip()
    place = tail.find(bare)
    return 0 <= place <= len(tail) - max(_LEAST_OVERLAP, len(bare) + 1)


def digest_of(text: str, tool_calls: Sequence[ToolCall]) -> str:
    """Give the SHA-256 of the final text, or of the canonical JSON of id, name and arguments of the tool calls."""
    if tool_calls:
        text = canonical_json([{"id": call.id, "name": call.name, "arguments": call.arguments} for call in tool_calls])
    return hashlib.sha256(text.encode()).hexdigest()


def _rough_tokens(part: DeltaPart) -> int:
    size = len(part.arguments) if isinstance(part, ToolCallFragment) else len(part.text)
    return max(1, size // 4)
