"""Writes the conformance files.

    python -m tests.conformance.make            write streams.json and errors.json
    python -m tests.conformance.make --check    fail if they are not what would be written
    python -m tests.conformance.make --record   record recorded.json anew, from the service and the simulator (seconds)

Rules: the first two are the same bytes wherever they are made. A recording holds times that were fixed to zero and
messages as the network cut them, so it is compared by its skeleton (recordings.py), never byte by byte.
"""

from __future__ import annotations

import sys
from typing import Final

import anyio

from tests.conformance.error_cases import error_cases
from tests.conformance.format import FOLDER, text_of
from tests.conformance.random_cases import random_cases
from tests.conformance.recordings import recorded
from tests.conformance.rule_cases import rule_cases

STREAMS_ABOUT: Final = "What each rule of the event contract allows, and each way to break it; and random ones."
ERRORS_ABOUT: Final = "Failed calls: a status with its details, and what a client makes of it."
RECORDED_ABOUT: Final = "Streams of the running service: each fault of the simulator, each way to switch."


def made() -> dict[str, str]:
    """Give the files that are the same wherever they are made."""
    return {
        "streams.json": text_of(STREAMS_ABOUT, [*rule_cases(), *random_cases()]),
        "errors.json": text_of(ERRORS_ABOUT, error_cases()),
    }


def main(arguments: list[str]) -> int:
    """Write, check or record."""
    if arguments == ["--record"]:
        (FOLDER / "recorded.json").write_text(text_of(RECORDED_ABOUT, anyio.run(recorded)))
        return 0
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    stale = [name for name, text in made().items() if _read(name) != text]
    for name in stale:
        if arguments:
            print(f"stale: {FOLDER / name}; run: python -m tests.conformance.make", file=sys.stderr)
        else:
            (FOLDER / name).write_text(made()[name])
    return 1 if stale and arguments else 0


def _read(name: str) -> str:
    path = FOLDER / name
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
