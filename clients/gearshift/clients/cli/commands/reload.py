"""`gearshift reload`: have the configuration read again; an invalid one changes nothing."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from gearshift.clients.cli.arguments import add_connection, client_from, context_from, print_json
from gearshift.clients.cli.command import OPERATIONS
from gearshift.clients.cli.exits import OK
from gearshift.clients.cli.terminal import palette_for

name: Final = "reload"
help: Final = OPERATIONS[name]

_EPILOG: Final = """\
examples:
  gearshift reload"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    with client_from(arguments) as client:
        done = client.ops.reload(context_from(arguments))
    if arguments.json:
        print_json(done)
    else:
        palette = palette_for(sys.stdout)
        said = palette.good("reloaded") if done.changed else "nothing has changed"
        print(f"{said}: revision {done.config_revision}")
    return OK
