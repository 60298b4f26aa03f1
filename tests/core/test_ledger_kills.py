"""kill -9 under load: what was acknowledged is there, no more than 50 ms is missing, and nothing stands twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.ledger_killed import run_and_kill
from tests.support.postgres_server import postgres_server

KILLS = 3
LOST_MS = 50


def check(store: str, durability: str) -> None:
    chance = random.Random(7)
    raw_ms: list[float] = []
    lost_ms: list[float] = []
    for turn in range(KILLS):
        after_s = chance.uniform(0.1, 0.5)
        killed = run_and_kill(store, durability=durability, after_s=after_s, rate=1000, prefix=f"{durability}{turn}")
        assert killed.acknowledged > 0
        assert (killed.doubled, killed.integrity) == (0, "ok")
        if durability == "sync":
            assert killed.missing == 0
        raw_ms.append(killed.lost_ms)
        # What this machine did not let the child run is none of the ledger's.
        lost_ms.append(killed.lost_ms - killed.stalled_ms)
    assert sorted(raw_ms)[KILLS // 2] <= LOST_MS
    assert max(lost_ms) <= LOST_MS


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_killed_writer_of_a_file_loses_no_more_than_it_may(tmp_path: Path, durability: str) -> None:
    check(str(tmp_path / "ledger.db"), durability)


def test_killed_writer_of_a_database_loses_no_more_than_it_may() -> None:
    with postgres_server() as server:
        for durability in ("sync", "async"):
            check(server.url, durability)
