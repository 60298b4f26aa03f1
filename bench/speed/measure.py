"""One sitting: all servers side by side, case by case, round by round.

Rules: within a round each case is run on every server before the next case, in an order that turns from round to round,
so that whatever else the machine does falls on all of them. A server has its core to itself; upstream and load share the
other. What is compared are ratios within the sitting, never figures of two sittings.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.speed import messages
from bench.speed.gearshift_config import command, write_config
from bench.speed.load import Target, dialled, run, run_direct
from bench.speed.process import Process, free_port, python

ECHO, FLOOR, GEARSHIFT = "echo", "floor", "gearshift"
SERVERS = (ECHO, FLOOR, GEARSHIFT)
IN_FLIGHT = 16

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How long to measure: rounds, and seconds for each case of a round."""

    rounds: int = 3
    warm_up_s: float = 1.0
    case_s: float = 3.0
    starts: int = 3


QUICK = Plan(rounds=1, warm_up_s=0.3, case_s=1.0, starts=1)


@dataclass
class Figures:
    """Every measured value of one server, by measure, one value a round."""

    values: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def add(self, name: str, value: float) -> None:
        """Note a value."""
        self.values.setdefault(name, []).append(value)


Results = dict[str, Figures]


async def sitting(plan: Plan, folder: Path, server_core: int, load_core: int, say: Say) -> Results:
    """Measure; every process that is started is ended.

    Raises:
        RuntimeError: a server does not start or answers something else.
    """
    results: Results = {name: Figures() for name in SERVERS}
    upstream = Process("upstream", [], load_core, free_port())
    upstream.command = python("bench.speed.upstream", upstream.port)
    async with AsyncExitStack() as stack:
        stack.callback(upstream.stop)
        upstream.start()
        upstream.wait_listening()
        say("starting the servers")
        for _ in range(plan.starts):
            for name in SERVERS:
                server = _server(name, folder, upstream.port, server_core)
                try:
                    await _time_start(server, results[name])
                finally:
                    server.stop()
        servers: dict[str, Process] = {}
        targets: dict[str, Target] = {}
        for name in SERVERS:
            server = servers[name] = _server(name, folder, upstream.port, server_core)
            stack.callback(server.stop)
            server.start()
            server.wait_listening()
            targets[name] = await stack.enter_async_context(dialled(server.port))
            await targets[name].check()
            await run(targets[name].whole(), IN_FLIGHT, plan.warm_up_s)
        for number in range(plan.rounds):
            order = SERVERS[number % 3 :] + SERVERS[: number % 3]
            direct = await run_direct(upstream.port, plan.case_s / 4)
            for case in (_whole, _latency, _paced, _burst):
                say(f"round {number + 1} of {plan.rounds}: {case.__name__.strip('_')}")
                for name in order:
                    await case(servers[name], targets[name], plan.case_s, results[name])
            for name in SERVERS:
                figures = results[name]
                figures.add("rss_mib", servers[name].rss_mib())
                for part, share in (("p50", 0.5), ("p99", 0.99)):
                    # An echo asks nobody, so all of its latency is its own.
                    base = 0.0 if name == ECHO else percentile(direct.latencies_s, share) * 1e6
                    figures.add(f"added_{part}_us", figures.values[f"latency_{part}_us"][-1] - base)
    return results


def percentile(values: list[float], share: float) -> float:
    """Give the value below which a share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _server(name: str, folder: Path, upstream: int, core: int) -> Process:
    port = free_port()
    server = Process(name, [], core, port)
    if name == ECHO:
        server.command = python("bench.speed.echo", port)
    elif name == FLOOR:
        server.command = python("bench.speed.floor", port, upstream)
    else:
        own = folder / f"{name}-{port}"
        own.mkdir()
        server.command = command(write_config(own, port, upstream))
    return server


async def _time_start(server: Process, figures: Figures) -> None:
    server.start()
    server.wait_listening()
    async with dialled(server.port) as target:
        await target.whole()()
        figures.add("first_answer_s", time.perf_counter() - server.spawned_at)
    figures.add("idle_rss_mib", server.rss_mib())


async def _whole(server: Process, target: Target, seconds: float, figures: Figures) -> None:
    before = server.cpu_s()
    tally = await run(target.whole(), IN_FLIGHT, seconds)
    figures.add("cpu_us_request", (server.cpu_s() - before) / tally.calls * 1e6)
    figures.add("rps", tally.calls / tally.elapsed_s)


async def _latency(server: Process, target: Target, seconds: float, figures: Figures) -> None:
    before = server.cpu_s()
    tally = await run(target.whole(), 1, seconds)
    figures.add("cpu_us_request_alone", (server.cpu_s() - before) / tally.calls * 1e6)
    figures.add("latency_p50_us", percentile(tally.latencies_s, 0.5) * 1e6)
    figures.add("latency_p99_us", percentile(tally.latencies_s, 0.99) * 1e6)


async def _paced(server: Process, target: Target, seconds: float, figures: Figures) -> None:
    before = server.cpu_s()
    tally = await run(target.streamed(messages.PACED), IN_FLIGHT, seconds)
    figures.add("cpu_us_paced_chunk", (server.cpu_s() - before) / (tally.calls * messages.CHUNKS) * 1e6)
    figures.add("paced_stream_p50_ms", percentile(tally.latencies_s, 0.5) * 1e3)
    figures.add("paced_messages", tally.messages / tally.calls)


async def _burst(server: Process, target: Target, seconds: float, figures: Figures) -> None:
    before = server.cpu_s()
    tally = await run(target.streamed(messages.BURST), IN_FLIGHT, seconds)
    chunks = tally.calls * messages.CHUNKS
    figures.add("cpu_us_burst_chunk", (server.cpu_s() - before) / chunks * 1e6)
    figures.add("burst_chunks_s", chunks / tally.elapsed_s)
    figures.add("burst_messages", tally.messages / tally.calls)
