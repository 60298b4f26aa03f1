"""`gearshift health`: whether calls are taken, for probes and scripts; the exit code says it."""

from __future__ import annotations

import argparse
import json
from typing import Final

from gearshift.clients.cli.arguments import add_connection, client_from
from gearshift.clients.cli.command import OPERATIONS
from gearshift.clients.cli.exits import FAILED, OK

name: Final = "health"
help: Final = OPERATIONS[name]

_PATIENCE_S: Final = 5.0

_EPILOG: Final = """\
examples:
  gearshift health
  gearshift health --service gearshift.v1.RouterService --timeout 2
  gearshift health --tls-ca ca.pem --target gearshift.example.com:50051

It needs no key. exit code 0: SERVING; 1: NOT_SERVING, such as while it drains; 3: nothing answers"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("--service", default="", metavar="NAME", help="one service of it (default: all)")
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    from gearshift.clients.context import background

    ctx = background().with_timeout(arguments.timeout or _PATIENCE_S)
    with client_from(arguments) as client:
        serving = client.is_serving(ctx, service=arguments.service)
    word = "SERVING" if serving else "NOT_SERVING"
    print(json.dumps({"status": word}) if arguments.json else word)
    return OK if serving else FAILED
