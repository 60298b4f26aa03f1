"""Whether the answer is one of the labels.

Rules: the final text is exactly the label; what a model writes around it (case, quotes, a full stop, the words
"Label:") is forgiven, a second label is not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, failed, passed

_PREFIX = re.compile(r"^\s*(?:the\s+)?(?:label|answer|category|class|sentiment|topic)\s*(?:is|:|=)\s*", re.IGNORECASE)
_AROUND = " \t\r\n\"'`*_.,;:!()[]{}<>"


class LabelsGate:
    """Judges answers that must be one of a closed set."""

    name = "labels"

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Judge a complete answer."""
        if not candidate.labels:
            return None
        if candidate.text in candidate.labels:
            return passed(self.name)
        shown = "" if candidate.restricted else f": {candidate.text[:60]!r}"
        return failed(self.name, "not_a_label", f"the answer is none of the {len(candidate.labels)} labels{shown}")


def read_label(text: str, labels: Sequence[str]) -> str | None:
    """Give the label that a model's text means, or None.

    1. The text itself. 2. The text without what surrounds it. 3. Its first line so.
    """
    if text in labels:
        return text
    folded = {label.casefold().strip(_AROUND): label for label in labels}
    for piece in (text, text.lstrip().split("\n", 1)[0]):
        bare = _PREFIX.sub("", piece).strip(_AROUND).casefold()
        if bare in folded:
            return folded[bare]
    return None
