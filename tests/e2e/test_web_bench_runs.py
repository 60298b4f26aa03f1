"""The bench of the browser's way in works: what it starts is measured and ends. No figure is judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="CPU and memory are read from /proc")
def test_a_quick_run_of_the_web_bench_gives_its_figures(tmp_path: Path) -> None:
    report = tmp_path / "web.json"
    command = [sys.executable, "-m", "bench.web", "--quick", "--browsers", "8", "--json", str(report)]
    command += ["--folder", str(tmp_path / "runs")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ran = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    unary, streams = json.loads(report.read_text("utf-8"))["parts"]
    assert float(unary["lines"][0]["cells"]["p50"]) > 0
    assert unary["lines"][-1]["met"] is not None
    assert streams["lines"][0]["cells"][""] == "8"
    assert "| measured |" in ran.stdout
