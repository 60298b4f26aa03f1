"""Routers that read the prompt alone: what the words of a question say of each model's chance to be right.

Fitted by ridge regression on words, numbers, marks and pairs of neighbours, and a few figures of the prompt's form; the
same for two models (RouteLLM's MMLU) and for nine. One thread, no random numbers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.linear_model import Ridge

from bench.quality import data as recorded
from gearshift.core.confidence.features import NAMES, evidence
from gearshift.core.confidence.model import prompt_tokens

LEAST = 4
PENALTY = 8.0
SHAPE = NAMES.index("length")  # the features before it are the prompt's own
_GRAM = re.compile(r"\s+")


def tokens_of(prompt: str) -> frozenset[str]:
    """Give words and pairs, and the four-letter pieces of words, which catch forms and formulas."""
    text = _GRAM.sub(" ", prompt[-2000:].lower())
    return prompt_tokens(prompt) | {f"~{text[at : at + 5]}" for at in range(len(text) - 4)}


class Router:
    """Expected rightness of each model, from a prompt."""

    def __init__(self, prompts: Sequence[str], targets: np.ndarray, weights: np.ndarray | None = None) -> None:
        tokens = [tokens_of(prompt) for prompt in prompts]
        counts = Counter(word for each in tokens for word in each)
        self.vocabulary = {word: at for at, word in enumerate(sorted(w for w, n in counts.items() if n >= LEAST))}
        self.scale = np.log((1 + len(tokens)) / (1 + np.array([counts[word] for word in self.vocabulary]))) + 1
        shapes = self._shapes(prompts)
        self.means, self.deviations = shapes.mean(axis=0), np.maximum(shapes.std(axis=0), 1e-6)
        self.model = Ridge(alpha=PENALTY, solver="sparse_cg", tol=1e-3, max_iter=80).fit(
            self._matrix(tokens, shapes), targets, sample_weight=weights
        )

    def scores(self, prompts: Sequence[str]) -> np.ndarray:
        return self.model.predict(self._matrix([tokens_of(prompt) for prompt in prompts], self._shapes(prompts)))

    def _shapes(self, prompts: Sequence[str]) -> np.ndarray:
        return np.array([evidence(prompt, "")[:SHAPE] for prompt in prompts])

    def _matrix(self, tokens: Sequence[frozenset[str]], shapes: np.ndarray) -> scipy.sparse.csr_matrix:
        pointers, columns = [0], []
        for each in tokens:
            columns += sorted(at for word in each if (at := self.vocabulary.get(word)) is not None)
            pointers.append(len(columns))
        words = scipy.sparse.csr_matrix(
            (self.scale[columns], np.array(columns), np.array(pointers)), shape=(len(tokens), len(self.vocabulary))
        )
        length = np.sqrt(np.asarray(words.multiply(words).sum(axis=1)).ravel())
        form = np.clip((shapes - self.means) / self.deviations, -3, 3) * 0.15
        return scipy.sparse.hstack(
            [scipy.sparse.diags(1 / np.maximum(length, 1e-9)) @ words, scipy.sparse.csr_matrix(form)]
        ).tocsr()


def cross_validated(prompts: Sequence[str], groups: Sequence[str], targets: np.ndarray) -> np.ndarray:
    """Score every prompt by a router that never saw its group."""
    fold = np.array([recorded.fold_of(group) for group in groups])
    found = np.zeros(targets.shape)
    for number in range(recorded.FOLDS):
        inside, outside = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        router = Router([prompts[at] for at in outside], targets[outside])
        found[inside] = router.scores([prompts[at] for at in inside]).reshape(len(inside), -1)
    return found


def nine(data: Path) -> tuple[list[str], np.ndarray, np.ndarray, list[str]]:
    """Give prompts, scores and prices (in and out alike) of the nine models, and their names."""
    import json

    rows = recorded.rows(data, "llmrouter_9models/queries.jsonl.gz")
    prices: dict[str, Any] = json.loads((data / "llmrouter_9models/prices.json").read_text())
    models = sorted(rows[0]["scores"])
    return (
        [row["query"] for row in rows],
        np.array([[float(row["scores"][model]) for model in models] for row in rows]),
        np.array([prices[model]["usd_per_mtok_in"] for model in models]),
        models,
    )


def log_length(prompt: str) -> float:
    return math.log(len(prompt) + 1)
