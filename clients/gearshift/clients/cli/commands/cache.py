"""`gearshift cache`: what the caches hold, and how to empty them."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from gearshift.clients.cli.arguments import add_connection, client_from, context_from, print_json
from gearshift.clients.cli.command import OPERATIONS
from gearshift.clients.cli.exits import OK, USAGE, UsageError
from gearshift.clients.cli.terminal import palette_for

if TYPE_CHECKING:
    from gearshift.clients.sync import OpsClient
    from gearshift.v1 import ops_pb2

name: Final = "cache"
help: Final = OPERATIONS[name]

_EPILOG: Final = """\
examples:
  gearshift cache stats
  gearshift cache list --cache prompt --task email-triage
  gearshift cache purge --task email-triage
  gearshift cache purge --cache response --older-than 3600
  gearshift cache purge --all"""
_FILTERS: Final = ("cache", "tenant", "task", "key", "older_than")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its commands and their arguments."""
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(dest="action", metavar="stats|list|purge", required=True)
    stats = actions.add_parser("stats", help="the sums of each cache")
    add_connection(stats)
    entries = actions.add_parser("list", help="the entries, most used first, without their content")
    _add_filter(entries)
    entries.add_argument("--limit", type=int, default=100, metavar="N", help="the most entries to print (default: 100)")
    add_connection(entries)
    purge = actions.add_parser("purge", help="drop entries")
    _add_filter(purge)
    purge.add_argument("--all", action="store_true", help="drop everything")
    add_connection(purge)


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    with client_from(arguments) as client:
        match arguments.action:
            case "stats":
                return _stats(arguments, client.ops)
            case "list":
                return _list(arguments, client.ops)
            case "purge":
                return _purge(arguments, client.ops)
            case _:
                return USAGE


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cache", choices=("prompt", "response", "embedding"), default="", help="only this cache")
    parser.add_argument("--tenant", default="", metavar="NAME", help="only this tenant")
    parser.add_argument("--task", default="", metavar="ID", help="only this task")
    parser.add_argument("--key", default="", metavar="KEY", help="only this entry")
    parser.add_argument(
        "--older-than", type=float, default=0.0, metavar="SECONDS", help="only entries that were stored so long ago"
    )


def _filter(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "cache": arguments.cache,
        "tenant": arguments.tenant,
        "task_id": arguments.task,
        "key": arguments.key,
        "min_age_seconds": arguments.older_than,
    }


def _stats(arguments: argparse.Namespace, ops: OpsClient) -> int:
    from gearshift.clients.cli import render_ops
    from gearshift.v1 import ops_pb2

    found = ops.list_cache_entries(context_from(arguments), page_size=1)
    if arguments.json:
        print_json(ops_pb2.ListCacheEntriesResponse(stats=found.stats))
    else:
        print(render_ops.cache_stats(found.stats, palette_for(sys.stdout)))
    return OK


def _list(arguments: argparse.Namespace, ops: OpsClient) -> int:
    from gearshift.clients.cli import render_ops
    from gearshift.v1 import ops_pb2

    ctx, limit = context_from(arguments), arguments.limit
    if limit < 1:
        raise UsageError("--limit is at least 1")
    entries: list[ops_pb2.CacheEntry] = []
    token = ""
    while len(entries) < limit:
        size = min(1000, limit - len(entries))
        page = ops.list_cache_entries(ctx, **_filter(arguments), page_size=size, page_token=token)
        entries += page.entries
        token = page.next_page_token
        if not token:
            break
    if arguments.json:
        print_json(ops_pb2.ListCacheEntriesResponse(entries=entries))
    else:
        print(render_ops.cache_entries(entries, palette_for(sys.stdout)))
    return OK


def _purge(arguments: argparse.Namespace, ops: OpsClient) -> int:
    chosen = any(getattr(arguments, option) for option in _FILTERS)
    if chosen == arguments.all:
        raise UsageError("say what to drop: --cache, --tenant, --task, --key, --older-than, or --all alone")
    purged = ops.purge_cache(context_from(arguments), **_filter(arguments), everything=arguments.all)
    if arguments.json:
        print(json.dumps({"purged": purged}))
    else:
        print(f"{purged} dropped")
    return OK
