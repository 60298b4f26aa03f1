"""`gearshift simulate` as a process, its files, and its page."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from gearshift.core.catalogue import Catalogue
from gearshift.core.config.build import build
from gearshift.core.config.load import load_config
from gearshift.server.cli.simulate import COMMAND, fault_list
from gearshift.server.simulator import FaultKind, load_plan, parse_plan
from gearshift.server.simulator.faults import FACTS, Form, Value

ROOT = Path(__file__).parents[2]
PLAN = ROOT / "deploy" / "examples" / "simulator.yaml"
PAGE = ROOT / "docs" / "simulator.md"
RUN = (
    "import argparse, sys; from gearshift.server.cli.simulate import COMMAND; parser = argparse.ArgumentParser();"
    "COMMAND.configure(parser); sys.exit(COMMAND.run(parser.parse_args(sys.argv[1:])))"
)
BOUND_S = 20.0


@contextmanager
def simulating(*arguments: str) -> Generator[tuple[subprocess.Popen[str], dict[str, str], str]]:
    """Run the command; give the process, the base URLs and the simulator's own."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        ready = process.stderr.readline()
        assert ready.startswith("simulating on http://127.0.0.1:"), ready
        lines = [process.stdout.readline() for _ in load_plan(PLAN).providers]
        urls = {name: url for name, _, url in (line.rstrip("\n").split("\t") for line in lines)}
        yield process, urls, ready.split()[2].rstrip(",")
    finally:
        process.kill()
        process.communicate(timeout=BOUND_S)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    COMMAND.configure(parser)
    return parser.parse_args(arguments)


def test_command_serves_until_a_signal_and_writes_its_account(tmp_path: Path) -> None:
    file = tmp_path / "account.json"
    with simulating("--plan", str(PLAN), "--account", str(file), "-v", "--seed", "3") as (process, urls, url):
        assert set(urls) == {"cheap", "strong", "own", "vectors"}
        answer = httpx.post(
            f"{urls['strong']}/v1/messages",
            json={
                "model": "large",
                "max_tokens": 20,
                "messages": [{"role": "user", "content": "How does a gearbox work?"}],
            },
            timeout=BOUND_S,
            trust_env=False,
        )
        assert answer.json()["content"][0]["text"].startswith("A gearbox lets an engine run")
        told = httpx.get(f"{url}/account", timeout=BOUND_S, trust_env=False).json()
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=BOUND_S)
        assert process.returncode == 0
        assert "strong/large unary: 200, 20 of 20 tokens, complete" in rest
        assert "1 requests, 0 faults" in rest
    account = json.loads(file.read_text())
    assert {"playing": 0, **account} == told
    assert Decimal(account["total"]["billed_usd"]) == Decimal(14 * 3 + 20 * 15) / 1_000_000


def test_wrong_plan_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("version: 1\nproviders:\n  a: {wire: opnai}\n")
    assert COMMAND.run(parsed("--plan", str(plan))) == 1
    said = capsys.readouterr().err
    assert "plan.yaml:3:" in said
    assert "did you mean `openai`?" in said
    assert COMMAND.run(parsed("--plan", str(tmp_path / "none.yaml"))) == 1


def test_list_names_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert COMMAND.run(parsed("--faults")) == 0
    assert [line.split("@")[0].split(":")[0].split()[0] for line in capsys.readouterr().out.splitlines()] == [
        kind.value for kind in FaultKind
    ]
    assert len(fault_list().splitlines()) == len(FaultKind)


def test_page_tells_of_every_fault_as_the_table_does() -> None:
    page = PAGE.read_text()
    for kind in FaultKind:
        assert page_row(kind) in page


def test_plan_on_the_page_is_right() -> None:
    (plan,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert set(parse_plan(plan).providers) == {"cheap"}


def page_row(kind: FaultKind) -> str:
    facts = FACTS[kind]
    form = kind.value + ("@n" if facts.positioned else "")
    if facts.value is not Value.NONE:
        form += f":{facts.default or facts.value.value}"
    applies = ", ".join(each.value for each in Form if each in facts.forms)
    wires = f"; {', '.join(sorted(facts.wires))} only" if facts.wires else ""
    return f"| `{form}` | {facts.means} | {applies}{wires} |"


def test_example_configuration_fits_the_example_plan() -> None:
    plan = load_plan(PLAN)
    loaded = load_config(ROOT / "deploy" / "examples" / "simulated.yaml", {})
    blueprint = build(loaded, Catalogue.load())
    assert not blueprint.warnings
    for chain in blueprint.chains.values():
        for stage in chain.stages:
            model = plan.providers[stage.ref.provider].models[stage.model.wire_id]
            assert plan.providers[stage.ref.provider].wire == stage.provider.kind
            if stage.model.prices is not None:
                priced = loaded.config.models[stage.ref.model].prices
                assert priced is not None
                assert (priced.input_usd, priced.output_usd) == (model.prices.input_usd, model.prices.output_usd)
