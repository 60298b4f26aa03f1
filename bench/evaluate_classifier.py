"""Measure the task classifier on data that it was not trained on.

    python bench/evaluate_classifier.py

Every figure comes from a classifier trained, calibrated and rounded exactly as the shipped one, on the other rows only,
and answering through the shipped code: by cross-validation (a data set is never on both sides) and with one source left
out at a time. Needs the dependency group `train`. The figures stand in docs/classifier.md.
"""

from __future__ import annotations

# First of all: it sets one thread before numpy is imported.
import train_classifier as training

# isort: split
import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from gearshift.core.classifier import Guess, TaskClassifier

CLASSES, FOLDS, Row, fold_of = training.CLASSES, training.FOLDS, training.Row, training.fold_of
ROUNDS = 3  # cross-validations, each with other folds; the figures are their means
BINS = 10
REPEATS = 20  # passes over the prompts for the latency


def main() -> None:
    rows = training.read_rows()
    print(
        f"{len(rows)} prompts, {len({row.group for row in rows})} groups, {training.DATA.relative_to(training.ROOT)}\n"
    )
    print(f"baseline, TF-IDF words + logistic regression: macro-F1 {cross_validate_baseline(rows):.3f}\n")

    rounds = [cross_validate(rows, f"evaluation {number}") for number in range(ROUNDS)]
    print(f"cross-validation by group, {FOLDS} folds, mean of {ROUNDS} rounds")
    print_summary(rows, rounds)
    print("\n| type | rows | F1 | answered | right of answered |\n|---|---|---|---|---|")
    for label, name in enumerate(CLASSES):
        part = [place for place, row in enumerate(rows) if row.label == label]
        f1 = statistics.mean(f1_score(labels_of(rows), choices(guesses), average=None)[label] for guesses in rounds)
        print(f"| {name} | {len(part)} | {f1:.3f} | {percentages(rows, rounds, part)} |")
    print("\n| answer | given | right |\n|---|---|---|")
    for name in CLASSES:
        verdicts = [
            row.label == CLASSES.index(name)
            for guesses in rounds
            for row, guess in zip(rows, guesses, strict=True)
            if guess.task_type == name
        ]
        print(f"| {name} | {len(verdicts) / ROUNDS:.0f} | {mean(verdicts):.1%} |")
    print("\n| source | rows | accuracy | answered | right of answered |\n|---|---|---|---|---|")
    for source in sorted({row.source for row in rows}):
        part = [place for place, row in enumerate(rows) if row.source == source]
        print(f"| {source} | {len(part)} | {accuracy(rows, rounds, part)} | {percentages(rows, rounds, part)} |")

    print("\none source left out\n\n| source | rows | accuracy | answered | right of answered |\n|---|---|---|---|---|")
    left_out: list[Guess | None] = [None] * len(rows)
    accuracies = []
    for source in sorted({row.source for row in rows}):
        classifier = TaskClassifier(training.train([row for row in rows if row.source != source]))
        part = [place for place, row in enumerate(rows) if row.source == source]
        for place in part:
            left_out[place] = classifier.guess(rows[place].text)
        accuracies.append(mean(choice(left_out[place]) == rows[place].label for place in part))
        print(f"| {source} | {len(part)} | {accuracies[-1]:.2f} | {percentages(rows, [left_out], part)} |")
    print(f"mean accuracy over the sources {statistics.mean(accuracies):.3f}")
    print_summary(rows, [left_out])

    measure_speed(rows)


def cross_validate(rows: Sequence[Row], salt: str) -> list[Guess]:
    guesses: dict[int, Guess] = {}
    for fold in range(FOLDS):
        classifier = TaskClassifier(training.train([row for row in rows if fold_of(row.group, salt) != fold]))
        for place, row in enumerate(rows):
            if fold_of(row.group, salt) == fold:
                guesses[place] = classifier.guess(row.text)
    return [guesses[place] for place in range(len(rows))]


