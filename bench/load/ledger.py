"""The ledger: killed under load, its database away, and its sum beside what the providers billed.

python -m bench.load ledger --kills 50 --away 30 --calls 100000
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio

from gearshift.core.ledger import BufferedLedger, CostQuery, SqliteLedger
from gearshift.core.ledger.postgres import PostgresLedger
from gearshift.core.words import CostGroup
from tests.support.ledger_bill import billed_calls
from tests.support.ledger_killed import Killed, run_and_kill
from tests.support.ledger_rows import rows
from tests.support.postgres_server import PostgresServer, postgres_server

LOST_MS = 50
RATE = 1000
REPORTED_ROWS = 200_000

Line = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=50, help="kill -9 for each store and durability (50)")
    parser.add_argument("--away", type=float, default=30.0, help="seconds without PostgreSQL (30)")
    parser.add_argument("--calls", type=int, default=100_000, help="mixed calls of simulated providers (100000)")
    parser.add_argument("--seed", type=int, default=1)


def run(arguments: argparse.Namespace) -> list[Line]:
    with tempfile.TemporaryDirectory() as folder, postgres_server() as server:
        found: list[Line] = []
        if arguments.kills:
            found += _kills(Path(folder), server, arguments.kills, arguments.seed)
        if arguments.away:
            server.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            found += anyio.run(_away, server, arguments.away)
        found += anyio.run(_speed, Path(folder), server)
        if arguments.calls:
            found += anyio.run(_bill, Path(folder), arguments.calls, arguments.seed)
        return found


def _kills(folder: Path, server: PostgresServer, kills: int, seed: int) -> list[Line]:
    chance = random.Random(seed)
    found: list[Line] = []
    for name, store in (("SQLite", str(folder / "killed.db")), ("PostgreSQL", server.url)):
        for durability in ("sync", "async"):
            got: list[Killed] = []
            for turn in range(kills):
                after_s = chance.uniform(0.1, 0.8)
                got.append(
                    run_and_kill(store, durability=durability, after_s=after_s, rate=RATE, prefix=f"{durability}{turn}")
                )
                _told(f"{name} {durability}: kill {turn + 1} of {kills}")
            calls, doubled = sum(each.acknowledged for each in got), sum(each.doubled for each in got)
            missing, lost_ms = sum(each.missing for each in got), max(each.lost_ms for each in got)
            what = f"{name}, `{durability}`, {kills} × kill -9 at {RATE} calls/s"
            if durability == "sync":
                found.append(_line(what, "0 acknowledged rows missing", f"{missing} of {calls} calls", missing == 0))
            else:
                # What the machine did not let the child run, nobody could have written.
                beyond_ms = max(each.lost_ms - each.stalled_ms for each in got)
                told = f"{lost_ms:.1f} ms at most, {beyond_ms:.1f} ms without the process's own stalls, {missing} rows"
                found.append(_line(what, f"≤ {LOST_MS} ms missing", told, beyond_ms <= LOST_MS))
            whole = all(each.integrity == "ok" for each in got)
            found.append(_line(f"{what}: rows that stand twice", "0", str(doubled), doubled == 0))
            if name == "SQLite":
                found.append(_line(f"{what}: integrity_check", "ok", "ok" if whole else "damaged", whole))
    return found


async def _away(server: PostgresServer, away_s: float) -> list[Line]:
    rate, bound = 2000, 100_000
    async with PostgresLedger(server.url, max_pending=bound) as ledger:
        wanted = await _load(ledger, rate, 1.0, 0)
        await ledger.flush()
        before = _resident()
        await anyio.to_thread.run_sync(server.stop)
        wanted = await _load(ledger, rate, away_s, wanted)
        most, dropped = ledger.status().pending, ledger.status().dropped
        held = _resident() - before
        began = time.monotonic()
        await anyio.to_thread.run_sync(server.start)
        while ledger.status().committed < wanted - dropped:
            await anyio.sleep(0.01)  # the writer's thread tells nobody
        back_s = time.monotonic() - began
        there = int(server.run("SELECT COUNT(*) FROM attempts"))
        twice = there - int(server.run("SELECT COUNT(DISTINCT request_id) FROM attempts"))
        # Beyond the bound: memory does not grow any more.
        await anyio.to_thread.run_sync(server.stop)
        for _ in range(bound):
            ledger.append(rows("full"))
        gc.collect()
        full = _resident()
        for _ in range(2 * bound):
            ledger.append(rows("dropped"))
        gc.collect()
        grown = _resident() - full
        beyond = ledger.status().dropped - dropped
        await anyio.to_thread.run_sync(server.start)
    what = f"PostgreSQL away for {away_s:.0f} s at {rate} rows/s"
    return [
        _line(f"{what}: rows there afterwards", f"all {wanted}", str(there), there == wanted and dropped == 0),
        _line(f"{what}: rows that stand twice", "0", str(twice), twice == 0),
        _line(f"{what}: most that waited", f"≤ {bound}", f"{most} rows, {held / 2**20:.0f} MiB", most <= bound),
        _line(f"{what}: all written after its start", "–", f"{back_s:.1f} s", True),
        _line(
            f"{2 * bound} rows beyond a full buffer: memory",
            "flat (≤ 8 MiB)",
            f"{grown / 2**20:+.1f} MiB, {beyond} dropped and counted",
            grown <= 8 * 2**20 and beyond >= 2 * bound,
        ),
    ]


async def _load(ledger: BufferedLedger, rate: int, seconds: float, first: int) -> int:
    began, number = time.monotonic(), first
    while (passed := time.monotonic() - began) < seconds:
        while number - first < passed * rate:
            ledger.append(rows(f"r{number}"))
            number += 1
        await anyio.sleep(0.005)
    return number


async def _speed(folder: Path, server: PostgresServer) -> list[Line]:
    server.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    found: list[Line] = []
    for name, ledger in (
        ("SQLite", SqliteLedger(str(folder / "speed.db"), max_pending=REPORTED_ROWS)),
        ("PostgreSQL", PostgresLedger(server.url, max_pending=REPORTED_ROWS)),
    ):
        async with ledger:
            made = [rows(f"r{number}") for number in range(REPORTED_ROWS)]
            began, busy = time.perf_counter(), time.process_time()
            for each in made:
                ledger.append(each)
            appended = time.perf_counter() - began
            await ledger.flush()
            passed, busy = time.perf_counter() - began, time.process_time() - busy
            found.append(
                _line(
                    f"{name}: rows written",
                    "–",
                    f"{REPORTED_ROWS / passed:,.0f} a second, {busy / REPORTED_ROWS * 1e6:.1f} µs CPU each "
                    f"(append {appended / REPORTED_ROWS * 1e6:.2f} µs)",
                    True,
                )
            )
            began = time.perf_counter()
            await ledger.report(CostQuery(group_by=(CostGroup.MODEL, CostGroup.DAY)))
            passed = time.perf_counter() - began
            found.append(_line(f"{name}: report over {REPORTED_ROWS} rows", "–", f"{passed:.2f} s", True))
            began = time.perf_counter()
            await ledger.prune(time.time() + 3 * 86_400)
            passed = time.perf_counter() - began
            found.append(_line(f"{name}: {REPORTED_ROWS} rows to daily sums", "–", f"{passed:.2f} s", True))
    return found


async def _bill(folder: Path, calls: int, seed: int) -> list[Line]:
    bill = await billed_calls(calls, folder / "bill.db", seed=seed, told=_told)
    for wrong in bill.wrong[:20]:
        _told(wrong)
    what = f"{calls} mixed calls, {bill.rows} attempts"
    exact = [bill.sides[source] for source in ("reported", "counted")]
    same = all(each.ledger_pico == each.billed_pico and each.ledger_tokens == each.billed_tokens for each in exact)
    kinds = f"{len(bill.faults) - 1} kinds of fault, {bill.causes['escalation']} escalations, "
    kinds += f"{bill.outcomes['cancelled']} cancels, {bill.cached_tokens} cached tokens"
    return [
        _line(f"{what}: {kinds}: differing rows", "0", str(len(bill.wrong)), not bill.wrong),
        *(
            _line(f"{what}: `{source}`", "equal to the last digit", bill.sides[source].text(), same)
            for source in ("reported", "counted")
        ),
        _line(f"{what}: `estimated`", "printed", bill.sides["estimated"].text(), True),
    ]


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _line(what: str, must: str, measured: str, holds: bool) -> Line:
    return {"what": what, "must": must, "measured": measured, "holds": holds}


def _told(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
