"""The parts of the command line: tables, live text, money, completion, commands of other packages."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.clients.cli import main
from gearshift.clients.cli.command import OWN, SERVER
from gearshift.clients.cli.commands.costs import point_in_time
from gearshift.clients.cli.live import LiveText
from gearshift.clients.cli.program import new_parser
from gearshift.clients.cli.render import attempts, failure, milliseconds, money, saving, word
from gearshift.clients.cli.render_ops import costs
from gearshift.clients.cli.terminal import Palette, rows_of, safe, table, width_of
from gearshift.clients.errors import Code, RpcError, StatusDetails, Violation
from gearshift.v1 import answer_pb2, ops_pb2

Captured = pytest.CaptureFixture[str]


def test_a_table_lines_up_with_colours_and_wide_characters() -> None:
    palette = Palette(is_on=True)
    text = table(("name", "n"), [(palette.good("a"), "1"), ("日本", "10")], Palette(is_on=False), right=" r")
    assert [width_of(line) for line in text.splitlines()] == [8, 8, 8]


def test_off_means_no_colours() -> None:
    assert Palette(is_on=False).bad("x") == "x"
    assert Palette(is_on=True).bad("x") == "\x1b[31mx\x1b[0m"


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        pytest.param("", 10, 0, id="nothing"),
        pytest.param("abc", 10, 0, id="a line"),
        pytest.param("abc\ndef", 10, 1, id="two lines"),
        pytest.param("x" * 10, 10, 0, id="a full line waits at its end"),
        pytest.param("x" * 11, 10, 1, id="one more wraps"),
        pytest.param("日" * 6, 10, 1, id="wide characters"),
        pytest.param("e\u0301" * 10, 10, 0, id="combining characters"),
    ],
)
def test_rows_are_counted_as_a_terminal_wraps(text: str, columns: int, rows: int) -> None:
    assert rows_of(text, columns) == rows


@given(st.text(max_size=80))
def test_safe_text_has_nothing_that_commands_a_terminal(text: str) -> None:
    assert not set(safe(text)) & {"\x1b", "\r", "\x9b", "\x07", "\x08", "\u202e"}


def test_live_text_goes_up_and_clears() -> None:
    live = LiveText(10, 24)
    live.append("a long line that wraps")
    assert live.take_back() == "\x1b[2A\r\x1b[J"
    assert live.is_empty and live.take_back() == ""


def test_live_text_that_scrolled_away_is_said_to_be_taken_back() -> None:
    live = LiveText(10, 3)
    live.append("1\n2\n3\n4")
    assert "taken back" in live.take_back()


def test_live_text_ends_its_line_once() -> None:
    live = LiveText(10, 24)
    live.append("a")
    assert live.end() == "\n"
    live.append("\n")
    assert live.end() == ""


@pytest.mark.parametrize(
    ("amount", "text"),
    [("", "unknown"), ("0", "$0"), ("0.0", "$0"), ("0.5", "$0.50"), ("0.000123", "$0.00012"), ("1234.5", "$1,234.50")],
)
def test_money_is_short_and_unknown_is_no_zero(amount: str, text: str) -> None:
    assert money(amount) == text


@pytest.mark.parametrize(
    ("total", "strongest", "text"),
    [("1", "4", "75% less"), ("5", "4", "25% more"), ("1", "", ""), ("", "4", ""), ("0", "0", "")],
)
def test_a_saving_is_said_only_when_it_is_known(total: str, strongest: str, text: str) -> None:
    assert saving(total, strongest) == text


def test_times_and_words_read_well() -> None:
    assert [milliseconds(one) for one in (3.21, 310.5, 12_345)] == ["3.2 ms", "310 ms", "12.3 s"]
    assert word(answer_pb2.AttemptCause, answer_pb2.ATTEMPT_CAUSE_SECOND_LOOK) == "second look"
    assert word(answer_pb2.FailureKind, 0) == "-"
    assert word(answer_pb2.FailureKind, 99) == "99"


def test_points_in_time_are_dates_times_or_lengths_back() -> None:
    now = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)
    assert point_in_time("7d", now) == datetime.datetime(2026, 11, 16, 12, tzinfo=datetime.UTC)
    assert point_in_time("90m", now).minute == 30
    assert point_in_time("2026-11-01") == datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    assert point_in_time("2026-11-01T12:00+02:00").utcoffset() == datetime.timedelta(hours=2)


@pytest.mark.parametrize("name", [name for name in OWN if name not in ("version", "reload", "chains")])
def test_help_teaches_with_examples(name: str, capsys: Captured) -> None:
    assert main([name, "--help"]) == 0
    assert f"gearshift {name}" in capsys.readouterr().out.partition("examples:")[2]


def test_help_lists_every_command_and_the_exit_codes(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in (*OWN, *SERVER))
    assert "130  interrupted" in out


def test_nothing_to_do_shows_help_and_is_wrong(capsys: Captured) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "examples:" in err


def test_version_is_said_both_ways(capsys: Captured) -> None:
    assert main(["version"]) == main(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and first.startswith("gearshift ")


def _complete(script: str, *words: str) -> set[str]:
    quoted = " ".join(f"'{word}'" for word in ("gearshift", *words))
    code = f"{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _gearshift; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_commands_options_and_choices(capsys: Captured) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out
    assert {"route", "reload"} <= _complete(script, "r")
    assert _complete(script, "cache", "p") == {"purge"}
    assert _complete(script, "cache", "purge", "--al") == {"--all"}
    assert _complete(script, "route", "--type", "c") == {"classify"}
    assert _complete(script, "costs", "--by", "t") == {"task", "tenant", "type"}
    assert _complete(script, "route", "--label", "c") == set()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_scripts_with_every_command(shell: str, capsys: Captured) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in OWN)


def test_every_command_can_be_configured_together() -> None:
    assert new_parser([], everything=True).parse_args(["cache", "stats"]).action == "stats"


def _package(folder: Path, monkeypatch: pytest.MonkeyPatch, entry_points: str, code: str) -> None:
    """Install a package of one module into folder."""
    info = folder / "others-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[gearshift.commands]\n{entry_points}\n")
    (folder / "others_command.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.delitem(sys.modules, "others_command", raising=False)


def test_another_package_adds_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    code = (
        "name, help = 'greet', 'say hello'\n"
        "def configure(parser): parser.add_argument('whom')\n"
        "def run(arguments): print('hello', arguments.whom); return 7\n"
    )
    _package(tmp_path, monkeypatch, "greet = others_command\nroute = others_command", code)
    assert main(["greet", "you"]) == 7
    assert capsys.readouterr().out == "hello you\n"
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "greet       say hello" in out and "route       answer one prompt" in out


def test_a_command_whose_extra_is_missing_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    _package(tmp_path, monkeypatch, "polish = others_command", "import a_package_that_is_not_there\n")
    assert main(["polish"]) == 2
    err = capsys.readouterr().err
    assert "a_package_that_is_not_there" in err and "pip install 'gearshift[server]'" in err


def test_costs_of_unknown_price_are_not_shown_as_nothing() -> None:
    row = ops_pb2.CostRow(keys=["t"], calls=3, attempts=3, unpriced=3, cost_usd="0")
    text = costs(ops_pb2.GetCostReportResponse(rows=[row], total=row), ["task"], Palette(is_on=False))
    assert "unknown" in text and "3 attempts have no known price" in text


def test_a_refused_field_is_said_once() -> None:
    one, two = Violation("call.prompt", "is empty"), Violation("call.task.id", "is empty")
    single = RpcError(Code.INVALID_ARGUMENT, "call.prompt: is empty", StatusDetails(violations=(one,)))
    both = RpcError(Code.INVALID_ARGUMENT, "2 fields are wrong", StatusDetails(violations=(one, two)))
    assert failure(single, Palette(is_on=False)).count("is empty") == 1
    assert failure(both, Palette(is_on=False)).count("is empty") == 2


def test_reasons_for_passing_are_left_to_the_gates_line() -> None:
    passed = answer_pb2.Verdict(gate="confidence", result=answer_pb2.VERDICT_RESULT_PASS, detail="0.9, well above")
    failed = answer_pb2.Verdict(gate="schema", result=answer_pb2.VERDICT_RESULT_FAIL, detail="a wrong key")
    attempt = answer_pb2.Attempt(outcome=answer_pb2.ATTEMPT_OUTCOME_POOR, verdicts=[passed, failed])
    text = attempts([attempt], Palette(is_on=False))
    assert "confidence pass" in text and "well above" not in text and "a wrong key" in text


def test_an_unknown_option_names_the_command_that_does_not_know_it(capsys: Captured) -> None:
    assert main(["route", "--bogus", "It crashes."]) == 2
    assert capsys.readouterr().err == "gearshift: not known here: --bogus; see: gearshift route --help\n"
