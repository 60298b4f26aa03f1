"""`gearshift tune`: thresholds for a target quality, from recorded outcomes.

Rules: nothing is changed; it prints what to paste. A cascade that costs more than one stage alone is not proposed. Recorded
outcomes come from a file of JSON lines, or from what callers reported to the ledger.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gearshift.core.confidence.recorded import CannotReadError, Recording, read_recordings
from gearshift.core.confidence.tuning import Point, Tuning, tune
from gearshift.core.errors import RouteError

if TYPE_CHECKING:
    from gearshift.core.ledger.outcomes import JudgedAttempt

_EPILOG = """OUTCOMES is JSON lines, one request each (docs/quality.md):
  {"task_type": "reason", "prompt": "...", "stages": [
     {"model": "small", "correct": 1, "cost": 0.0002, "confidence": 0.91},
     {"model": "large", "correct": 1, "cost": 0.0031}]}
stages stand in the chain's order, the strongest last; correct is 0 to 1; without a confidence the answer is measured, from
"prompt" and the stage's "answer".

examples:
  gearshift tune outcomes.jsonl --target 0.98
  gearshift tune outcomes.jsonl --out tuned/          curve.csv, tuning.json, thresholds.yaml, and curve.png with matplotlib
  gearshift tune --ledger --config gearshift.yaml     what callers reported with ReportOutcome

