"""Fit what `bench.quality` judges other data by, and write it to bench/data/quality.

    python -m bench.quality.train --data DIR --scores FILE      # the weights of the package, and cross-validated scores
    python -m bench.quality.fit --data DIR --scores FILE        # routers, thresholds, and which rows were used

Thresholds come from scores of models that never saw the question. One thread, no random numbers. Needs the dependency group `train`.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is imported

import argparse
from pathlib import Path

import numpy as np

from bench.quality import data as recorded
from bench.quality.answers import decisions, judged
from bench.quality.fitted import FOLDER, Fitted, all_prompts, digest_of
from bench.quality.prompts import MMLU, fit, mmlu_decisions, nine_weight, scored


def fit_all(data: Path, scores: Path | None) -> Fitted:
    """Fit to all rows of the folder."""
    mmlu = recorded.mmlu_asked(data)
    prices = recorded.nine_prices(data)
    nine = recorded.nine_asked(data, tuple(prices))
    expected = scored(nine, None)
    return Fitted(
        mmlu=fit(mmlu),
        nine=fit(nine),
        nine_models=tuple(prices),
        nine_weight=nine_weight(expected.expected, expected.scores, np.array(list(prices.values()))),
        decisions={**decisions(data, judged(data, scores, is_own=True)), MMLU: mmlu_decisions(scored(mmlu, None))},
        seen=frozenset(map(digest_of, all_prompts(data))),
    )


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scores", type=Path, help="cross-validated scores that bench.quality.train wrote")
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    made = fit_all(arguments.data, arguments.scores)
    made.save(arguments.out)
    for path in sorted(arguments.out.iterdir()):
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
