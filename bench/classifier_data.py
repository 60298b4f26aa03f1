"""The labelled prompts that the task classifier is trained and measured on.

Rules: reads folders of the shape of bench/data (task types) and bench/data/complexity; any folder with the same files
and columns will do.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gearshift.core.classifier.complexity import LEVELS

ROOT = Path(__file__).resolve().parent.parent
TYPES = ROOT / "bench/data"
COMPLEXITY = ROOT / "bench/data/complexity"

CLASSES = ("classify", "extract", "generate", "reason", "embed")
TEXTS = ("id", "text", "source", "group", "form")  # columns of a prompt
BENCHMARKS = ("llmrouter", "routerarena")  # prompts of a few benchmarks, kept apart by question, not by data set

KIND_OF = {  # the assorted benchmarks by what they ask for; all others are everyday questions
    "natural_qa": "facts",
    "trivia_qa": "trivia",
    "mbpp": "code",
    "human_eval": "code",
    "math": "math",
    "agentverse-logicgrid": "math",
}

SLOT = re.compile(r"\{+[^{}]*\}+")  # the names of a template's slots ("{premise}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt with its task type."""

    id: str
    text: str
    label: int
    source: str
    group: str
    """The data set below it; benchmarks too."""
    unit: str
    """What is never on both sides of a split: the group, or for benchmarks the question."""
    form: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with how capable a model it calls for."""

    text: str
    level: int
    source: str
    """One of complexity.SOURCES."""
    kind: str
    """One of complexity.KINDS."""
    id: str


def read_prompts(folder: Path = TYPES) -> list[Prompt]:
    return [
        Prompt(
            id=entry["id"],
            text=entry["text"],
            label=CLASSES.index(entry["task_type"]),
            source=entry["source"],
            group=entry["group"],
            unit=entry["id"] if entry["source"] in BENCHMARKS else entry["group"],
            form=entry["form"],
        )
        for entry in _entries(folder / "task_type/prompts.jsonl.gz", task_type=CLASSES, **dict.fromkeys(TEXTS, str))
    ]


def read_questions(folder: Path = COMPLEXITY) -> list[Question]:
    questions = []
    for entry in _entries(
        folder / "mmlu_pro_cascade/questions.jsonl.gz", complexity=LEVELS, question=str, options=list
    ):
        options = "\n".join(f"{chr(ord('A') + place)}. {option}" for place, option in enumerate(entry["options"]))
        text = f"{entry['question']}\n{options}"
        questions.append((text, entry["complexity"], "exam", "exam", f"exam {entry.get('question_id', text)}"))
    for entry in _entries(folder / "llmrouter_9models/queries.jsonl.gz", complexity=LEVELS, query=str, task_name=str):
        kind = KIND_OF.get(entry["task_name"], "everyday")
        questions.append((entry["query"], entry["complexity"], "assorted", kind, entry["query"]))
    # A few solutions have no calculations to count, and so no complexity.
    for entry in _entries(folder / "gsm8k_6b_175b/solutions.jsonl.gz", complexity=(None, *LEVELS), question=str):
        if entry["complexity"]:
            questions.append((entry["question"], entry["complexity"], "steps", "steps", entry["question"]))
    return [
        Question(text=text, level=LEVELS.index(level), source=source, kind=kind, id=identity)
        for text, level, source, kind, identity in questions
    ]


def fold_of(unit: str, salt: str, folds: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{salt}:{unit}".encode()).digest()[:8]) % folds


def _entries(path: Path, **columns: type | Sequence[str | None]) -> Iterator[dict]:
    """Read the rows of a file that have all columns; one that is missing has none.

    Args:
        path: the file.
        columns: per column the type of its values, or all values that it may have.
    """
    if not path.exists():
        return
    left_out: Counter[str] = Counter()
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for entry in map(json.loads, file):
            wrong = next((name for name, kind in columns.items() if not _fits(entry.get(name), kind)), None)
            if wrong is None:
                yield entry
            else:
                left_out[wrong] += 1
    for name, count in left_out.items():
        print(
            f"{path.parent.name}/{path.name}: {count:,} rows have no right `{name}` and are left out", file=sys.stderr
        )


def _fits(value: object, kind: type | Sequence[str | None]) -> bool:
    return isinstance(value, kind) if isinstance(kind, type) else value in kind
