"""The lines on single gates: which of their flags are right, and which faults they find.

Rules: counts stand beside every share. Refusals are judged by labels that were given by reading (bench/data/gates). Cut answers are made: whole
ones that were judged right, cut after a random token, and the same left whole; real ones are those that a recording's limit on
tokens cut. Other faults are made as `bench.gates` makes them. No gate is fitted to anything here.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench import gates
from bench.gates import Recorded, candidate, failure, only, reason, share
from bench.quality.table import Row, not_measured
from gearshift.core.gates import Candidate
from gearshift.core.gates.asked import Asked
from gearshift.core.gates.base import Gate
from gearshift.core.gates.refusal import RefusalGate
from gearshift.core.gates.repetition import RepetitionGate
from gearshift.core.words import TaskType

LABELLED: Final = Path(__file__).resolve().parents[1] / "data/gates/refusals.jsonl"
CUTS: Final = 5_000
_LEAST: Final = 200
"""Characters that an answer must have to be cut."""
_LIMIT: Final = 2_500
"""Characters from which an answer that never came to its choice was cut by the recording's limit of tokens."""
_CHOSEN = re.compile(r"[Aa]nswer(?: is)?:? ?\(?[A-J]\b|boxed\{[A-J]\b")


class Labelled(NamedTuple):
    """An answer that was read; `label` is `declines`, `answers` or `doubtful`."""

    prompt: str
    text: str
    label: str


def lines(data: Path) -> Iterator[Row]:
    """Measure."""
    yield from refusals(list(labelled()))
    answers = list(gates.recorded(data))
    if not answers:
        yield not_measured("truncation, told by the text", "-", "-", "no recorded answers")
        return
    yield flagged_refusals(answers)
    yield from truncation(answers)
    yield from checks(answers)


def labelled() -> Iterator[Labelled]:
    """Read the labels."""
    for line in LABELLED.read_text("utf-8").splitlines():
        row = json.loads(line)
        yield Labelled(row["prompt"], row["text"], row["label"])


def refusals(rows: Sequence[Labelled]) -> Iterator[Row]:
    gate, flagged, of = (
        RefusalGate(),
        {"declines": 0, "answers": 0, "doubtful": 0},
        {"declines": 0, "answers": 0, "doubtful": 0},
    )
    for row in rows:
        asked = Asked.of(row.prompt)
        made = Candidate(text=row.text, raw=row.text, task_type=TaskType.REASON, output=None, asked=asked)
        flagged[row.label] += bool(failure(gate, made))
        of[row.label] += 1
    right = flagged["declines"]
    told = f"precision {share(right, right + flagged['answers'])}, recall {share(right, of['declines'])}"
    how = (
        f"{len(rows)} recorded answers labelled by reading; of the {of['doubtful']} doubtful ones {flagged['doubtful']} are "
        "flagged and none counted"
    )
    yield Row("refusal", "-", "-", told, how)


def flagged_refusals(answers: Sequence[Recorded]) -> Row:
    gate = RefusalGate()
    flagged = [each for each in answers if failure(gate, candidate(each))]
    right = [each for each in flagged if each.is_right]
    told = f"{len(flagged):,} of {len(answers):,} flagged, {len(right)} of them judged right"
    return Row("refusal, in all recorded answers", "-", "-", told, "an answer that is right is no refusal")


def truncation(answers: Sequence[Recorded]) -> Iterator[Row]:
    gate, chance = only("structure"), random.Random(6)
    whole = [each for each in answers if each.is_right and len(each.text) >= _LEAST]
    whole = chance.sample(whole, min(CUTS, len(whole)))
    if whole:
        found = sum([bool(reason(gate, candidate(each, cut(each.text, chance)))) for each in whole])
        false = sum([bool(reason(gate, candidate(each))) for each in whole])
        told = f"precision {share(found, found + false)}, recall {share(found, len(whole))}; of whole ones {share(false, len(whole))} flagged"
        yield Row(
            "truncation, told by the text", "-", "-", told, "right answers, each whole and cut after a random token"
        )
    real = [each for each in answers if each.source.startswith("mmlu_pro llama") and is_cut(each.text)]
    if real:
        ends, loops = RepetitionGate(), 0
        found = 0
        for each in real:
            is_loop = bool(failure(ends, candidate(each)))
            loops += is_loop
            found += is_loop or bool(reason(gate, candidate(each)))
        told = f"recall {share(found, len(real))}, {loops} of them as loops"
        yield Row(
            "truncation, real ones", "-", "-", told, "Llama's answers that the recording's limit cut before a choice"
        )


def is_cut(text: str) -> bool:
    """Tell whether a recorded answer of the exam ran into the limit: long, and no choice is stated."""
    return len(text) >= _LIMIT and _CHOSEN.search(text) is None


def cut(text: str, chance: random.Random) -> str:
    """Give the text up to a random token of its later three quarters."""
    ends = [each.end() for each in gates.TOKEN.finditer(text)]
    return text[: chance.choice(ends[len(ends) // 4 : -1])]


def checks(answers: Sequence[Recorded]) -> Iterator[Row]:
    """Flags on recorded answers that are wrong, and made faults that are found."""
    right = [each for each in answers if each.is_right and len(each.text) > _LEAST]
    for name, fault in FAULTS.items():
        gate, chance = only(name), random.Random(2)
        yield flags_and_faults(name, lambda made, gate=gate: reason(gate, made), fault, answers, right, chance)  # type: ignore[misc]
    loops: Gate = RepetitionGate()
    sample = random.Random(5).sample(right, min(2_000, len(right)))
    yield flags_and_faults(
        "repetition", lambda made: failure(loops, made), gates.looped, answers, sample, random.Random(5)
    )


FAULTS: Final = {"arithmetic": gates.slipped, "contradiction": gates.contradicted, "conclusion": gates.concluded}


def flags_and_faults(
    name: str,
    judge: Callable[[Candidate], str],
    fault: Callable[[Recorded, random.Random], str | None],
    answers: Sequence[Recorded],
    right: Sequence[Recorded],
    chance: random.Random,
) -> Row:
    flagged = [each for each in answers if each.is_right is not None and judge(candidate(each))]
    wrong = sum([not each.is_right for each in flagged])
    texts = [(each, text) for each in right if (text := fault(each, chance)) is not None]
    found = sum([bool(judge(candidate(each, text))) for each, text in texts])
    told = f"flagged answers that are wrong {share(wrong, len(flagged))}; made faults found {share(found, len(texts))}"
    base = sum([each.is_right is False for each in answers])
    return Row(
        f"check `{name}`",
        "-",
        "-",
        told,
        f"of all judged answers {share(base, sum([each.is_right is not None for each in answers]))} are wrong",
    )
