"""Train what measures the confidence of answers, and write its weights.

    python -m bench.quality.train --data DIR        # writes core/gearshift/core/confidence/weights.json

DIR holds recorded answers, as `bench.quality` reads them. Needs the dependency group `train`. One thread and fixed seeds.

A head is Newton boosting of small trees, blended with a logistic line. Each (source, model) has an offset of its own while
fitting, its log-odds of being right, so that what is learned tells right answers from wrong ones rather than one model
from another. Its last feature, the score of the prompt's words, is always made by folds that the row is not in.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is imported

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeRegressor

from bench.quality import data as recorded
from bench.quality.data import Answer, Question, fold_of
from bench.quality.rows import LEAST_OWN, TooFewRowsError
from gearshift.core.confidence.calibration import fitted
from gearshift.core.confidence.features import NAMES, evidence
from gearshift.core.confidence.model import FORMAT, UNIT, AnswerModel, prompt_tokens

WEIGHTS = Path(__file__).resolve().parents[2] / "core/gearshift/core/confidence/weights.json"
LEAST_PROMPTS = 12  # a word or pair counts when so many prompts have it
PENALTY = 3.0
KEPT_WORDS = 6000
LINE_PENALTY = 0.03
LINE_SHARES = {"choice": 1 / 3, "other": 0.5}
OPTIONS = NAMES.index("options")
NO_HEAD = {"means": [], "deviations": [], "line": [], "line_share": 0.0, "bias": 0.0, "trees": []}
OLD = {"6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"}


class Growth(NamedTuple):
    trees: int
    leaves: int
    least: int
    rate: float = 0.06
    features: float = 0.3
    rows: float = 0.6


CHOICE, OTHER = Growth(trees=300, leaves=16, least=25), Growth(trees=150, leaves=8, least=20)


class Prepared(NamedTuple):
    """Rows with what is the same in every fold."""

    rows: list[Answer]
    values: np.ndarray
    right: np.ndarray
    fold: np.ndarray
    tokens: list[frozenset[str]]
    is_choice: np.ndarray
    questions: list[Question]
    question_tokens: list[frozenset[str]]
    question_fold: np.ndarray


def prepared(data: Path) -> Prepared:
    rows, questions = list(recorded.answers(data)), list(recorded.questions(data))
    values = np.array([evidence(row.prompt, row.text) for row in rows])
    by_prompt: dict[str, frozenset[str]] = {}
    for prompt in {each.prompt for each in (*rows, *questions)}:
        by_prompt[prompt] = prompt_tokens(prompt)
    return Prepared(
        rows,
        values,
        np.array([row.right for row in rows], dtype=float),
        np.array([fold_of(row.group) for row in rows]),
        [by_prompt[row.prompt] for row in rows],
        values[:, OPTIONS] > 0,
        questions,
        [by_prompt[each.prompt] for each in questions],
        np.array([fold_of(each.group) for each in questions]),
    )


# -- the words of prompts ----------------------------------------------------------------------------------------------


class PromptWords:
    """Ridge regression of the share of models that are right, less the source's mean, on words."""

    def __init__(self, tokens: Sequence[frozenset[str]], questions: Sequence[Question]) -> None:
        counts = Counter(word for each in tokens for word in each)
        self.vocabulary = {
            word: at for at, word in enumerate(sorted(w for w, n in counts.items() if n >= LEAST_PROMPTS))
        }
        frequency = np.array([counts[word] for word in self.vocabulary])
        self.scale = np.log((1 + len(tokens)) / (1 + frequency)) + 1
        means: dict[str, list[float]] = defaultdict(list)
        for each in questions:
            means[each.source].append(each.share)
        target = np.array([each.share - np.mean(means[each.source]) for each in questions])
        self.weights = (
            Ridge(alpha=PENALTY, solver="sparse_cg", fit_intercept=False, max_iter=60, tol=1e-3)
            .fit(self.matrix(tokens), target)
            .coef_
        )

    def matrix(self, tokens: Sequence[frozenset[str]]) -> scipy.sparse.csr_matrix:
        pointers, columns = [0], []
        for each in tokens:
            columns += sorted(at for word in each if (at := self.vocabulary.get(word)) is not None)
            pointers.append(len(columns))
        found = scipy.sparse.csr_matrix(
            (self.scale[columns], np.array(columns), np.array(pointers)), shape=(len(tokens), len(self.vocabulary))
        )
        length = np.sqrt(np.asarray(found.multiply(found).sum(axis=1)).ravel())
        return scipy.sparse.diags(1 / np.maximum(length, 1e-9)) @ found

    def score(self, tokens: Sequence[frozenset[str]]) -> np.ndarray:
        return self.matrix(tokens) @ self.weights

    def pruned(self) -> PromptWords:
        """Keep the words that say most; the others leave the length too, so that a reader needs one table."""
        kept = np.argsort(-np.abs(self.weights * self.scale), kind="stable")[:KEPT_WORDS]
        names = list(self.vocabulary)
        chosen = sorted((names[at], at) for at in kept)
        order = [at for _, at in chosen]
        self.vocabulary = {word: place for place, (word, _) in enumerate(chosen)}
        self.scale, self.weights = self.scale[order], self.weights[order]
        return self

    def document(self) -> dict[str, list[int]]:
        products, squares = self.weights * self.scale / UNIT, self.scale**2 / UNIT
        return {word: [round(products[at]), round(squares[at])] for word, at in self.vocabulary.items()}


