"""Streams of providers that play a script: checkpoints, seams, reasoning, tool calls, and who joins late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from gearshift.core.config.model import GatesConfig
from gearshift.core.events import ReasoningDelta, TextDelta, ToolCallFragment
from gearshift.core.failures import ProviderFailure
from gearshift.core.provider import Chunk, Provider
from gearshift.core.words import Complexity, FailureKind, FinishReason
from gearshift.v1 import call_pb2, router_pb2, task_pb2
from tests.conformance.format import Json
from tests.conformance.tape import BOUND_S, Tape, record
from tests.support.blueprints import policy, stage
from tests.support.changed import changed
from tests.support.known_author import Author, Turn
from tests.support.running_server import RunningServer, of_stages, running_server
from tests.support.scripted_provider import Script, ScriptedProvider, says

_WORDS: Final = (
    "gears",
    "wheels",
    "shafts",
    "teeth",
    "oil",
    "heat",
    "speed",
    "force",
    "hills",
    "roads",
    "engines",
    "levers",
)
LONG: Final = " ".join(f"{_WORDS[(at * 7 + at // 5) % len(_WORDS)]}{at:03d}" for at in range(190)) + "."
"""About 1,800 characters without loops: windows commit what lies 1,024 behind them."""


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """A stream of providers that play what is written here."""

    about: str
    providers: Sequence[Author | ScriptedProvider]
    stream: call_pb2.StreamPolicy
    require_valid: bool = False
    tools: bool = False
    joins: anyio.Event | None = None
    """Set when the follower, which is what is recorded, has joined."""


_GOES_ON: Final = call_pb2.StreamPolicy(hold_back_tokens=0, mode=call_pb2.SWITCH_MODE_CONTINUE)
_FAILS: Final = call_pb2.StreamPolicy(hold_back_tokens=0, mode=call_pb2.SWITCH_MODE_FAIL)
_AGAIN: Final = call_pb2.StreamPolicy(hold_back_tokens=0)
_ESCALATES: Final = call_pb2.StreamPolicy(hold_back_tokens=0, escalate_at_end=True)
_THINKS: Final = call_pb2.StreamPolicy(hold_back_tokens=0, include_reasoning=True)
_PREVIEW: Final = call_pb2.StreamPolicy(hold_back_tokens=0, preview=True)
_SHORT: Final = " ".join(LONG.split()[:40]) + "."


def _scripts() -> dict[str, Scripted]:
    dies = ProviderFailure(FailureKind.CONNECTION, "the connection broke")
    call = ToolCallFragment(index=0, id="call_1", name="weather", arguments='{"city": ')
    rest = ToolCallFragment(index=0, id="", name="", arguments='"Zürich"}')
    half = Script(chunks=[Chunk(parts=[call], tokens=3)], failure=dies)
    astral = ["So, ", "\U0001f468\u200d", "\U0001f469\u200d\U0001f467", " e", "\u0301 ", "\U0001d11e", " שלום."]
    joining = anyio.Event()
    pieces = [f" {word}" for word in LONG.split()]
    chunks = [Chunk(parts=[TextDelta("".join(pieces[at : at + 5]))], tokens=8) for at in range(0, len(pieces), 5)]
    chunks[0].parts = [TextDelta("Slowly,"), *chunks[0].parts]
    chunks[-1].finish_reason = FinishReason.STOP
    late = Script(chunks=chunks, waits_for=joining)
    return {
        "continue, as it was": Scripted(
            about="The second model continues behind the last checkpoint.",
            providers=[Author(LONG, [Turn(dies_after=1600, seed=3)]), Author(LONG, [Turn(seed=4)])],
            stream=_GOES_ON,
        ),
        "continue, without its space": Scripted(
            about="The second model leaves out the space at the seam; it is put back before numbering.",
            providers=[Author(LONG, [Turn(dies_after=1600, seed=5)]), Author(LONG, [Turn(way="no space", seed=6)])],
            stream=_GOES_ON,
        ),
        "continue, with words repeated": Scripted(
            about="The second model repeats what stands; the overlap is cut before numbering.",
            providers=[Author(LONG, [Turn(loops_after=1500, seed=7)]), Author(LONG, [Turn(way="repeats", seed=8)])],
            stream=_GOES_ON,
        ),
        "three authors": Scripted(
            about="Two models die, the third ends the text.",
            providers=[
                Author(LONG, [Turn(dies_after=1500, seed=1)]),
                Author(LONG, [Turn(dies_after=700, way="space alone", seed=2)]),
                Author(LONG, [Turn(way="repeats", seed=3)]),
            ],
            stream=_GOES_ON,
        ),
        "fail behind checkpoints": Scripted(
            about="The partial stands, and what is committed of it is told.",
            providers=[Author(LONG, [Turn(dies_after=1600, seed=3)]), Author(LONG, [Turn(seed=4)])],
            stream=_FAILS,
        ),
        "restore": Scripted(
            about="The first answer is cut short, the second dies; the first comes back.",
            providers=[Author(_SHORT, [Turn(ends_after=200, seed=3)]), Author(LONG, [Turn(dies_after=90, seed=4)])],
            stream=_ESCALATES,
        ),
        "nothing acceptable, required": Scripted(
            about="Both answers are cut short, and require_valid is set.",
            providers=[Author(_SHORT, [Turn(ends_after=200)]), Author(_SHORT, [Turn(ends_after=150)])],
            stream=_ESCALATES,
            require_valid=True,
        ),
        "reasoning": Scripted(
            about="Both models think first, and it was asked for.",
            providers=[
                Author(_SHORT, [Turn(thinks=True, dies_after=120, seed=1)]),
                Author(_SHORT, [Turn(thinks=True, seed=2)]),
            ],
            stream=_THINKS,
        ),
        "a tool call cut, and another": Scripted(
            about="The first model dies within a call's arguments; the second makes the call.",
            providers=[
                ScriptedProvider([half]),
                ScriptedProvider([says(TextDelta("I ask. "), call, rest, finish=FinishReason.TOOL_CALLS)]),
            ],
            stream=_PREVIEW,
            tools=True,
        ),
        "astral text": Scripted(
            about="Emoji cut between their code points, combining marks, right-to-left text.",
            providers=[
                ScriptedProvider([Script(chunks=[Chunk(parts=[TextDelta("\U0001f600 So")], tokens=1)], failure=dies)]),
                ScriptedProvider([says(ReasoningDelta("never seen"), *astral)]),
            ],
            stream=_AGAIN,
        ),
        "who joins late": Scripted(
            about="A second caller with the same request id joins before the last words are written.",
            providers=[ScriptedProvider([late]), ScriptedProvider([late])],
            stream=_GOES_ON,
            joins=joining,
        ),
    }


async def scripted_streams() -> list[Json]:
    """Record each script."""
    made: list[Json] = []
    for name, scripted in _scripts().items():
        stages = [
            stage(place, capability=Complexity.HIGH if place else Complexity.LOW)
            for place in range(len(scripted.providers))
        ]
        plan = of_stages(*stages, chain_policy=policy(require_valid=scripted.require_valid))
        gates = GatesConfig(window_tokens=8, window_ms=60_000, min_tokens_per_s=0)
        plan = changed(plan, config=changed(plan.config, gates=gates))
        providers: dict[str, Provider] = {f"p{place}": one for place, one in enumerate(scripted.providers)}
        task = task_pb2.Task(id="scripted", type=task_pb2.TASK_TYPE_GENERATE)
        call = call_pb2.Call(task=task, prompt="Write on.", request_id=name.replace(" ", "-"))
        if scripted.tools:
            call.tools.add(name="weather", parameters_schema="{}")
        request = router_pb2.StreamRouteRequest(call=call, stream=scripted.stream)
        async with running_server(plan, providers=providers) as server:
            if scripted.joins is None:
                made.append(await record(server, name, scripted.about, request))
            else:
                made.append(await _record_follower(server, name, scripted, request))
    return made


async def _record_follower(
    server: RunningServer, name: str, scripted: Scripted, request: router_pb2.StreamRouteRequest
) -> Json:
    """Record who joins once the leader waits before its last words."""
    assert scripted.joins is not None
    first = scripted.providers[0]
    assert isinstance(first, ScriptedProvider)
    with anyio.fail_after(BOUND_S):
        leader = server.router.StreamRoute(request, timeout=BOUND_S)
        await leader.read()
        await first.waiting.wait()
        tape = Tape(server, request)
        await tape.read()
        scripted.joins.set()
        made = await tape.rest(name, scripted.about)
        leader.cancel()
    return made
