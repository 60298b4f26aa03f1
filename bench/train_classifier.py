"""Train the task classifier from bench/data and write its weights.

    python bench/train_classifier.py            writes type.tsv and complexity.tsv of core/gearshift/core/classifier
    python bench/train_classifier.py --check    compares instead, and ends with 1 when they differ

Needs the dependency group `train`. One thread, one kind of arithmetic, no random numbers, strictly convex problems solved to the end and
weights rounded to whole units: the files come out byte for byte the same, on x86-64 Linux with these versions.
"""

from __future__ import annotations

import os

# Before numpy is imported. Sums are rounded otherwise by each kind of processor: all take the kernels of one that every x86-64 machine of the
# last ten years can run.
os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_CORETYPE": "Haswell",
        "OPENBLAS_L2_SIZE": "512",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    }
)

import argparse
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse
from classifier_data import CLASSES, ROOT, SLOT, Prompt, Question, fold_of, read_prompts, read_questions
from phrasings import Picker, filled, phrased_prompts, restyled
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from gearshift.core.classifier.complexity import (
    ASSORTED,
    KINDS,
    LEVELS,
    OUTPUTS,
    SOURCES,
    ComplexityModel,
    offset_name,
)
from gearshift.core.classifier.features import Feature, features_of, steps_of, tokens_of
from gearshift.core.classifier.linear import LinearModel
from gearshift.core.classifier.weights import UNIT, Weights, format_weights, pack

FOLDER = ROOT / "core/gearshift/core/classifier"

MIN_GROUPS = 2  # a feature counts for the type when this many data sets or phrase lines have it
INVERSE_PENALTY = 40.0
PER_LINE = 8  # prompts made of each phrase line
PHRASING_SHARE = 0.9  # what all of these weigh against the real prompts
RESTYLINGS = 2  # of each real prompt
RESTYLING_SHARE = 0.5  # what one weighs against the prompt
FOLDS = 5
TARGET_ACCURACY = 0.97  # among the types given
MIN_THRESHOLD = 0.6  # even where the data asks for less: prompts in the wild are written in styles that it lacks

MIN_QUESTIONS = 44  # a feature counts for the complexity when this many questions have it
COMPLEXITY_INVERSE_PENALTY = 0.5
KIND_INVERSE_PENALTY = 3.0
OFFSET_BOOST = 4.0  # how hard a kind is on the whole is learned nearly without penalty
STEP_BOOST = 4.0  # steps weigh more than words
TARGET_PRECISION = 0.7  # among the complexities raised
MIN_RAISED = 50  # in cross-validation; fewer say nothing about precision

FINAL_TOLERANCE = 1e-6
TRIAL_TOLERANCE = 1e-4


@dataclass(slots=True)
class Examples:
    """What one model is fitted to."""

    features: list[AbstractSet[Feature]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, features: AbstractSet[Feature], label: int, group: str, weight: float) -> None:
        self.features.append(features)
        self.labels.append(label)
        self.groups.append(group)
        self.weights.append(weight)


# Types


def train_types(prompts: Sequence[Prompt]) -> Weights:
    """Fit the weights, then the temperature and the thresholds on predictions for prompts left out by unit."""
    scores, labels = [], []
    for fold in range(FOLDS):
        inside = [prompt for prompt in prompts if fold_of(prompt.unit, "calibration", FOLDS) != fold]
        model = LinearModel(fit_types(inside, TRIAL_TOLERANCE))
        for prompt in prompts:
            if fold_of(prompt.unit, "calibration", FOLDS) == fold:
                scores.append(model.scores(type_features(prompt.text)))
                labels.append(prompt.label)
    temperature = fit_temperature(np.array(scores), np.array(labels))
    thresholds = fit_thresholds(np.array(scores) / temperature, np.array(labels))
    return replace(fit_types(prompts, FINAL_TOLERANCE), temperature=temperature, thresholds=thresholds)


def fit_types(prompts: Sequence[Prompt], tolerance: float) -> Weights:
    """Fit the weights alone: multinomial logistic regression on idf-scaled features of unit length."""
    examples = type_examples(prompts)
    groups_of: defaultdict[Feature, set[str]] = defaultdict(set)
    for features, group in zip(examples.features, examples.groups, strict=True):
        for feature in features:
            groups_of[feature].add(group)
    kept = sorted((feature for feature, groups in groups_of.items() if len(groups) >= MIN_GROUPS), key=sort_key)
    count = len(set(examples.groups))
    squares = [squared_idf(count, len(groups_of[feature])) for feature in kept]
    model = logistic_regression(examples, kept, squares, INVERSE_PENALTY, tolerance)
    assert list(model.classes_) == list(range(len(CLASSES)))
    return weights_of(CLASSES, model.coef_, model.intercept_, kept, squares)


