"""A shared call: nobody's in particular, read by each at its own pace, over when nobody waits any more."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.answer import Answer, Completion
from gearshift.core.attempt import Attempt
from gearshift.core.composer import digest_of
from gearshift.core.errors import ChainExhaustedError, DeadlineError, RouteError
from gearshift.core.events import Checkpoint, Completed, Delta, Event, ReasoningDelta, Retract, Started, TextDelta
from gearshift.core.flight import READ_AHEAD, Flight, Flights, Horizon, snapshot
from gearshift.core.request import Request, StreamPolicy
from gearshift.core.words import CheckpointPolicy, FailureKind, Outcome, SwitchMode
from tests.support.blueprints import blueprint, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, entered, request
from tests.support.scripted_provider import Script, fails, says
from tests.support.stream_rules import Replay, replayed

LONG = Horizon(float("inf"))


def streaming(request_id: str = "r1") -> Request:
    return changed(request(request_id=request_id), stream=StreamPolicy(hold_back_tokens=0, hold_back_ms=0))


def house(*scripts: Script) -> Engine:
    return engine(blueprint(stage(0)), [list(scripts)])


async def test_a_repeat_of_a_running_stream_follows_it_live_under_the_same_numbers() -> None:
    gate = anyio.Event()
    script = changed(says("One", " two", " three"), waits_for=gate)
    async with entered(house(script)) as made:
        replays = [Replay(), Replay()]
        behind = anyio.Event()

        async def read(replay: Replay) -> None:
            async with aclosing(made.router.stream(streaming(), joinable=True)) as stream:
                async for batch in stream:
                    replay.apply(batch)
                    if replay.text == "One two three" and replay is replays[1]:
                        behind.set()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, replays[0])
                await made.providers["p0"].waiting.wait()
                tasks.start_soon(read, replays[1])
                await behind.wait()
                assert replays[1].completed is None, "it reads what is written before the answer is whole"
                gate.set()
        first, second = replays
        assert first.check_end() is second.check_end()
        assert [delta.number for delta in second.live] == [delta.number for delta in first.live]
        assert made.upstream_calls == 1
        made.check_settled()


async def test_a_stream_that_everybody_has_left_closes_its_upstream_and_is_billed() -> None:
    script = changed(says("One", " two"), hangs=True)
    async with entered(house(script)) as made:

        async def read(scope: anyio.CancelScope) -> None:
            with scope:
                async with aclosing(made.router.stream(streaming(), joinable=True)) as stream:
                    async for _ in stream:
                        pass

        scopes = [anyio.CancelScope() for _ in range(3)]
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for scope in scopes:
                    tasks.start_soon(read, scope)
                await made.providers["p0"].hanging.wait()
                for scope in scopes[:2]:
                    scope.cancel()
                await anyio.wait_all_tasks_blocked()
                assert made.providers["p0"].running == 1
                scopes[2].cancel()
            while made.router.state.flights.running:
                await anyio.lowlevel.checkpoint()
        assert made.providers["p0"].running == 0
        assert [error for _, error in made.notebook.calls] == ["CANCELLED"]
        assert made.notebook.attempts[0].cost_usd
        made.check_settled()


async def test_a_member_gets_its_own_deadline_and_the_others_theirs() -> None:
    gate = anyio.Event()
    script = changed(says("One", " two"), waits_for=gate)
    async with entered(house(script)) as made:
        early, late = Replay(), Replay()

        async def read(replay: Replay, seconds: float) -> None:
            stream = made.router.stream(streaming(), joinable=True, ends_by=time.monotonic() + seconds)
            try:
                async for batch in stream:
                    replay.apply(batch)
            except DeadlineError as error:
                replay.error = error
                gate.set()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, late, 60.0)
                await made.providers["p0"].waiting.wait()
                tasks.start_soon(read, early, 0.2)
        assert early.completed is not None
        assert early.completed.completion.outcome is Outcome.FAILED
        assert early.completed.completion.digest == digest_of(early.text, ())
        assert isinstance(early.error, DeadlineError)
        assert late.check_end().completion.outcome is Outcome.ACCEPTED
        assert made.upstream_calls == 1


async def test_who_has_longer_is_not_bound_by_the_first_callers_deadline() -> None:
    async with entered(house(Script(stalls=True), says("Yes."))) as made:
        answers: dict[float, str] = {}

        async def ask(seconds: float) -> None:
            with suppress(DeadlineError):
                answer = await made.router.route(request(), joinable=True, ends_by=time.monotonic() + seconds)
                answers[seconds] = answer.text

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, 0.2)
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
                tasks.start_soon(ask, 60.0)
        assert answers[60.0] == "Yes."
        assert made.upstream_calls == 2, "the attempt that the first one's deadline cut short was made again"


async def test_a_slow_reader_blocks_nobody_and_an_unread_stream_stops() -> None:
    written = 0
    answer, started = await _an_answer(), await _a_start()

    async def events() -> AsyncGenerator[list[Event]]:
        nonlocal written
        yield [started]
        for number in range(1, 3 * READ_AHEAD):
            written = number
            yield [Delta(number, (TextDelta("x"),))]
        yield [Completed(completion=answer.completion)]

    async with Flights() as flights:
        flight: Flight[Answer] = flights.launch(lambda flight: flight.write(events()), LONG.ends_at, lambda _: None)
        flight.join(LONG)
        flight.join(LONG)
        with anyio.fail_after(5):
            await anyio.wait_all_tasks_blocked()
            assert written == READ_AHEAD, "nobody reads, so the upstream waits"
            slow = flight.read(LONG)
            await anext(slow)
            read = 0
            async for batch in flight.read(LONG):
                read += len(batch)
            assert read == 3 * READ_AHEAD + 1
            async for batch in slow:
                read -= len(batch)
            assert read == READ_AHEAD + 1, "what stood when it began came at once"
        flight.leave()
        flight.leave()
        assert not flight.log, "what nobody reads any more is not kept"


async def test_a_fault_of_ours_reaches_the_members_and_not_the_service() -> None:
    async def broken(_flight: Flight[str]) -> str:
        await anyio.lowlevel.checkpoint()
        raise ZeroDivisionError

    async def works(_flight: Flight[str]) -> str:
        return "yes"

    async with Flights() as flights:
        flight = flights.launch(broken, 0.0, lambda _: None)
        flight.join(LONG)
        with pytest.raises(ZeroDivisionError):
            await flight.wait(LONG)
        flight.leave()
        flight = flights.launch(works, 0.0, lambda _: None)
        flight.join(LONG)
        assert await flight.wait(LONG) == "yes"


async def test_what_waits_when_the_service_stops_is_told_so() -> None:
    async def hangs(_flight: Flight[str]) -> str:
        await anyio.sleep_forever()
        return ""

    async with Flights() as flights:
        flight = flights.launch(hangs, 0.0, lambda _: None)
        flight.join(LONG)
    with pytest.raises(ChainExhaustedError, match="stops"):
        await flight.wait(LONG)


async def test_what_ends_the_block_of_flights_leaves_it_as_itself() -> None:
    with pytest.raises(KeyError):
        async with Flights():
            raise KeyError


async def _an_answer() -> Answer:
    async with entered(house(says("x"))) as made:
        answer = await made.router.route(request())
    return changed(answer, completion=Completion(outcome=Outcome.ACCEPTED))


async def test_a_repeat_after_the_end_is_one_delta() -> None:
    async with entered(house(says("One", " two"))) as made:
        await replayed(made.router.stream(streaming(), joinable=True))
        again = await replayed(made.router.stream(streaming(), joinable=True))
        assert [delta.number for delta in again.live] == [1]


_PIECES = st.lists(st.sampled_from(["Gears", " shift", " up", ".", " when"]), min_size=1, max_size=8)
_SCRIPTS = st.one_of(
    _PIECES.map(lambda pieces: says(*pieces)),
    _PIECES.map(lambda pieces: fails(FailureKind.CONNECTION, *pieces)),
    st.just(fails(FailureKind.SERVER)),
)


@settings(max_examples=200, deadline=None)
@given(
    weak=_SCRIPTS,
    strong=_SCRIPTS,
    readers=st.lists(st.tuples(st.integers(0, 12), st.none() | st.integers(1, 8)), min_size=1, max_size=6),
    mode=st.sampled_from([SwitchMode.REGENERATE, SwitchMode.CONTINUE, SwitchMode.FAIL]),
    hold=st.sampled_from([0, 3]),
)
def test_readers_that_come_and_go_as_they_like_all_see_a_stream_that_keeps_the_rules(
    weak: Script, strong: Script, readers: list[tuple[int, int | None]], mode: SwitchMode, hold: int
) -> None:
    """Readers: after how many turns of the loop one comes, and after how many messages it leaves."""

    async def run() -> None:
        made = engine(blueprint(stage(0), stage(1)), [[weak], [strong]])
        policy = StreamPolicy(hold_back_tokens=hold, hold_back_ms=0, mode=mode)
        ends: list[Completed] = []

        async def read(comes_after: int, leaves_after: int | None) -> None:
            for _ in range(comes_after):
                await anyio.lowlevel.checkpoint()
            replay, seen = Replay(), 0
            try:
                async with aclosing(made.router.stream(changed(request(), stream=policy), joinable=True)) as stream:
                    async for batch in stream:
                        replay.apply(batch)
                        seen += 1
                        if seen == leaves_after:
                            return
            except RouteError as error:
                replay.error = error
            ends.append(replay.check_end())

        async with entered(made):
            with anyio.fail_after(10):
                async with anyio.create_task_group() as tasks:
                    for comes_after, leaves_after in readers:
                        tasks.start_soon(read, comes_after, leaves_after)
                while made.router.state.flights.running:
                    await anyio.lowlevel.checkpoint()
        made.check_settled()
        accepted = {end.completion.digest for end in ends if end.completion.outcome is not Outcome.FAILED}
        assert len(accepted) <= 1, "everybody who got an answer got the same"

    anyio.run(run)


async def test_nothing_of_the_run_is_kept_with_its_result() -> None:
    async with entered(house(says("Yes."))) as made:
        gc.collect()
        before = sum(isinstance(each, Attempt) for each in gc.get_objects())  # of failures that other tests keep
        for number in range(5):
            await made.router.route(request(request_id=f"r{number}"), joinable=True)
            await replayed(made.router.stream(streaming(f"s{number}"), joinable=True))
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        assert sum(isinstance(each, Attempt) for each in gc.get_objects()) <= before
        assert made.router.state.flights.running == 0


def committed_log(started: Started) -> list[list[Event]]:
    """A stream that commits, dies beyond its checkpoint, and is continued from there."""

    def text(number: int, piece: str) -> Delta:
        return Delta(number, (TextDelta(piece),))

    return [
        [started],
        [text(1, "One"), Delta(2, (ReasoningDelta("Hm."), TextDelta(" two")))],
        [text(3, " three"), Checkpoint(2)],
        [text(4, " fou")],
        [text(5, "rx")],
        [Retract(2, "it died"), text(6, " three")],
        [text(7, " four"), Checkpoint(6)],
        [text(8, ".")],
    ]


async def test_who_joins_after_a_checkpoint_gets_what_is_committed_as_one_delta_under_its_number() -> None:
    log = committed_log(await _a_start())
    late = Replay()
    late.apply(snapshot(log[:5]))
    assert [(delta.number, len(delta.parts)) for delta in late.live] == [(2, 2), (3, 1), (4, 1), (5, 1)]
    assert late.checkpoints == [2]
    assert (late.text, late.reasoning) == ("One two three fourx", "Hm.")


@pytest.mark.parametrize("place", range(1, 9))
async def test_a_retraction_to_a_checkpoint_means_the_same_to_who_joins_at_any_message(place: int) -> None:
    log = committed_log(await _a_start())
    late = Replay()
    late.apply(snapshot(log[:place]))
    for batch in log[place:]:
        late.apply(batch)
    assert late.text == "One two three four."
    assert late.reasoning == "Hm."
    assert set(late.checkpoints) <= {2, 6}


async def _a_start() -> Started:
    answer = await _an_answer()
    return Started(
        request_id="r",
        resolution=answer.resolution,
        plan=(),
        skipped=(),
        cached=False,
        checkpoints=CheckpointPolicy.WINDOWS,
        checkpoints_reason="",
    )
