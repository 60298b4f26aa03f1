"""`gearshift simulate`: providers that misbehave as they are told, without a key and without a bill.

Rules: base URLs go to standard output, everything else for people to standard error; the account is written when the
simulator ends, also when that is by a signal.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

import anyio

from gearshift.core.catalogue.money import usd_text
from gearshift.core.errors import ConfigError
from gearshift.server.simulator.account import Account
from gearshift.server.simulator.faults import FACTS, FaultKind, Value
from gearshift.server.simulator.plan import Plan, load_plan
from gearshift.server.simulator.provider import FAULT_HEADER, KEY_HEADER
from gearshift.server.simulator.server import running_simulator

_EPILOG = f"""examples:
  gearshift simulate --plan deploy/examples/simulator.yaml --port 8099
  gearshift simulate --plan plan.yaml --account bill.json      write what was sent and billed when it ends
  gearshift simulate --faults                                  every fault, and what it means
  gearshift serve --config deploy/examples/simulated.yaml      a service on these providers
  curl -s 127.0.0.1:8099/account | jq .total

a fault for one request:
  curl 127.0.0.1:8099/p/NAME/v1/chat/completions -H '{FAULT_HEADER}: cut@7' -d '…'
  The header {KEY_HEADER} is what draws go by instead of the request's own words, such as a run's number.

while it runs:
  GET /                          base URLs          POST /account/reset            begin a new account
  GET /account                   what was billed    POST /providers/NAME/down, up  refuse connections, or no longer

It listens on 127.0.0.1 only. The plan file: docs/simulator.md.
exit codes: 0 ended by a signal, 1 the plan is wrong or a port is taken"""

_LAST_PORT = 65_535


class SimulateCommand:
    """Runs simulated providers."""

    name = "simulate"
    help = "run simulated providers, with every fault that real ones have"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--plan", "-p", metavar="FILE", help="plan file: providers, answers and faults")
        what.add_argument("--faults", action="store_true", help="list every fault and end")
        parser.add_argument("--port", type=_port, default=0, help="port on 127.0.0.1; 0, the default, takes a free one")
        parser.add_argument(
            "--seed", type=int, metavar="S", help="instead of the plan's; the same gives the same faults"
        )
        parser.add_argument("--account", metavar="FILE", help="write the account here, as JSON, when it ends")
        parser.add_argument("-v", "--verbose", action="store_true", help="a line for each request, on standard error")
        parser.epilog = _EPILOG

    def run(self, arguments: argparse.Namespace) -> int:
        """Simulate until a signal comes."""
        if arguments.faults:
            print(fault_list())
            return 0
        try:
            anyio.run(_simulate, load_plan(arguments.plan), arguments)
        except ConfigError as error:
            print(f"gearshift simulate: {error}", file=sys.stderr)
            return 1
        return 0


COMMAND = SimulateCommand()


def fault_list() -> str:
    """Give every fault with its form and meaning, a line each."""
    lines: list[str] = []
    for kind in FaultKind:
        facts = FACTS[kind]
        form = kind.value + ("@n" if facts.positioned else "")
        if facts.value is not Value.NONE:
            form += f":{facts.default or facts.value.value}"
        lines.append(f"{form:42} {facts.means}")
    return "\n".join(lines)


def _port(text: str) -> int:
    """Read a port, 0 to 65535."""
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {_LAST_PORT}, not {text!r}")
    return int(text)


async def _simulate(plan: Plan, arguments: argparse.Namespace) -> None:
    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with running_simulator(
            plan, port=arguments.port, seed=arguments.seed, log=log if arguments.verbose else None
        ) as simulator:
            for name, url in simulator.base_urls.items():
                down = "  (down)" if plan.providers[name].down else ""
                print(f"{name}\t{simulator.wires[name]}\t{url}{down}", flush=True)
            log(f"simulating on {simulator.url}, seed {plan.seed if arguments.seed is None else arguments.seed}")
            async for _ in signals:
                break
    total = simulator.account.total
    log(
        f"{total.requests} requests, {total.faults} faults, {total.clients_left} clients left early, "
        f"{usd_text(total.billed_usd)} USD"
    )
    if arguments.account:
        _write(Path(arguments.account), simulator.account)


def _write(path: Path, account: Account) -> None:
    """Write the account.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.write_text(json.dumps(account.document(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be written: {error.strerror or 'I/O error'}"]) from error
