"""The next stage is asked while the caller is still being told of the switch."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import anyio.lowlevel

from gearshift.core.events import AttemptStarted, Completed, Event
from gearshift.core.request import Request, StreamPolicy
from gearshift.core.words import AttemptOutcome, FailureKind
from tests.support.blueprints import blueprint, stage
from tests.support.changed import changed
from tests.support.engine import Engine, engine, entered, request
from tests.support.scripted_provider import Script, fails, says
from tests.support.stream_rules import Replay


def _streaming() -> Request:
    return changed(request(), stream=StreamPolicy(hold_back_tokens=0, hold_back_ms=0))


def _broken_then(second: Script) -> Engine:
    return engine(blueprint(stage(0), stage(1)), [[fails(FailureKind.SERVER, "One", " two")], [second]])


async def _until_second(stream: AsyncGenerator[list[Event]], replay: Replay) -> None:
    """Read on to the message that tells of the second attempt; nothing is asked for after it."""
    async for batch in stream:
        replay.apply(batch)
        if any(isinstance(event, AttemptStarted) and event.number == 2 for event in batch):
            return


async def test_the_next_stage_is_asked_before_the_reader_has_taken_the_switch() -> None:
    async with entered(_broken_then(says("Whole", " answer"))) as made:
        replay = Replay()
        with anyio.fail_after(5):
            async with aclosing(made.router.stream(_streaming())) as stream:
                await _until_second(stream, replay)
                assert replay.text == "One two"
                await anyio.wait_all_tasks_blocked()
                assert len(made.providers["p1"].calls) == 1
                assert [each.number for each in made.notebook.attempts] == []
                async for batch in stream:
                    replay.apply(batch)
        assert replay.text == "Whole answer"
        made.check_settled()


async def test_what_the_next_stage_fails_with_is_its_attempt_s_failure() -> None:
    made = engine(
        blueprint(stage(0), stage(1), stage(2)),
        [[fails(FailureKind.SERVER, "One")], [fails(FailureKind.RATE_LIMIT)], [says("Whole")]],
    )
    async with entered(made):
        replay = Replay()
        with anyio.fail_after(5):
            async with aclosing(made.router.stream(_streaming())) as stream:
                async for batch in stream:
                    replay.apply(batch)
        assert replay.text == "Whole"
        failures = [record.failure for record in made.notebook.attempts]
        assert failures[0] is FailureKind.SERVER
        assert FailureKind.RATE_LIMIT in failures
        made.check_settled()


async def test_a_caller_that_leaves_at_the_switch_closes_what_was_sent_and_it_is_recorded() -> None:
    for second in (changed(says("Whole"), hangs=True, chunks=()), says("Whole", " answer")):
        async with entered(_broken_then(second)) as made:
            with anyio.fail_after(5):
                async with aclosing(made.router.stream(_streaming())) as stream:
                    await _until_second(stream, Replay())
                    await anyio.wait_all_tasks_blocked()  # it waits for its first read, or has it
                provider = made.providers["p1"]
                while provider.running:
                    await anyio.lowlevel.checkpoint()
            assert provider.closed_early == 1
            assert [record.outcome for record in made.notebook.attempts] == [
                AttemptOutcome.FAILED,
                AttemptOutcome.CANCELLED,
            ]
            made.check_settled()


async def test_a_router_that_nobody_entered_tells_first_and_asks_then() -> None:
    made = _broken_then(says("Whole"))
    replay = Replay()
    async with aclosing(made.router.stream(_streaming())) as stream:
        await _until_second(stream, replay)
        assert made.providers["p1"].calls == []
        async for batch in stream:
            replay.apply(batch)
    assert replay.text == "Whole"
    assert isinstance(replay.completed, Completed)
    made.check_settled()
