"""`gearshift route`: one prompt, one answer.

Rules: standard output holds the answer and nothing else, so that pipes work; the decision goes to standard error, when
that is a terminal or --verbose says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Final

from gearshift.clients.cli.arguments import add_call, add_connection, call_from, client_from, context_from, print_json
from gearshift.clients.cli.command import CALLS
from gearshift.clients.cli.exits import exit_code_for
from gearshift.clients.cli.terminal import palette_for, safe

name: Final = "route"
help: Final = CALLS[name]

_EPILOG: Final = """\
examples:
  gearshift route "Name three rivers in Spain."
  gearshift route --label billing --label other --example 'I was charged twice=billing' "Where is my refund?"
  gearshift route --schema invoice.json --file mail.txt | jq .total
  gearshift route --system 'Answer in {{language}}.' --var language=French "What is a gear?"
  gearshift route --sensitivity restricted --require-valid --file record.txt
  echo "hello" | gearshift route --json | jq .completion.cost

The answer is printed on standard output; how it came about on standard error, when that is a terminal or with -v."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    add_call(parser)
    add_connection(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="print the decision also beyond a terminal")


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    from gearshift.clients.cli import render

    call = call_from(arguments)
    with client_from(arguments) as client:
        answer = client.route(context_from(arguments), call)
    if arguments.json:
        print_json(answer)
        return exit_code_for(answer.completion.outcome)
    text = answer.text
    if answer.tool_calls and not text:
        calls = [{"id": one.id, "name": one.name, "arguments": one.arguments} for one in answer.tool_calls]
        text = json.dumps(calls, ensure_ascii=False)
    print(safe(text) if sys.stdout.isatty() else text, flush=True)
    if arguments.verbose or sys.stderr.isatty():
        print(render.decision(answer, palette_for(sys.stderr)), file=sys.stderr)
    return exit_code_for(answer.completion.outcome)
