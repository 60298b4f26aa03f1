"""Whether the model breaks off its answer to refuse.

Rules: a refusal at the beginning is the end gate's (a long answer may follow an apology); in the middle only a sentence
counts that says of this request that the writer cannot go on, outside quotation marks, since people in stories refuse.
"""

from __future__ import annotations

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import failed
from gearshift.core.gates.refusal import LONGEST_BREAK, breaks_off
from gearshift.core.gates.window.base import Window


class RefusalWatcher:
    """Looks for a sentence that breaks the answer off."""

    lookback = LONGEST_BREAK

    def look(self, window: Window) -> Verdict | None:
        """Give a refusal that the window holds, or None."""
        if not breaks_off(window.tail[-(window.size + LONGEST_BREAK) :]):
            return None
        return failed("refusal", "broken_off", "the model broke its answer off to refuse")
