"""`gearshift status`: what is running."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from gearshift.clients.cli.arguments import add_connection, client_from, context_from, print_json
from gearshift.clients.cli.command import OPERATIONS
from gearshift.clients.cli.exits import OK
from gearshift.clients.cli.terminal import palette_for

name: Final = "status"
help: Final = OPERATIONS[name]

_EPILOG: Final = """\
examples:
  gearshift status
  gearshift status --json | jq .warnings"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    from gearshift.clients.cli import render_ops

    with client_from(arguments) as client:
        found = client.ops.get_status(context_from(arguments))
    if arguments.json:
        print_json(found)
    else:
        print(render_ops.status(found, palette_for(sys.stdout)))
    return OK