def type_examples(prompts: Sequence[Prompt]) -> Examples:
    """Give the prompts, the same in other styles, and made-up ones. Each data set weighs the root of its size."""
    texts = texts_of(prompts)
    sizes = Counter(prompt.group for prompt in prompts)
    examples = Examples()
    for prompt in prompts:

        def add(text: str, share: float, prompt: Prompt = prompt) -> None:
            weight = share * sizes[prompt.group] ** -0.5
            examples.add(type_features(text), prompt.label, prompt.group, weight)

        add(prompt.text, 1.0)
        if SLOT.search(prompt.text):  # a real prompt has no names of slots
            add(SLOT.sub(" {} ", prompt.text), 0.25)
            add(filled(prompt.text, Picker(f"slots:{prompt.id}"), texts, SLOT), 0.25)
        for number in range(RESTYLINGS):
            if prompt.form != "definition+input":  # its definition alone is another row
                name = f"style:{prompt.id}:{number}"
                add(restyled(prompt.text, prompt.form, name, texts, SLOT), RESTYLING_SHARE)
    totals = np.bincount(examples.labels, examples.weights, len(CLASSES)) + 1e-9
    rarity = np.sqrt(totals.sum() / totals)
    examples.weights = [weight * rarity[label] for weight, label in zip(examples.weights, examples.labels, strict=True)]
    share = PHRASING_SHARE * sum(examples.weights) / len(CLASSES)
    for label, task_type in enumerate(CLASSES):
        phrased = phrased_prompts(task_type, texts, PER_LINE)
        for text, name in phrased:
            examples.add(type_features(text), label, name, share / len(phrased))
    scale = len(prompts) / sum(examples.weights) * (1 + PHRASING_SHARE)
    examples.weights = [weight * scale for weight in examples.weights]
    return examples


def texts_of(prompts: Sequence[Prompt]) -> list[str]:
    """Give the texts that prompts work on, to fill styles with: only from these prompts, whatever their type."""
    texts = []
    for prompt in prompts:
        if prompt.form == "definition+input":
            texts.append(prompt.text.split("\n\n", 1)[-1][-300:])
        elif prompt.source == "universal_ner":
            texts.append(prompt.text.split("\n\n")[0].removeprefix("Text: "))
    return texts or ["Some text."]


def type_features(text: str) -> frozenset[Feature]:
    return frozenset(features_of(tokens_of(text)))


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


# Complexity


def train_complexity(questions: Sequence[Question], others: Sequence[Prompt]) -> Weights:
    """Fit the weights, then the threshold on predictions for questions left out."""
    probabilities, right = [], []
    for fold in range(FOLDS):
        inside = [question for question in questions if fold_of(question.id, "calibration", FOLDS) != fold]
        model = ComplexityModel(fit_complexity(inside, others, TRIAL_TOLERANCE))
        for question in questions:
            if fold_of(question.id, "calibration", FOLDS) == fold:
                known, levels = model.levels(complexity_features(question.text))
                probabilities.append(known * levels[-1])
                right.append(question.level == len(LEVELS) - 1)
    threshold = fit_precision(np.array(probabilities), np.array(right))
    return replace(fit_complexity(questions, others, FINAL_TOLERANCE), thresholds=(threshold,))


def fit_complexity(questions: Sequence[Question], others: Sequence[Prompt], tolerance: float) -> Weights:
    """Fit a logistic regression for the kind of question, and one for the levels of each source.

    The levels of a source weigh the same, however rare; so do the sources.
    """
    kinds, levels = Examples(), {source: Examples() for source in SOURCES}
    sizes = Counter((question.source, question.level) for question in questions)
    for question in questions:
        features = complexity_features(question.text)
        weight = 1 / sizes[question.source, question.level]
        kinds.add(features, KINDS.index(question.kind), question.id, weight)
        levels[question.source].add(features, question.level, question.kind, weight)
    apart = [prompt for prompt in others if CLASSES[prompt.label] != "reason"]
    for prompt in apart:
        kinds.add(complexity_features(prompt.text), len(KINDS), prompt.id, len(LEVELS) / len(apart))
    counts = Counter(feature for features in kinds.features for feature in features)
    kept = sorted((feature for feature, count in counts.items() if count >= MIN_QUESTIONS), key=sort_key)
    squares = [
        round(squared_idf(len(kinds.features), counts[feature]) * (STEP_BOOST**2 if is_step(feature) else 1))
        for feature in kept
    ]
    model = logistic_regression(normal(kinds), kept, squares, KIND_INVERSE_PENALTY, tolerance)
    last = len(KINDS)
    coefficients = [model.coef_[place] - model.coef_[last] for place in range(last)]
    intercepts = [model.intercept_[place] - model.intercept_[last] for place in range(last)]
    offsets = np.zeros((len(OUTPUTS) + 1, len(ASSORTED)), int)
    for source in SOURCES:
        model = logistic_regression(
            normal(levels[source]),
            kept,
            squares,
            COMPLEXITY_INVERSE_PENALTY,
            tolerance,
            beside=kind_columns(levels[source].groups) if source == SOURCES[-1] else None,
        )
        for level in range(1, len(LEVELS)):
            row = model.coef_[level] - model.coef_[0]
            if source == SOURCES[-1]:
                offsets[len(coefficients)] = np.rint(row[len(kept) :] * OFFSET_BOOST / UNIT)
            coefficients.append(row[: len(kept)])
            intercepts.append(model.intercept_[level] - model.intercept_[0])
    weights = weights_of(OUTPUTS, np.array(coefficients), np.array(intercepts), kept, squares)
    apiece = {offset_name(kind): pack(offsets[:, place].tolist()) for place, kind in enumerate(ASSORTED)}
    return replace(weights, features={**weights.features, **apiece})


