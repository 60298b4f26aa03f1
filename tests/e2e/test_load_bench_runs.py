"""Small versions of the load bench: the real service under mixed load, in a storm of 429, and with clients that are killed.

What is exact is judged (caps, the bill, what is left); what a busy machine moves (rates, memory over seconds) is not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.common.page import put_figures
from bench.load import bill, soak, storm
from bench.load.all import table
from bench.load.lines import Line

_ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="sockets and memory are read from /proc")


def missed(lines: list[Line], *, but: tuple[str, ...] = ()) -> list[str]:
    """Give the lines that do not hold, without those that a busy machine may miss."""
    return [
        f"{each['what']}: {each['measured']}"
        for each in lines
        if not each["holds"] and not any(w in each["what"] for w in but)
    ]


async def test_soaked_service_holds_nothing_of_calls_that_have_ended(tmp_path: Path) -> None:
    lines = await soak.soak(tmp_path, seconds=4.0, calibrate_s=0.5, rate=60.0, settle_s=0.0, seed=3)
    assert missed(lines, but=(": load", "memory", "sockets", "files", "threads")) == []
    assert any("tasks of the loop" in each["what"] for each in lines)


async def test_retrying_clients_do_not_multiply_a_storm_of_refusals(tmp_path: Path) -> None:
    lines = await storm.storms(tmp_path, 2.0)
    # How soon the breakers open is a matter of the machine's load here; the bench has the bound.
    assert missed(lines, but=("breakers open",)) == []


async def test_ledger_of_the_service_is_the_bill_although_clients_are_killed(tmp_path: Path) -> None:
    made, killed = await bill.served_bill(tmp_path, 300, seed=5)
    assert made.wrong == []
    assert made.calls >= 250 and killed >= 1
    assert made.outcomes["cancelled"] and made.causes["fallback"] and made.causes["escalation"]


def test_nothing_is_left_of_a_part_that_leaves_processes_or_takes_too_long(tmp_path: Path) -> None:
    orphan = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)"
    runs = f"""
import json, os
from pathlib import Path
from bench.load._apart import run_apart
ran = run_apart([{sys.executable!r}, "-c", {orphan!r}], Path("."), os.environ, 30)
late = run_apart([{sys.executable!r}, "-c", {orphan!r} + "; import time; time.sleep(600)"], Path("."), os.environ, 1)
left = Path(f"/proc/self/task/{{os.getpid()}}/children").read_text().split()
print(json.dumps([ran.code, ran.left, late.code, left, ran.told()]))
"""
    # In a process of its own: it takes in orphans, which the tests' process should not.
    done = subprocess.run(
        [sys.executable, "-c", runs], cwd=_ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    code, left, late, children, told = json.loads(done.stdout)
    assert (code, late, children) == (0, None, [])
    assert len(left) == 1 and "time.sleep(600)" in left[0]
    assert "the load was" in told


def test_each_part_has_its_place_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text((_ROOT / "docs/load-bench.md").read_text("utf-8"), "utf-8")
    found: list[Line] = [{"what": "calls", "must": "0", "measured": "1", "holds": False}]
    for name in ("limits", "storm", "ledger", "bill", "workers", "soak"):
        put_figures(page, name, table(found))
        put_figures(page, name, table(found))  # in place of the old
    assert page.read_text("utf-8").count(table(found)) == 6
    with pytest.raises(ValueError, match="lacks its marks"):
        put_figures(page, "weather", table(found))


def test_parts_and_what_they_take_are_listed() -> None:
    command = [sys.executable, "-m", "bench.load", "--help"]
    ran = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert all(name in ran.stdout for name in ("soak", "storm", "bill", "ledger", "limits", "all"))
