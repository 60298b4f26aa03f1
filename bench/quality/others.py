"""The lines of the other benches: the task classifier, the schema validator, and what the gates cost.

Rules: each runs in a process of its own, on the same data where they have its folder; one that fails says so in its line.
The classifier is cross-validated on the prompts that it was trained on, and measured as it ships on any others.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.quality.table import Row, not_measured

ROOT: Final = Path(__file__).resolve().parents[2]
LONGEST_S: Final = 2_400
BASELINES: Final = {
    "task type, macro-F1": "0.898",
    "task type, macro-F1, data sets never seen": "0.880",
    "task type, worst class, F1": "0.85",
    "task type, one source left out, mean accuracy": "0.54",
    "task type, expected calibration error": "0.067",
    "task type, coverage at 97 % accuracy": "0.77",
    "complexity, mean macro-F1": "0.476",
    "complexity, mean Spearman": "0.36",
    "classifier, p50": "75 µs",
    "classifier, p99": "600 µs",
}


class DidNotRunError(RuntimeError):
    """Raised when a bench did not run to its end; says how it ended."""


def ran(*command: str) -> str:
    """Run a bench and give what it printed.

    Raises:
        DidNotRunError: it failed, or took too long.

    """
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise DidNotRunError(type(error).__name__) from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise DidNotRunError(last[0])
    print(done.stderr, end="", file=sys.stderr)  # what was left out
    return done.stdout


def classifier(data: Path) -> Iterator[Row]:
    """Measure task types and complexity."""
    if not (data / "task_type/prompts.jsonl.gz").exists():
        yield not_measured("task type, macro-F1", "≥ 0.95", "0.898", "task_type/prompts.jsonl.gz is missing")
        return
    try:
        found = json.loads(ran("bench/evaluate_classifier.py", str(data), "--json"))
    except (DidNotRunError, ValueError) as error:
        yield not_measured("task type, macro-F1", "≥ 0.95", "0.898", f"bench/evaluate_classifier.py: {error}")
        return
    if not found:
        yield not_measured("task type, macro-F1", "≥ 0.95", "0.898", "no whole rows in task_type/prompts.jsonl.gz")
    for each in found:
        yield Row(each["what"], each["aim"], BASELINES.get(each["what"], "-"), each["value"], each["how"])


def schema(data: Path) -> Iterator[Row]:
    """Measure the validator on the conformance cases of the data, else on those of the repository."""
    what = "JSON Schema, required cases; time of `jsonschema`"
    there = data / "json_schema"
    own = (there / "conformance.jsonl.gz").exists()
    try:
        said = ran("bench/schema_conformance.py", *(["--data", str(there)] if own else []))
    except DidNotRunError as error:
        yield not_measured(what, "all; ≤ 1/5", "2,101 of 2,107; 1", f"bench/schema_conformance.py: {error}")
        return
    cases, ratio = re.search(r"required: (\d+)/(\d+)", said), re.search(r"required.*?ratio (\S+)", said, re.DOTALL)
    if cases and ratio:
        told = f"{int(cases[1]):,} of {int(cases[2]):,}; {ratio[1]}"
        how = "cases of these data" if own else "cases of bench/data"
        yield Row(what, "all; ≤ 1/5", "2,101 of 2,107; 1", told, how)
    else:
        yield not_measured(what, "all; ≤ 1/5", "2,101 of 2,107; 1", "no whole rows in json_schema/conformance.jsonl.gz")


def gates(data: Path) -> Iterator[Row]:
    """Measure what all gates together cost."""
    what = "gates' own cost, p99: 2 KiB answer; streamed token"
    try:
        said = ran("-m", "bench.gates", "--cost", "--data", str(data))
    except DidNotRunError as error:
        yield not_measured(what, "≤ 1 ms; ≤ 20 µs", "-", f"bench.gates: {error}")
        return
    end = re.search(r"\| 1\.5 to 2\.5 KiB[^|]*\| (\S+) \| (\S+) \|", said)
    token = re.search(r"\| 1,024 \| (\S+) \| (\S+) \|", said)
    if end and token:
        yield Row(what, "≤ 1 ms; ≤ 20 µs", "-", f"{end[2]} µs; {token[2]} µs", f"CPU time; mean token {token[1]} µs")
    else:
        yield not_measured(what, "≤ 1 ms; ≤ 20 µs", "-", "no answers of that length")
