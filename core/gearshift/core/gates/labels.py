"""Whether the answer is one of the labels.

Rules: the final text is exactly the label; what a model writes around it (case, quotes, a full stop, the words
"Label:") is forgiven, a second label is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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

    1. The text itself. 2. The text without what surrounds it. 3. Its first line so, where no later line is another label.
    """
    if text in labels:
        return text
    # Labels that differ only in case or marks are told apart by the exact text alone.
    folded: dict[str, str] = {}
    alike: set[str] = {""}
    for each in labels:
        bare = _bare(each)
        if bare in folded:
            alike.add(bare)
        folded[bare] = each
    for bare in alike:
        folded.pop(bare, None)
    if (label := _meant(text, folded)) is not None:
        return label
    first, *rest = text.strip().split("\n")
    label = _meant(first, folded)
    return label if all(_meant(line, folded) in (None, label) for line in rest) else None


def _meant(text: str, folded: Mapping[str, str]) -> str | None:
    return folded.get(_bare(text)) or folded.get(_bare(_PREFIX.sub("", text, count=1)))


def _bare(text: str) -> str:
    return text.strip(_AROUND).casefold()