def prompt_scores(made: Prepared, left_out: int | None) -> tuple[np.ndarray, PromptWords]:
    """Score every row by folds that it is not in, and rows of `left_out` by all others; also give the last one."""
    scores = np.zeros(len(made.rows))
    outside = made.question_fold != (-1 if left_out is None else left_out)

    def fit(kept: np.ndarray) -> PromptWords:
        places = np.flatnonzero(kept)
        return PromptWords([made.question_tokens[at] for at in places], [made.questions[at] for at in places]).pruned()

    for fold in sorted(set(made.fold)):
        if fold != left_out:
            places = np.flatnonzero(made.fold == fold)
            scores[places] = fit(outside & (made.question_fold != fold)).score([made.tokens[at] for at in places])
    whole = fit(outside)
    if left_out is not None:
        places = np.flatnonzero(made.fold == left_out)
        scores[places] = whole.score([made.tokens[at] for at in places])
    return scores, whole


# -- a head ------------------------------------------------------------------------------------------------------------


def weight_of(row: Answer) -> float:
    if row.source == "mmlu_pro":
        return 1.0 if row.model == "gemini-1.5-flash" else 0.5
    if row.source == "gsm8k":
        return 1.0 if row.model == "mixtral-8x7b" else 0.25
    return 0.5


def offsets(rows: Sequence[Answer], right: np.ndarray) -> np.ndarray:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row, each in zip(rows, right, strict=True):
        found[row.source, row.model].append(each)
    odds = {key: np.log((sum(each) + 1) / (len(each) - sum(each) + 1)) for key, each in found.items()}
    return np.array([odds[row.source, row.model] for row in rows])


def head(rows: Sequence[Answer], values: np.ndarray, right: np.ndarray, growth: Growth, share: float) -> dict[str, Any]:
    """Fit one head and give its document."""
    weights, offset = np.array([weight_of(row) for row in rows]), offsets(rows, right)
    means, deviations = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-6)
    scaled = np.clip((values - means) / deviations, -4, 4)
    keys = sorted({(row.source, row.model) for row in rows})
    who = np.array([[5.0 * ((row.source, row.model) == key) for key in keys] for row in rows])
    line = LogisticRegression(C=LINE_PENALTY, max_iter=500).fit(np.c_[scaled, who], right, sample_weight=weights)
    chance = np.random.RandomState(0)
    narrow, grown, trees = values.astype(np.float32), offset.copy(), []
    for _ in range(growth.trees):
        expected = 1 / (1 + np.exp(-grown))
        curve = expected * (1 - expected)
        taken = chance.rand(len(rows)) < growth.rows
        tree = DecisionTreeRegressor(
            max_leaf_nodes=growth.leaves,
            min_samples_leaf=growth.least,
            max_features=growth.features,
            random_state=chance,
        ).fit(narrow[taken], ((right - expected) / curve)[taken], sample_weight=(weights * curve)[taken])
        grown += growth.rate * np.clip(tree.predict(narrow), -4, 4)
        trees.append(node(tree.tree_, 0, growth.rate))
    return {
        "means": [float(f"{each:.5g}") for each in means],
        "deviations": [float(f"{each:.5g}") for each in deviations],
        "line": [round(each / UNIT) for each in line.coef_[0][: values.shape[1]]],
        "line_share": round(share, 4),
        "bias": 0.0,
        "trees": trees,
    }


