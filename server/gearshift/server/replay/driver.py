"""Plays a workload: for every run its own simulated providers, its own service, its own ledger, all at the same time.

Rules: calls are sent when they are due, whether or not those before have ended; each goes to every run at once, so that runs
that are stopped have seen the same. Latencies are real: `speed` shortens the time between calls, nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import grpc
import grpc.aio

from gearshift.core.catalogue import Catalogue
from gearshift.core.config.model import LedgerConfig
from gearshift.core.ledger.opening import configured_store
from gearshift.server.app import running_app
from gearshift.server.replay.asking import embed_request, route_request
from gearshift.server.replay.names import Names
from gearshift.server.replay.results import Ended, paid_of, request_id, rightness, settle
from gearshift.server.replay.script import Recordings, with_prompts
from gearshift.server.replay.trace import Call
from gearshift.server.replay.world import Outage, World, checked_run, replayed
from gearshift.server.simulator import Simulator, running_simulator
from gearshift.v1 import answer_pb2, router_pb2_grpc

_ROWS = "SELECT request_id, provider, model, cause, outcome, cost_pico FROM attempts ORDER BY request_id, number"
_CHANNEL = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)

Progress = Callable[[int, int], object]
"""Told how many calls have ended, over all runs, and how many there will be."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One way to serve the workload: `chains`, or a baseline (`replay.world.replayed`).

    Args:
        strange: requests that reached a provider with a prompt that is none of the workload's.
        recorded: requests that were answered with a recorded text.
    """

    name: str
    ended: list[Ended] = field(default_factory=list[Ended])
    strange: int = 0
    recorded: int = 0


@dataclass(slots=True, kw_only=True)
class _Served:
    """A run while it runs."""

    run: Run
    label: str
    stub: router_pb2_grpc.RouterServiceAsyncStub
    recordings: Recordings
    simulator: Simulator


async def replay(
    world: World,
    calls: Sequence[Call],
    runs: Sequence[str],
    folder: Path,
    *,
    speed: float = 1.0,
    catalogue: Catalogue | None = None,
    progress: Progress | None = None,
    stop: anyio.Event | None = None,
) -> list[Run]:
    """Play the calls and give what became of them; those that `stop` cuts off are left out.

    Args:
        runs: `chains`, and baselines as `checked_run` knows them.
        folder: takes a ledger for each run; theirs must not be there yet.
        speed: 10 sends ten minutes of calls within one.

    Raises:
        ConfigError: a run names no stage, or a port cannot be taken.
    """
    catalogue = Catalogue.load() if catalogue is None else catalogue
    calls = with_prompts(calls)
    names = Names(world.blueprint)
    stop = anyio.Event() if stop is None else stop
    found = [Run(name=checked_run(world, name)) for name in runs]
    async with AsyncExitStack() as stack:
        served = [
            await _serve(stack, world, run, f"r{number}", calls, names, folder, catalogue)
            for number, run in enumerate(found)
        ]
        await _play(served, calls, names, world, speed, progress, stop)
    # The ledgers are closed, and whole.
    for each in served:
        store = configured_store(LedgerConfig(), str(_ledger(folder, each.label)))
        with store.session() as session:
            rows = session.rows(_ROWS)
        each.run.ended.sort(key=lambda ended: ended.number)
        settle(each.run.ended, calls, paid_of(rows), each.label, names)
        each.run.strange, each.run.recorded = each.recordings.strange, each.recordings.recorded
    return found


def _ledger(folder: Path, label: str) -> Path:
    return folder / f"{label}.db"


async def _serve(
    stack: AsyncExitStack,
    world: World,
    run: Run,
    label: str,
    calls: Sequence[Call],
    names: Names,
    folder: Path,
    catalogue: Catalogue,
) -> _Served:
    recordings = Recordings(calls, names, {short: name for name, short in world.names.items()})
    # The same seed: a request meets the same fault in every run.
    simulator = await stack.enter_async_context(running_simulator(world.plan, script=recordings))
    blueprint = replayed(world, run.name, simulator.base_urls, str(_ledger(folder, label)), catalogue)
    app = await stack.enter_async_context(running_app(blueprint))
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{app.port}", options=_CHANNEL))
    stub = router_pb2_grpc.RouterServiceStub(channel)
    return _Served(run=run, label=label, stub=stub, recordings=recordings, simulator=simulator)


async def _play(
    served: Sequence[_Served],
    calls: Sequence[Call],
    names: Names,
    world: World,
    speed: float,
    progress: Progress | None,
    stop: anyio.Event,
) -> None:
    total, done = len(calls) * len(served), 0
    declared = world.blueprint.tasks
    deadline_s = world.loaded.config.defaults.deadline_s

    async def call_once(to: _Served, number: int, lag_s: float) -> None:
        nonlocal done
        call = calls[number]
        ended = await _called(
            to.stub, call, number, request_id(to.label, number), names, deadline_s, is_declared=call.task in declared
        )
        ended.lag_s = lag_s
        to.run.ended.append(ended)
        done += 1
        if progress is not None:
            progress(done, total)

    async with anyio.create_task_group() as tasks:

        async def stopped() -> None:
            await stop.wait()
            tasks.cancel_scope.cancel()

        began = time.perf_counter()

        async def away(outage: Outage) -> None:
            name = world.names[outage.provider]
            await anyio.sleep(began + outage.begins / speed - time.perf_counter())
            for each in served:
                await each.simulator.down(name)
            await anyio.sleep(began + outage.ends / speed - time.perf_counter())
            for each in served:
                await each.simulator.up(name)

        async def all_of_them() -> None:
            async with anyio.create_task_group() as sending:
                for number, call in enumerate(calls):
                    due = began + call.at / speed
                    if (wait := due - time.perf_counter()) > 0:
                        await anyio.sleep(wait)
                    lag = max(0.0, time.perf_counter() - due)
                    for each in served:
                        sending.start_soon(call_once, each, number, lag)
            tasks.cancel_scope.cancel()

        tasks.start_soon(stopped)
        for outage in world.outages:
            tasks.start_soon(away, outage)
        tasks.start_soon(all_of_them)


async def _called(
    stub: router_pb2_grpc.RouterServiceAsyncStub,
    call: Call,
    number: int,
    request: str,
    names: Names,
    deadline_s: float,
    *,
    is_declared: bool,
) -> Ended:
    """Make a call and tell how it ended."""
    ended = Ended(number=number, task=call.task, lag_s=0.0, latency_s=0.0)
    began = time.perf_counter()
    text = ""
    try:
        if call.type == "embed":
            vectors = await stub.Embed(embed_request(call, request, is_declared=is_declared), timeout=deadline_s)
            completion = vectors.completion
        else:
            message = route_request(call, request, is_declared=is_declared)
            response = await stub.Route(message, timeout=deadline_s)
            completion, text = response.answer.completion, response.answer.text
    except grpc.aio.AioRpcError as error:
        ended.latency_s = time.perf_counter() - began
        ended.error = f"{error.code().name}: {error.details() or ''}".strip(": ")
        return ended
    ended.latency_s = time.perf_counter() - began
    if completion.outcome == answer_pb2.OUTCOME_FAILED or not completion.HasField("served_by"):
        ended.error = "FAILED"
        return ended
    by = completion.served_by
    ended.accepted = completion.outcome == answer_pb2.OUTCOME_ACCEPTED
    ended.served = f"{by.provider}/{by.model}"
    ended.confidence = completion.confidence if completion.HasField("confidence") else None
    if call.type != "embed":
        whole = completion.finish_reason != answer_pb2.FINISH_REASON_LENGTH
        ended.right = rightness(call, names, by.provider, by.model, text, whole=whole)
    return ended
