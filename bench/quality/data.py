"""The recorded answers, as rows that all measurements share.

A row's group is the text of its question without its options, letters and digits alone, so that cross-validation never
has one question on both sides: nearly half of MMLU-Pro's questions are MMLU's too, with other options.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FOLDS = 5
LETTERS = "ABCDEFGHIJ"
FILES = (
    "mmlu_pro_cascade/questions.jsonl.gz",
    "mmlu_pro_cascade/responses.jsonl.gz",
    "routellm/mmlu.jsonl.gz",
    "routellm/gsm8k.jsonl.gz",
    "gsm8k_6b_175b/solutions.jsonl.gz",
    "routerarena_cached/results.jsonl.gz",
    "llmrouter_9models/queries.jsonl.gz",
)
PRICES = {  # USD per million tokens, in and out; quality protocol, list prices of late 2024
    "phi-3-mini": (0.10, 0.10),
    "llama-3.1-8b": (0.22, 0.22),
    "llama-3.1-70b": (0.88, 0.88),
    "gemini-1.5-flash": (0.075, 0.30),
    "gemini-1.5-pro": (1.25, 5.00),
}
WEAK_USD, STRONG_USD = 0.24, 24.7  # RouteLLM, section 5.4


class Answer(NamedTuple):
    """One recorded answer."""

    source: str
    model: str
    group: str
    prompt: str
    text: str
    right: bool


class Question(NamedTuple):
    """One question and the share of models that are right."""

    source: str
    group: str
    prompt: str
    share: float


class Pair(NamedTuple):
    """One question to a weak and a strong model; `answer` is the weak one's text, empty when not recorded."""

    group: str
    prompt: str
    answer: str
    weak: bool
    strong: bool
    weak_usd: float
    strong_usd: float


class Asked(NamedTuple):
    """One question to many models, with the kind of question that the recording names."""

    group: str
    prompt: str
    kind: str
    scores: tuple[float, ...]


def rows(data: Path, name: str) -> list[dict[str, Any]]:
    """Read a file; one that is missing has no rows."""
    if not (data / name).exists():
        return []
    with gzip.open(data / name, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def missing(data: Path) -> list[str]:
    """Give the files that are not there."""
    return [name for name in FILES if not (data / name).exists()]


def digest(data: Path) -> str:
    """Give what tells one set of data from another."""
    found = hashlib.sha256()
    for name in FILES:
        found.update((data / name).read_bytes() if (data / name).exists() else b"-")
    return found.hexdigest()


_FIRST_OPTION = re.compile(r"\n\(?A[.)] ")
_SIGNS = re.compile(r"[\W_]+")


def group_of(question: str) -> str:
    """Give what one question has in common wherever it is asked."""
    return _SIGNS.sub(" ", _FIRST_OPTION.split(question, maxsplit=1)[0].lower()).strip()


def fold_of(group: str) -> int:
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % FOLDS


def lettered(row: dict[str, Any]) -> str:
    return "\n".join([row["question"], *(f"{LETTERS[at]}. {each}" for at, each in enumerate(row["options"]))])


def answers(data: Path) -> Iterator[Answer]:
    questions = {row["question_id"]: row for row in rows(data, FILES[0])}
    for row in rows(data, FILES[1]):
        asked = questions[row["question_id"]]
        for model, text in row.items():
            if model != "question_id":
                right = bool(asked["correct"][model])
                yield Answer("mmlu_pro", model, group_of(asked["question"]), lettered(asked), text, right)
    for row in rows(data, FILES[3]):
        yield Answer(
            "gsm8k",
            "mixtral-8x7b",
            group_of(row["prompt"]),
            row["prompt"],
            row["weak_response"],
            bool(row["weak_correct"]),
        )
        yield Answer(
            "gsm8k",
            "gpt-4",
            group_of(row["prompt"]),
            row["prompt"],
            row["strong_response"],
            bool(row["strong_correct"]),
        )
    for row in rows(data, FILES[4]):
        for model, each in row["models"].items():
            yield Answer(
                "gsm8k", model, group_of(row["question"]), row["question"], each["response"], bool(each["correct"])
            )
    for row in rows(data, FILES[5]):
        for model, each in row["models"].items():
            if each["score"] in (0, 1):
                yield Answer(
                    "arena", model, group_of(row["prompt"]), row["prompt"], each["response"], bool(each["score"])
                )


def questions(data: Path) -> Iterator[Question]:
    for row in rows(data, FILES[0]):
        right = list(row["correct"].values())
        yield Question("mmlu_pro", group_of(row["question"]), lettered(row), sum(right) / len(right))
    for row in rows(data, FILES[2]):
        yield Question(
            "mmlu", group_of(row["prompt"]), row["prompt"], (row["weak_correct"] + row["strong_correct"]) / 2
        )
    small = {row["question"]: [each["correct"] for each in row["models"].values()] for row in rows(data, FILES[4])}
    for row in rows(data, FILES[3]):
        right = [*small.get(row["prompt"], []), row["weak_correct"], row["strong_correct"]]
        yield Question("gsm8k", group_of(row["prompt"]), row["prompt"], sum(right) / len(right))


def mmlu_pairs(data: Path) -> list[Pair]:
    return [
        Pair(
            group_of(row["prompt"]),
            row["prompt"],
            "",
            bool(row["weak_correct"]),
            bool(row["strong_correct"]),
            WEAK_USD,
            STRONG_USD,
        )
        for row in rows(data, FILES[2])
    ]


def gsm8k_pairs(data: Path) -> list[Pair]:
    return [
        Pair(
            group_of(row["prompt"]),
            row["prompt"],
            row["weak_response"],
            bool(row["weak_correct"]),
            bool(row["strong_correct"]),
            WEAK_USD,
            STRONG_USD,
        )
        for row in rows(data, FILES[3])
    ]


def mmlu_pro_pairs(data: Path, weak: str, strong: str) -> list[Pair]:
    """Give pairs with recorded answers; tokens are characters / 4, without the five shots."""
    texts = {row["question_id"]: row for row in rows(data, FILES[1])}
    found: list[Pair] = []
    for row in rows(data, FILES[0]):
        if row["question_id"] not in texts:
            continue
        prompt = lettered(row)
        costs = [
            (len(prompt) * PRICES[model][0] + row["out_chars"][model] * PRICES[model][1]) / 4 / 1e6
            for model in (weak, strong)
        ]
        correct = row["correct"]
        text = texts[row["question_id"]][weak]
        found.append(Pair(group_of(row["question"]), prompt, text, bool(correct[weak]), bool(correct[strong]), *costs))
    return found


def mmlu_asked(data: Path) -> list[Asked]:
    """Give what Mixtral and GPT-4 made of MMLU, with its subjects."""
    return [
        Asked(
            group_of(row["prompt"]),
            row["prompt"],
            row["subject"],
            (float(row["weak_correct"]), float(row["strong_correct"])),
        )
        for row in rows(data, FILES[2])
    ]


def nine_asked(data: Path, models: Sequence[str]) -> list[Asked]:
    """Give what the nine models made of assorted benchmarks."""
    return [
        Asked(
            group_of(row["query"]), row["query"], row["task_name"], tuple(float(row["scores"][each]) for each in models)
        )
        for row in rows(data, FILES[6])
    ]


def nine_prices(data: Path) -> dict[str, float]:
    """Give the price of each of the nine models, in USD per million tokens, in and out alike."""
    path = data / "llmrouter_9models/prices.json"
    if not path.exists():
        return {}
    return {name: float(each["usd_per_mtok_in"]) for name, each in sorted(json.loads(path.read_text("utf-8")).items())}
