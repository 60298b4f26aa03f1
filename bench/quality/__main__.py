"""The table of what decisions and gates are worth, measured; also written to docs/quality.md.

    python -m bench.quality --data DIR                       # prints the table; tens of minutes with all parts
    python -m bench.quality --data DIR --write               # and puts it into docs/quality.md, with the date
    python -m bench.quality --data DIR --only answers,routers

DIR holds recorded answers and prompts in the files of SHAPES in `bench/quality/rows.py`, and `task_type` and `json_schema`.
What is missing or cannot be read is named, and the rest measured; columns that nobody reads are ignored. On data that the repository's weights were not fitted to, everything is judged
**by what ships**: the weights, calibrations, routers and thresholds of the repository; nothing is fitted to DIR. On the data that
they were fitted to, every row is judged by models that never saw its question (five folds). Rows are told by their prompts
(`bench/data/quality/seen.bin`), so a copy of the training data is found to be one. Needs the dependency group `train`.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is imported

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.quality import answers, others, prompts, verdicts
from bench.quality.fitted import all_prompts, fitted
from bench.quality.rows import faults
from bench.quality.table import Row, as_table, write

PARTS = ("classifier", "answers", "routers", "schema", "verdicts", "gates")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], epilog=(__doc__ or "").partition("\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("data", nargs="?", type=Path, help="the folder with the data")
    parser.add_argument("--data", dest="named", type=Path, help="the same")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts to measure, of {', '.join(PARTS)}")
    parser.add_argument("--scores", type=Path, help="cross-validated scores that bench.quality.train wrote for DIR")
    parser.add_argument("--write", action="store_true", help="put the table into docs/quality.md")
    parser.add_argument("--json", action="store_true", help="print the lines as JSON, and nothing else")
    arguments = parser.parse_args()
    data = arguments.named or arguments.data
    if data is None:
        parser.error("--data DIR is needed (make eval DATA=DIR)")
    if not data.is_dir():
        parser.error(f"{data} is not a folder")
    chosen = [part.strip() for part in arguments.only.split(",")]
    if unknown := sorted(set(chosen) - set(PARTS)):
        parser.error(f"--only knows {', '.join(PARTS)}, not {', '.join(unknown)}")
    told = told_of(data)
    print(told, file=sys.stderr)
    rows: list[Row] = []
    for row in measured(data, chosen, arguments.scores):
        rows.append(row)
        print(f"{row.what}: {row.measured}  (aim {row.aim}, baseline {row.baseline})", file=sys.stderr, flush=True)
    table = as_table(rows)
    print(json.dumps([row._asdict() for row in rows], ensure_ascii=False, indent=1) if arguments.json else table)
    if arguments.write:
        write(table, told)
    return 0


def told_of(data: Path) -> str:
    """Say what the data are to the weights of the repository, and what is missing."""
    known = fitted().known(all_prompts(data))
    if not len(known):
        told = "no recorded answers and no questions."
    elif known.all():
        told = "the data that the weights were fitted to, each row judged by folds that it is not in."
    elif not known.any():
        told = f"{len(known):,} prompts that nothing was fitted to, judged by what ships."
    else:
        told = f"{len(known):,} prompts; the {int(known.sum()):,} that something was fitted to are left out or cross-validated."
    return " ".join([told, *(f"{fault}." for fault in faults(data))])


def measured(data: Path, chosen: list[str], scores: Path | None = None) -> Iterator[Row]:
    """Give the lines of the chosen parts."""
    parts: Mapping[str, Callable[[], Iterator[Row]]] = {
        "classifier": lambda: others.classifier(data),
        "answers": lambda: answers.lines(data, scores),
        "routers": lambda: prompts.lines(data),
        "schema": lambda: others.schema(data),
        "verdicts": lambda: verdicts.lines(data),
        "gates": lambda: others.gates(data),
    }
    for part in PARTS:
        if part in chosen:
            yield from parts[part]()


if __name__ == "__main__":
    sys.exit(main())
