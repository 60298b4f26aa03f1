"""`gearshift check` and `Explain` tell of stages that cost more than they save."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from gearshift.clients.cli import main
from gearshift.core.ledger import SqliteLedger
from gearshift.core.words import AttemptOutcome
from gearshift.v1 import call_pb2, router_pb2, task_pb2
from tests.support.ledger_rows import attempt, rows
from tests.support.running_server import running_server

CONFIG = """
version: 1
providers: {{anthropic: {{api_key: "${{KEY}}"}}}}
chains:
  classify: {{on_loss: {on_loss}, stages: [{{provider: anthropic, model: claude-haiku-4-5}}, {{provider: anthropic, model: claude-opus-5-5}}]}}
ledger: {{path: {path}}}
"""


def warnings_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    poor: int,
    light_usd: str,
    on_loss: str = "tell",
    code: int = 0,
) -> str:
    monkeypatch.setenv("KEY", "none")
    config = tmp_path / "gearshift.yaml"
    config.write_text(CONFIG.format(path=tmp_path / "ledger.db", on_loss=on_loss))

    async def fill() -> None:
        async with SqliteLedger(str(tmp_path / "ledger.db")) as ledger:
            for number in range(100):
                is_poor = number < poor
                light = attempt(
                    model="claude-haiku-4-5",
                    cost_usd=Decimal(light_usd),
                    outcome=AttemptOutcome.POOR if is_poor else AttemptOutcome.ACCEPTED,
                    served=not is_poor,
                )
                strong = attempt(2, position=1, model="claude-opus-5-5", cost_usd=Decimal("0.01"))
                ledger.append(rows(f"r{number}", *((light, strong) if is_poor else (light,))))

    anyio.run(fill)
    assert main(["check", str(config)]) == code
    return capsys.readouterr().err


def test_a_stage_that_costs_more_than_it_saves_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = warnings_of(tmp_path, monkeypatch, capsys, poor=70, light_usd="0.004")
    assert "stage 0 (claude-haiku-4-5) does not pay" in said
    assert "30% of its answers are accepted" in said


def test_a_stage_that_pays_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "does not pay" not in warnings_of(tmp_path, monkeypatch, capsys, poor=30, light_usd="0.004")


def test_check_fails_where_the_chain_refuses_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = warnings_of(tmp_path, monkeypatch, capsys, poor=70, light_usd="0.004", on_loss="refuse", code=1)
    assert "refused: chain `classify`, classify: stage 0 (claude-haiku-4-5) does not pay" in said
    assert "warning: " not in said


def test_check_passes_where_the_chain_refuses_losses_and_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not warnings_of(tmp_path, monkeypatch, capsys, poor=30, light_usd="0.004", on_loss="refuse")


PRICED = """
version: 1
providers: {{up: {{kind: openai, dialect: compatible, base_url: 'http://127.0.0.1:9/v1', api_key: ''}}}}
models:
  light: {{provider: up, capability: low, context_tokens: 8192, prices: {{input_usd: {light}, output_usd: {light}}}, features: [temperature]}}
  strong: {{provider: up, capability: high, context_tokens: 8192, prices: {{input_usd: 1, output_usd: 2}}, features: [{features}]}}
defaults: {{complexity: {{generate: low}}}}
chains:
  generate: {{stages: [{{provider: up, model: light}}, {{provider: up, model: strong}}]}}
"""


@pytest.mark.parametrize(
    ("light", "features", "is_told"),
    [
        ("2", "temperature, tools", True),
        ("1.5", "temperature", False),
        ("2", "tools", False),
        ("0", "temperature", False),
    ],
)
def test_a_stage_that_can_save_nothing_by_its_price_alone_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], light: str, features: str, is_told: bool
) -> None:
    config = tmp_path / "gearshift.yaml"
    config.write_text(PRICED.format(light=light, features=features) + f"ledger: {{path: {tmp_path}/none.db}}\n")
    assert main(["check", str(config)]) == 0
    said = capsys.readouterr().err
    told = "stage 0 (light) cannot pay: strong behind it is more capable and costs no more; put that first"
    assert (told in said) == is_told


def test_what_can_save_nothing_makes_check_fail_where_the_chain_refuses_losses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gearshift.yaml"
    text = PRICED.format(light="2", features="temperature").replace("{stages", "{on_loss: refuse, stages")
    config.write_text(text + f"ledger: {{path: {tmp_path}/none.db}}\n")
    assert main(["check", str(config), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["warnings"]) == (False, [])
    assert "cannot pay: strong behind it" in told["problems"][0]


async def test_explain_says_that_a_stage_cannot_pay() -> None:
    text = PRICED.format(light="2", features="temperature")
    call = call_pb2.Call(task=task_pb2.Task(id="t", type=task_pb2.TASK_TYPE_GENERATE), prompt="Write a line.")
    async with running_server(text) as server:
        explained = await server.router.Explain(router_pb2.ExplainRequest(call=call))
    first, second = explained.stages
    assert first.detail.endswith("; cannot pay: strong behind it is more capable and costs no more")
    assert "cannot pay" not in second.detail
