"""The table of what decisions and gates are worth, measured; also written to docs/quality.md.

    python -m bench.quality --data DIR                 # prints the table
    python -m bench.quality --data DIR --write         # and puts it into docs/quality.md, with the date
    python -m bench.quality --data DIR --others        # and runs the benches of the classifier, the schema and the gates

DIR holds recorded answers in the folders that `bench/quality/data.py` reads. On the data that the shipped weights were trained
on, every score comes from a model that never saw the question (five folds by question); on other data of the same
shape, from the shipped weights. Calibration, thresholds and routers are always fitted on four folds and measured on the fifth.
Needs the dependency group `train`.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is imported

import argparse
import datetime
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.quality import data as recorded
from bench.quality.measures import (
    Operating,
    Routing,
    auroc,
    calibrated,
    calibration_error,
    noise_of,
    operating,
    routing,
)
from bench.quality.routers import cross_validated, nine
from gearshift.core.confidence import shipped

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/quality.md"
MARKS = ("<!-- measured: begin -->", "<!-- measured: end -->")
TARGET = 0.98
CAUTIONS = (0.0, 0.5)  # standard errors to clear the target by; `gearshift tune` takes 1 unless told otherwise
OTHERS_S = 900
OTHERS = (
    ("classifier", ("bench/evaluate_classifier.py",)),
    ("schema", ("bench/schema_conformance.py",)),
)
FLASH, PRO, SMALL, LARGE, MIXTRAL = (
    "gemini-1.5-flash",
    "gemini-1.5-pro",
    "llama-3.1-8b",
    "llama-3.1-70b",
    "mixtral-8x7b",
)


class Row(NamedTuple):
    what: str
    aim: str
    baseline: str
    measured: str
    protocol: str


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--data", dest="named", type=Path)
    parser.add_argument("--scores", type=Path, help="cross-validated scores that bench.quality.train wrote")
    parser.add_argument(
        "--no-routers", action="store_true", help="leave out what reads prompts alone, which takes minutes"
    )
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    data = arguments.named or arguments.data
    if data is None:
        parser.error("--data DIR is needed")
    rows: list[Row] = []
    for row in measured(data, arguments):
        rows.append(row)
        print(f"{row.what}: {row.measured}  (aim {row.aim}, baseline {row.baseline})", flush=True)
    table = as_table(rows)
    print(f"\n{table}")
    if arguments.write:
        write(table)


def measured(data: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    answers = list(recorded.answers(data))
    is_own = recorded.digest(data) == shipped().trained_on
    how = "5 folds by question" if is_own else "shipped weights"
    scores = scores_of(data, answers, arguments.scores, is_own=is_own)
    right = np.array([row.right for row in answers], dtype=float)
    confidence = np.zeros(len(answers))
    model = np.array([row.model for row in answers])
    for name in set(model):
        places = np.flatnonzero(model == name)
        groups = [answers[at].group for at in places]
        confidence[places] = calibrated(scores[places], right[places], groups, shipped().calibrations[""])
    for name, title, aims in (
        (FLASH, "flash on MMLU-Pro", ("≥ 0.80", "0.738", "0.043")),
        (MIXTRAL, "Mixtral on GSM8K", ("≥ 0.82", "0.730", "-")),
    ):
        here = model == name
        yield Row(
            f"answer confidence, AUROC, {title}", aims[0], aims[1], f"{auroc(scores[here], right[here]):.3f}", how
        )
        error, noise = calibration_error(confidence[here], right[here]), noise_of(confidence[here])
        told = f"{error:.3f} (perfect confidence would show {noise:.3f} on {here.sum()})"
        yield Row(
            f"its calibration error, {title}", "≤ 0.02", aims[2], told, f"{how}; Platt on the other folds; 10 bins"
        )
    pairs = recorded.gsm8k_pairs(data)
    yield apgr_row(
        "APGR on GSM8K, cascade", "≥ 0.78", "0.695", routing(-confidence[model == MIXTRAL], *both(pairs)), how
    )
    yield cost_row(
        "cost at ≥ 98 %, GSM8K, cascade",
        "≤ 0.68",
        "0.847",
        both_ways(pairs, confidence[model == MIXTRAL], router=False),
    )
    for weak, strong, aim, base in (
        (FLASH, PRO, "≤ 0.32", "0.411"),
        (SMALL, PRO, "≤ 1.01", "1.102"),
        (SMALL, LARGE, "≤ 1.01", "1.268"),
    ):
        pairs = recorded.mmlu_pro_pairs(data, weak, strong)
        found = both_ways(pairs, confidence[model == weak], router=False)
        yield cost_row(f"cost at ≥ 98 %, MMLU-Pro {weak} → {strong}, cascade", aim, base, found)
    yield latency([row for row in answers if 1_800 < len(row.text) < 2_200][:1_000])
    if not arguments.no_routers:
        yield from routers(data)
    if arguments.others:
        for name, command in OTHERS:
            yield from other(name, command)


def scores_of(data: Path, answers: list[recorded.Answer], kept: Path | None, *, is_own: bool) -> np.ndarray:
    if kept is not None:
        return np.array(json.loads(kept.read_text()))
    if is_own:
        from bench.quality import train

        return train.cross_validated(train.prepared(data))
    model = shipped()
    return np.array([model.score(row.prompt, row.text) for row in answers])


def routers(data: Path) -> Iterator[Row]:
    pairs = recorded.mmlu_pairs(data)
    prompts = [pair.prompt for pair in pairs]
    weak, strong = both(pairs)
    need = cross_validated(prompts, prompts, (strong - weak)[:, None])[:, 0]
    yield apgr_row("APGR on MMLU, router", "≥ 0.70", "0.662", routing(need, weak, strong), "5 folds by question")
    found = both_ways(pairs, -need, router=True)
    yield cost_row("cost at ≥ 98 %, MMLU, router", "≤ 0.62", "0.714", found)
    prompts, scores, prices, _ = nine(data)
    expected = cross_validated(prompts, prompts, scores)
    best = int(scores.mean(axis=0).argmax())
    reached = []
    for weight in np.linspace(0, 1.0, 201):
        chosen = (expected - weight * prices).argmax(axis=1)
        quality = scores[np.arange(len(scores)), chosen].mean() / scores[:, best].mean()
        reached.append((prices[chosen].mean() / prices[best], quality))
    enough = min((each for each in reached if each[1] >= 1), default=None)
    told = "never" if enough is None else f"{enough[0]:.3f} (at {enough[1]:.1%})"
    yield Row("nine models, price at ≥ 100 % of the best", "≤ 0.20", "0.34", told, "5 folds by question; curve")


def both(pairs: list[recorded.Pair]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([float(each.weak) for each in pairs]), np.array([float(each.strong) for each in pairs])


def apgr_row(what: str, aim: str, base: str, found: Routing, how: str) -> Row:
    told = f"{found.apgr:.3f}, CPT50 {found.cpt50:.1f} %, CPT80 {found.cpt80:.1f} %"
    return Row(what, aim, base, told, how)


def both_ways(pairs: list[recorded.Pair], confidence: np.ndarray, *, router: bool) -> list[Operating]:
    return [operating(pairs, confidence, TARGET, router=router, caution=each) for each in CAUTIONS]


def cost_row(what: str, aim: str, base: str, ways: list[Operating]) -> Row:
    told: list[str] = []
    for caution, found in zip(CAUTIONS, ways, strict=True):
        missed = "" if found.quality >= TARGET else " (**misses 98 %**)"
        name = f"; with {caution:g} standard errors of caution " if caution else ""
        told.append(
            f"{name}{found.cost:.3f} at {found.quality:.1%}{missed}" + (f", {found.chosen}" if found.chosen else "")
        )
    found = ways[0]
    beside = (
        f"always weak {found.weak_cost:.3f} at {found.weak_quality:.1%}, best fixed {found.fixed:.3f}, "
        f"random {found.random:.3f}, oracle {found.oracle:.3f}"
    )
    return Row(what, aim, base, "".join(told), f"threshold from the other folds; {beside}")


def latency(answers: list[recorded.Answer]) -> Row:
    model, taken = shipped(), []
    for row in answers:
        began = time.thread_time()
        model.score(row.prompt, row.text)
        taken.append((time.thread_time() - began) * 1e6)
    p50, p99 = np.percentile(taken, [50, 99])
    return Row(
        "answer confidence, time on 2 KiB",
        "≤ 1 ms p99",
        "-",
        f"p50 {p50:.0f} µs, p99 {p99:.0f} µs",
        "CPU time, pure Python",
    )


def other(name: str, command: tuple[str, ...]) -> Iterator[Row]:
    """Run another bench and take the lines that hold its figures."""
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=OTHERS_S, check=True
        )
    except (subprocess.SubprocessError, OSError) as error:
        yield Row(f"{name} bench", "-", "-", "not measured", f"`python {' '.join(command)}`: {type(error).__name__}")
        return
    said = done.stdout
    if name == "schema":
        cases, ratio = re.search(r"required: (\S+)", said), re.search(r"required.*?ratio (\S+)", said, re.DOTALL)
        if cases and ratio:
            yield Row(
                "JSON Schema required cases; time", "2,107; ≤ 1/5", "2,101; 1", f"{cases[1]}; {ratio[1]}", command[0]
            )
        return
    f1 = re.search(r"macro-F1[^\d\n]*([\d.]+)", said.partition("cross-validation")[2])
    out = re.search(r"mean accuracy over the sources ([\d.]+)", said)
    if f1:
        yield Row("task type, macro-F1", "≥ 0.95", "0.898", f1[1], command[0])
    if out:
        yield Row("task type, one source left out, mean accuracy", "≥ 0.75", "0.54", out[1], command[0])


def as_table(rows: list[Row]) -> str:
    lines = ["| what | aim | baseline | measured | protocol |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def write(table: str) -> None:
    begin, end = MARKS
    text = PAGE.read_text("utf-8") if PAGE.exists() else f"# Quality\n\n{begin}\n{end}\n"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    today = datetime.datetime.now(datetime.UTC).date()
    PAGE.write_text(f"{head}{begin}\nMeasured on {today}.\n\n{table}\n{end}{tail}", "utf-8")


if __name__ == "__main__":
    main()
