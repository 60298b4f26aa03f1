"""Measure the browser's way in: what gRPC-Web adds to a call, and many browsers on one process.

    python -m bench.web [--quick] [--only unary,streams] [--browsers N] [--json FILE] [--page]

Runs from the project's root, on Linux, since much is read from /proc. Everything takes about a minute, --quick a quarter.
--page puts the figures into docs/web-bench.md. Nothing fails because a bound is not met: a noisy machine is no bug.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from bench.faults.process import BENCH, ROOT
from bench.streams.figures import Part
from bench.streams.report import as_json, as_text, write_page
from bench.web.house import running_house
from bench.web.streams import streams
from bench.web.unary import unary

PARTS = ("unary", "streams")
_PAGE = ROOT / "docs/web-bench.md"
_FOLDER = BENCH / "web.d"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.web", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few of each: a look, not a measurement")
    parser.add_argument("--only", default=",".join(PARTS), metavar="A,B", help=f"of {','.join(PARTS)}")
    parser.add_argument("--browsers", type=int, default=200, metavar="N", help="streams at once (200)")
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
        parts.append(uvloop.run(_measured(name, folder, asked.browsers, say, quick=asked.quick)))
        print(as_text(parts[-1:]), flush=True)
    if asked.json:
        asked.json.write_bytes(as_json(parts))
    if asked.page:
        write_page(_PAGE, parts)
        say(f"wrote {_PAGE}")
    return 0


async def _measured(name: str, folder: Path, browsers: int, say: Callable[[str], None], *, quick: bool) -> Part:
    async with running_house(folder, words=20 if quick else 200) as house:
        if name == "unary":
            return await unary(house, 200 if quick else 3000, say)
        return await streams(house, browsers, say)


if __name__ == "__main__":
    sys.exit(main())
