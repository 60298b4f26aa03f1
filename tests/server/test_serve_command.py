"""What `gearshift serve` makes of its arguments and of signals, without a process of its own."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from gearshift.core.errors import ConfigError, LedgerError
from gearshift.server import app
from gearshift.server.cli import serve
from gearshift.server.cli.configured import CONFIG_VARIABLE, Configured, configured
from gearshift.server.cli.serve import COMMAND, asked_of
from tests.support.blueprints import stage
from tests.support.running_server import BOUND_S, of_stages
from tests.support.served_config import one_openai

NOWHERE = "http://127.0.0.1:9"


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    COMMAND.configure(parser)
    return parser.parse_args(arguments)


def written(folder: Path, name: str = "gearshift.yaml", more: str = "") -> Path:
    path = folder / name
    path.write_text(one_openai(NOWHERE, more=more))
    return path


def test_arguments_win_over_the_file_and_leave_the_rest(tmp_path: Path) -> None:
    path = written(tmp_path, more="server: {host: '::1', max_calls: 7}")
    changed = asked_of(parsed("--port", "0", "--no-http", "--ledger", ":memory:", "--log-level", "error"))
    found = configured(str(path), changed=changed)
    server = found.blueprint.config.server
    assert (server.host, server.port, server.http, server.max_calls) == ("::1", 0, False, 7)
    assert found.blueprint.config.ledger.path == ":memory:"
    assert found.blueprint.config.telemetry.log_level == "error"
    assert found.read is not None
    assert found.read().revision == found.blueprint.revision


@pytest.mark.parametrize("port", ["-1", "65536", "http", "1.5"])
def test_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("--port", port)
    assert caught.value.code == 2
    assert f"--port: must be a whole number from 0 to 65535, not '{port}'" in capsys.readouterr().err


def test_same_port_for_both_is_refused(tmp_path: Path) -> None:
    changed = asked_of(parsed("--port", "50051", "--http-port", "50051"))
    with pytest.raises(ConfigError, match="is the gRPC port"):
        configured(str(written(tmp_path)), changed=changed)


def test_file_is_found_by_argument_then_variable_then_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path)
    other, named = written(tmp_path, "other.yaml"), written(tmp_path, "named.yaml")
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    assert configured(None).source == "gearshift.yaml"
    monkeypatch.setenv(CONFIG_VARIABLE, str(other))
    assert configured(None).source == str(other)
    assert configured(str(named)).source == str(named)


def test_without_a_file_keys_in_the_environment_are_used_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-canary")
    without = configured(None)
    assert "anthropic" not in without.blueprint.providers
    assert without.read is None
    found = configured(None, use_env_keys=True)
    assert "anthropic" in found.blueprint.providers
    told = " ".join(found.notices)
    assert "ANTHROPIC_API_KEY" in told and "1 USD a day" in told
    assert "sk-ant-canary" not in told + repr(found.blueprint.config)
    limits = found.blueprint.providers["anthropic"].accounts[0].limits
    assert limits.usd_per_day is not None and limits.usd_per_day <= 1


@asynccontextmanager
async def hanging_app(*_arguments: Any, **_options: Any) -> AsyncGenerator[None]:
    os.kill(os.getpid(), signal.SIGTERM)
    await anyio.sleep_forever()
    yield


async def test_stop_during_the_start_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "running_app", hanging_app)
    found = Configured(blueprint=of_stages(stage(0)), source="a test", notices=("a notice",), read=None)
    with anyio.fail_after(BOUND_S):
        await serve._serve(found)  # pyright: ignore[reportPrivateUsage]
    told = capsys.readouterr().err
    assert "configured by a test\n  a notice\n" in told
    assert "stopped before it served" in told


def no_logs(level: str) -> None:
    """Leave the test's own logging as it is."""


@pytest.mark.parametrize(
    "error", [LedgerError("no room"), ExceptionGroup("tasks", [ExceptionGroup("tasks", [LedgerError("no room")])])]
)
def test_error_of_ours_is_one_line_and_exit_1(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_arguments: Any, **_options: Any) -> None:
        raise error

    monkeypatch.setattr(anyio, "run", fails)
    monkeypatch.setattr(serve, "configure_logs", no_logs)
    arguments = parsed("--config", str(written(tmp_path)), "--ledger", ":memory:")
    assert COMMAND.run(arguments) == 1
    assert capsys.readouterr().err == "gearshift serve: no room\n"


def test_bug_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_arguments: Any, **_options: Any) -> None:
        raise ExceptionGroup("tasks", [KeyError("bug"), LedgerError("no room")])

    monkeypatch.setattr(anyio, "run", fails)
    monkeypatch.setattr(serve, "configure_logs", no_logs)
    with pytest.raises(ExceptionGroup):
        COMMAND.run(parsed("--config", str(written(tmp_path))))
