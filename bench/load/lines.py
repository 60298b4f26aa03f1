"""What a part found: lines of what was measured, what it must be, and whether it is."""

from __future__ import annotations

import sys
from typing import Any

Line = dict[str, Any]
"""`what`, `must` and `measured` are texts, `holds` a bool."""


def line(what: str, must: str, measured: str, holds: bool = True) -> Line:
    """Make a line, and say it at once; `must` is "–" where nothing is promised."""
    say(f"{what}: {measured}{'' if holds else '  NOT MET'}")
    return {"what": what, "must": must, "measured": measured, "holds": holds}


def say(text: str) -> None:
    """Tell whoever waits how it goes."""
    print(f"  {text}", file=sys.stderr, flush=True)
