"""The command of a bench that has parts: which are run, what they say, where their figures go."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import uvloop

from bench.common.figures import Part, Say
from bench.common.page import as_json, as_text, put_figures
from bench.common.process import BENCH, ROOT


def parser_of(module: str, told: str, parts: Sequence[str], page: str) -> argparse.ArgumentParser:
    """Make the parser of `python -m module`.

    Args:
        told: the module's docstring, whose first line is the description.
        page: where the figures go, from the project's root.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=told.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few of each: a look, not a measurement")
    parser.add_argument("--only", type=_names_of(parts), default=parts, metavar="A,B", help=f"of {','.join(parts)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--page", action="store_true", help=f"put the figures into {page}; what is not run keeps its own"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=BENCH / f"{module.rpartition('.')[2]}.d",
        metavar="DIR",
        help="of configurations and logs",
    )
    parser.set_defaults(to=ROOT / page)
    return parser


def run_parts(asked: argparse.Namespace, measure: Callable[[str, Path, Say], Awaitable[Part]]) -> int:
    """Run what was asked for, and tell it.

    Args:
        measure: runs the part of that name, in a folder of its own.
    """
    began = time.perf_counter()

    def say(what: str) -> None:
        print(f"[{time.perf_counter() - began:5.0f} s] {what}", file=sys.stderr, flush=True)

    shutil.rmtree(asked.folder, ignore_errors=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended then too
    found: list[Part] = []
    for name in asked.only:
        folder: Path = asked.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        found.append(uvloop.run(_measured(measure, name, folder, say)))
        text = as_text(found[-1:])
        print(text, flush=True)
        if asked.page:
            put_figures(asked.to, name, text, "A look (`--quick`), not a measurement." if asked.quick else "")
            say(f"wrote {asked.to}")
    if asked.json:
        asked.json.write_bytes(as_json(found))
    return 0


async def _measured(measure: Callable[[str, Path, Say], Awaitable[Part]], name: str, folder: Path, say: Say) -> Part:
    return await measure(name, folder, say)


def _names_of(parts: Sequence[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        wanted = [name.strip() for name in text.split(",") if name.strip()]
        if unknown := [name for name in wanted if name not in parts]:
            raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(parts)}")
        return wanted

    return names
