"""The examples of the Python client, each run as a person runs it, against the service of the examples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from tests.support.example_service import example_service

EXAMPLES = Path(__file__).parents[2] / "clients" / "examples"
BOUND_S = 60.0

SAYS = {
    "blocking.py": ["would ask cheap/small, then strong/large", "'number': '2026-118'"],
    "conversation.py": ["> Why does my chain slip?", "> What would a new one cost?"],
    "embed.py": ["64 numbers each", "Pump the tyres to four bar."],
    "many.py": ["'billing': 20", "USD"],
    "route.py": ["label     billing", "outcome   OUTCOME_ACCEPTED", "on the strongest model"],
    "stream.py": [
        "So, a gearbox is basically a box",
        "-- large takes over",
        "-- taken back",
        "A gearbox lets an engine run",
        "-- 2 attempts",
    ],
}


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
async def test_an_example_does_what_it_says(name: str) -> None:
    async with example_service() as (server, _):
        with anyio.fail_after(BOUND_S):
            done = await anyio.run_process(
                [sys.executable, str(EXAMPLES / name), server.address], check=False, stderr=subprocess.PIPE
            )
    said = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode()
    places = [said.find(text) for text in SAYS[name]]
    assert -1 not in places, said
    assert places == sorted(places), said


async def test_an_example_says_when_nobody_serves() -> None:
    with anyio.fail_after(BOUND_S):
        done = await anyio.run_process(
            [sys.executable, str(EXAMPLES / "route.py"), "127.0.0.1:9"], check=False, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert b"failed: UNAVAILABLE" in done.stderr
