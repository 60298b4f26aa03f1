"""The streams bench works: providers, service and load start, are measured and end. No figure is judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="CPU and memory are read from /proc")
def test_a_quick_run_of_the_streams_bench_gives_its_figures_and_leaves_nothing_running(tmp_path: Path) -> None:
    report, folder = tmp_path / "streams.json", tmp_path / "runs"
    command = [sys.executable, "-m", "bench.streams", "--quick", "--only", "close", "--json", str(report)]
    command += ["--folder", str(folder)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ran = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    (part,) = json.loads(report.read_text("utf-8"))["parts"]
    assert part["name"] == "close"
    assert {line["what"].split(",")[0] for line in part["lines"]} == {"cancel", "decision"}
    assert all(int(line["cells"]["closed"]) > 0 and float(line["cells"]["p50"]) > 0 for line in part["lines"])
    assert "| measured |" in ran.stdout
    assert _running_from(folder) == []


def test_a_part_that_does_not_exist_is_refused_with_those_that_do() -> None:
    command = [sys.executable, "-m", "bench.streams", "--only", "sunshine"]
    ran = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert "leftovers" in ran.stderr


def _running_from(folder: Path) -> list[str]:
    """Give the commands of processes that were started with a file of a folder."""
    commands: list[str] = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if str(folder) in command and "pytest" not in command:
            commands.append(command)
    return commands
