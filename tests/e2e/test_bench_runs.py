"""The speed harness works: servers start, answer, are measured and end. No figure is judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_SERVERS = {"echo", "floor", "gearshift"}
_MEASURES = {
    "added_p50_us",
    "added_p99_us",
    "burst_chunks_s",
    "burst_messages",
    "cpu_us_burst_chunk",
    "cpu_us_paced_chunk",
    "cpu_us_request",
    "cpu_us_request_alone",
    "first_answer_s",
    "idle_rss_mib",
    "latency_p50_us",
    "latency_p99_us",
    "paced_messages",
    "paced_stream_p50_ms",
    "rps",
    "rss_mib",
}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="CPU and memory are read from /proc")
def test_a_tiny_run_measures_every_server_and_leaves_nothing_running(tmp_path: Path) -> None:
    report = tmp_path / "speed.json"
    command = [sys.executable, "-m", "bench.speed", "--quick", "--seconds", "0.2", "--json", str(report)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ran = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(report.read_text("utf-8"))
    assert set(figures["servers"]) == _SERVERS
    for server, values in figures["servers"].items():
        assert set(values) == _MEASURES, server
        assert all(len(each) == 1 for each in values.values()), server
        assert values["rps"][0] > 0 and values["idle_rss_mib"][0] > 1
    assert set(figures["ratios"]) == {"echo", "floor"}
    assert all(set(goal) == {"goal", "most", "measured", "met"} for goal in figures["goals"])
    assert "| goal | at most | measured | |" in ran.stdout
    assert _running_from(tmp_path) == []


def _running_from(folder: Path) -> list[str]:
    """Give the commands of processes that were started with a configuration in a folder."""
    commands: list[str] = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if str(folder) in command and "bench.speed" not in command:
            commands.append(command)
    return commands
