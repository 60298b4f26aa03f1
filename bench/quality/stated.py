"""What a model's own word is worth: the prior of self-assessment, fitted to published answers.

    python -m bench.quality.stated      # prints what STATED_PRIOR in confidence/calibration.py is

Rules: every model on every set of questions has an offset of its own, since models differ in how often they are right, and sets in how
hard they are; the slope is one, and tells how far a word tells right answers from wrong ones within one model and set. The slope
comes from single answers, the offsets' mean and spread from all cells, each counting the same. Of a model and task of which nothing
is known the offset is not known either, so the line is drawn to 0 by as much as the spread is wide: what is right on the average of all
offsets (MacKay 1992, https://doi.org/10.1162/neco.1992.4.5.720).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench.quality.measures import auroc
from gearshift.core.confidence.calibration import Line, log_odds, sigmoid
from gearshift.core.confidence.gauge import SURELY_STATED

FOLDER: Final = Path(__file__).resolve().parents[1] / "data/stated"
SLOPES: Final = np.linspace(0.0, 2.0, 201)


class Cell(NamedTuple):
    """One model on one set: how many answers, the share of right ones, and what it said on the average."""

    name: str
    answers: int
    right: float
    stated: float


class Fit(NamedTuple):
    """What came out.

    Args:
        slope: within one model and set.
        offset: the mean over models and sets.
        spread: the standard deviation of the offsets.
        prior: the line for a model and task of which nothing is known.

    """

    slope: float
    offset: float
    spread: float
    prior: Line


def cells() -> list[Cell]:
    """Read all models on all sets."""
    with (FOLDER / "cells.csv").open(encoding="utf-8") as file:
        return [
            Cell(f"{row['set']} {row['model']}", int(row["answers"]), float(row["right"]), float(row["stated"]))
            for row in csv.DictReader(file)
        ]


def answers() -> Mapping[str, Sequence[tuple[float, bool]]]:
    """Read single answers by cell: what was said, 0 to 1, and whether it was right."""
    found: dict[str, list[tuple[float, bool]]] = {}
    for line in (FOLDER / "answers.txt").read_text("utf-8").splitlines():
        if line[:1].isdigit():
            found[list(found)[-1]] += [(int(each[:-1]) / 100, each[-1] == "+") for each in line.split()]
        else:
            found[line] = []
    return found


def said(stated: float) -> float:
    """Give the score of a word, as the service does."""
    return log_odds(max(1 - SURELY_STATED, min(SURELY_STATED, stated)))


def fit() -> Fit:
    """Find the slope that is most likely, then the offsets."""
    within = [
        (np.array([said(each) for each, _ in rows]), np.array([right for _, right in rows], float))
        for rows in answers().values()
    ]
    slope = float(max(SLOPES, key=lambda each: sum(likelihood(each, *pair) for pair in within)))
    # A share of 1 would have no log-odds: half an answer more on both sides.
    offsets = np.array(
        [
            math.log((each.right * each.answers + 0.5) / ((1 - each.right) * each.answers + 0.5))
            - slope * said(each.stated)
            for each in cells()
        ]
    )
    spread, offset = float(offsets.std(ddof=1)), float(offsets.mean())
    drawn = 1 / math.sqrt(1 + math.pi * spread**2 / 8)
    return Fit(slope, offset, spread, (slope * drawn, offset * drawn))


def likelihood(slope: float, scores: np.ndarray, right: np.ndarray) -> float:
    """Give the log-likelihood of a cell's answers with the offset that suits it best."""
    offset = 0.0
    for _ in range(20):
        expected = 1 / (1 + np.exp(-(slope * scores + offset)))
        offset += float((right - expected).sum() / max((expected * (1 - expected)).sum(), 1e-9))
    expected = np.clip(1 / (1 + np.exp(-(slope * scores + offset))), 1e-9, 1 - 1e-9)
    return float((right * np.log(expected) + (1 - right) * np.log(1 - expected)).sum())


def told(found: Fit) -> Iterator[str]:
    """Say what came out."""
    for name, rows in answers().items():
        right = np.array([each for _, each in rows], float)
        rank = auroc(np.array([each for each, _ in rows]), right)
        yield f"{name}: {len(rows)} answers, {int(right.sum())} right, AUROC of the word {rank:.2f}"
    yield f"slope within a model and set {found.slope:.3f}; offsets {found.offset:.2f} ± {found.spread:.2f} over {len(cells())} models and sets"
    yield f"prior: slope {found.prior[0]:.2f}, offset {found.prior[1]:.2f}"
    for stated in (0.5, 0.7, 0.8, 0.9, 0.95, 0.99):
        yield f"  {stated:.0%} said: {sigmoid(found.prior[0] * said(stated) + found.prior[1]):.2f} believed"


if __name__ == "__main__":
    print("\n".join(told(fit())))