def cross_validate_baseline(rows: Sequence[Row]) -> float:
    scores = []
    for number in range(ROUNDS):
        predicted = np.zeros(len(rows), int)
        for fold in range(FOLDS):
            inside = [row for row in rows if fold_of(row.group, f"evaluation {number}") != fold]
            outside = [place for place, row in enumerate(rows) if fold_of(row.group, f"evaluation {number}") == fold]
            words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
            model = LogisticRegression(C=training.INVERSE_PENALTY, max_iter=2000)
            model.fit(words.fit_transform([row.text for row in inside]), [row.label for row in inside])
            predicted[outside] = model.predict(words.transform([rows[place].text for place in outside]))
        scores.append(f1_score(labels_of(rows), predicted, average="macro"))
    return statistics.mean(scores)


def print_summary(rows: Sequence[Row], rounds: Sequence[Sequence[Guess]]) -> None:
    everything = range(len(rows))
    f1 = statistics.mean(f1_score(labels_of(rows), choices(guesses), average="macro") for guesses in rounds)
    answered, right = shares(rows, rounds, everything)
    unreadable = mean(not guess.probabilities for guesses in rounds for guess in guesses)
    print(f"macro-F1 {f1:.3f}, accuracy {accuracy(rows, rounds, everything)} when it had to answer always")
    print(f"answered {answered:.1%}, right {right:.1%} of those; read as another language {unreadable:.1%}")
    print(f"ECE {statistics.mean(calibration_error(rows, guesses) for guesses in rounds):.3f}")


def calibration_error(rows: Sequence[Row], guesses: Sequence[Guess]) -> float:
    """Mean gap between confidence and accuracy over BINS equal parts of the confidence, weighted by size."""
    readable = [place for place, guess in enumerate(guesses) if guess.probabilities]
    confidence = np.array([guesses[place].confidence for place in readable])
    right = np.array([choice(guesses[place]) == rows[place].label for place in readable])
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(
        sum(
            abs(confidence[bins == number].sum() - right[bins == number].sum())
            for number in range(BINS)
            if (bins == number).any()
        )
        / len(readable)
    )


def choice(guess: Guess) -> int:
    """Give the most probable class; without any, the one that an undecided task is treated as."""
    return CLASSES.index(guess.probabilities[0][0] if guess.probabilities else "generate")


def choices(guesses: Iterable[Guess]) -> list[int]:
    return [choice(guess) for guess in guesses]


def labels_of(rows: Sequence[Row]) -> list[int]:
    return [row.label for row in rows]


def accuracy(rows: Sequence[Row], rounds: Sequence[Sequence[Guess]], part: Sequence[int]) -> str:
    return f"{mean(choice(guesses[place]) == rows[place].label for guesses in rounds for place in part):.3f}"


def shares(rows: Sequence[Row], rounds: Sequence[Sequence[Guess]], part: Sequence[int]) -> tuple[float, float]:
    """Give which share of the part was answered, and which share of those answers was right."""
    answers = [(guesses[place], rows[place]) for guesses in rounds for place in part if guesses[place].task_type]
    return len(answers) / len(rounds) / len(part), mean(guess.task_type == CLASSES[row.label] for guess, row in answers)


def percentages(rows: Sequence[Row], rounds: Sequence[Sequence[Guess]], part: Sequence[int]) -> str:
    answered, right = shares(rows, rounds, part)
    return f"{answered:.0%} | {right:.1%}" if answered else "0% | -"


def mean(values: Iterable[bool]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def measure_speed(rows: Sequence[Row]) -> None:
    began = time.perf_counter()
    classifier = TaskClassifier.load()
    print(f"\nload {(time.perf_counter() - began) * 1e3:.1f} ms, file {training.WEIGHTS.stat().st_size / 1e3:.0f} kB")
    texts = [row.text for row in rows]
    print_latency("data, one call at a time", classifier.guess, texts * REPEATS)
    longest = " ".join(texts)
    print_latency(f"one prompt of {len(longest):,} characters", classifier.guess, [longest] * 2000)


def print_latency(name: str, call: Callable[[str], object], texts: Sequence[str]) -> None:
    times = []
    for text in texts:
        began = time.perf_counter_ns()
        call(text)
        times.append(time.perf_counter_ns() - began)
    times.sort()
    middle, late = times[len(times) // 2] / 1e3, times[len(times) * 99 // 100] / 1e3
    print(f"{name}: p50 {middle:.0f} us, p99 {late:.0f} us")


if __name__ == "__main__":
    main()