exit codes: 0 done, 1 the outcomes cannot be read or are too few, 2 wrong arguments"""

_LEAST_CASES = 30
_MOST_OUTCOMES = 100_000
_SHOWN = 12


class TuneCommand:
    """Finds thresholds."""

    name = "tune"
    help = "find thresholds for a target quality, from recorded outcomes"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument("outcomes", nargs="?", metavar="OUTCOMES", help="JSON lines; - reads standard input")
        parser.add_argument("--target", type=_share, default=0.98, help="of the strongest stage's quality (0.98)")
        parser.add_argument(
            "--caution", type=_errors, default=1.0, metavar="SE", help="standard errors to clear the target by (1)"
        )
        parser.add_argument("--ledger", action="store_true", help="take what callers reported to the ledger")
        parser.add_argument(
            "--config", "-c", metavar="FILE", help="the service's configuration, which names the ledger"
        )
        parser.add_argument("--out", metavar="DIR", help="write curve.csv, tuning.json, thresholds.yaml and curve.png")
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        parser.epilog = _EPILOG

    def run(self, arguments: argparse.Namespace) -> int:
        """Tune, and print what it comes to."""
        if arguments.ledger == (arguments.outcomes is not None):
            print("gearshift tune: name a file with outcomes, or --ledger", file=sys.stderr)
            return 2
        try:
            recordings = _of_ledger(arguments) if arguments.ledger else _of_file(arguments.outcomes)
        except (CannotReadError, RouteError, OSError) as error:
            print(f"gearshift tune: {error}", file=sys.stderr)
            return 1
        tuned: dict[str, tuple[Recording, Tuning]] = {}
        for name, recording in sorted(recordings.items()):
            if len(recording.cases) < _LEAST_CASES:
                told = f"{len(recording.cases)} outcomes are too few, {_LEAST_CASES} are needed"
                print(f"gearshift tune: {name}: {told}", file=sys.stderr)
                continue
            tuned[name] = recording, tune(recording.cases, arguments.target, arguments.caution)
        if not tuned:
            print("gearshift tune: there is nothing to tune by", file=sys.stderr)
            return 1
        fragment = _fragment(tuned)
        document = {name: _document(recording, found) for name, (recording, found) in tuned.items()}
        if arguments.out:
            _write(Path(arguments.out), tuned, document, fragment)
        if arguments.json:
            print(json.dumps({"tuned": document, "yaml": fragment}, indent=2))
            return 0
        for name, (recording, found) in tuned.items():
            print(_table(name, recording, found), end="\n\n")
        print("# paste into gearshift.yaml")
        print(fragment, end="")
        return 0


COMMAND = TuneCommand()


def _of_file(name: str) -> Mapping[str, Recording]:
    try:
        if name == "-":
            return read_recordings(sys.stdin)
        with open(name, encoding="utf-8-sig") as file:
            return read_recordings(file)
    except UnicodeDecodeError as error:
        raise CannotReadError(f"{name}: is no UTF-8 text") from error
    except CannotReadError as error:
        raise CannotReadError(f"{name}: {error}") from error


def _of_ledger(arguments: argparse.Namespace) -> Mapping[str, Recording]:
    from gearshift.core.ledger.outcomes import read_outcomes
    from gearshift.server.cli.configured import configured
    from gearshift.server.cli.costs import ledger_store

    blueprint = configured(arguments.config).blueprint
    with ledger_store(blueprint).session() as session:
        judged = read_outcomes(session, _MOST_OUTCOMES)
    return _recordings(judged)


def _recordings(judged: Sequence[JudgedAttempt]) -> Mapping[str, Recording]:
    """Give one recording for each chain and task type, of its first stage against the last that was judged.

    What the strongest stage would have made of answers that the first one served is not known: its mean stands in.
    """
    from gearshift.core.confidence.tuning import Case, Try
    from gearshift.core.ledger.outcomes import confidence_of

    groups: dict[tuple[str, str], dict[int, list[JudgedAttempt]]] = {}
    for each in judged:
        groups.setdefault((each.chain, each.task_type), {}).setdefault(each.position, []).append(each)
    found: dict[str, Recording] = {}
    for (chain, kind), stages in groups.items():
        first, last = min(stages), max(stages)
        name = kind if chain == kind else f"{chain}/{kind}"
        if first == last:
            told = f"outcomes were reported of stage {first} alone ({stages[first][0].model}): there is nothing to compare it with"
            print(f"gearshift tune: {name}: {told}", file=sys.stderr)
            continue
        right = sum(each.right for each in stages[last]) / len(stages[last])
        paid = [float(each.cost_usd) for each in stages[last] if each.cost_usd is not None]
        if not paid:
            continue
        strong = Try(right=right, cost=sum(paid) / len(paid))
        cases = [
            Case(
                tries=(Try(right=float(each.right), cost=float(each.cost_usd), confidence=confidence_of(each)), strong)
            )
            for each in stages[first]
            if each.cost_usd is not None
        ]
        note = (
            f"the last stage's quality is the mean of {len(stages[last])} reported answers, and no outcome below the threshold "
            "in force is seen: this raises a threshold better than it lowers one"
        )
        found[name] = Recording(
            task_type=kind, chain=chain, models=(stages[first][0].model, stages[last][0].model), cases=cases, note=note
        )
    return found


def _fragment(tuned: Mapping[str, tuple[Recording, Tuning]]) -> str:
    """Give what to paste: a policy for each chain, which has one threshold for all task types that it serves."""
    by_chain: dict[str, list[str]] = {}
    for name, (recording, _) in tuned.items():
        by_chain.setdefault(recording.chain or recording.task_type, []).append(name)
    lines = ["chains:"]
    for chain, names in by_chain.items():
        lines.append(f"  {chain}:")
        if len(names) > 1:
            lines.append(
                "    # it serves several task types: the highest threshold stands; a declared task's `policy` may hold its own"
            )
        for name in names:
            lines.append(f"    # {name}: {_decided(*tuned[name])}")
        lines.append(f"    policy: {{{', '.join(_policy([tuned[name] for name in names]))}}}")
    return "\n".join(lines) + "\n"


def _decided(recording: Recording, found: Tuning) -> str:
    share = f"{found.chosen.quality:.1%} right at {_money(found.chosen.cost)} a call"
    if found.chosen.threshold is not None:
        return f"threshold {_threshold(found.chosen.threshold)}, {share}"
    stage = found.fixed_stage or 0
    return f"no cascade: {found.refused}; leave {recording.models[stage] or f'stage {stage + 1}'} as the only stage, {share}"


def _policy(tuned: Sequence[tuple[Recording, Tuning]]) -> list[str]:
    thresholds = [found.chosen.threshold for _, found in tuned if found.chosen.threshold is not None]
    if thresholds:
        value = _threshold(max(thresholds))
        how = ["confidence: answer"] if any(recording.is_measured for recording, _ in tuned) else []
        return [*how, f"min_confidence: {value}", f"escalation_threshold: {value}"]
    if all(found.fixed_stage != len(recording.models) - 1 for recording, found in tuned):
        return ["min_confidence: 0", "escalation_threshold: 0"]  # whatever the chosen stage says is believed
    return []


def _threshold(value: float) -> str:
    return f"{min(1.0, value):.4f}"


def _table(name: str, recording: Recording, found: Tuning) -> str:
    strong = found.beside[1]
    head = ("", "threshold", "cost", "of strong", "quality", "of strong", "escalated")
    shown = _some(found.curve)
    rows = [head, *(_row(point, strong) for point in (*found.beside, *shown))]
    if found.cascade is not None:
        rows.append(_row(found.cascade, strong, "cascade at target"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        f"{name}: {found.cases} outcomes, target {found.target:.1%} of the strongest"
        + (f" ({', '.join(each for each in recording.models if each)})" if any(recording.models) else "")
    ]
    lines += [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    if found.refused:
        lines.append(f"no cascade: {found.refused}. Use {found.chosen.name}.")
    if recording.note:
        lines.append(f"note: {recording.note}")
    return "\n".join(lines)


def _some(curve: Sequence[Point]) -> Sequence[Point]:
    step = max(1, len(curve) // _SHOWN)
    return [*curve[::step]]


def _row(point: Point, strong: Point, name: str = "") -> tuple[str, ...]:
    return (
        name or point.name,
        "" if point.threshold is None else f"{min(1.0, point.threshold):.3f}",
        _money(point.cost),
        f"{point.cost / strong.cost:.1%}" if strong.cost else "-",
        f"{point.quality:.1%}",
        f"{point.quality / strong.quality:.1%}" if strong.quality else "-",
        f"{point.escalated:.1%}",
    )


def _money(cost: float) -> str:
    return f"{cost:.4g}"


def _document(recording: Recording, found: Tuning) -> dict[str, object]:
    def point(each: Point) -> dict[str, object]:
        return {
            "name": each.name,
            "threshold": each.threshold,
            "cost": each.cost,
            "quality": each.quality,
            "escalated": each.escalated,
        }

    return {
        "task_type": recording.task_type,
        "models": list(recording.models),
        "outcomes": found.cases,
        "target": found.target,
        "chosen": point(found.chosen),
        "refused": found.refused,
        "beside": [point(each) for each in found.beside],
        "curve": [point(each) for each in found.curve],
    }


def _write(
    folder: Path, tuned: Mapping[str, tuple[Recording, Tuning]], document: Mapping[str, object], fragment: str
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tuning.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    (folder / "thresholds.yaml").write_text(fragment, "utf-8")
    with (folder / "curve.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("task", "name", "threshold", "cost", "quality", "escalated"))
        for name, (_, found) in tuned.items():
            for each in (*found.beside, *found.curve):
                threshold = "" if each.threshold is None else each.threshold
                writer.writerow((name, each.name, threshold, each.cost, each.quality, each.escalated))
    try:
        from gearshift.server.cli.tune_plot import plot
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        print("gearshift tune: no curve.png: pip install 'gearshift[plot]'", file=sys.stderr)
        return
    plot(folder / "curve.png", {name: found for name, (_, found) in tuned.items()})


def _errors(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of standard errors, 0 to 10")
    return found


def _share(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 < found <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 0.98")
    return found
