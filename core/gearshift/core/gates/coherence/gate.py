"""The checks that are in force, and what each finding does.

Rules: a check gives what is wrong, or None. One that rejects says it as it is: hard where the answer cannot be used, soft
where it must not be accepted. One that only notes says NOTED, which changes nothing. Checks whose flags were right in fewer
than 95 of 100 recorded answers, or that flagged too few to tell, do not reject unless the configuration says so
(docs/gates.md has the figures). All that pass give one verdict together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import structs

from gearshift.core.answer import Verdict
from gearshift.core.gates.base import Candidate, passed
from gearshift.core.gates.coherence.arithmetic import ArithmeticCheck
from gearshift.core.gates.coherence.conclusion import ConclusionCheck
from gearshift.core.gates.coherence.contradiction import ContradictionCheck
from gearshift.core.gates.coherence.emptiness import EmptinessCheck
from gearshift.core.gates.coherence.source import SourceCheck
from gearshift.core.gates.coherence.structure import StructureCheck
from gearshift.core.gates.language.check import LanguageCheck
from gearshift.core.words import VerdictResult

GATE = "coherence"


class Effect(StrEnum):
    """What a finding does."""

    REJECT = "reject"
    NOTE = "note"
    OFF = "off"


class Check(Protocol):
    """One question to an answer."""

    @property
    def name(self) -> str:
        """The check's name in verdicts and in the configuration."""
        ...

    @property
    def of_documents(self) -> bool:
        """Whether it is a question to documents; else it is one to free text. It is asked of no other answers."""
        ...

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Give what is wrong with a complete answer, or None."""
        ...


# The hard ones first: one verdict is given, and the worst should be it.
_ALL: tuple[Check, ...] = (
    LanguageCheck(),
    ContradictionCheck(),
    StructureCheck(),
    ArithmeticCheck(),
    ConclusionCheck(),
    EmptinessCheck(),
    SourceCheck(),
)

CHECKS = tuple(check.name for check in _ALL)
"""Names of all checks."""

DEFAULT_EFFECTS: Mapping[str, Effect] = {
    "language": Effect.REJECT,
    "contradiction": Effect.NOTE,
    "structure": Effect.REJECT,
    "arithmetic": Effect.REJECT,
    "conclusion": Effect.OFF,
    "emptiness": Effect.NOTE,
    "source": Effect.OFF,
}
"""What each check does unless the configuration says otherwise."""

_PASSED = passed(GATE)


class CoherenceGate:
    """Asks the checks.

    Args:
        effects: what each check does, by name; one that is missing is off.
    """

    name = GATE

    def __init__(self, effects: Mapping[str, Effect]) -> None:
        self._of_text = _asked_of(effects, of_documents=False)
        self._of_documents = _asked_of(effects, of_documents=True)

    def judge(self, candidate: Candidate) -> Verdict | None:
        """Judge a complete answer."""
        if candidate.output is None and not candidate.tool_calls:
            rejecting, noting = self._of_text
        elif candidate.labels or candidate.tool_calls:
            return None  # judged by their form
        else:
            rejecting, noting = self._of_documents
        for judge in rejecting:
            if (verdict := judge(candidate)) is not None:
                return verdict
        for judge in noting:
            if (verdict := judge(candidate)) is not None:
                return structs.replace(verdict, result=VerdictResult.NOTED)
        return _PASSED


def effects_of(said: Sequence[tuple[str, str]]) -> dict[str, Effect]:
    """Give what each check does, where the configuration says so much."""
    return {**DEFAULT_EFFECTS, **{name: Effect(effect) for name, effect in said}}


_Judges = tuple[Callable[[Candidate], Verdict | None], ...]


def _asked_of(effects: Mapping[str, Effect], *, of_documents: bool) -> tuple[_Judges, _Judges]:
    """Give the checks of one kind of answer: those that reject, and those that only note."""
    checks = [check for check in _ALL if check.of_documents is of_documents]
    return (
        tuple([check.judge for check in checks if effects.get(check.name) is Effect.REJECT]),
        tuple([check.judge for check in checks if effects.get(check.name) is Effect.NOTE]),
    )
