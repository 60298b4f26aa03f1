"""Two workers beside one: calls a second and CPU a call, against what the bare echo gains with two processes.

python -m bench.load workers --rounds 5 --seconds 4

Rules: the machine's cores are shared by servers, upstream and clients, so what is compared is the gain within a round,
with the bare echo's beside it. Each client holds many connections, since the kernel gives connections to workers, not calls.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.speed.gearshift_config import command, write_config
from bench.speed.process import ROOT, Process, free_port, python

CLIENTS = 2
CONNECTIONS = 16
KEPT = 0.9
"""Of the echo's gain."""
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")

Line = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5, help="rounds (5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds for each server in a round (4)")


def run(arguments: argparse.Namespace) -> list[Line]:
    cases = (("echo", 1), ("echo", 2), ("gearshift", 1), ("gearshift", 2))
    seen: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        upstream = Process("upstream", [], 0, free_port())
        upstream.command = python("bench.speed.upstream", upstream.port)
        stack.callback(upstream.stop)
        _start(upstream)
        for number in range(arguments.rounds):
            for turn in range(len(cases)):
                case = cases[(turn + number) % len(cases)]
                with _served(*case, Path(folder) / f"{number}-{turn}", upstream.port) as server:
                    _load(server.port, min(1.0, arguments.seconds))
                    before = _cpu_s(server.running.pid)
                    figures = _load(server.port, arguments.seconds)
                    figures["cpu_us"] = (_cpu_s(server.running.pid) - before) / figures["calls"] * 1e6
                    figures["rss_mib"] = _rss_mib(server.running.pid)
                    seen[case].append(figures)
                    print(
                        f"{number + 1}/{arguments.rounds} {case[0]} x{case[1]}: {figures['rps']:.0f} calls/s",
                        file=sys.stderr,
                    )
    return _lines(seen)


def _lines(seen: dict[tuple[str, int], list[dict[str, float]]]) -> list[Line]:
    def gains(name: str) -> list[float]:
        return [two["rps"] / one["rps"] for one, two in zip(seen[name, 1], seen[name, 2], strict=True)]

    def middle(name: str, count: int, figure: str) -> float:
        return statistics.median(each[figure] for each in seen[name, count])

    echo, ours = statistics.median(gains("echo")), statistics.median(gains("gearshift"))
    one, two = middle("gearshift", 1, "cpu_us"), middle("gearshift", 2, "cpu_us")
    memory = middle("gearshift", 2, "rss_mib") - middle("gearshift", 1, "rss_mib")
    rps = ", ".join(f"{name} x{count} {middle(name, count, 'rps'):.0f}" for name, count in seen)
    return [
        _line("calls a second (median of the rounds)", "–", rps, holds=True),
        _line("bare echo: two processes / one", "–", f"{echo:.2f} times", holds=True),
        _line(
            "Gearshift: two workers / one process",
            f">= {KEPT} x the echo's",
            f"{ours:.2f} times",
            holds=ours >= KEPT * echo,
        ),
        _line("CPU a call with two workers / one process", "<= 1.25", f"{two / one:.2f}", holds=two / one <= 1.25),
        _line(
            "memory that a second worker and the supervisor add", "<= 200 MiB", f"{memory:.0f} MiB", holds=memory <= 200
        ),
    ]


def _line(what: str, must: str, measured: str, *, holds: bool) -> Line:
    return {"what": what, "must": must, "measured": measured, "holds": holds}


@contextmanager
def _served(name: str, count: int, folder: Path, upstream: int) -> Generator[Process]:
    folder.mkdir()
    server = Process(f"{name} x{count}", [], 0, free_port())
    with ExitStack() as stack:
        if name == "echo":
            server.command = python("bench.speed.echo", server.port, "shared")
            for _ in range(count - 1):
                other = Process(server.name, server.command, 0, server.port)
                stack.callback(other.stop)
                _start(other, listens=False)
        else:
            server.command = [*command(write_config(folder, server.port, upstream)), "--workers", str(count)]
        stack.callback(server.stop)
        _start(server)
        yield server


def _start(process: Process, *, listens: bool = True) -> None:
    process.start()
    os.sched_setaffinity(process.running.pid, range(os.cpu_count() or 1))
    if listens:
        process.wait_listening()


def _load(port: int, seconds: float) -> dict[str, float]:
    asked = python("bench.load._connections", port, seconds, CONNECTIONS)
    clients = [subprocess.Popen(asked, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(CLIENTS)]
    told = [client.communicate()[0].split() for client in clients]
    calls = sum(int(each[0]) for each in told)
    return {"calls": calls, "rps": sum(int(each[0]) / float(each[1]) for each in told)}


def _family(pid: int) -> list[int]:
    """Give a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return [pid, *(each for child in children for each in _family(int(child)))]


def _cpu_s(pid: int) -> float:
    total = 0
    for each in _family(pid):
        fields = Path(f"/proc/{each}/stat").read_text("ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * _TICK_S


def _rss_mib(pid: int) -> float:
    pages = sum(int(Path(f"/proc/{each}/statm").read_text("ascii").split()[1]) for each in _family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
