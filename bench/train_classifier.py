"""Train the task classifier from bench/data/task_type and write its weights.

    python bench/train_classifier.py            writes core/gearshift/core/classifier/weights.tsv
    python bench/train_classifier.py --check    compares instead, and ends with 1 when they differ

Needs the dependency group `train`. One thread, no random numbers, a strictly convex problem solved to the end and
weights rounded to whole units: the file comes out byte for byte the same.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is imported

import argparse
import gzip
import hashlib
import json
import math
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from gearshift.core.classifier import TaskClassifier, Weights
from gearshift.core.classifier.features import Feature, features_of, tokens_of
from gearshift.core.classifier.weights import UNIT, format_weights

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "bench/data/task_type/prompts.jsonl.gz"
WEIGHTS = ROOT / "core/gearshift/core/classifier/weights.tsv"

CLASSES = ("classify", "extract", "generate", "reason", "embed")
MIN_GROUPS = 3  # a feature counts when this many data sets have it
INVERSE_PENALTY = 60.0
TARGET_ACCURACY = 0.97  # among the answers given
MIN_THRESHOLD = 0.8  # even where the data asks for less: prompts in the wild are written in styles that it lacks
FOLDS = 5
CALIBRATION_ROUNDS = 3  # cross-validations, each with other folds, whose predictions are pooled

# The names of a template's slots ("{premise}") are not there in a real prompt: each template is also learned without.
SLOT = re.compile(r"\{+[^{}]*\}+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A labelled prompt."""

    text: str
    label: int
    source: str
    group: str
    features: frozenset[Feature]
    features_without_slots: frozenset[Feature]


def read_rows() -> list[Row]:
    rows = []
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            text = entry["text"]
            rows.append(
                Row(
                    text=text,
                    label=CLASSES.index(entry["task_type"]),
                    source=entry["source"],
                    group=entry["group"],
                    features=frozenset(features_of(tokens_of(text))),
                    features_without_slots=frozenset(features_of(tokens_of(SLOT.sub(" {} ", text)))),
                )
            )
    return rows


