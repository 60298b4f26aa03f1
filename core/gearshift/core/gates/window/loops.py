"""Whether the model is falling into a loop."""

from __future__ import annotations

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import failed
from gearshift.core.gates.repetition import TAIL_LOOKED_AT, loop_at_end
from gearshift.core.gates.window.base import Window


class LoopWatcher:
    """Looks at the text's end for one unit many times over; a loop is seen on its fourth turn."""

    lookback = TAIL_LOOKED_AT

    def look(self, window: Window) -> Verdict | None:
        """Give a loop that the text ends in, or None."""
        repeats = loop_at_end(window.tail)
        if repeats == 0:
            return None
        return failed("repetition", "loop", f"the text ends in the same words {repeats} times over")
