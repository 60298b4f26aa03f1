"""Measure the browser's way in: what gRPC-Web adds to a call, and many browsers on one process.

    python -m bench.web [--quick] [--only unary,streams] [--browsers N] [--json FILE] [--page]

Runs from the project's root, on Linux, since much is read from /proc. Everything takes about a minute, --quick a quarter.
--page puts the figures into docs/web-bench.md. Nothing fails because a bound is not met: a noisy machine is no bug.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.common.command import parser_of, run_parts
from bench.common.figures import Part, Say
from bench.web.house import running_house
from bench.web.streams import streams
from bench.web.unary import unary

PARTS = ("unary", "streams")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    parser = parser_of("bench.web", __doc__ or "", PARTS, "docs/web-bench.md")
    parser.add_argument("--browsers", type=int, default=200, metavar="N", help="streams at once (200)")
    asked = parser.parse_args(arguments)

    async def measure(name: str, folder: Path, say: Say) -> Part:
        async with running_house(folder, words=20 if asked.quick else 200) as house:
            if name == "unary":
                return await unary(house, 200 if asked.quick else 3000, say)
            return await streams(house, asked.browsers, say)

    return run_parts(asked, measure)


if __name__ == "__main__":
    sys.exit(main())
