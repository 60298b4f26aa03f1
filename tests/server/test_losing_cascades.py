"""`gearshift check` warns of stages that cost more than they save."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from gearshift.clients.cli import main
from gearshift.core.ledger import SqliteLedger
from gearshift.core.words import AttemptOutcome
from tests.support.ledger_rows import attempt, rows

CONFIG = """
version: 1
providers: {{anthropic: {{api_key: "${{KEY}}"}}}}
chains:
  classify: {{stages: [{{provider: anthropic, model: claude-haiku-4-5}}, {{provider: anthropic, model: claude-opus-5-5}}]}}
ledger: {{path: {path}}}
"""


def warnings_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, poor: int, light_usd: str
) -> str:
    monkeypatch.setenv("KEY", "none")
    config = tmp_path / "gearshift.yaml"
    config.write_text(CONFIG.format(path=tmp_path / "ledger.db"))

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
    assert main(["check", str(config)]) == 0
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
