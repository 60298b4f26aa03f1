"""`gearshift tune`: thresholds from recorded outcomes, and from the ledger."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import itertools
import json
import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
import yaml

from gearshift.core.answer import Verdict
from gearshift.core.ledger import OutcomeReport, SqliteLedger
from gearshift.core.words import OutcomeVerdict, TaskType, VerdictResult
from gearshift.server.cli.tune import COMMAND
from tests.support.ledger_rows import attempt, resolution, rows
from tests.support.running_server import from_yaml


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
        assert "gearshift[plot]" in capsys.readouterr().err
    else:
        assert (tmp_path / "tuned/curve.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(b"{", "o.jsonl: line 1: ", id="no JSON"),
        pytest.param(b'\n{"task_type": "reason", "stages": []}', "o.jsonl: line 2: ", id="no stages"),
        pytest.param(b"model,correct,cost\nsmall,1,0.1\n", "a line is like {", id="a CSV"),
        pytest.param(
            b'{"task_type": "r", "stages": [{"correct": 1, "cost": 1, "price": 2}]}', "unknown field", id="a typo"
        ),
        pytest.param(b"\x1f\x8b\x08\x00", "is no UTF-8 text", id="packed"),
        pytest.param(b"", "there is nothing to tune by", id="nothing"),
        pytest.param(
            b'{"task_type": "r", "stages": [{"correct": 1, "cost": 1}]}', "1 outcomes are too few, 30", id="few"
        ),
    ],
)
def test_what_cannot_be_tuned_by_is_said(
    text: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "o.jsonl").write_bytes(text)
    assert run(str(tmp_path / "o.jsonl")) == 1
    said = capsys.readouterr().err
    assert said.startswith("gearshift tune: ")
    assert told in said


def test_what_is_printed_goes_into_the_configuration_as_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = outcomes(tmp_path / "o.jsonl")
    dear = outcomes(tmp_path / "dear.jsonl", weak_cost=0.7).read_text().replace('"reason"', '"classify"')
    path.write_text(f"{path.read_text()}\n{dear}")
    assert run(str(path), "--target", "0.85") == 0
    pasted = capsys.readouterr().out.partition("# paste into gearshift.yaml\n")[2]
    stages = "    stages: [{provider: up, model: light}, {provider: up, model: strong}]\n"
    for chain in ("classify", "reason"):
        pasted = pasted.replace(f"  {chain}:\n", f"  {chain}:\n{stages}")
    text = (
        "version: 1\nproviders: {up: {kind: openai, dialect: compatible, base_url: 'http://127.0.0.1:9/v1'}}\n"
        "models:\n  light: {provider: up, capability: low}\n  strong: {provider: up, capability: high}\n"
    )
    made = from_yaml(text + pasted)
    found = yaml.safe_load(pasted)["chains"]["reason"]["policy"]
    policy = made.chains["reason"].policy
    assert (policy.min_confidence, policy.escalation_threshold) == (found["min_confidence"],) * 2
    assert "no cascade" in pasted


def test_a_chain_that_serves_several_task_types_has_one_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = of_ledger(tmp_path, monkeypatch, capsys, kinds=("classify", "extract"))
    pasted = yaml.safe_load(said.partition("# paste into gearshift.yaml")[2])["chains"]
    assert list(pasted) == ["classify"]
    assert said.count("# classify: ") == said.count("# classify/extract: ") == 1


def test_a_source_must_be_named_and_exist(tmp_path: Path) -> None:
    assert run() == 2
    assert run(str(tmp_path / "nothing")) == 1


def of_ledger(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    kinds: Sequence[str] = ("classify",),
    both: bool = True,
) -> str:
    """Tune by what callers reported of 80 calls of each task type, a quarter of them served by the second stage; give what is said."""
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
            for kind, number in itertools.product(kinds, range(80)):
                sure = chance.random()
                verdict = Verdict(
                    gate="confidence", result=VerdictResult.PASS, confidence=sure, measured=("answer", sure)
                )
                strong = both and number % 4 == 0
                made = attempt(
                    position=int(strong),
                    model="large" if strong else "small",
                    verdicts=(verdict,),
                    cost_usd=Decimal("0.1" if strong else "0.001"),
                )
                resolved = resolution(task_type=TaskType.from_word(kind))
                ledger.append(rows(f"{kind}{number}", made, resolved=resolved))
                right = strong or chance.random() < sure
                await ledger.record_outcome(
                    OutcomeReport(
                        request_id=f"{kind}{number}",
                        tenant="acme",
                        verdict=OutcomeVerdict.ACCEPTED if right else OutcomeVerdict.REJECTED,
                        reported_at=float(number),
                    )
                )

    anyio.run(fill)
    assert run("--ledger", "--config", str(config), "--target", "0.8") == (0 if both else 1)
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_the_ledgers_outcomes_do_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = of_ledger(tmp_path, monkeypatch, capsys)
    assert "60 outcomes" in said
    assert "mean of 20 reported answers" in said


def test_outcomes_of_one_stage_alone_are_told_to_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = of_ledger(tmp_path, monkeypatch, capsys, both=False)
    assert "classify: outcomes were reported of stage 0 alone (small)" in said
    assert "there is nothing to tune by" in said