def fold_of(group: str, salt: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{salt}:{group}".encode()).digest()[:8]) % FOLDS


def train(rows: Sequence[Row], calibration_rounds: int = CALIBRATION_ROUNDS) -> Weights:
    """Fit the weights, then the temperature and the thresholds on predictions for rows left out by group."""
    scores, labels = [], []
    for round_number in range(calibration_rounds):
        for fold in range(FOLDS):
            inside = [row for row in rows if fold_of(row.group, f"calibration {round_number}") != fold]
            outside = [row for row in rows if fold_of(row.group, f"calibration {round_number}") == fold]
            classifier = TaskClassifier(fit(inside))
            for row in outside:
                probabilities = dict(classifier.guess(row.text).probabilities)
                if probabilities:
                    scores.append([math.log(max(probabilities[name], 1e-300)) for name in CLASSES])
                    labels.append(row.label)
    temperature = fit_temperature(np.array(scores), np.array(labels))
    thresholds = fit_thresholds(np.array(scores) / temperature, np.array(labels))
    return replace(fit(rows), temperature=temperature, thresholds=thresholds)


def fit(rows: Sequence[Row]) -> Weights:
    """Fit the weights alone: multinomial logistic regression on idf-scaled features of unit length."""
    groups_of: defaultdict[Feature, set[str]] = defaultdict(set)
    for row in rows:
        for feature in row.features | row.features_without_slots:
            groups_of[feature].add(row.group)
    kept = sorted((feature for feature, groups in groups_of.items() if len(groups) >= MIN_GROUPS), key=sort_key)
    group_count = len({row.group for row in rows})
    squares = [round((math.log((1 + group_count) / (1 + len(groups_of[feature]))) + 1) ** 2 / UNIT) for feature in kept]
    scales = np.sqrt(np.array(squares) * UNIT)

    # Each data set counts by the root of its size, each class by the root of its rarity.
    sizes = Counter(row.group for row in rows)
    totals = np.zeros(len(CLASSES))
    for row in rows:
        totals[row.label] += sizes[row.group] ** -0.5
    importance = [sizes[row.group] ** -0.5 * (totals.sum() / totals[row.label]) ** 0.5 for row in rows]
    examples, labels, sample_weights = [], [], []
    for row, weight in zip(rows, importance, strict=True):
        variants = {row.features, row.features_without_slots}
        for features in (row.features, row.features_without_slots)[: len(variants)]:
            examples.append(features)
            labels.append(row.label)
            sample_weights.append(weight if features is row.features else weight / 2)
    sample_weights = np.array(sample_weights) * len(rows) / sum(importance)

    model = LogisticRegression(C=INVERSE_PENALTY, tol=1e-7, max_iter=10_000)
    model.fit(matrix_of(examples, kept, scales), labels, sample_weight=sample_weights)
    assert list(model.classes_) == list(range(len(CLASSES)))
    rounded = np.rint(model.coef_ * scales / UNIT).astype(int)
    return Weights(
        classes=CLASSES,
        bias=tuple(np.rint(model.intercept_ / UNIT).astype(int).tolist()),
        features={feature: (*rounded[:, place].tolist(), squares[place]) for place, feature in enumerate(kept)},
        temperature=1.0,
        thresholds=(0.0,) * len(CLASSES),
    )


def sort_key(feature: Feature) -> tuple[str, ...]:
    return (feature,) if isinstance(feature, str) else feature


def matrix_of(
    examples: Sequence[frozenset[Feature]], kept: Sequence[Feature], scales: np.ndarray
) -> scipy.sparse.csr_matrix:
    place_of = {feature: place for place, feature in enumerate(kept)}
    starts, places, values = [0], [], []
    for features in examples:
        found = sorted(place_of[feature] for feature in features if feature in place_of)
        length = math.sqrt(sum(float(scales[place]) ** 2 for place in found))
        places.extend(found)
        values.extend(float(scales[place]) / length for place in found)
        starts.append(len(places))
    return scipy.sparse.csr_matrix((values, places, starts), shape=(len(examples), len(kept)))


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature under which the labels are most likely (Guo et al. 2017, arXiv 1706.04599)."""

    def loss(temperature: float) -> float:
        scaled = scores / temperature
        return float(np.mean(np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(labels)), labels]))

    return round(float(minimize_scalar(loss, bounds=(0.2, 5.0), method="bounded").x), 2)


def fit_thresholds(scores: np.ndarray, labels: np.ndarray) -> tuple[float, ...]:
    """Find, per type, the probability from which to answer: most answers with TARGET_ACCURACY of all of them right.

    For a price of an answer, each type's best threshold is the one that maximises right answers less the price of all
    answers; the price rises until the target is met.
    """
    exponentials = np.exp(scores)
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    confidence, chosen = probabilities.max(1), probabilities.argmax(1)
    right = chosen == labels
    for price in np.arange(0.5, 1.0, 0.005):
        thresholds = []
        for label in range(len(CLASSES)):
            order = np.flatnonzero(chosen == label)
            order = order[np.argsort(-confidence[order], kind="stable")]
            gains = np.cumsum(right[order] - price)
            best = int(gains.argmax()) if len(gains) and gains.max() > 0 else None
            lowest = 1.0 if best is None else math.floor(confidence[order][best] * 1000) / 1000
            thresholds.append(max(lowest, MIN_THRESHOLD))
        answered = confidence >= np.array(thresholds)[chosen]
        if answered.any() and right[answered].mean() >= TARGET_ACCURACY:
            return tuple(thresholds)
    return (1.0,) * len(CLASSES)


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the task classifier.")
    parser.add_argument("--check", action="store_true", help="compare with the weights in place, write nothing")
    check = parser.parse_args().check
    began = time.perf_counter()
    rows = read_rows()
    weights = train(rows)
    text = format_weights(weights)
    print(
        f"{len(rows)} prompts, {len(weights.features)} features, {len(text.encode()):,} bytes, "
        f"temperature {weights.temperature}, thresholds {weights.thresholds}, {time.perf_counter() - began:.0f} s"
    )
    if check:
        same = WEIGHTS.read_text("utf-8") == text
        print(f"{WEIGHTS.relative_to(ROOT)} is {'as trained' if same else 'NOT what training gives'}")
        return 0 if same else 1
    WEIGHTS.write_text(text, "utf-8")
    print(f"wrote {WEIGHTS.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
