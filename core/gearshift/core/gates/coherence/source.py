"""Whether the values of an extracted document occur in what was asked.

Rules: extraction to JSON only. Strings and numbers are compared without regard to case, spaces, marks, thousands
separators and trailing zeros; a date is found when its parts are, a phrase when its words are, in any order. The schema's
own words (enumerations, constants, defaults) count as given. Keys, booleans, null, 0 and 1 are never looked for. Where a
picture was given nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, doubted
from gearshift.core.schema import DocumentError, parse_document
from gearshift.core.words import TaskType

GATE = "source"
_MOST_VALUES = 500
_LONGEST_WORD = 4
"""Letters of a word's beginning that must agree: `companies` for `company`."""

_WORDS = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
_MONTHS = {
    month: number
    for number, months in enumerate(
        (
            "jan january", "feb february", "mar march", "apr april", "may", "jun june", "jul july", "aug august",
            "sep sept september", "oct october", "nov november", "dec december",
        ),
        1,
    )
    for month in months.split()
}  # fmt: skip
_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_SPELLED = {word: str(number) for number, word in enumerate(_SMALL)} | {
    "first": "1", "second": "2", "third": "3", "once": "1", "twice": "2", "half": "0.5", "hundred": "100",
    "thousand": "1000", "dozen": "12", "a": "1", "an": "1", "million": "1000000",
}  # fmt: skip
_COMMON = frozenset(
    {"0", "1", "the", "of", "and", "a", "an", "in", "to", "for", "on", "at", "by", "none", "null", "unknown"}
)


class SourceCheck:
    """Judges extracted documents by their values."""

    name = GATE
    of_documents = True

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Give what is wrong with a complete answer, or None."""
        asked = candidate.asked
        if (
            asked is None
            or candidate.task_type is not TaskType.EXTRACT
            or not candidate.is_json
            or not asked.is_readable
        ):
            return None
        try:
            document = parse_document(candidate.text)
        except DocumentError:
            return None  # the schema gate's
        given = _given(asked.text)
        for value in _values(document):
            if not _occurs(value, given):
                shown = "a value" if candidate.restricted else f"{str(value)[:60]!r}"
                return doubted(GATE, "not_in_source", f"{shown} does not occur in what was asked")
        return None


def _given(text: str) -> tuple[frozenset[str], str]:
    words: set[str] = set()
    for word in _WORDS.findall(text.casefold()):
        words.add(word)
        words.add(_stem(word))
        if word in _MONTHS:
            words.add(str(_MONTHS[word]))
        if word in _SPELLED:
            words.add(_SPELLED[word])
    return frozenset(words), "".join(re.findall(r"\w+", text.casefold()))


def _values(document: object) -> Iterator[str]:
    """Give the strings and numbers of a document, outermost first."""
    left, given = [document], 0
    while left and given < _MOST_VALUES:
        value = left.pop()
        if isinstance(value, dict):
            left.extend(value.values())  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        elif isinstance(value, list):
            left.extend(value)  # pyright: ignore[reportUnknownArgumentType]
        elif value is not None and not isinstance(value, bool):
            given += 1
            yield str(value)


def _occurs(value: str, given: tuple[frozenset[str], str]) -> bool:
    words, run = given
    folded = value.casefold()
    if "".join(re.findall(r"\w+", folded)) in run:
        return True
    return all(word in _COMMON or _stem(word) in words or word in words for word in _WORDS.findall(folded))


def _stem(word: str) -> str:
    if word[0].isdigit():
        plain = word.replace(",", "")
        if "." in plain:
            whole, _, rest = plain.partition(".")
            plain = f"{whole}.{rest.rstrip('0')}".rstrip(".")
        return plain.lstrip("0") or "0"
    return word[: max(_LONGEST_WORD, len(word) - 3)] if len(word) > _LONGEST_WORD else word
