"""`gearshift costs`: what calls cost, from the ledger.

Rules: the report asks a server. What works on the ledger itself (export, prune, repricing) comes from the server's half,
if it is installed: the entry point `local` of `gearshift.costs`.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Final, Protocol, cast

from gearshift.clients.cli.arguments import add_connection, client_from, context_from, print_json
from gearshift.clients.cli.command import OPERATIONS
from gearshift.clients.cli.exits import OK, UsageError
from gearshift.clients.cli.terminal import palette_for

if TYPE_CHECKING:
    from gearshift.clients.aio.ops import CostGroupName

name: Final = "costs"
help: Final = OPERATIONS[name]

_EPILOG: Final = """\
examples:
  gearshift costs
  gearshift costs --by model --by day --since 7d
  gearshift costs --task email-triage --since 2026-11-01 --until 2026-12-01 --json | jq .total.cost_usd
  gearshift costs export --format parquet --out november.parquet --since 2026-11-01 --until 2026-12-01
  gearshift costs --reprice --since 30d              the past at the catalogue's prices of its time; --as-of now: today's
  gearshift costs prune --before 2026-01-01          attempts become daily sums

Times are UTC: a date, a time such as 2026-11-01T12:00, or a length back from now such as 90m, 24h or 7d."""

_GROUPS: Final[dict[str, CostGroupName]] = {
    "task": "task",
    "model": "model",
    "tenant": "tenant",
    "position": "position",
    "day": "day",
    "type": "task_type",
    "provider": "provider",
    "account": "account",
    "chain": "chain",
    "outcome": "outcome",
    "usage": "usage_source",
    "reason": "reason",
    "hour": "hour",
}
_ACTIONS: Final = ("export", "prune")
_LENGTH: Final = re.compile(r"(\d{1,6})([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("action", nargs="?", choices=_ACTIONS, help="export the attempts, or prune old ones")
    parser.add_argument("--by", action="append", choices=tuple(_GROUPS), help="one row for each; repeatable (task)")
    parser.add_argument("--since", type=point_in_time, metavar="TIME", help="attempts that started at or after it")
    parser.add_argument("--until", type=point_in_time, metavar="TIME", help="attempts that started before it")
    parser.add_argument("--task", default="", metavar="ID", help="only this task")
    parser.add_argument("--tenant", default="", metavar="NAME", help="only this tenant")
    parser.add_argument("--provider", default="", metavar="NAME", help="only this provider")
    parser.add_argument("--account", default="", metavar="NAME", help="only this account")
    parser.add_argument("--model", default="", metavar="NAME", help="only this model")
    parser.add_argument("--repriced", action="store_true", help="with the costs that --reprice --apply wrote")
    if (local := _local()) is None:
        parser.add_argument("--reprice", action="store_true", help=argparse.SUPPRESS)
    else:
        local.configure(parser)
    add_connection(parser)


class _Local(Protocol):
    """What works on the ledger itself."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add its arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it, and return the exit code."""
        ...


def _local() -> _Local | None:
    found = metadata.entry_points(group="gearshift.costs", name="local")
    try:
        return cast(_Local, next(iter(found)).load()) if found else None
    except ModuleNotFoundError as error:
        if (error.name or "gearshift").startswith("gearshift"):
            raise  # ours is always there: a fault, not a missing extra
        return None


def run(arguments: argparse.Namespace) -> int:
    """Ask, print, and return the exit code."""
    from gearshift.clients.cli import render_ops

    if arguments.action or arguments.reprice:
        if (local := _local()) is None:
            raise UsageError("this works on the ledger itself and needs the server: pip install 'gearshift[server]'")
        return local.run(arguments)
    groups: list[str] = arguments.by or ["task"]
    with client_from(arguments) as client:
        report = client.ops.get_cost_report(
            context_from(arguments),
            group_by=[_GROUPS[group] for group in groups],
            since=arguments.since,
            until=arguments.until,
            tenant=arguments.tenant,
            task_id=arguments.task,
            provider=arguments.provider,
            account=arguments.account,
            model=arguments.model,
            repriced=arguments.repriced,
        )
    if arguments.json:
        print_json(report)
    else:
        print(render_ops.costs(report, groups, palette_for(sys.stdout)))
    return OK


def point_in_time(text: str, now: datetime.datetime | None = None) -> datetime.datetime:
    """Read a date, a time, or a length back from now; without a zone it is UTC."""
    if length := _LENGTH.fullmatch(text):
        back = datetime.timedelta(**{_UNITS[length[2]]: int(length[1])})
        return (now or datetime.datetime.now(datetime.UTC)) - back
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2026-11-01, 24h or 7d") from None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
