"""`gearshift trail`: attempts, the recorded ones or live, and one request's whole way."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from gearshift.clients.cli.arguments import add_connection, client_from, context_from, print_json
from gearshift.clients.cli.command import OPERATIONS
from gearshift.clients.cli.commands.costs import point_in_time
from gearshift.clients.cli.exits import FAILED, OK, UsageError
from gearshift.clients.cli.terminal import palette_for

if TYPE_CHECKING:
    from gearshift.clients.aio.ops import AttemptOutcomeName

name: Final = "trail"
help: Final = OPERATIONS[name]

_EPILOG: Final = """\
examples:
  gearshift trail                                    the latest attempts, from the ledger
  gearshift trail --follow --task email-triage       attempts as they end, until Ctrl-C
  gearshift trail --outcome failed --since 1h
  gearshift trail --search rate_limit                what a request, task, model, failure or reason begins with
  gearshift trail 0198c5f2-6a3e-7c41-9d1e-2f5a7b8c9d0e   one request's whole way
  gearshift trail --follow --json | jq -c .attempt.cost_usd

Times are UTC: a date, a time such as 2026-11-01T12:00, or a length back from now such as 90m, 24h or 7d."""

_OUTCOMES: Final[tuple[AttemptOutcomeName, ...]] = ("accepted", "poor", "failed", "cancelled", "stopped")
_PAGE: Final = 1000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("request", nargs="?", default="", metavar="REQUEST", help="one request's whole way, by its id")
    parser.add_argument("--follow", action="store_true", help="attempts as they end, until Ctrl-C")
    parser.add_argument("--task", default="", metavar="ID", help="only this task")
    parser.add_argument("--tenant", default="", metavar="NAME", help="only this tenant")
    parser.add_argument("--provider", default="", metavar="NAME", help="only this provider")
    parser.add_argument("--model", default="", metavar="NAME", help="only this model")
    parser.add_argument("--outcome", default="", choices=_OUTCOMES, help="only attempts that ended so")
    parser.add_argument("--search", default="", metavar="TEXT", help="what an id, model, failure or reason begins with")
    parser.add_argument("--since", type=point_in_time, metavar="TIME", help="attempts that started at or after it")
    parser.add_argument("--until", type=point_in_time, metavar="TIME", help="attempts that started before it")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="most attempts (50)")
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    if arguments.follow:
        return _follow(arguments)
    if arguments.limit < 1:
        raise UsageError("--limit must be at least 1")
    return _recorded(arguments)


def _follow(arguments: argparse.Namespace) -> int:
    from gearshift.clients.cli import render_trail

    chosen = ("request", "provider", "model", "outcome", "search", "since", "until")
    if told := [word for word in chosen if getattr(arguments, word)]:
        raise UsageError(f"--follow shows what happens now, of --task and --tenant only; it does not take {told[0]}")
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
                print(render_trail.watched(one, palette), flush=True)
    return OK


def _recorded(arguments: argparse.Namespace) -> int:
    from gearshift.clients.cli import render_trail
    from gearshift.v1 import ops_pb2

    whole = ops_pb2.ListAttemptsResponse()
    limit = _PAGE if arguments.request else arguments.limit
    with client_from(arguments) as client:
        while len(whole.attempts) < limit:
            page = client.ops.list_attempts(
                context_from(arguments),
                request_id=arguments.request,
                tenant=arguments.tenant,
                task_id=arguments.task,
                provider=arguments.provider,
                model=arguments.model,
                outcome=arguments.outcome,
                text=arguments.search,
                since=arguments.since,
                until=arguments.until,
                page_size=min(limit - len(whole.attempts), _PAGE),
                page_token=whole.next_page_token,
            )
            whole.attempts.extend(page.attempts)
            whole.next_page_token, whole.pending = page.next_page_token, page.pending
            if not page.next_page_token:
                break
    palette = palette_for(sys.stdout)
    if arguments.json:
        print_json(whole)
    elif arguments.request and whole.attempts:
        print(render_trail.way(whole.attempts, palette))
    else:
        print(render_trail.recorded(whole, palette))
    if arguments.request and not whole.attempts:
        return FAILED
    return OK
