"""Every part, one after another, and their page.

python -m bench.load all [--quick] [--only soak,storm] [--page]

Rules: each part is a process of its own, so that none stands on what another left, and leaves none behind; one that fails is
told as a line, and the others go on. Each part has its place on the page, between its marks: a part that was not run keeps
its figures. What other programs took of the machine meanwhile stands beside them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from bench.common.page import put_figures
from bench.common.process import ROOT
from bench.load._apart import Ran, run_apart
from bench.load.lines import Line, line, say

PARTS = ("limits", "storm", "ledger", "bill", "workers", "soak")
PAGE = ROOT / "docs/load-bench.md"
_QUICK = {
    "limits": ("--seconds", "5", "--calls", "4000", "--rounds", "4"),
    "ledger": ("--kills", "3", "--away", "3", "--calls", "2000"),
    "workers": ("--rounds", "1", "--seconds", "2"),
}
"""Of parts that say nothing of their own as `QUICK`."""
MINUTES = {"limits": 4, "storm": 1, "ledger": 8, "bill": 2, "workers": 3, "soak": 14}
"""How long each takes in full, roughly, on two cores."""
_MOST_TIMES = 3
"""As long as it takes, a part may take before it is ended."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--quick", action="store_true", help="little of each: a look, not a measurement")
    parser.add_argument("--only", default=",".join(PARTS), metavar="A,B", help=f"of {_listed()}")
    parser.add_argument("--page", action="store_true", help=f"put the figures into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--to", type=Path, default=PAGE, metavar="FILE", help="another page")


def _ended(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _listed() -> str:
    return ", ".join(f"{name} ({MINUTES[name]} minutes)" for name in PARTS)


def run(arguments: argparse.Namespace) -> list[Line]:
    """Run them; give all lines."""
    wanted = [name.strip() for name in arguments.only.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in PARTS]:
        sys.exit(f"there is no {', '.join(unknown)}; there are {', '.join(PARTS)}")
    # An end by hand, too, is one after which nothing is left.
    signal.signal(signal.SIGTERM, _ended)
    found: list[Line] = []
    for name in wanted:
        say(f"{name} … {'' if arguments.quick else f'about {MINUTES[name]} minutes'}")
        lines, ran = _part(name, quick=arguments.quick)
        found += lines
        if arguments.page:
            look = " A look (`--quick`), not a measurement." if arguments.quick else ""
            put_figures(arguments.to, name, table(lines), ran.told() + look)
    return found


def table(lines: Sequence[Line]) -> str:
    """Give lines as a table."""
    rows = ["| what | must be | measured | |", "| --- | --- | --- | --- |"]
    for each in lines:
        verdict = "" if each["must"] in ("–", "") and each["holds"] else "yes" if each["holds"] else "**no**"
        rows.append(f"| {each['what']} | {each['must']} | {each['measured']} | {verdict} |")
    return "\n".join(rows)


def _part(name: str, *, quick: bool) -> tuple[list[Line], Ran]:
    module = importlib.import_module(f"bench.load.{name}")
    options: Sequence[str] = getattr(module, "QUICK", _QUICK.get(name, ())) if quick else ()
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "lines.json"
        command = [sys.executable, "-m", "bench.load", "--json", str(told), name, *options]
        # A child that is forked off has gRPC say so, each time.
        environment = {"GRPC_VERBOSITY": "ERROR", **os.environ}
        ran = run_apart(command, ROOT, environment, MINUTES[name] * 60 * _MOST_TIMES)
        lines: list[Line] = []
        if told.exists():
            lines = json.loads(told.read_text("utf-8"))
        else:
            how = (
                f"failed with {ran.code}" if ran.code is not None else f"was ended after {ran.seconds / 60:.0f} minutes"
            )
            lines.append(line(f"{name}: run", "ends", how, holds=False))
        if ran.left:
            lines.append(line(f"{name}: processes left behind", "0", "; ".join(ran.left), holds=False))
        say(f"{name}: {ran.told()}")
        return lines, ran
