"""`gearshift check`: tell whether a configuration is right, and what it comes to."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from gearshift.core.blueprint import Blueprint, Chain
from gearshift.core.errors import RouteError
from gearshift.server.cli.configured import configured
from gearshift.server.cli.paying import hopeless_cascades, losing_cascades
from gearshift.server.cli.serve import add_config_arguments, failed
from gearshift.server.wire import money

_EPILOG = """examples:
  gearshift check                    gearshift.yaml, or what is on this machine
  gearshift check prod.yaml
  gearshift check --json | jq .chains

It reads keys from the environment, as `serve` does, calls no provider and prints no key.
exit codes: 0 right, 1 wrong (each problem with its line and what to do), or a stage costs more than it saves in a chain that
refuses that (on_loss: refuse)"""


class CheckCommand:
    """Checks a configuration."""

    name = "check"
    help = "check a configuration"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument("file", nargs="?", metavar="FILE", help="the file; short for --config FILE")
        add_config_arguments(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        parser.epilog = _EPILOG

    def run(self, arguments: argparse.Namespace) -> int:
        """Check, and print what it comes to."""
        try:
            found = configured(arguments.file or arguments.config, use_env_keys=arguments.use_env_keys)
        except RouteError as error:
            if arguments.json:
                print(json.dumps({"ok": False, "problems": str(error).splitlines()}, indent=2))
                return 1
            return failed("check", error)
        blueprint = found.blueprint
        losses = [*hopeless_cascades(blueprint), *losing_cascades(blueprint)]
        refused = [each.told for each in losses if each.chain.refuses_losses]
        warnings = [*blueprint.warnings, *(each.told for each in losses if not each.chain.refuses_losses)]
        if arguments.json:
            print(json.dumps(_document(blueprint, found.source, refused, warnings), indent=2))
            return 1 if refused else 0
        print(f"{found.source}: {'refused' if refused else 'right'} (revision {blueprint.revision[:12]})")
        for notice in found.notices:
            print(f"  {notice}")
        for chain in blueprint.chains.values():
            print(f"chain {chain.name}{_manner(chain)}")
            for line in _stages(chain):
                print(f"  {line}")
        for task in blueprint.tasks.values():
            sensitivity = task.sensitivity.word if task.sensitivity is not None else "internal"
            print(f"task {task.id}: {task.type.word}, {sensitivity}, chain {task.chain.name}")
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
        for told in refused:
            print(f"refused: {told}", file=sys.stderr)
        return 1 if refused else 0


COMMAND = CheckCommand()


def _manner(chain: Chain) -> str:
    """Say what decides besides the written order."""
    words = [word for word, holds in (("adaptive", chain.adaptive), ("refuses losses", chain.refuses_losses)) if holds]
    return f" ({', '.join(words)})" if words else ""


def _stages(chain: Chain) -> list[str]:
    lines: list[str] = []
    for stage in chain.stages:
        label = f" [{stage.ref.label}]" if stage.ref.label else ""
        price = "machine time" if stage.model.self_hosted else "price unknown" if stage.model.prices is None else ""
        price = f", {price}" if price else ""
        lines.append(
            f"{stage.ref.position}. {stage.ref.provider}/{stage.ref.model}{label}: {stage.ref.capability.word}, "
            f"cleared for {stage.provider.clearance.word}, {stage.max_retries} retries{price}"
        )
    return lines


def _document(blueprint: Blueprint, source: str, refused: Sequence[str], warnings: Sequence[str]) -> dict[str, object]:
    return {
        "ok": not refused,
        "problems": [*refused],
        "source": source,
        "revision": blueprint.revision,
        "chains": {
            chain.name: [
                {
                    "provider": stage.ref.provider,
                    "model": stage.ref.model,
                    "label": stage.ref.label,
                    "capability": stage.ref.capability.word,
                    "clearance": stage.provider.clearance.word,
                    "max_retries": stage.max_retries,
                    "priced": stage.model.self_hosted or stage.model.prices is not None,
                }
                for stage in chain.stages
            ]
            for chain in blueprint.chains.values()
        },
        "tasks": {task.id: {"type": task.type.word, "chain": task.chain.name} for task in blueprint.tasks.values()},
        "max_cost_usd": money(blueprint.config.defaults.max_cost_usd),
        "warnings": [*warnings],
    }
