"""Write what the page replays as files for `gearshift replay`: trace.jsonl, chains.yaml, plan.yaml.

    python -m bench.replay.export DIR [--calls N] [--seed N]

Rules: the thresholds are those that the page found last; anything else would need a run first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.replay import data as recorded
from bench.replay.data import COPY
from bench.replay.house import PLAN, Cascade, configuration
from bench.replay.measure import ARTICLE
from gearshift.core.sizing.trace import read_trace
from gearshift.server.replay import Call, mixed, timed

_THRESHOLDS = {"reason": 0.333, "math": 0.750}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m bench.replay.export")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--calls", type=int, default=1000, help="of the article's mix (1000)")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    pool = [
        *recorded.classify(COPY, 600, asked.seed),
        *recorded.extract(COPY, 300, asked.seed),
        *recorded.reason(COPY, asked.seed, tuning=False),
        *recorded.gsm8k(COPY, asked.seed, tuning=False),
    ]
    arrivals = [each.at for each in read_trace(COPY / "traffic/azure_conv.csv.gz")]
    calls = timed(mixed(pool, ARTICLE, asked.calls, asked.seed), arrivals)
    asked.folder.mkdir(parents=True, exist_ok=True)
    (asked.folder / "trace.jsonl").write_bytes(b"".join(msgspec.json.encode(_line(call)) + b"\n" for call in calls))
    hard = {task: Cascade(threshold=threshold) for task, threshold in _THRESHOLDS.items()}
    (asked.folder / "chains.yaml").write_text(configuration(hard), "utf-8")
    (asked.folder / "plan.yaml").write_text(PLAN.lstrip(), "utf-8")
    return 0


def _line(call: Call) -> dict[str, Any]:
    """Give a line without what is not said."""
    answers = {
        name: {key: value for key, value in msgspec.to_builtins(each).items() if value is not None}
        for name, each in call.answers.items()
    }
    found = {"at_s": round(call.at, 3), "task": call.task, "type": call.type, "prompt": call.prompt}
    said = {"labels": call.labels, "schema": call.schema, "expected": call.expected, "answers": answers}
    return found | {name: value for name, value in said.items() if value}


if __name__ == "__main__":
    raise SystemExit(main())
