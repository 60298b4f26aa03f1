"""Measure what is promised of streams: switches, windows, closings, leftovers, unread readers.

    python -m bench.streams [--quick] [--only switch,windows,close,leftovers,unread] [--json FILE] [--page]

Runs from the project's root, on Linux, since much is read from /proc. Everything takes about nine minutes, --quick one.
--page puts the figures into docs/streams-bench.md. Nothing fails because a bound is not met: a noisy machine is no bug.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench.faults.process import BENCH, ROOT
from bench.streams import closings, leftovers, switches, unread, windows
from bench.streams.figures import Part
from bench.streams.house import plan, running_house
from bench.streams.report import as_json, as_text, write_page

PARTS = ("switch", "windows", "close", "leftovers", "unread")
_PAGE = ROOT / "docs/streams-bench.md"
_FOLDER = BENCH / "streams.d"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few of each: a look, not a measurement")
    parser.add_argument("--only", default=",".join(PARTS), metavar="A,B", help=f"of {','.join(PARTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--page", action="store_true", help=f"put the figures into {_PAGE.relative_to(ROOT)}")
    parser.add_argument("--folder", type=Path, default=_FOLDER, metavar="DIR", help="of configurations and logs")
    asked = parser.parse_args(arguments)
    wanted = [name.strip() for name in asked.only.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in PARTS]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(PARTS)}")
    began = time.perf_counter()

    def say(what: str) -> None:
        print(f"[{time.perf_counter() - began:5.0f} s] {what}", file=sys.stderr, flush=True)

    shutil.rmtree(asked.folder, ignore_errors=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended then too
    parts: list[Part] = []
    for name in wanted:
        folder: Path = asked.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        # A fresh service for each part: none stands on what another left.
        parts.append(uvloop.run(_measured(name, folder, say, quick=asked.quick)))
        print(as_text(parts[-1:]), flush=True)
    if asked.json:
        asked.json.write_bytes(as_json(parts))
    if asked.page:
        write_page(_PAGE, parts)
        say(f"wrote {_PAGE}")
    return 0


async def _measured(name: str, folder: Path, say: switches.Say, *, quick: bool) -> Part:
    faults = [
        *(fault for fault, _ in switches.FAULTS),
        "cut@40",
        *windows.FAULTS,
        *leftovers.FAULTS,
    ]
    async with running_house(folder, plan(list(dict.fromkeys(faults)), [*switches.ANSWERS, *windows.ANSWERS])) as house:
        match name:
            case "switch":
                return await switches.switches(house, 52 if quick else 520, 5 if quick else 50, say)
            case "windows":
                return await windows.windows(house, 1 if quick else 3, say)
            case "close":
                return await closings.closings(house, 60 if quick else 1500, say)
            case "leftovers":
                return await leftovers.leftovers(house, 500 if quick else 10_000, say)
            case _:
                return await unread.unread(house, say)


if __name__ == "__main__":
    sys.exit(main())
