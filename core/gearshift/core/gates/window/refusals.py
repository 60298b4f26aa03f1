"""Whether the model breaks off its answer to refuse.

Rules: a refusal at the beginning is the end gate's (a long answer may follow an apology); in the middle only a sentence
counts that says of this request that the writer cannot go on, outside quotation marks, since people in stories refuse.
"""

from __future__ import annotations

import re

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import failed
from gearshift.core.gates.window.base import Window

_LONGEST = 200
_NOT = r"(?:can(?:no|['’])t|cannot|won['’]t|will not|am (?:unable|not able) to|['’]m (?:unable|not able) to|must not)"
_GO_ON = r"(?:continue|go on|proceed|complete|finish|help|assist|comply|fulfill|provide|generate|write)"
_THIS = r"(?:with\s+)?(?:this|that|your|the)\s+(?:request|answer|response|task|content|conversation|topic|prompt|text)"
_REFUSAL = re.compile(
    rf"(?:^|[.!?…\n]\s*)(?:(?:I['’]m|I am)\s+(?:very\s+)?sorry|Sorry|Apologies|Unfortunately)?\W{{0,3}}(?:but\s+)?"
    rf"\bI\s*{_NOT}\s+{_GO_ON}\b.{{0,40}}?\b{_THIS}",
    re.IGNORECASE | re.DOTALL,
)
_QUOTES = str.maketrans({"“": '"', "”": '"', "«": '"', "»": '"'})


class RefusalWatcher:
    """Looks for a sentence that breaks the answer off."""

    lookback = _LONGEST

    def look(self, window: Window) -> Verdict | None:
        """Give a refusal that the window holds, or None."""
        region = window.tail[-(window.size + _LONGEST) :]
        found = _REFUSAL.search(region)
        if found is None or region[: found.start()].translate(_QUOTES).count('"') % 2:
            return None
        return failed("refusal", "broken_off", "the model broke its answer off to refuse")
