"""Limits, breakers, the ledger and the whole service under load: python -m bench.load PART [options].

Rules: a part is a module of this folder with `configure(parser)` and `run(arguments) -> Lines`; every line says what was
measured, what it must be, and whether it is. `all` runs every part and writes their page.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

PARTS = sorted(
    each.stem
    for each in Path(__file__).parent.glob("*.py")
    if each.stem not in ("__main__", "lines") and each.stem[0] != "_"
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="also write the lines as JSON")
    commands = parser.add_subparsers(dest="part", required=True)
    for name in PARTS:
        part = importlib.import_module(f"bench.load.{name}")
        if hasattr(part, "configure"):
            part.configure(commands.add_parser(name, help=(part.__doc__ or "").splitlines()[0].replace("%", "%%")))
    arguments = parser.parse_args()
    lines = importlib.import_module(f"bench.load.{arguments.part}").run(arguments)
    print("| what | must be | measured | |")
    print("| --- | --- | --- | --- |")
    for line in lines:
        print(f"| {line['what']} | {line['must']} | {line['measured']} | {'yes' if line['holds'] else '**no**'} |")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(lines, indent=2) + "\n", "utf-8")
    return 0 if all(line["holds"] for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
