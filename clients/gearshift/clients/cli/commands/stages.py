"""`gearshift stages`: the health of each account and model: breaker, limits, measured figures."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from gearshift.clients.cli.arguments import add_connection, client_from, context_from, print_json
from gearshift.clients.cli.command import OPERATIONS
from gearshift.clients.cli.exits import OK
from gearshift.clients.cli.terminal import palette_for

name: Final = "stages"
help: Final = OPERATIONS[name]

_EPILOG: Final = """\
examples:
  gearshift stages
  gearshift stages --provider anthropic --json"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("--provider", default="", metavar="NAME", help="only this provider")
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    from gearshift.clients.cli import render_ops
    from gearshift.v1 import ops_pb2

    with client_from(arguments) as client:
        found = client.ops.list_stages(context_from(arguments), provider=arguments.provider)
    if arguments.json:
        print_json(ops_pb2.ListStagesResponse(stages=found))
    else:
        print(render_ops.stages(found, palette_for(sys.stdout)))
    return OK
