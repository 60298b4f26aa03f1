"""Text that is held back for a time leaves when its time has come, though the provider sends nothing more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import pytest

from gearshift.core.events import Delta, TextDelta
from gearshift.core.provider import Chunk, EmbedCall, EmbedResult, Provider, ProviderCall, Timeouts
from gearshift.core.request import StreamPolicy
from gearshift.core.router import Router
from gearshift.core.words import AttemptOutcome, Complexity, FinishReason
from tests.support.blueprints import blueprint, stage
from tests.support.engine import Notebook, request
from tests.support.simulated_engine import HEALTHY, Cell, Simulated, simulated
from tests.support.stream_rules import Replay

TEXT = "One two three four five six seven eight nine ten."
REFUSAL = "I'm sorry, but I can't help with that request."
ANSWERS = f'  - {{provider: {HEALTHY}, text: "A healthy answer."}}\n  - {{text: "{TEXT}"}}'
HOLD_MS = 150
HELD = StreamPolicy(hold_back_tokens=32, hold_back_ms=HOLD_MS)
PATIENT = Timeouts(connect_s=2, first_token_s=2, idle_s=0.6, total_s=5)
LATE_S = 0.15
"""How much later than asked a loaded machine may be; the silence is far longer."""


async def shown(router: Router, policy: StreamPolicy = HELD) -> tuple[Replay, list[tuple[float, str]]]:
    """Give a stream's replay, and its texts with the seconds since the first upstream read could have come."""
    replay, seen, began = Replay(), list[tuple[float, str]](), time.perf_counter()
    with anyio.fail_after(10):
        async with aclosing(router.stream(request(stream=policy))) as stream:
            async for batch in stream:
                replay.apply(batch)
                for event in batch:
                    if isinstance(event, Delta):
                        text = "".join(part.text for part in event.parts if isinstance(part, TextDelta))
                        seen.append((time.perf_counter() - began, text))
    replay.check_end()
    return replay, seen


@pytest.mark.parametrize("wire", ["openai", "anthropic", "ollama"])
async def test_text_leaves_in_time_while_the_provider_is_silent(wire: str) -> None:
    cell = Cell(name="slow", wire=wire, fault="stall@3:0.45")
    async with simulated([cell], ANSWERS) as sim:
        router, notebook = sim.router("slow", timeouts=PATIENT)
        replay, seen = await shown(router)
    assert seen[0][1] == "One two three"
    assert HOLD_MS / 1000 <= seen[0][0] < HOLD_MS / 1000 + LATE_S
    assert seen[1][0] >= 0.4  # nothing was read between
    assert replay.text == TEXT
    assert [record.outcome for record in notebook.attempts] == [AttemptOutcome.ACCEPTED]


async def test_text_that_left_in_time_is_taken_back_when_the_silence_is_too_long() -> None:
    async with simulated([Cell(name="dead", wire="openai", fault="stall@3:30")], ANSWERS) as sim:
        router, notebook = sim.router("dead", timeouts=PATIENT)
        replay, seen = await shown(router)
    assert [text for _, text in seen] == ["One two three", "A healthy answer."]
    assert [retract.after for retract in replay.retracts] == [0]
    assert notebook.attempts[0].usage.output_tokens == 3


async def test_what_is_held_is_judged_when_its_time_has_come() -> None:
    answers = f'  - {{provider: {HEALTHY}, text: "A healthy answer."}}\n  - {{text: "{REFUSAL} Really not."}}'
    async with simulated([Cell(name="poor", wire="openai", fault="stall@16:30")], answers) as sim:
        router, notebook = sim.router("poor", timeouts=PATIENT)
        replay, seen = await shown(router)
    assert [text for _, text in seen] == ["A healthy answer."]
    assert HOLD_MS / 1000 <= seen[0][0] < PATIENT.idle_s
    assert notebook.attempts[0].outcome is AttemptOutcome.STOPPED
    assert not replay.retracts and len(replay.switches) == 0


