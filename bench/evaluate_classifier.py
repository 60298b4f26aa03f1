"""Measure the task classifier.

    python bench/evaluate_classifier.py             cross-validates on bench/data; the figures stand in docs/classifier.md
    python bench/evaluate_classifier.py FOLDER      measures the classifier that ships on other data of the same shape
    ... --json                                      prints the table as data

A folder has task_type/prompts.jsonl.gz and, for the complexity, mmlu_pro_cascade, llmrouter_9models and
gsm8k_6b_175b, or some of them. What ships is measured on every row that it was not trained on; only for "one source left out" are classifiers
trained, on bench/data without the source. A folder of nothing but what it was trained on is cross-validated, as bench/data is without a folder: a
unit (a data set, or a question of the two collections of benchmarks) is never on both sides of the five folds, and
vocabulary, weights, temperature and thresholds come from the other folds only. Needs the dependency group `train`.
"""

from __future__ import annotations

# First of all: it sets one thread before numpy is imported.
import train_classifier as training

# isort: split
import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from classifier_data import (
    BENCHMARKS,
    CLASSES,
    COMPLEXITY,
    TYPES,
    Prompt,
    Question,
    fold_of,
    read_prompts,
    read_questions,
)
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from gearshift.core.classifier import Guess, TaskClassifier
from gearshift.core.classifier.complexity import SOURCES
from gearshift.core.classifier.weights import parse_weights

FOLDS = 5
BINS = 10
REPEATS = 10  # calls of each prompt; the fastest counts, so that other programs on the machine do not
WANTED = 0.97  # the accuracy at which coverage is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table: what was measured, what is aimed at, and whether it is met."""

    what: str
    aim: str
    value: str
    is_met: bool | None
    """None when nothing is aimed at."""
    how: str = ""
    """How it was measured."""


def rows_for(folder: Path) -> list[Row]:
    """Measure on a folder: what ships where it was not trained on it, else by cross-validation."""
    known = {plain(prompt.text) for prompt in read_prompts(TYPES)}
    asked = {plain(question.text) for question in read_questions(COMPLEXITY)}
    prompts, questions = read_prompts(folder), read_questions(folder)
    new = [prompt for prompt in prompts if plain(prompt.text) not in known]
    new_questions = [question for question in questions if plain(question.text) not in asked]
    if not prompts and not questions:
        return []
    if not new and not new_questions:
        return [told(row, "5 folds by data set, those of benchmarks by question") for row in cross_validation().rows()]
    classifier = TaskClassifier.load()
    left = len(prompts) - len(new) + len(questions) - len(new_questions)
    how = "what ships, nothing fitted here" + (f"; {left} known rows left out" if left else "")
    rows: list[Row] = []
    if new:
        rows += type_rows(new, [classifier.guess(prompt.text) for prompt in new])
        own = read_prompts(TYPES)
        shipped = parse_weights((training.FOLDER / "complexity.tsv").read_text("utf-8"))
        mean = mean_over_sources(new, list(sources_left_out(own, shipped, new)))
        rows.append(row("task type, one source left out, mean accuracy", 0.75, mean))
    if new_questions:
        rows += complexity_rows(new_questions, [levels_of(classifier, question) for question in new_questions])
    return [told(each, how) for each in (*rows, *speed_rows(new or own_prompts()))]


def own_prompts() -> list[Prompt]:
    return read_prompts(TYPES)


def plain(text: str) -> str:
    """Give a text without what may change in a copy: case and white space."""
    return " ".join(text.lower().split())


def told(line: Row, how: str) -> Row:
    return replace(line, how=how)


def type_rows(prompts: Sequence[Prompt], guesses: Sequence[Guess]) -> list[Row]:
    labels, chosen = labels_of(prompts), choices(guesses)
    apart = [place for place, prompt in enumerate(prompts) if prompt.source not in BENCHMARKS] or range(len(prompts))
    overall = macro_f1(labels, chosen)
    disjoint = macro_f1([labels[place] for place in apart], [chosen[place] for place in apart])
    worst = min(f1_score(labels, chosen, average=None, labels=sorted(set(labels))))
    coverage = coverage_at(prompts, guesses, WANTED)
    error = calibration_error(prompts, guesses)
    answered, right = shares(prompts, guesses, range(len(prompts)))
    return [
        row("task type, macro-F1", 0.95, overall),
        row("task type, macro-F1, data sets never seen", 0.94, disjoint),
        row("task type, worst class, F1", 0.90, worst),
        row("task type, expected calibration error", 0.03, error, is_ceiling=True),
        row("task type, coverage at 97 % accuracy", 0.93, coverage),
        row("task type, answered with the thresholds that ship", None, answered),
        row("task type, right of answered", None, right),
    ]


