"""`gearshift watch`: attempts as they end, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from gearshift.clients.cli.arguments import add_connection, client_from, context_from, print_json
from gearshift.clients.cli.command import OPERATIONS
from gearshift.clients.cli.exits import OK
from gearshift.clients.cli.terminal import palette_for

name: Final = "watch"
help: Final = OPERATIONS[name]

_EPILOG: Final = """\
examples:
  gearshift watch
  gearshift watch --task email-triage --json | jq -c .attempt.cost_usd"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("--task", default="", metavar="ID", help="only this task")
    parser.add_argument("--tenant", default="", metavar="NAME", help="only this tenant")
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    from gearshift.clients.cli import render_ops

    palette = palette_for(sys.stdout)
    ctx = context_from(arguments)
    with (
        client_from(arguments) as client,
        client.ops.watch_attempts(ctx, task_id=arguments.task, tenant=arguments.tenant) as watch,
    ):
        for one in watch:
            if arguments.json:
                print_json(one, indent=None)
            else:
                print(render_ops.watched(one, palette), flush=True)
    return OK