def node(tree: Any, at: int, rate: float) -> Any:
    if tree.children_left[at] < 0:
        return round(rate * float(np.clip(tree.value[at][0][0], -4, 4)) / UNIT)
    # Up, so that a value which equals the 32-bit threshold stays on its side.
    threshold = float(f"{float(np.nextafter(np.float32(tree.threshold[at]), np.float32(np.inf))):.7g}")
    children = (node(tree, int(each[at]), rate) for each in (tree.children_left, tree.children_right))
    return [int(tree.feature[at]), threshold, *children]


# -- all of it ---------------------------------------------------------------------------------------------------------


def model_without(made: Prepared, left_out: int | None) -> AnswerModel:
    return AnswerModel(document_without(made, left_out))


def document_without(made: Prepared, left_out: int | None) -> dict[str, Any]:
    """Fit everything but the calibrations, on the rows outside a fold."""
    scores, words = prompt_scores(made, left_out)
    values = np.c_[made.values, scores]
    heads = {}
    for name, kind, growth in (("choice", made.is_choice, CHOICE), ("other", ~made.is_choice, OTHER)):
        places = np.flatnonzero(kind & (made.fold != (-1 if left_out is None else left_out)))
        rows = [made.rows[at] for at in places]
        # Where nothing has a form nothing asks its head.
        fitted_head = head(rows, values[places], made.right[places], growth, LINE_SHARES[name]) if rows else NO_HEAD
        heads[name] = fitted_head
    return {
        "format": FORMAT,
        "names": NAMES,
        "trained_on": "",
        "calibrations": {},
        "prompt_words": words.document(),
        "heads": heads,
    }


def cross_validated(made: Prepared) -> np.ndarray:
    """Score every row by a model that never saw its question, through the shipped code.

    Raises:
        TooFewRowsError: there are too few rows for a head, or too few questions for the words.

    """
    if len(made.questions) < LEAST_OWN:
        raise TooFewRowsError("questions", len(made.questions))
    for kind in (made.is_choice, ~made.is_choice):
        right = made.right[kind].sum()
        if kind.any() and 2 * min(right, kind.sum() - right) < LEAST_OWN:
            raise TooFewRowsError("answers of one form", int(kind.sum()))
    scores = np.zeros(len(made.rows))
    for fold in range(recorded.FOLDS):
        model = model_without(made, fold)
        for at in np.flatnonzero(made.fold == fold):
            scores[at] = model.score(made.rows[at].prompt, made.rows[at].text)
        print(f"fold {fold + 1} of {recorded.FOLDS}", file=sys.stderr, flush=True)
    return scores


def calibrations(rows: Sequence[Answer], scores: np.ndarray) -> dict[str, list[float]]:
    """Fit a line for each model, and one for models at large."""
    pairs: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for row, score in zip(rows, scores, strict=True):
        if row.model not in OLD:
            pairs[""].append((float(score), row.right))
            pairs[row.model].append((float(score), row.right))
    # Nearly no prior: these are thousands of outcomes.
    return {model: [round(each, 4) for each in fitted(found, (1.0, 0.0))] for model, found in sorted(pairs.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scores", type=Path, help="where the cross-validated scores go, for bench.quality")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    made = prepared(arguments.data)
    print(f"{len(made.rows)} answers, {len(made.questions)} questions", file=sys.stderr)
    scores = cross_validated(made)
    if arguments.scores:
        arguments.scores.write_text(json.dumps([round(float(each), 4) for each in scores]))
    document = document_without(made, None)
    document["trained_on"] = recorded.digest(arguments.data)
    document["calibrations"] = calibrations(made.rows, scores)
    arguments.out.write_text(
        json.dumps(document, separators=(",", ":"), sort_keys=True).replace(']],"', ']],\n"') + "\n"
    )
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
