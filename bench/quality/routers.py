"""Routers that read the prompt alone: what its words say of each model's chance to be right.

Rules: one thread, no random numbers, closed forms. A prompt is first placed among the *kinds* of prompt that the recording
names (MMLU's subjects, nine models' benchmarks): each kind has its own mean for every model, and they are mixed by how much
the prompt reads like each. What the mean leaves over is ridge regression on words, pairs of neighbours, pieces of words
and the prompt's form. Only the `KEPT` features that say most stay, as small whole numbers, so that a fitted router is a
small file; cross-validation measures it in that shape.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from bench.quality import data as recorded
from gearshift.core.confidence.features import NAMES, evidence
from gearshift.core.confidence.model import prompt_tokens

if TYPE_CHECKING:
    import scipy.sparse  # type: ignore[import-untyped]

LEAST = 3  # a feature counts when so many prompts have it
KEPT = 32_000
KIND_PENALTY, REST_PENALTY = 0.5, 8.0
SHARPNESS = 12.0  # from a kind's score, 0 to 1, to its log-odds
REST_SHARE = 0.5
FEW = 20.0  # a kind's mean counts against the mean of all like so many prompts
FORM = 0.15
SHAPE = NAMES.index("length")  # the features before it are the prompt's own
LEVELS = 127  # of a whole number
_GRAM = re.compile(r"\s+")


def tokens_of(prompt: str) -> frozenset[str]:
    """Give words and pairs, and the five-letter pieces of words, which catch forms and formulas."""
    text = _GRAM.sub(" ", prompt[-2000:].lower())
    return prompt_tokens(prompt) | {f"~{text[at : at + 5]}" for at in range(len(text) - 4)}


class Router:
    """Expected rightness of each model, from a prompt.

    Args:
        words: the features that it knows.
        scale: what each counts for, its idf.
        weights: of every feature and figure of form, for each kind and each model's rest; whole numbers times `units`.
        units: what one is worth, for each column.
        bias: of each column.
        means: of every model, for each kind.
        form: mean and deviation of the figures of form.

    """

    def __init__(
        self,
        words: np.ndarray,
        scale: np.ndarray,
        weights: np.ndarray,
        units: np.ndarray,
        bias: np.ndarray,
        means: np.ndarray,
        form: np.ndarray,
    ) -> None:
        self._kept = {"words": words, "scale": scale, "weights": weights, "units": units, "bias": bias}
        self._kept |= {"means": means, "form": form}
        self._place = {str(word): at for at, word in enumerate(words)}

    @classmethod
    def fit(cls, prompts: Sequence[str], targets: np.ndarray, kinds: Sequence[str]) -> Self:
        """Fit to prompts with what each model scored, and the kind of each; needs scikit-learn, which scoring does not."""
        from sklearn.linear_model import Ridge  # type: ignore[import-not-found,import-untyped,unused-ignore]

        tokens = [tokens_of(prompt) for prompt in prompts]
        counts = Counter(word for each in tokens for word in each)
        words = np.array(sorted(word for word, count in counts.items() if count >= LEAST))
        scale = (np.log((1 + len(tokens)) / (1 + np.array([counts[word] for word in words]))) + 1).astype(np.float32)
        shapes = np.array([evidence(prompt, "")[:SHAPE] for prompt in prompts])
        form = np.array([shapes.mean(axis=0), np.maximum(shapes.std(axis=0), 1e-6)])
        names = sorted(set(kinds))
        place = np.array([names.index(kind) for kind in kinds])
        belongs = np.eye(len(names))[place]
        size = belongs.sum(axis=0)[:, None]
        means = (belongs.T @ targets + FEW * targets.mean(axis=0)) / (size + FEW)
        everything = cls(words, scale, np.zeros((0, 0)), np.zeros(0), np.zeros(0), means, form)
        matrix = everything._matrix(tokens, shapes)
        placed = Ridge(alpha=KIND_PENALTY, solver="sparse_cg", tol=1e-3, max_iter=100).fit(matrix, belongs)
        rest = Ridge(alpha=REST_PENALTY, solver="sparse_cg", tol=1e-3, max_iter=80, fit_intercept=False)
        rest.fit(matrix, targets - means[place])
        weights = np.vstack([np.atleast_2d(placed.coef_), np.atleast_2d(rest.coef_)]).T
        bias = np.r_[np.atleast_1d(placed.intercept_), np.zeros(targets.shape[1])]
        often = np.sqrt([counts[word] for word in words])
        said = np.sqrt((weights[: len(words)] ** 2).sum(axis=1)) * scale * often
        stays = np.sort(np.argsort(-said, kind="stable")[:KEPT])
        weights = weights[np.r_[stays, len(words) : len(weights)]]
        units = np.maximum(np.abs(weights).max(axis=0), 1e-12) / LEVELS
        whole = np.rint(weights / units).astype(np.int8)
        return cls(words[stays], scale[stays], whole, units, bias, means, form)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a fitted router."""
        with np.load(path, allow_pickle=False) as kept:
            return cls(
                np.array(bytes(kept["words"]).decode().split("\n")),
                *(kept[name] for name in ("scale", "weights", "units", "bias", "means", "form")),
            )

    def save(self, path: Path) -> None:
        """Write it down."""
        kept = {**self._kept, "words": np.frombuffer("\n".join(self._place).encode(), dtype=np.uint8)}
        np.savez_compressed(path, allow_pickle=False, **kept)

    def scores(self, prompts: Sequence[str]) -> np.ndarray:
        """Give the expected score of each model, one row a prompt."""
        weights = self._kept["weights"] * self._kept["units"]
        found = np.array([self._features(prompt, weights) for prompt in prompts]) + self._kept["bias"]
        means = self._kept["means"]
        odds = SHARPNESS * found[:, : len(means)]
        shares = np.exp(odds - odds.max(axis=1, keepdims=True))
        mixed = shares / shares.sum(axis=1, keepdims=True) @ means
        return np.asarray(mixed + REST_SHARE * found[:, len(means) :])

    def _features(self, prompt: str, weights: np.ndarray) -> np.ndarray:
        places = sorted(at for word in tokens_of(prompt) if (at := self._place.get(word)) is not None)
        scale = self._kept["scale"][places].astype(float)
        mean, deviation = self._kept["form"]
        form = np.clip((np.array(evidence(prompt, "")[:SHAPE]) - mean) / deviation, -3, 3) * FORM
        words = (scale / max(float(np.sqrt(scale @ scale)), 1e-9)) @ weights[places]
        return np.asarray(words + form @ weights[len(self._place) :])

    def _matrix(self, tokens: Sequence[frozenset[str]], shapes: np.ndarray) -> scipy.sparse.csr_matrix:
        import scipy.sparse

        pointers, columns = [0], []
        for each in tokens:
            columns += sorted(at for word in each if (at := self._place.get(word)) is not None)
            pointers.append(len(columns))
        words = scipy.sparse.csr_matrix(
            (self._kept["scale"][columns].astype(float), np.array(columns, dtype=int), np.array(pointers)),
            shape=(len(tokens), len(self._place)),
        )
        length = np.sqrt(np.asarray(words.multiply(words).sum(axis=1)).ravel())
        mean, deviation = self._kept["form"]
        form = np.clip((shapes - mean) / deviation, -3, 3) * FORM
        return scipy.sparse.hstack(
            [scipy.sparse.diags(1 / np.maximum(length, 1e-9)) @ words, scipy.sparse.csr_matrix(form)]
        ).tocsr()


def cross_validated(
    prompts: Sequence[str], groups: Sequence[str], targets: np.ndarray, kinds: Sequence[str]
) -> np.ndarray:
    """Score every prompt by a router that never saw its group."""
    fold = np.array([recorded.fold_of(group) for group in groups])
    found = np.zeros(targets.shape)
    for number in sorted(set(fold)):
        inside, outside = np.flatnonzero(fold == number).tolist(), np.flatnonzero(fold != number).tolist()
        router = Router.fit([prompts[at] for at in outside], targets[outside], [kinds[at] for at in outside])
        found[inside] = router.scores([prompts[at] for at in inside])
    return found
