"""`gearshift models`: what providers offer, by their own SDKs, off the hot path."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import cast

import anyio

from gearshift.core.blueprint import Blueprint
from gearshift.core.errors import RouteError
from gearshift.core.failures import ProviderFailure
from gearshift.core.sdk.listing import PullProgress
from gearshift.server.cli import models
from gearshift.server.cli.configured import configured
from gearshift.server.cli.serve import add_config_arguments, failed

_EPILOG = """examples:
  gearshift models list                             what every configured provider offers
  gearshift models describe anthropic claude-haiku-5-5
  gearshift models count anthropic claude-haiku-5-5 "How many tokens is this?"
  gearshift models pull ollama llama3.1:8b          with progress
  gearshift models check                            are the configured models still there?

Anthropic and Ollama are asked by their official SDKs (pip install 'gearshift[anthropic,ollama]'). Other providers cannot be
asked: for them `list` and `describe` tell what the catalogue and the configuration know, and `check` says unchecked.
exit codes: 0 done, 1 failed or (check) a model cannot be used"""


class ModelsCommand:
    """Lists, describes, counts, pulls and checks models."""

    name = "models"
    help = "list, describe, pull and check models"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="list|describe|count|pull|check")
        listing = actions.add_parser(
            "list", help="what providers offer; of those that cannot be asked, what chains use"
        )
        listing.add_argument("provider", nargs="?", default="", help="only this provider of the configuration")
        describe = actions.add_parser("describe", help="one model")
        count = actions.add_parser("count", help="tokens of a text, by the provider's own count")
        pull = actions.add_parser("pull", help="have Ollama fetch a model")
        check = actions.add_parser("check", help="are the configured models still there?")
        for action in (describe, count, pull):
            action.add_argument("provider", help="the provider's name in the configuration")
            action.add_argument("model", help="the model's name")
        count.add_argument("text", help="the text")
        count.add_argument("--system", default="", help="a system prompt before it")
        for action in (listing, describe, count, pull, check):
            add_config_arguments(action)
            action.add_argument("--json", action="store_true", help="print one JSON document")
        parser.epilog = _EPILOG

    def run(self, arguments: argparse.Namespace) -> int:
        """Do what the action says."""
        try:
            blueprint = configured(arguments.config, use_env_keys=arguments.use_env_keys).blueprint
            return anyio.run(_ACTIONS[arguments.action], blueprint, arguments)
        except RouteError as error:
            return failed("models", error)
        except ProviderFailure as failure:
            print(f"gearshift models: {failure.detail}", file=sys.stderr)
            return 1


COMMAND = ModelsCommand()


async def _list(blueprint: Blueprint, arguments: argparse.Namespace) -> int:
    _print_rows([asdict(row) for row in await models.list_models(blueprint, arguments.provider)], arguments)
    return 0


async def _describe(blueprint: Blueprint, arguments: argparse.Namespace) -> int:
    row = asdict(await models.describe(blueprint, arguments.provider, arguments.model))
    if arguments.json:
        print(json.dumps(row, indent=2, default=str))
    else:
        for name, value in row.items():
            print(f"{name:20} {_shown(value)}")
    return 0


async def _count(blueprint: Blueprint, arguments: argparse.Namespace) -> int:
    tokens = await models.count_tokens(
        blueprint, arguments.provider, arguments.model, arguments.text, system=arguments.system
    )
    print(json.dumps({"tokens": tokens}) if arguments.json else tokens)
    return 0


async def _pull(blueprint: Blueprint, arguments: argparse.Namespace) -> int:
    is_terminal = sys.stderr.isatty()
    last = ""

    def tell(progress: PullProgress) -> None:
        nonlocal last
        share = f" {progress.completed * 100 // progress.total} %" if progress.total else ""
        if is_terminal:
            sys.stderr.write(f"\r\x1b[K{progress.status}{share}")
        elif progress.status != last:
            sys.stderr.write(f"{progress.status}\n")
        last = progress.status
        sys.stderr.flush()

    await models.pull(blueprint, arguments.provider, arguments.model, tell)
    if is_terminal:
        sys.stderr.write("\n")
    print(json.dumps({"pulled": arguments.model}) if arguments.json else f"{arguments.model} is there")
    return 0


async def _check(blueprint: Blueprint, arguments: argparse.Namespace) -> int:
    rows = await models.check(blueprint, datetime.datetime.now(datetime.UTC).date())
    _print_rows([asdict(row) for row in rows], arguments)
    return 0 if all(row.is_usable for row in rows) else 1


_Action = Callable[[Blueprint, argparse.Namespace], Awaitable[int]]
_ACTIONS: dict[str, _Action] = {
    "list": _list,
    "describe": _describe,
    "count": _count,
    "pull": _pull,
    "check": _check,
}


def _print_rows(rows: Sequence[dict[str, object]], arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(list(rows), indent=2, default=str))
        return
    if not rows:
        print("nothing: no provider is configured", file=sys.stderr)
        return
    names = list(rows[0])
    cells = [names, *([_shown(row[name]) for name in names] for row in rows)]
    widths = [min(40, max(len(row[column]) for row in cells)) for column in range(len(names))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _shown(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(map(str, cast("Sequence[object]", value))) or "-"
    return str(value)