async def test_window_that_is_full_is_not_waited_for() -> None:
    async with simulated([Cell(name="slow", wire="openai", fault="stall@3:0.3")], ANSWERS) as sim:
        router, _ = sim.router("slow", timeouts=PATIENT)
        _, seen = await shown(router, StreamPolicy(hold_back_tokens=3, hold_back_ms=200))
        assert seen[0][0] < LATE_S
        _, seen = await shown(router, StreamPolicy(hold_back_tokens=32, hold_back_ms=60_000))
        assert [text for _, text in seen] == [TEXT]


async def test_many_held_streams_leave_no_timer_behind() -> None:
    async with simulated([Cell(name="quick", wire="openai")], ANSWERS) as sim:
        calls = _remembering(sim)
        router, _ = sim.router("quick", timeouts=PATIENT)
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(shown, router)
    assert len(calls) == 20
    assert all(call.wake is not None and not call.wake.is_set for call in calls)


async def test_caller_that_leaves_stops_the_timer() -> None:
    async with simulated([Cell(name="dead", wire="openai", fault="stall@3:30")], ANSWERS) as sim:
        calls = _remembering(sim)
        router, _ = sim.router("dead", timeouts=PATIENT)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shown, router)
            with anyio.fail_after(5):
                while not (calls and calls[0].wake is not None and calls[0].wake.is_set):
                    await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
        assert calls[0].wake is not None and not calls[0].wake.is_set


def _remembering(sim: Simulated) -> list[ProviderCall]:
    """Have the adapters remember their calls."""
    calls: list[ProviderCall] = []
    for name, adapter in sim.adapters.items():
        if name != HEALTHY:
            sim.adapters[name] = _Remembering(adapter, calls)
    return calls


class _Remembering:
    def __init__(self, inner: Provider, calls: list[ProviderCall]) -> None:
        self._inner = inner
        self._calls = calls

    def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
        self._calls.append(call)
        return self._inner.stream(call)

    async def embed(self, call: EmbedCall) -> EmbedResult:
        return await self._inner.embed(call)

    async def aclose(self) -> None:
        await self._inner.aclose()


class Pausing:
    """An adapter of somebody else's: it writes, is silent until it may go on, and writes again."""

    def __init__(self, *, wakes: bool) -> None:
        self._wakes = wakes
        self.goes_on = asyncio.Event()
        self.woken = 0

    async def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
        rung = asyncio.Event()
        if self._wakes and call.wake is not None:
            call.wake.by(rung.set)
        yield Chunk(parts=[TextDelta("Held")], tokens=1)
        if self._wakes:
            await rung.wait()
            self.woken += 1
            yield Chunk()
        await self.goes_on.wait()
        yield Chunk(parts=[TextDelta(" text.")], tokens=1)
        yield Chunk(finish_reason=FinishReason.STOP)

    async def embed(self, call: EmbedCall) -> EmbedResult:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass


async def test_adapter_of_somebody_else_s_may_be_woken_too() -> None:
    adapter = Pausing(wakes=True)
    router = Router(blueprint(stage(0, capability=Complexity.HIGH)), providers={"p0": adapter}, observers=(Notebook(),))
    texts: list[str] = []
    with anyio.fail_after(5):
        async with aclosing(router.stream(request(stream=HELD))) as stream:
            async for batch in stream:
                for event in batch:
                    if isinstance(event, Delta):
                        texts.append("".join(part.text for part in event.parts if isinstance(part, TextDelta)))
                        adapter.goes_on.set()  # only what has been shown lets the rest come
    assert texts == ["Held", " text."]
    assert adapter.woken == 1


async def test_adapter_that_cannot_be_woken_is_heard_at_its_next_chunk() -> None:
    adapter = Pausing(wakes=False)
    router = Router(blueprint(stage(0, capability=Complexity.HIGH)), providers={"p0": adapter}, observers=(Notebook(),))
    async with anyio.create_task_group() as tasks:

        async def go_on() -> None:
            await anyio.sleep(HOLD_MS / 1000 + 0.05)
            adapter.goes_on.set()

        tasks.start_soon(go_on)
        replay, seen = await shown(router)
        assert seen[0][1] == "Held text."
        assert seen[0][0] >= HOLD_MS / 1000
        assert not replay.switches
