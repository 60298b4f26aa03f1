"""The labelled prompts that the task classifier is trained and measured on.

Rules: reads folders of the shape of bench/data (task types) and bench/data/complexity; any folder with the same files
and columns will do.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gearshift.core.classifier.complexity import LEVELS

ROOT = Path(__file__).resolve().parent.parent
TYPES = ROOT / "bench/data"
COMPLEXITY = ROOT / "bench/data/complexity"

CLASSES = ("classify", "extract", "generate", "reason", "embed")
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
        for entry in _entries(folder / "task_type/prompts.jsonl.gz")
    ]


def read_questions(folder: Path = COMPLEXITY) -> list[Question]:
    questions = []
    for entry in _entries(folder / "mmlu_pro_cascade/questions.jsonl.gz"):
        options = "\n".join(f"{chr(ord('A') + place)}. {option}" for place, option in enumerate(entry["options"]))
        text = f"{entry['question']}\n{options}"
        questions.append((text, entry["complexity"], "exam", "exam", f"exam {entry['question_id']}"))
    for entry in _entries(folder / "llmrouter_9models/queries.jsonl.gz"):
        kind = KIND_OF.get(entry["task_name"], "everyday")
        questions.append((entry["query"], entry["complexity"], "assorted", kind, entry["query"]))
    for entry in _entries(folder / "gsm8k_6b_175b/solutions.jsonl.gz"):
        if entry["complexity"]:  # a few solutions have no calculations to count
            questions.append((entry["question"], entry["complexity"], "steps", "steps", entry["question"]))
    return [
        Question(text=text, level=LEVELS.index(level), source=source, kind=kind, id=identity)
        for text, level, source, kind, identity in questions
    ]


def fold_of(unit: str, salt: str, folds: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{salt}:{unit}".encode()).digest()[:8]) % folds


def _entries(path: Path) -> Iterator[dict]:
    """Read a file; one that is missing has no rows."""
    if not path.exists():
        return
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)
