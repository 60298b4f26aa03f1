"""`gearshift chains`: the chains and their stages."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from gearshift.clients.cli.arguments import add_connection, client_from, context_from, print_json
from gearshift.clients.cli.command import OPERATIONS
from gearshift.clients.cli.exits import OK
from gearshift.clients.cli.terminal import palette_for

name: Final = "chains"
help: Final = OPERATIONS[name]

_EPILOG: Final = """\
examples:
  gearshift chains"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    from gearshift.clients.cli import render_ops
    from gearshift.v1 import ops_pb2

    with client_from(arguments) as client:
        found = client.ops.list_chains(context_from(arguments))
    if arguments.json:
        print_json(ops_pb2.ListChainsResponse(chains=found))
    else:
        print(render_ops.chains(found, palette_for(sys.stdout)))
    return OK