def kind_columns(kinds: Sequence[str]) -> scipy.sparse.csr_matrix:
    """Give a column for each kind of the assorted questions."""
    return scipy.sparse.csr_matrix(OFFSET_BOOST * np.eye(len(ASSORTED))[[ASSORTED.index(kind) for kind in kinds]])


def complexity_features(text: str) -> frozenset[Feature]:
    tokens = tokens_of(text)
    return frozenset(features_of(tokens) | set(steps_of(tokens)))


def is_step(feature: Feature) -> bool:
    return isinstance(feature, str) and feature.startswith("@")


def normal(examples: Examples) -> Examples:
    scale = len(examples.labels) / sum(examples.weights)
    return replace(examples, weights=[weight * scale for weight in examples.weights])


def fit_precision(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Find the lowest probability from which TARGET_PRECISION are right; 1 when there is none."""
    order = np.argsort(-probabilities, kind="stable")
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    reached = np.flatnonzero(precision >= TARGET_PRECISION)
    if not len(reached) or reached[-1] < MIN_RAISED:
        return 1.0
    return math.ceil(probabilities[order][reached[-1]] * 1000) / 1000


# Both


def squared_idf(count: int, found: int) -> int:
    """Give the square of a feature's scale, in UNIT."""
    return round((math.log((1 + count) / (1 + found)) + 1) ** 2 / UNIT)


def logistic_regression(
    examples: Examples,
    kept: Sequence[Feature],
    squares: Sequence[int],
    inverse_penalty: float,
    tolerance: float,
    beside: scipy.sparse.csr_matrix | None = None,
) -> LogisticRegression:
    matrix = matrix_of(examples.features, kept, np.sqrt(np.array(squares) * UNIT))
    if beside is not None:
        matrix = scipy.sparse.hstack([matrix, beside]).tocsr()
    model = LogisticRegression(C=inverse_penalty, tol=tolerance, max_iter=10_000)
    return model.fit(matrix, examples.labels, sample_weight=np.array(examples.weights))


def matrix_of(
    examples: Sequence[AbstractSet[Feature]], kept: Sequence[Feature], scales: np.ndarray
) -> scipy.sparse.csr_matrix:
    place_of: Mapping[Feature, int] = {feature: place for place, feature in enumerate(kept)}
    starts, places = [0], []
    for features in examples:
        places.extend(sorted(place_of[feature] for feature in features if feature in place_of))
        starts.append(len(places))
    matrix = scipy.sparse.csr_matrix((scales[places], places, starts), shape=(len(examples), len(kept)))
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    return scipy.sparse.csr_matrix(scipy.sparse.diags(1 / np.maximum(lengths, 1e-9)) @ matrix)


def weights_of(
    outputs: tuple[str, ...],
    coefficients: np.ndarray,
    intercepts: Sequence[float] | np.ndarray,
    kept: Sequence[Feature],
    squares: Sequence[int],
) -> Weights:
    rounded = np.rint(coefficients * np.sqrt(np.array(squares) * UNIT) / UNIT).astype(int)
    return Weights(
        outputs=outputs,
        bias=tuple(np.rint(np.array(intercepts) / UNIT).astype(int).tolist()),
        features={feature: pack([*rounded[:, place].tolist(), squares[place]]) for place, feature in enumerate(kept)},
        temperature=1.0,
        thresholds=(0.0,) * len(outputs),
    )


def sort_key(feature: Feature) -> tuple[str, ...]:
    return (feature,) if isinstance(feature, str) else feature


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the task classifier.")
    parser.add_argument("--check", action="store_true", help="compare with the weights in place, write nothing")
    check = parser.parse_args().check
    began = time.perf_counter()
    prompts, questions = read_prompts(), read_questions()
    same = True
    for name, weights in (
        ("type.tsv", train_types(prompts)),
        ("complexity.tsv", train_complexity(questions, prompts)),
    ):
        text = format_weights(weights)
        print(
            f"{name}: {len(weights.features)} features, {len(text.encode()):,} bytes, "
            f"temperature {weights.temperature}, thresholds {weights.thresholds}, {time.perf_counter() - began:.0f} s"
        )
        path = FOLDER / name
        if not check:
            path.write_text(text, "utf-8")
        elif path.read_text("utf-8") != text:
            print(f"{path.relative_to(ROOT)} is NOT what training gives")
            same = False
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
