"""`gearshift size`: its table, its JSON, its words on wrong input."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

import pytest

from gearshift.server.cli.size import COMMAND

_LINES = "".join(f"{number * 2.0},1000,100\n" for number in range(1800))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text("t_s,in_tok,out_tok\n" + _LINES)
    return path


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="gearshift size")
    COMMAND.configure(parser)
    return COMMAND.run(parser.parse_args(arguments))


_ONE = ("--prompt-tps", "1000", "--output-tps", "100", "--slots", "2")


def test_the_table_says_what_is_needed_and_what_it_costs(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = run("--trace", str(trace), *_ONE, "--usd-per-hour", "2", "--api", "claude-haiku-4-5", "--load", "3")
    told = capsys.readouterr().out
    assert status == 0
    assert "needed: 3, for a p95 wait of at most 1 s" in told
    assert "a month: 4,380.00 USD, busy or idle" in told
    assert "claude-haiku-4-5: " in told
    assert "own machines are" in told


def test_the_json_has_the_same_figures(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--trace", str(trace), *_ONE, "--usd-per-hour", "2.50", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["needed"] == 1
    assert told["month_requests"] == 1800 * 730
    row = told["rows"][0]
    assert (row["instances"], row["holds"], row["month_usd"]) == (1, True, "1825.00")
    assert told["api"] is None


def test_the_same_trace_gives_the_same_figures(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    for _ in range(2):
        run("--trace", str(trace), *_ONE, "--json")
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]


def test_a_target_that_nothing_holds_has_a_status_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "burst.jsonl"
    path.write_text('{"t_s": 0, "in_tok": 1000, "out_tok": 100}\n' * 100)
    assert run("--trace", str(path), *_ONE, "--most", "4") == 3
    assert "no number up to 4 holds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        pytest.param((), "needs --prompt-tps and --output-tps", id="no throughput"),
        pytest.param((*_ONE, "--api", "claude-haiku-4.5"), "did you mean claude-haiku-", id="an unknown model"),
        pytest.param((*_ONE, "--api", "llama3.1:8b"), "the price of llama3.1:8b is unknown", id="no price"),
        pytest.param((*_ONE, "--measured", "a/b"), "stands in place of", id="both ways"),
    ],
)
def test_what_does_not_fit_together_is_told(
    trace: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    assert run("--trace", str(trace), *arguments) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [("--slots", "0"), ("--prompt-tps", "-1"), ("--usd-per-hour", "x"), ("--load", "nan")]
)
def test_numbers_out_of_range_are_refused(trace: Path, wrong: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--trace", str(trace), *_ONE, *wrong)
    assert ended.value.code == 2


def test_a_bad_line_and_a_missing_file_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("t_s,in_tok,out_tok\n1,2,3\n1,x,3\n")
    assert run("--trace", str(bad), *_ONE) == 1
    assert f"{bad}:3: in_tok must be a whole number from 0, not `x`" in capsys.readouterr().err
    assert run("--trace", str(tmp_path / "none.csv"), *_ONE) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "why"), [("own/m", "no chain has own/m; one of ollama/llama3.1:8b"), ("ollama/llama3.1:8b", "no ledger")]
)
def test_a_measure_needs_a_ledger_that_has_it(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, why: str
) -> None:
    config = tmp_path / "gearshift.yaml"
    config.write_text(
        f"ledger: {{path: {tmp_path}/none.db}}\n"
        "providers: {ollama: {}}\nchains: {generate: {stages: [{provider: ollama, model: 'llama3.1:8b'}]}}\n"
    )
    assert run("--trace", str(trace), "--measured", model, "--config", str(config)) == 2
    assert why in capsys.readouterr().err


def test_a_plot_is_drawn_where_matplotlib_is_and_else_that_is_told(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "plot.png"
    status = run("--trace", str(trace), *_ONE, "--plot", str(plot))
    if importlib.util.find_spec("matplotlib") is None:
        assert status == 2
        assert "pip install 'gearshift[plot]'" in capsys.readouterr().err
    else:
        assert status == 0
        assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_help_teaches_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="gearshift size", formatter_class=argparse.RawDescriptionHelpFormatter)
    COMMAND.configure(parser)
    told = parser.format_help()
    assert "gearshift size --trace monday.csv.gz" in told
    assert '{"t_s": 0.0, "in_tok": 374, "out_tok": 44}' in told
