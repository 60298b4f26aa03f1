"""Write what the page replays as files for `gearshift replay`, and what its thresholds are found on for `gearshift tune`.

    python -m bench.replay.export DIR [--calls N] [--seed N]     # trace.jsonl, chains.yaml, plan.yaml; outcomes.jsonl

Rules: the thresholds of chains.yaml are those that docs/article-claims.md shows; anything else would need a run first.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bench.replay import data as recorded
from bench.replay.data import COPY
from bench.replay.house import PLAN, Cascade, configuration, house
from bench.replay.measure import ARTICLE
from gearshift.core.answer import Usage
from gearshift.core.blueprint import Stage
from gearshift.core.sizing.trace import read_trace
from gearshift.server.replay import Call, mixed, timed

_THRESHOLDS = {"reason": 0.347, "math": 0.744}
_PRICED_AT = datetime(2024, 12, 1, tzinfo=UTC)
"""Any time: the prices of these models do not follow the clock."""


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
    hard = {task: Cascade(threshold=threshold) for task, threshold in _THRESHOLDS.items()}
    chains = house(hard, fault_rate=0.0, seed=asked.seed).blueprint.chains
    tried = [*recorded.reason(COPY, asked.seed, tuning=True), *recorded.gsm8k(COPY, asked.seed, tuning=True)]
    asked.folder.mkdir(parents=True, exist_ok=True)
    _write(asked.folder / "trace.jsonl", (_line(call) for call in calls))
    _write(asked.folder / "outcomes.jsonl", (_outcome(call, chains[call.task].stages) for call in tried))
    (asked.folder / "chains.yaml").write_text(configuration(hard), "utf-8")
    (asked.folder / "plan.yaml").write_text(PLAN.lstrip(), "utf-8")
    return 0


def _write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def _line(call: Call) -> dict[str, Any]:
    """Give a line without what is not said."""
    answers = {
        name: {key: value for key, value in msgspec.to_builtins(each).items() if value is not None}
        for name, each in call.answers.items()
    }
    found = {"at_s": round(call.at, 3), "task": call.task, "type": call.type, "prompt": call.prompt}
    said = {"labels": call.labels, "schema": call.schema, "expected": call.expected, "answers": answers}
    return found | {name: value for name, value in said.items() if value}


def _outcome(call: Call, stages: Sequence[Stage]) -> dict[str, Any]:
    """Give what each stage made of a call, and what that cost at list prices."""
    found: list[dict[str, Any]] = []
    for stage in stages:
        answer = call.answers[f"{stage.ref.provider}/{stage.ref.model}"]
        usage = Usage(input_tokens=answer.input_tokens or 0, output_tokens=answer.output_tokens or 0)
        assert stage.model.prices is not None
        cost = stage.model.prices.cost(usage, _PRICED_AT)
        assert cost is not None
        found.append({"model": stage.ref.model, "correct": answer.correct, "cost": float(cost), "answer": answer.text})
    return {"task_type": call.task, "prompt": call.prompt, "stages": found}


if __name__ == "__main__":
    raise SystemExit(main())
