"""`gearshift tune`: thresholds from recorded outcomes, and from the ledger."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import random
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
import yaml

from gearshift.core.answer import Verdict
from gearshift.core.ledger import OutcomeReport, SqliteLedger
from gearshift.core.words import OutcomeVerdict, VerdictResult
from gearshift.server.cli.tune import COMMAND
from tests.support.ledger_rows import attempt, rows


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    COMMAND.configure(parser)
    return COMMAND.run(parser.parse_args(arguments))


def outcomes(path: Path, weak_cost: float = 0.02, count: int = 600) -> Path:
    chance = random.Random(5)
    lines: list[str] = []
    for _ in range(count):
        sure = chance.random()
        weak = {"model": "small", "correct": int(chance.random() < sure), "cost": weak_cost, "confidence": sure}
        strong = {"model": "large", "correct": int(chance.random() < 0.95), "cost": 1.0}
        lines.append(json.dumps({"task_type": "reason", "stages": [weak, strong]}))
    path.write_text("\n".join(lines))
    return path


def test_a_threshold_is_printed_with_all_that_stands_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(outcomes(tmp_path / "o.jsonl")), "--target", "0.85") == 0
    said = capsys.readouterr().out
    for each in ("always weak", "always strong", "best fixed", "random", "oracle", "cascade at target"):
        assert each in said
    policy = yaml.safe_load(said.partition("# paste into gearshift.yaml")[2])["chains"]["reason"]["policy"]
    assert 0 < policy["escalation_threshold"] == policy["min_confidence"] < 1


def test_a_cascade_that_cannot_pay_is_not_proposed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(outcomes(tmp_path / "o.jsonl", weak_cost=0.7)), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tuned"]["reason"]["refused"]
    assert "leave large as the only stage" in document["yaml"]


def test_files_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(outcomes(tmp_path / "o.jsonl")), "--out", str(tmp_path / "tuned")) == 0
    written = {each.name for each in (tmp_path / "tuned").iterdir()}
    assert written >= {"tuning.json", "thresholds.yaml", "curve.csv"}
    assert len(list(csv.DictReader((tmp_path / "tuned/curve.csv").read_text().splitlines()))) > 20
    if importlib.util.find_spec("matplotlib") is None:
        assert "gearshift[plots]" in capsys.readouterr().err
    else:
        assert (tmp_path / "tuned/curve.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("text", ["{", '{"task_type": "reason", "stages": []}', ""])
def test_what_cannot_be_tuned_by_is_said(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "o.jsonl").write_text(text)
    assert run(str(tmp_path / "o.jsonl")) == 1
    assert "gearshift tune: " in capsys.readouterr().err


def test_a_source_must_be_named_and_exist(tmp_path: Path) -> None:
    assert run() == 2
    assert run(str(tmp_path / "nothing")) == 1


def test_the_ledgers_outcomes_do_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEY", "none")
    config = tmp_path / "gearshift.yaml"
    config.write_text(
        "version: 1\nproviders: {anthropic: {api_key: '${KEY}'}}\n"
        "chains: {classify: {stages: [{provider: anthropic, model: claude-haiku-4-5}]}}\n"
        f"ledger: {{path: {tmp_path / 'ledger.db'}}}\n"
    )
    chance = random.Random(2)

    async def fill() -> None:
        async with SqliteLedger(str(tmp_path / "ledger.db")) as ledger:
            for number in range(80):
                sure = chance.random()
                verdict = Verdict(
                    gate="confidence", result=VerdictResult.PASS, confidence=sure, measured=("answer", sure)
                )
                strong = number % 4 == 0
                made = attempt(
                    position=int(strong),
                    model="large" if strong else "small",
                    verdicts=(verdict,),
                    cost_usd=Decimal("0.1" if strong else "0.001"),
                )
                ledger.append(rows(f"r{number}", made))
                right = strong or chance.random() < sure
                await ledger.record_outcome(
                    OutcomeReport(
                        request_id=f"r{number}",
                        tenant="acme",
                        verdict=OutcomeVerdict.ACCEPTED if right else OutcomeVerdict.REJECTED,
                        reported_at=float(number),
                    )
                )

    anyio.run(fill)
    assert run("--ledger", "--config", str(config), "--target", "0.8") == 0
    said = capsys.readouterr().out
    assert "60 outcomes" in said
    assert "mean of 20 reported answers" in said
