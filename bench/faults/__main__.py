"""Put gateways through the same faults: which callers get a whole valid answer, and at what price.

    python -m bench.faults [--quick] [--gateways gearshift,litellm] [--faults cut,stall] [--runs N]

Runs from the project's root. With every gateway installed and its default runs it takes an hour or two; --quick takes
minutes. It writes docs/fault-bench.md and its chart when all faults were run, else only prints. Configurations and logs
of a sitting stay beside the results, in .bench/fault-bench.d.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from bench.common.process import BENCH, ROOT
from bench.faults.chart import draw
from bench.faults.drive import Drive, Say, drive
from bench.faults.gateway import NAMES, Gateway
from bench.faults.provider import running_providers
from bench.faults.report import as_page, as_text
from bench.faults.results import Measured, Results
from bench.faults.score import Cell
from bench.faults.table import ROWS, Row
from bench.faults.work import MODES, Mode

_PAGE = ROOT / "docs/fault-bench.md"
_RESULTS = BENCH / "fault-bench.json"
_QUICK_RUNS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gateways", default=",".join(NAMES), metavar="A,B", help=f"default {','.join(NAMES)}")
    parser.add_argument("--faults", default="", metavar="A,B", help="rows whose name begins so; default all")
    parser.add_argument("--modes", default="", metavar="A,B", help="such as 'text stream'; default all four")
    parser.add_argument(
        "--runs", type=int, metavar="N", help="of each case at every gateway; default: 1000 at gearshift, 50 at others"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK_RUNS} runs of each case: a look, not a measurement"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of places and answers (default 1)")
    parser.add_argument(
        "--usage", choices=("end", "cumulative", "none"), default="end", help="when the providers count tokens"
    )
    parser.add_argument("--batch-seconds", type=float, default=300, metavar="S", help="most for one case (default 300)")
    parser.add_argument(
        "--results", type=Path, default=_RESULTS, metavar="FILE", help=f"default {_RESULTS.relative_to(ROOT)}"
    )
    parser.add_argument("--page", type=Path, default=_PAGE, metavar="FILE", help=f"default {_PAGE.relative_to(ROOT)}")
    parser.add_argument("--only-page", action="store_true", help="run nothing, write the page anew from the results")
    parser.add_argument("--no-page", action="store_true", help="leave the page as it is")
    asked = parser.parse_args(arguments)
    rows = _rows(asked.faults)
    modes = [mode for mode in MODES if not asked.modes or mode.name in asked.modes.split(",")]
    if not rows or not modes:
        parser.error("no such fault or mode; there are: " + ", ".join(row.name for row in ROWS))
    results = Results.load(asked.results)
    began = time.perf_counter()

    def say(what: str) -> None:
        print(f"[{time.perf_counter() - began:5.0f} s] {what}", file=sys.stderr, flush=True)

    if not asked.only_page:
        gateways = [_gateway(name) for name in asked.gateways.split(",")]
        runs = _QUICK_RUNS if asked.quick else asked.runs
        folder = asked.results.with_suffix(".d")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended then too
        uvloop.run(_sitting(gateways, rows, modes, runs, asked, folder, results, say))
    print(as_text(results))
    if (
        asked.only_page
        or asked.page != _PAGE
        or (len(rows) == len(ROWS) and len(modes) == len(MODES) and not asked.no_page)
    ):
        picture = asked.page.with_suffix(".png")
        say(draw(asked.results, picture))
        asked.page.write_text(as_page(results, chart=picture.name if picture.exists() else ""), encoding="utf-8")
        say(f"wrote {asked.page}")
    return 0


async def _sitting(
    gateways: Sequence[Gateway],
    rows: Sequence[Row],
    modes: Sequence[Mode],
    runs: int | None,
    asked: argparse.Namespace,
    folder: Path,
    results: Results,
    say: Say,
) -> None:
    for gateway in gateways:
        if command := gateway.missing():
            say(f"{gateway.name} is not installed, so it is left out; to install it:\n  {command}")
            continue
        each = runs or gateway.runs
        measured = results.begin(gateway, seed=asked.seed, usage=asked.usage, runs=each)

        def keep(row: str, mode: str, cell: Cell, measured: Measured = measured) -> None:
            measured.cells.setdefault(row, {})[mode] = cell
            results.save(asked.results)

        async with AsyncExitStack() as stack:
            providers = await stack.enter_async_context(running_providers(folder, asked.seed, asked.usage))
            say(f"starting {gateway.name} ({gateway.version()})")
            running = await stack.enter_async_context(gateway.running(providers, folder))
            wanted = Drive(runs=each, seed=asked.seed, batch_s=asked.batch_seconds, rows=rows, modes=modes)
            await drive(gateway, running, providers, wanted, say, keep)


def _rows(names: str) -> list[Row]:
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    return [row for row in ROWS if not wanted or any(row.name.startswith(name) for name in wanted)]


def _gateway(name: str) -> Gateway:
    there = sorted(file.stem for file in (Path(__file__).parent / "gateways").glob("*.py"))
    if name not in there:
        raise SystemExit(f"there is no gateway {name!r}; there are {', '.join(there)}")
    gateway: Gateway = importlib.import_module(f"bench.faults.gateways.{name}").GATEWAY
    return gateway


if __name__ == "__main__":
    sys.exit(main())
