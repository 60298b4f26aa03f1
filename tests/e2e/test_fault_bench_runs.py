"""The fault bench works: simulator and gateway start, are asked, are accounted for, and end. No figure is judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_MODES = {"text stream", "JSON unary"}
_FAULTS = {"no fault", "connection refused", "cut"}
_RESULTS = {"valid", "truncated", "wrong", "error"}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="what still runs is read from /proc")
def test_a_tiny_run_accounts_for_every_caller_and_leaves_nothing_running(tmp_path: Path) -> None:
    results, page = tmp_path / "results.json", tmp_path / "page.md"
    command = [sys.executable, "-m", "bench.faults", "--gateways", "gearshift", "--runs", "3"]
    command += ["--faults", ",".join(sorted(_FAULTS)), "--modes", ",".join(sorted(_MODES))]
    command += ["--results", str(results), "--page", str(page)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ran = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert ran.returncode == 0, ran.stderr
    measured = json.loads(results.read_text("utf-8"))["gateways"]["gearshift"]
    assert measured["runs"] == 3 and measured["commit"] and measured["date"]
    assert set(measured["cells"]) == _FAULTS
    for fault, modes in measured["cells"].items():
        assert set(modes) == _MODES, fault
        for cell in modes.values():
            assert cell["runs"] == 3 == sum(cell["results"].values())
            assert set(cell["results"]) <= _RESULTS
            assert len(cell["latencies_ms"]) == cell["results"].get("valid", 0)
            assert float(cell["incurred_usd"]) > 0 and cell["recorded_usd"] is not None
    assert measured["cells"]["cut"]["text stream"]["met"] == 3
    text = page.read_text("utf-8")
    assert all(f"\n## {title}\n" in text for title in ("In brief", "Every fault", "Spend", "How it is measured"))
    assert _running_from(tmp_path) == []


def test_a_fault_that_does_not_exist_is_refused_with_those_that_do() -> None:
    command = [sys.executable, "-m", "bench.faults", "--faults", "sunshine"]
    ran = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert "duplicate frame" in ran.stderr


def _running_from(folder: Path) -> list[str]:
    """Give the commands of processes that were started with a file in a folder."""
    commands: list[str] = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if str(folder) in command and "bench.faults --" not in command:
            commands.append(command)
    return commands
