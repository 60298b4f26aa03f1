"""Write the synchronous client from the asynchronous one.

    python clients/unasync.py           write clients/gearshift/clients/sync from .../aio
    python clients/unasync.py --check   fail if what is there is not what would be written

Rules: words are replaced, nothing is parsed; where the two differ by more than words, the difference belongs in
`_transport/aio.py` and `_transport/sync.py`, which are kept by hand.
"""

from __future__ import annotations

import re
import sys
from itertools import groupby
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parent / "gearshift" / "clients"
SOURCE: Final = PACKAGE / "aio"
TARGET: Final = PACKAGE / "sync"
NOTE: Final = "# Written by clients/unasync.py from {source}: change that one.\n"

REPLACEMENTS: Final = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"The client for asynchronous programs \(anyio on asyncio\)", "The client for synchronous programs"),
        (r"gearshift\.clients\.aio\b", "gearshift.clients.sync"),
        (r"gearshift\.clients\._transport\.aio\b", "gearshift.clients._transport.sync"),
        (r"\basync (def|with|for)\b", r"\1"),
        (r"\bawait ", ""),
        (r"\b__aenter__\b", "__enter__"),
        (r"\b__aexit__\b", "__exit__"),
        (r"\b__aiter__\b", "__iter__"),
        (r"\b__anext__\b", "__next__"),
        (r"\baclose\b", "close"),
        (r"\bStopAsyncIteration\b", "StopIteration"),
        (r"ServiceAsyncStub\b", "ServiceStub"),
        (r"\bA stream belongs to one task\b", "A stream belongs to one thread"),
        (r"\bTasks may share\b", "Threads may share"),
    )
]
# The stubs have one name for both kinds, so that the second import is of the same name.
TYPING_BLOCK: Final = re.compile(r"if TYPE_CHECKING:\n    from gearshift\.v1\.\w+ import \w+\n\n", re.MULTILINE)


def convert(text: str, name: str) -> str:
    """Give the synchronous text of one file."""
    for pattern, replacement in REPLACEMENTS:
        text = pattern.sub(replacement, text)
    text = TYPING_BLOCK.sub("", text).replace("TYPE_CHECKING, ", "")
    return NOTE.format(source=f"aio/{name}") + _sorted_imports(text)


def _sorted_imports(text: str) -> str:
    """Sort each run of our own imports, whose order the new names changed."""
    runs = groupby(text.splitlines(keepends=True), lambda line: line.startswith("from gearshift."))
    parts = ((is_import, list(run)) for is_import, run in runs)
    return "".join(
        line
        for is_import, part in parts
        for line in (sorted(part, key=lambda line: line.split()[1]) if is_import else part)
    )


def main(arguments: list[str]) -> int:
    """Write or check every file."""
    wanted = {path.name: convert(path.read_text(), path.name) for path in sorted(SOURCE.glob("*.py"))}
    found = {path.name: path.read_text() for path in sorted(TARGET.glob("*.py"))}
    stale = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if arguments == ["--check"]:
        for name in stale:
            print(f"stale: {TARGET / name}; run: python clients/unasync.py", file=sys.stderr)
        return 1 if stale else 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    TARGET.mkdir(exist_ok=True)
    for name in stale:
        if name in wanted:
            (TARGET / name).write_text(wanted[name])
        else:
            (TARGET / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