def complexity_rows(questions: Sequence[Question], levels: Sequence[Sequence[float]]) -> list[Row]:
    scores, ranks, rows = [], [], []
    for kind in SOURCES:
        part = [place for place, question in enumerate(questions) if question.source == kind]
        if not part:
            continue
        wanted = [questions[place].level for place in part]
        given = np.array([levels[place] for place in part])
        scores.append(macro_f1(wanted, given.argmax(1).tolist()))
        ranks.append(float(spearmanr(wanted, given @ [0.0, 1.0, 2.0]).statistic))
        rows += [
            row(f"complexity, macro-F1, {kind}", None, scores[-1]),
            row(f"complexity, Spearman, {kind}", None, ranks[-1]),
        ]
    return [
        row("complexity, mean macro-F1", 0.56, statistics.mean(scores)),
        row("complexity, mean Spearman", 0.50, statistics.mean(ranks)),
        *rows,
    ]


def speed_rows(prompts: Sequence[Prompt]) -> list[Row]:
    """Time one call at a time: the fastest of REPEATS for each prompt."""
    loads = []
    for _ in range(3):
        began = time.perf_counter()
        classifier = TaskClassifier.load()
        loads.append((time.perf_counter() - began) * 1e3)
    texts = [prompt.text for prompt in prompts]
    times = sorted(fastest(classifier.guess, text, REPEATS) for text in texts)
    longest = fastest(classifier.guess, " ".join(texts) * 2, REPEATS * 20)
    size = sum((training.FOLDER / name).stat().st_size for name in ("type.tsv", "complexity.tsv"))
    return [
        measure("classifier, p50", 40, times[len(times) // 2], "µs"),
        measure("classifier, p99", 200, times[len(times) * 99 // 100], "µs"),
        measure(f"classifier, a prompt of {len(' '.join(texts)) * 2:,} characters", 250, longest, "µs"),
        measure("classifier, loading", 50, min(loads), "ms"),
        measure("classifier, files", 1000, size / 1e3, "kB"),
    ]


def row(what: str, aim: float | None, value: float, *, is_ceiling: bool = False) -> Row:
    if aim is None:
        return Row(what=what, aim="-", value=f"{value:.3f}", is_met=None)
    is_met = bool(value <= aim if is_ceiling else value >= aim)  # not a bool of numpy
    return Row(what=what, aim=f"{'≤' if is_ceiling else '≥'} {aim:.2f}", value=f"{value:.3f}", is_met=is_met)


def measure(what: str, aim: float, value: float, unit: str) -> Row:
    return Row(what=what, aim=f"≤ {aim:,.0f} {unit}", value=f"{value:,.0f} {unit}", is_met=value <= aim)


def fastest(call: Callable[[str], object], text: str, repeats: int) -> float:
    """Give the time of the fastest call, in microseconds."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter_ns()
        call(text)
        best = min(best, (time.perf_counter_ns() - began) / 1e3)
    return best


# Cross-validation


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidation:
    """Predictions for prompts and questions that were left out."""

    prompts: list[Prompt]
    guesses: list[Guess]
    left_out: list[Guess]
    """Each by a classifier that never saw the prompt's source."""
    questions: list[Question]
    levels: list[list[float]]

    def rows(self) -> list[Row]:
        return [
            *type_rows(self.prompts, self.guesses),
            row("task type, one source left out, mean accuracy", 0.75, mean_over_sources(self.prompts, self.left_out)),
            *complexity_rows(self.questions, self.levels),
            *speed_rows(self.prompts),
        ]


def mean_over_sources(prompts: Sequence[Prompt], guesses: Sequence[Guess]) -> float:
    places: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(prompt.source, []).append(place)
    return statistics.mean(accuracy(prompts, guesses, part) for part in places.values())


def cross_validation() -> CrossValidation:
    """Cross-validate on bench/data; takes minutes."""
    prompts, questions = read_prompts(TYPES), read_questions(COMPLEXITY)
    shipped = parse_weights((training.FOLDER / "complexity.tsv").read_text("utf-8"))
    return CrossValidation(
        prompts=prompts,
        guesses=list(folds_of(prompts, shipped)),
        left_out=list(sources_left_out(prompts, shipped)),
        questions=questions,
        levels=list(levels_by_folds(questions, prompts)),
    )


def print_cross_validation() -> None:
    result = cross_validation()
    print_rows("cross-validation", result.rows())
    print_parts("type", result.prompts, result.guesses, lambda prompt: CLASSES[prompt.label])
    print_parts("source", result.prompts, result.guesses, lambda prompt: prompt.source)
    print_reliability(result.prompts, result.guesses)
    print_folds(result.prompts, result.guesses)
    print("\none source left out")
    print_parts("source", result.prompts, result.left_out, lambda prompt: prompt.source)


def levels_by_folds(questions: Sequence[Question], prompts: Sequence[Prompt]) -> Iterator[list[float]]:
    models = [
        training.ComplexityModel(
            training.fit_complexity(
                [question for question in questions if fold_of(question.id, "evaluation", FOLDS) != fold],
                prompts,
                training.TRIAL_TOLERANCE,
            )
        )
        for fold in range(FOLDS)
    ]
    for question in questions:
        model = models[fold_of(question.id, "evaluation", FOLDS)]
        yield model.levels(training.complexity_features(question.text))[1]


def folds_of(prompts: Sequence[Prompt], complexity: training.Weights) -> Iterator[Guess]:
    classifiers = [
        TaskClassifier(
            training.train_types([prompt for prompt in prompts if fold_of(prompt.unit, "evaluation", FOLDS) != fold]),
            complexity,
        )
        for fold in range(FOLDS)
    ]
    for prompt in prompts:
        yield classifiers[fold_of(prompt.unit, "evaluation", FOLDS)].guess(prompt.text)


def sources_left_out(
    prompts: Sequence[Prompt], complexity: training.Weights, asked: Sequence[Prompt] | None = None
) -> Iterator[Guess]:
    """Guess each source with a classifier that never saw it; temperature and thresholds are those that ship.

    Args:
        prompts: what is trained on.
        complexity: the weights that ship.
        asked: what is guessed; the same prompts unless given.

    """
    asked = prompts if asked is None else asked
    shipped = parse_weights((training.FOLDER / "type.tsv").read_text("utf-8"))
    classifiers = {}
    for source in sorted({prompt.source for prompt in asked}):
        weights = training.fit_types(
            [prompt for prompt in prompts if prompt.source != source], training.TRIAL_TOLERANCE
        )
        classifiers[source] = TaskClassifier(
            training.replace(weights, temperature=shipped.temperature, thresholds=shipped.thresholds), complexity
        )
    for prompt in asked:
        yield classifiers[prompt.source].guess(prompt.text)


def print_rows(title: str, rows: Iterable[Row]) -> None:
    print(f"\n{title}\n\n| what | aim | measured | |\n|---|---|---|---|")
    for line in rows:
        mark = "" if line.is_met is None else "met" if line.is_met else "missed"
        print(f"| {line.what} | {line.aim} | {line.value} | {mark} |")


def print_parts(name: str, prompts: Sequence[Prompt], guesses: Sequence[Guess], key: Callable[[Prompt], str]) -> None:
    print(f"\n| {name} | prompts | accuracy | F1 | answered | right of answered |\n|---|---|---|---|---|---|")
    f1 = dict(zip(CLASSES, f1_score(labels_of(prompts), choices(guesses), average=None), strict=True))
    for value in sorted({key(prompt) for prompt in prompts}):
        part = [place for place, prompt in enumerate(prompts) if key(prompt) == value]
        answered, right = shares(prompts, guesses, part)
        print(
            f"| {value} | {len(part)} | {accuracy(prompts, guesses, part):.2f} | "
            f"{f'{f1[value]:.3f}' if value in f1 else '-'} | {answered:.0%} | {f'{right:.1%}' if answered else '-'} |"
        )


def print_reliability(prompts: Sequence[Prompt], guesses: Sequence[Guess]) -> None:
    print("\n| confidence | prompts | mean confidence | right |\n|---|---|---|---|")
    for number in range(BINS):
        part = [
            place
            for place, guess in enumerate(guesses)
            if guess.probabilities and min(int(guess.confidence * BINS), BINS - 1) == number
        ]
        if part:
            confidence = statistics.mean(guesses[place].confidence for place in part)
            right = accuracy(prompts, guesses, part)
            print(
                f"| {number / BINS:.1f} to {(number + 1) / BINS:.1f} | {len(part)} | {confidence:.2f} | {right:.2f} |"
            )


def print_folds(prompts: Sequence[Prompt], guesses: Sequence[Guess]) -> None:
    print("\n| fold | prompts | macro-F1 | accuracy |\n|---|---|---|---|")
    for fold in range(FOLDS):
        part = [place for place, prompt in enumerate(prompts) if fold_of(prompt.unit, "evaluation", FOLDS) == fold]
        labels = labels_of([prompts[place] for place in part])
        chosen = choices([guesses[place] for place in part])
        print(f"| {fold + 1} | {len(part)} | {macro_f1(labels, chosen):.3f} | {accuracy(prompts, guesses, part):.3f} |")


# Measures


def macro_f1(labels: Sequence[int], chosen: Sequence[int]) -> float:
    return float(f1_score(labels, chosen, average="macro", labels=sorted(set(labels))))


def calibration_error(prompts: Sequence[Prompt], guesses: Sequence[Guess]) -> float:
    """Mean gap between confidence and accuracy over BINS equal parts of the confidence, weighted by size."""
    confidence = np.array([guess.confidence for guess in guesses])
    right = np.array([choice(guess) == prompt.label for prompt, guess in zip(prompts, guesses, strict=True)])
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(confidence[bins == number].sum() - right[bins == number].sum()) for number in range(BINS)]
    return float(sum(gaps) / len(guesses))


def coverage_at(prompts: Sequence[Prompt], guesses: Sequence[Guess], wanted: float) -> float:
    """Give the largest share of prompts, the most confident first, of which wanted are right."""
    order = sorted(range(len(guesses)), key=lambda place: -guesses[place].confidence)
    right, best = 0, 0
    for count, place in enumerate(order, 1):
        right += choice(guesses[place]) == prompts[place].label
        if right >= wanted * count:
            best = count
    return best / len(guesses)


def choice(guess: Guess) -> int:
    """Give the most probable class; without any, the one that an undecided task is treated as."""
    return CLASSES.index(guess.probabilities[0][0] if guess.probabilities else "generate")


def choices(guesses: Iterable[Guess]) -> list[int]:
    return [choice(guess) for guess in guesses]


def labels_of(prompts: Sequence[Prompt]) -> list[int]:
    return [prompt.label for prompt in prompts]


def levels_of(classifier: TaskClassifier, question: Question) -> list[float]:
    return [probability for _, probability in classifier.complexity_of(question.text)]


def accuracy(prompts: Sequence[Prompt], guesses: Sequence[Guess], part: Sequence[int]) -> float:
    return sum(choice(guesses[place]) == prompts[place].label for place in part) / len(part)


def shares(prompts: Sequence[Prompt], guesses: Sequence[Guess], part: Sequence[int]) -> tuple[float, float]:
    """Give which share of the part was answered, and which share of those answers was right."""
    answered = [place for place in part if guesses[place].task_type]
    right = sum(guesses[place].task_type == CLASSES[prompts[place].label] for place in answered)
    return len(answered) / len(part), right / len(answered) if answered else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the task classifier.")
    parser.add_argument("folder", nargs="?", type=Path, help="data to measure on; without it, cross-validation")
    parser.add_argument("--json", action="store_true", help="print the rows of the table as JSON, and nothing else")
    options = parser.parse_args()
    if options.json:
        rows = rows_for(options.folder) if options.folder else cross_validation().rows()
        print(json.dumps([asdict(line) for line in rows], ensure_ascii=False, indent=1))
    elif options.folder:
        print_rows(str(options.folder), rows_for(options.folder))
    else:
        print_cross_validation()


if __name__ == "__main__":
    main()
