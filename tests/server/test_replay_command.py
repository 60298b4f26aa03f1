"""`gearshift replay`: a small workload through the real service on simulated providers, and what is printed."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gearshift.core.config.model import LedgerConfig
from gearshift.core.ledger.export import exported_pages, write_csv
from gearshift.core.ledger.opening import configured_store
from gearshift.server.cli.replay import COMMAND

_CHAINS = """
version: 1
providers:
  small: {kind: openai, dialect: compatible, base_url: "http://127.0.0.1:1/v1"}
  large: {kind: anthropic, api_key: "${NOBODY_SET_THIS}"}
models:
  light: {provider: small, capability: low, prices: {input_usd: 0.05, output_usd: 0.10}}
  dear: {provider: large, capability: high, prices: {input_usd: 3, output_usd: 15}}
chains:
  classify: {stages: [{provider: small, model: light}, {provider: large, model: dear}]}
  reason: {stages: [{provider: small, model: light}, {provider: large, model: dear}]}
tasks:
  declared:
    sums: {type: reason, complexity: low}
"""
_QUICK = {"first_token_ms": 5, "latency_ms": 10, "input_tokens": 100, "output_tokens": 10}


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="gearshift replay")
    COMMAND.configure(parser)
    return COMMAND.run(parser.parse_args(arguments))


@pytest.fixture
def chains(tmp_path: Path) -> str:
    path = tmp_path / "chains.yaml"
    path.write_text(_CHAINS)
    return str(path)


def classification(number: int, *, right: bool) -> dict[str, Any]:
    answers = {
        "small/light": {**_QUICK, "text": "bill" if right else "bug", "correct": right, "cost_usd": 0.5},
        "dear": {**_QUICK, "text": "bill", "correct": True},
    }
    return {
        "at_s": number * 0.02,
        "task": "classify",
        "prompt": f"Mail {number}: I was charged twice.",
        "labels": ["bill", "bug"],
        "answers": answers,
    }


@pytest.fixture
def trace(tmp_path: Path) -> str:
    lines = [classification(number, right=number % 5 > 0) for number in range(20)]
    # A refusal is what a gate sees: these go up.
    refused = {"light": {**_QUICK, "text": "I'm sorry, but I can't help with that request.", "correct": False}}
    for number in range(4):
        worked = {"text": f"{number} and 2 make {number + 2}. The answer is {number + 2}.", "correct": True}
        answers = {**refused, "large/dear": {**_QUICK, **worked}}
        lines.append({"at_s": number * 0.1, "task": "sums", "prompt": f"Add 2 to {number}.", "answers": answers})
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def test_chains_and_baseline_are_compared_by_task_in_the_ledgers_exact_money(
    trace: str, chains: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trace, "--chains", chains, "--json", "--baseline", "last", "--baseline", "small/light@0") == 0
    told = json.loads(capsys.readouterr().out)
    classify = told["runs"]["chains"]["classify"]
    # 20 calls of 100 tokens in and 10 out, at 0.05 and 0.10 a million.
    assert (classify["calls"], classify["cost_usd"], classify["quality"]) == (20, "0.00012", 0.8)
    assert classify["cost_per_accepted_usd"] == "0.000006"
    assert classify["recorded_usd"] == "10"
    sums = told["runs"]["chains"]["sums"]
    assert (sums["escalated"], sums["quality"], sums["failed"]) == (4, 1.0, 0)
    # Both attempts are paid for.
    assert sums["cost_usd"] == "0.001824"
    last = told["runs"]["last"]["all"]
    assert (last["calls"], last["cost_usd"], last["quality"], last["escalated"]) == (24, "0.0108", 1.0, 0)
    assert told["against"]["last"]["classify"]["cost"] == pytest.approx(0.00012 / 0.009 - 1)
    alone = told["runs"]["small/light@0"]["sums"]
    assert (alone["accepted"], alone["quality"]) == (0, 0.0)
    assert told["answered_as_recorded"]["last"] == 24


def test_table_has_a_line_for_each_task_and_says_what_is_saved(
    trace: str, chains: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trace, "--chains", chains, "--speed", "2") == 0
    told = capsys.readouterr()
    assert "the chains against each chain's last stage alone" in told.out
    assert "classify     20   0.00012" in told.out
    assert "80.0% of 20" in told.out
    assert "-98.7%" in told.out
    # Standard error is no terminal here: no bar.
    assert "\r" not in told.err


def test_faults_make_a_single_model_fail_where_the_chain_falls_back(
    trace: str, chains: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trace, "--chains", chains, "--json", "--fault-rate", "0.25", "--baseline", "last@0", "--seed", "3") == 0
    told = json.loads(capsys.readouterr().out)["runs"]
    assert told["last@0"]["all"]["failed"] > 0
    assert told["chains"]["all"]["failed"] == 0
    assert told["chains"]["all"]["fell_back"] + told["chains"]["all"]["retried"] > 0


def test_outage_fails_a_single_model_and_not_the_chain(
    trace: str, chains: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--outage", "large=0.1-60", "--limit", "20", "--mix", "classify=1")
    assert run(trace, "--chains", chains, "--json", *out) == 0
    told = json.loads(capsys.readouterr().out)["runs"]
    assert told["last"]["all"]["failed"] >= 10
    assert told["chains"]["all"]["failed"] == 0
    assert run(trace, "--chains", chains, "--outage", "nobody=1-2") == 1
    assert "no chain has a provider nobody; there are small, large" in capsys.readouterr().err


def test_same_seed_gives_the_same_faults(trace: str, chains: str, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[Any] = []
    for _ in range(2):
        run(trace, "--chains", chains, "--json", "--fault-rate", "0.2", "--baseline", "last@0", "--mix", "classify=1")
        figures = json.loads(capsys.readouterr().out)["runs"]["last@0"]["all"]
        told.append((figures["failed"], figures["cost_usd"]))
    assert told[0] == told[1]


def test_plan_says_how_fast_and_how_right_what_was_not_recorded_is(
    tmp_path: Path, chains: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, plan = tmp_path / "bare.jsonl", tmp_path / "plan.yaml"
    line = {"task": "classify", "labels": ["yes", "no"], "expected": "yes"}
    trace.write_text("\n".join(json.dumps({**line, "prompt": f"Is {n} a number?"}) for n in range(30)))
    plan.write_text(
        "providers: {small: {wire: openai, quality: 0, latency: {first_token_ms: 1}}, large: {wire: anthropic}}"
    )
    assert run(str(trace), "--chains", chains, "--plan", str(plan), "--json", "--speed", "5") == 0
    told = json.loads(capsys.readouterr().out)["runs"]
    assert told["last"]["all"]["quality"] == 1.0
    assert told["chains"]["all"]["quality"] == 0.0


def test_lengths_alone_are_replayed_with_texts_of_that_length(
    tmp_path: Path, chains: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "lengths.csv"
    trace.write_text("t_s,in_tok,out_tok\n0.0,374,44\n0.05,2000,9\n")
    assert run(str(trace), "--chains", chains, "--task", "reason", "--baseline", "none", "--json") == 0
    told = json.loads(capsys.readouterr().out)["runs"]["chains"]["reason"]
    # Reasoning is asked of the strong model first: 2374 tokens at 3, 53 at 15 USD a million.
    assert (told["calls"], told["cost_usd"]) == (2, "0.007917")


def test_plot_is_drawn(trace: str, chains: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed: the extra `plot`")
    target = tmp_path / "out.png"
    assert run(trace, "--chains", chains, "--limit", "4", "--plot", str(target)) == 0
    assert target.read_bytes().startswith(b"\x89PNG")
    assert f"drawn: {target}" in capsys.readouterr().err


def test_plot_without_matplotlib_is_refused_before_anything_runs(
    trace: str, chains: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing(_: str) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", nothing)
    assert run(trace, "--chains", chains, "--plot", "x.png") == 2
    assert "pip install 'gearshift[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        pytest.param(
            ("--baseline", "large/other"), "there are last, first, small/light, large/dear", id="no such stage"
        ),
        pytest.param(("--mix", "write=1"), "has no calls of write", id="no such task"),
        pytest.param(("--arrivals", "nowhere.csv"), "nowhere.csv: No such file", id="no such file"),
    ],
)
def test_what_cannot_be_replayed_is_told(
    extra: tuple[str, ...], told: str, trace: str, chains: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trace, "--chains", chains, *extra) == 1
    assert told in capsys.readouterr().err


def test_answers_of_models_that_no_chain_has_are_told(
    tmp_path: Path, chains: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "other.jsonl"
    trace.write_text(json.dumps({"task": "sums", "prompt": "Add.", "answers": {"elsewhere/model": {"text": "2"}}}))
    assert run(str(trace), "--chains", chains, "--baseline", "none") == 0
    assert "no chain has elsewhere/model: these answers are not used" in capsys.readouterr().err


def test_exported_ledger_can_be_replayed(
    trace: str, chains: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, export = tmp_path / "kept", tmp_path / "export.csv"
    run(trace, "--chains", chains, "--keep", str(kept), "--baseline", "none")
    store = configured_store(LedgerConfig(), str(kept / "r0.db"))
    with export.open("w", newline="") as file:
        write_csv(exported_pages(store), file)
    capsys.readouterr()
    assert run(str(export), "--chains", chains, "--json") == 0
    told = json.loads(capsys.readouterr().out)["runs"]["chains"]
    assert (told["classify"]["calls"], told["sums"]["calls"], told["all"]["known"]) == (20, 4, 0)
    # The same lengths at the same prices.
    assert told["classify"]["cost_usd"] == "0.00012"


def test_vectors_are_asked_for_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chains, trace = tmp_path / "chains.yaml", tmp_path / "trace.jsonl"
    chains.write_text(
        'providers: {v: {kind: voyage, api_key: "${KEY}"}}\n'
        "models: {space: {provider: v, capability: low, dimensions: [8], prices: {input_usd: 1}}}\n"
        "chains: {embed: {stages: [{provider: v, model: space}]}}\n"
    )
    trace.write_text("\n".join(json.dumps({"task": "embed", "prompt": f"Text {number}"}) for number in range(3)))
    assert run(str(trace), "--chains", str(chains), "--json") == 0
    told = json.loads(capsys.readouterr().out)["runs"]
    assert (told["chains"]["all"]["calls"], told["chains"]["all"]["failed"]) == (3, 0)
    assert told["last"]["all"]["cost_usd"] == told["chains"]["all"]["cost_usd"] != "0"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_is_drawn_on_a_terminal_and_leaves_nothing(
    trace: str, chains: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run(trace, "--chains", chains, "--limit", "4", "--json") == 0
    assert "[##############################] 8 of 8 calls" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_kept_ledgers_are_the_services_own(trace: str, chains: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert run(trace, "--chains", chains, "--limit", "3", "--keep", str(kept), "--json") == 0
    assert sorted(path.name for path in kept.glob("*.db")) == ["r0.db", "r1.db"]
    assert run(trace, "--chains", chains, "--limit", "3", "--keep", str(kept)) == 2


def test_interrupted_replay_prints_what_has_ended(tmp_path: Path, chains: str) -> None:
    trace = tmp_path / "long.jsonl"
    lines = [{**classification(number, right=True), "at_s": number * 0.02} for number in range(10)]
    trace.write_text("\n".join(map(json.dumps, [*lines, {**classification(99, right=True), "at_s": 3600}])))
    script = "import sys; from gearshift.server.cli.replay import COMMAND as c; import argparse; p = argparse.ArgumentParser(); "
    script += "c.configure(p); sys.exit(c.run(p.parse_args()))"
    kept = tmp_path / "kept"
    command = [sys.executable, "-c", script, str(trace), "--chains", chains, "--keep", str(kept)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            _wait_for_rows(kept / "r1.db", 10)
            os.kill(child.pid, signal.SIGINT)
            told, said = child.communicate(timeout=20)
        finally:
            child.kill()
    assert child.returncode == 130
    assert "stopped after 10 of 11 calls" in said
    assert "classify     10" in told


def _wait_for_rows(ledger: Path, count: int) -> None:
    import sqlite3
    from contextlib import closing

    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        if ledger.exists():
            try:
                with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
                    if database.execute("SELECT COUNT(*) FROM attempts").fetchone()[0] >= count:
                        return
            except sqlite3.Error:
                pass
        time.sleep(0.05)
    raise AssertionError("no calls were made")
