"""A provider that goes away and comes back, replayed through the real service: a chain loses no more than a bare model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from gearshift.server.cli.replay import COMMAND

_CHAINS = """
version: 1
providers:
  one: {kind: openai, dialect: compatible, base_url: "http://127.0.0.1:1/v1"}
models:
  light: {provider: one, capability: low, prices: {input_usd: 1, output_usd: 1}}
  dear: {provider: one, capability: high, prices: {input_usd: 9, output_usd: 9}}
chains:
  classify: {stages: [{provider: one, model: light}, {provider: one, model: dear}]}
"""
_RATE = 40
_SECONDS = 5.0


def test_a_chain_at_one_provider_is_back_as_soon_as_the_provider_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chains.yaml").write_text(_CHAINS)
    quick = {"text": "bug", "correct": True, "first_token_ms": 2, "latency_ms": 4}
    lines = [
        {
            "at_s": number / _RATE,
            "task": "classify",
            "prompt": f"It broke {number} times.",
            "labels": ["bill", "bug"],
            "answers": {"light": quick, "dear": quick},
        }
        for number in range(int(_SECONDS * _RATE))
    ]
    (tmp_path / "trace.jsonl").write_text("\n".join(map(json.dumps, lines)))
    parser = argparse.ArgumentParser(prog="gearshift replay")
    COMMAND.configure(parser)
    given = [str(tmp_path / "trace.jsonl"), "--chains", str(tmp_path / "chains.yaml"), "--json", "--baseline", "last@0"]
    assert COMMAND.run(parser.parse_args([*given, "--outage", "one=1-2.5"])) == 0
    told = json.loads(capsys.readouterr().out)["runs"]
    lost, bare = told["chains"]["all"]["failed"], told["last@0"]["all"]["failed"]
    assert bare >= _RATE  # a second and a half
    # The breakers of both stages open for 5 s at first, which would lose all that comes after the outage; it is noticed within half
    # a second that the provider is back.
    assert lost <= bare + 0.75 * _RATE
