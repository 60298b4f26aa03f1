"""Measure Gearshift's speed and size beside a bare gRPC echo and a gateway without features.

    python -m bench.speed [--quick] [--json FILE] [--rounds N]

Runs from the project's root, in about 3 minutes (--quick: 20 s). Compare ratios of one sitting only: docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import uvloop

from bench.speed.measure import QUICK, Plan, sitting
from bench.speed.report import as_json, as_text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description="Measure Gearshift's speed and size.")
    parser.add_argument("--quick", action="store_true", help="one short round: a look, not a measurement")
    parser.add_argument("--rounds", type=int, metavar="N", help="how many rounds (default 3)")
    parser.add_argument("--seconds", type=float, metavar="S", help="how long each case of a round takes (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    asked = parser.parse_args()
    plan = QUICK if asked.quick else Plan()
    plan = replace(plan, rounds=asked.rounds or plan.rounds, case_s=asked.seconds or plan.case_s)
    cores = sorted(os.sched_getaffinity(0))
    server_core, load_core = cores[0], cores[-1]
    if server_core == load_core:
        print("only one core: server and load share it, so the figures say little", file=sys.stderr)
    os.sched_setaffinity(0, {load_core})
    began = time.perf_counter()

    def say(what: str) -> None:
        print(f"[{time.perf_counter() - began:5.0f} s] {what}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="gearshift-bench-") as folder:
        results = uvloop.run(sitting(plan, Path(folder), server_core, load_core, say))
    print(as_text(results))
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(as_json(results))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
