"""What was fitted to the recorded answers beside the package's own weights: routers, thresholds, and which rows were used.

Rules: made by `bench.quality.train` and read by `bench.quality`, so that other data of the same shape is measured without
fitting anything to it. Holds no text but single words, pairs and pieces of words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from bench.quality import data as recorded
from bench.quality.measures import Decision
from bench.quality.routers import Router
from bench.quality.rows import rows

FOLDER = Path(__file__).resolve().parents[1] / "data/quality"
_BYTES = 5


class Fitted(NamedTuple):
    """All of it.

    Args:
        decisions: by name of a pair, one for each caution of `CAUTIONS`.
        nine_models: in the order of the router's columns.
        nine_weight: what a dollar per million tokens counts against a point of expected score.
        seen: digests of all prompts that anything was fitted to.

    """

    mmlu: Router
    nine: Router
    nine_models: tuple[str, ...]
    nine_weight: float
    decisions: Mapping[str, Sequence[Decision]]
    seen: frozenset[bytes]

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Self:
        """Read what the repository has."""
        document = json.loads((folder / "decisions.json").read_text("utf-8"))
        digests = (folder / "seen.bin").read_bytes()
        return cls(
            Router.load(folder / "mmlu.npz"),
            Router.load(folder / "nine.npz"),
            tuple(document["nine_models"]),
            document["nine_weight"],
            {name: [Decision(*each) for each in found] for name, found in document["decisions"].items()},
            frozenset(digests[at : at + _BYTES] for at in range(0, len(digests), _BYTES)),
        )

    def save(self, folder: Path = FOLDER) -> None:
        """Write it down."""
        folder.mkdir(parents=True, exist_ok=True)
        self.mmlu.save(folder / "mmlu.npz")
        self.nine.save(folder / "nine.npz")
        document = {
            "decisions": self.decisions,
            "nine_models": self.nine_models,
            "nine_weight": self.nine_weight,
        }
        (folder / "decisions.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")
        (folder / "seen.bin").write_bytes(b"".join(sorted(self.seen)))

    def known(self, prompts: Iterable[str]) -> np.ndarray:
        """Tell which prompts something was fitted to."""
        return np.array([digest_of(prompt) in self.seen for prompt in prompts], dtype=bool)


@cache
def fitted() -> Fitted:
    """Give what the repository has, read once."""
    return Fitted.load()


def digest_of(prompt: str) -> bytes:
    """Give what tells one prompt from another, white space and case apart; two of a million may be taken for one."""
    return hashlib.sha256(" ".join(prompt.lower().split()).encode()).digest()[:_BYTES]


def all_prompts(data: Path) -> Iterable[str]:
    """Give every prompt that something is fitted to."""
    for question in recorded.questions(data):
        yield question.prompt
    for answer in recorded.answers(data):
        yield answer.prompt
    for row in rows(data, recorded.MANY):
        yield row["query"]
