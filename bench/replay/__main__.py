"""Measure the article's four claims by replaying recorded answers through the service.

    python -m bench.replay [--page] [--quick] [--data DIR] [--thresholds DIR] [--seed N] [--json FILE]

Runs from the project's root; needs no network. --page writes docs/article-claims.md and its pictures (needs matplotlib).
--data takes other data of the same shape, such as a part that was kept back, and --thresholds finds thresholds on yet another;
without them, both are halves of bench/data/replay. Everything takes about fourteen minutes, mostly waiting, --quick two.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from bench.common.process import ROOT
from bench.replay.data import COPY
from bench.replay.measure import QUICK, Sizes, measured
from bench.replay.page import as_document, as_text, write_page

_PAGE = ROOT / "docs/article-claims.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and say what came out."""
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--page", action="store_true", help=f"write {_PAGE.relative_to(ROOT)} and its pictures")
    parser.add_argument("--quick", action="store_true", help="few of each: a look, not a measurement")
    parser.add_argument("--data", type=Path, default=COPY, metavar="DIR", help="recorded answers of the same shape")
    parser.add_argument("--thresholds", type=Path, metavar="DIR", help="find thresholds on all of this data instead")
    parser.add_argument("--seed", type=int, default=1, help="of draws, faults and order (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--out", type=Path, default=_PAGE, metavar="FILE", help="another page than the published one")
    asked = parser.parse_args(arguments)
    began = time.perf_counter()

    def say(what: str) -> None:
        print(f"[{time.perf_counter() - began:5.0f} s] {what}", file=sys.stderr, flush=True)

    logging.getLogger("gearshift").setLevel(logging.ERROR)
    found = uvloop.run(
        measured(asked.data, QUICK if asked.quick else Sizes(), asked.seed, say, thresholds=asked.thresholds)
    )
    seconds = time.perf_counter() - began
    is_copy = asked.data.resolve() == COPY.resolve()
    text = as_text(found, seed=asked.seed, seconds=seconds, quick=asked.quick, is_copy=is_copy)
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(as_document(found, asked.seed)), indent=2))
    if asked.page:
        write_page(asked.out, text, found)
        say(f"wrote {asked.out}")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
