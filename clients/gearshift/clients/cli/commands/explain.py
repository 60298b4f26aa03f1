"""`gearshift explain`: what would be decided, and which stages would run."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from gearshift.clients.cli.arguments import add_call, add_connection, call_from, client_from, context_from, print_json
from gearshift.clients.cli.command import CALLS
from gearshift.clients.cli.exits import OK
from gearshift.clients.cli.terminal import palette_for

name: Final = "explain"
help: Final = CALLS[name]

_EPILOG: Final = """\
examples:
  gearshift explain "Why does my code deadlock?"
  gearshift explain --task email-triage --sensitivity restricted "Where is my parcel?"
  gearshift explain --label bug --label praise "It crashes." --json | jq '.stages[] | select(.planned)'

No model is called and nothing is spent."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    add_call(parser)
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    from gearshift.clients.cli import render

    call = call_from(arguments)
    with client_from(arguments) as client:
        explained = client.explain(context_from(arguments), call)
    if arguments.json:
        print_json(explained)
    else:
        print(render.explanation(explained, palette_for(sys.stdout)))
    return OK
