"""The ledger of the real service beside what its providers billed, while clients are killed.

python -m bench.load bill --calls 10000

Rules: service, providers and clients are processes of their own; clients are killed with SIGKILL in the middle of their
calls and replaced. Each row of the ledger is found again in the simulator's account by prompt, model and turn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import anyio
import httpx
import msgspec
import uvloop

from bench.common.process import ROOT
from bench.load._house import running_house
from bench.load.lines import Line, line, say
from gearshift.clients import Client, background, dial
from gearshift.server.simulator import Entry
from tests.support.ledger_bill import Bill, billed_config, billed_plan, compare_bill

QUICK = ("--calls", "1000")
CLIENTS = 4
_MOST_ROUND = 400
"""Calls that a client would make, if it lived; fewer where few are wanted."""
_MOST_CALLS = 12_000
"""The simulator keeps the latest 20,000 requests."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--calls", type=int, default=10_000, help=f"over gRPC, at most {_MOST_CALLS} (10000)")
    parser.add_argument("--seed", type=int, default=1)


def run(arguments: argparse.Namespace) -> list[Line]:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        bill, killed = uvloop.run(served_bill(Path(folder), min(arguments.calls, _MOST_CALLS), seed=arguments.seed))
    return bill_lines(bill, killed)


def bill_lines(bill: Bill, killed: int) -> list[Line]:
    """Give what came of it."""
    what = f"{bill.calls} calls over gRPC, {killed} clients killed with kill -9, {bill.rows} attempts"
    kinds = f"{len(bill.faults) - 1} kinds of fault, {bill.causes['escalation']} escalations, "
    kinds += f"{bill.outcomes['cancelled']} cancelled, {bill.cached_tokens} cached tokens"
    for wrong in bill.wrong[:20]:
        say(wrong)
    found = [line(f"{what}: {kinds}: differing rows", "0", str(len(bill.wrong)), not bill.wrong)]
    for source in ("reported", "counted"):
        side = bill.sides[source]
        same = side.ledger_pico == side.billed_pico and side.ledger_tokens == side.billed_tokens
        found.append(line(f"{what}: `{source}`", "equal to the last digit", side.text(), same))
    found.append(line(f"{what}: `estimated`", "printed", bill.sides["estimated"].text()))
    return found


async def served_bill(folder: Path, calls: int, *, seed: int) -> tuple[Bill, int]:
    """Have clients make calls and die until so many calls have ended; give the bill and how many were killed."""
    chance = random.Random(seed)
    at = {name: f"{{url}}/{name}" for name in ("cheap", "fair", "strong")}
    urls = {"cheap": f"{at['cheap']}/v1", "fair": f"{at['fair']}/v1", "strong": at["strong"]}
    killed, next_number = 0, 1
    lives = itertools.count()
    count = min(_MOST_ROUND, max(100, calls // (2 * CLIENTS)))
    plan = f"seed: {seed}\n{billed_plan()}"
    async with running_house(folder, plan, billed_config(urls)) as house, dial(f"127.0.0.1:{house.port}") as watching:

        async def client() -> None:
            nonlocal killed, next_number
            while await _ended(watching) < calls:
                first, next_number = next_number, next_number + count
                life = next(lives)
                # The first dies as soon as it calls, so that a fast machine kills one too.
                dies_after_s = (chance.uniform(0.05, 1.0) if life else 0.02) if life % 3 < 2 else None
                was_killed = await _lived(house.port, first, count, dies_after_s)
                killed += was_killed  # after the wait: others count meanwhile

        async with anyio.create_task_group() as tasks:
            for _ in range(CLIENTS):
                tasks.start_soon(client)
        await _at_rest(watching)
        await house.rows()  # waits for the last reply
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            account = (await http.get(f"http://127.0.0.1:{house.simulator}/account")).json()
        bill = Bill(_calls(folder / "ledger.db"))
        entries: dict[str, list[Entry]] = defaultdict(list)
        for document in account["requests"]:
            entry = msgspec.json.decode(json.dumps(document), type=Entry)
            entries[entry.key].append(entry)
            bill.faults[entry.fault.partition("@")[0].partition(":")[0] or "none"] += 1
            bill.cached_tokens += entry.cached_tokens
        compare_bill(bill, folder / "ledger.db", entries)
    return bill, killed


async def _lived(port: int, first: int, count: int, dies_after_s: float | None) -> bool:
    """Run a client, which is killed after so many seconds of calling; gives whether it was."""
    command = [sys.executable, "-m", "bench.load._callers", str(port), str(first), str(count)]
    async with await anyio.open_process(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=None) as child:
        assert child.stdout is not None
        try:
            await child.stdout.receive()  # it calls
            with anyio.move_on_after(dies_after_s):
                await child.wait()
        finally:
            is_killed = child.returncode is None
            if is_killed:
                child.kill()
            with anyio.CancelScope(shield=True):
                await child.wait()
        return is_killed


async def _ended(client: Client) -> int:
    """Give the calls that have ended, these questions too."""
    return int((await client.ops.get_status(background().with_timeout(20))).calls_ended)


def _calls(ledger: Path) -> int:
    with closing(sqlite3.connect(ledger)) as database:
        return int(database.execute("SELECT COUNT(DISTINCT request_id) FROM attempts").fetchone()[0])


async def _at_rest(client: Client) -> None:
    """Wait until no call runs and every row is written."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        status = await client.ops.get_status(background().with_timeout(20))
        if status.calls_in_flight <= 1 and not status.ledger_pending:  # this question is the one
            return
        await anyio.sleep(0.05)
    raise RuntimeError("the service does not come to rest")
