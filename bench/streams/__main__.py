"""Measure what is promised of streams: switches, windows, closings, leftovers, unread readers.

    python -m bench.streams [--quick] [--only switch,windows,close,leftovers,unread] [--json FILE] [--page]

Runs from the project's root, on Linux, since much is read from /proc. Everything takes about nine minutes, --quick one.
--page puts the figures into docs/streams-bench.md. Nothing fails because a bound is not met: a noisy machine is no bug.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.common.command import parser_of, run_parts
from bench.common.figures import Part, Say
from bench.streams import closings, leftovers, switches, unread, windows
from bench.streams.house import plan, running_house

PARTS = ("switch", "windows", "close", "leftovers", "unread")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    asked = parser_of("bench.streams", __doc__ or "", PARTS, "docs/streams-bench.md").parse_args(arguments)

    async def measure(name: str, folder: Path, say: Say) -> Part:
        return await _measured(name, folder, say, quick=asked.quick)

    return run_parts(asked, measure)


async def _measured(name: str, folder: Path, say: Say, *, quick: bool) -> Part:
    faults = [
        *(fault for fault, _ in switches.FAULTS),
        "cut@40",
        *windows.FAULTS,
        *leftovers.FAULTS,
    ]
    # A fresh service for each part: none stands on what another left.
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
