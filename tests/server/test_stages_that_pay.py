"""What is tried, what is left out and where a poor answer goes, in the real service over real HTTP: unary and streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gearshift.v1 import answer_pb2, call_pb2, router_pb2, task_pb2
from tests.support.openai_bodies import openai_answer, openai_stream
from tests.support.running_server import RunningServer, events_of, running_server
from tests.support.scripted_server import Reply, ScriptedServer, scripted

_POOR = "neither of them"
_USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}

_BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])


def says(text: str, *, streamed: bool) -> Reply:
    if streamed:
        return Reply.sse(*openai_stream([text]))
    return Reply.json(openai_answer(text, usage=_USAGE))


def call() -> call_pb2.Call:
    made = call_pb2.Call(task=task_pb2.Task(id="mail", type=task_pb2.TASK_TYPE_CLASSIFY), prompt="It came broken.")
    made.output.labels.labels.extend(["praise", "complaint"])
    return made


@asynccontextmanager
async def serving(
    chain: str, *stages: tuple[str, str, Reply]
) -> AsyncGenerator[tuple[RunningServer, Sequence[ScriptedServer]]]:
    """Serve a chain of stages, each a capability, a price for a million tokens, and what its provider answers."""
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(scripted(reply)) for _, _, reply in stages]
        providers = "".join(
            f"  p{place}: {{kind: openai, dialect: compatible, base_url: '{each.url}/v1', api_key: ''}}\n"
            for place, each in enumerate(upstreams)
        )
        models = "".join(
            f"  m{place}: {{provider: p{place}, capability: {capability}, prices: {{input_usd: {price}, output_usd: {price}}}}}\n"
            for place, (capability, price, _) in enumerate(stages)
        )
        names = ", ".join(f"{{provider: p{place}, model: m{place}, max_retries: 0}}" for place in range(len(stages)))
        text = (
            f"version: 1\nproviders:\n{providers}models:\n{models}chains:\n  classify: {{{chain}stages: [{names}]}}\n"
        )
        yield await stack.enter_async_context(running_server(text)), upstreams


async def completed(server: RunningServer, *, streamed: bool) -> answer_pb2.Completion:
    """Make a call; give how it ended."""
    if not streamed:
        return (await server.route(call())).answer.completion
    (end,) = events_of(await server.stream(call()), "completed")
    found: answer_pb2.Completion = end.completion
    return found


def tried(completion: answer_pb2.Completion) -> list[str]:
    return [each.stage.model for each in completion.attempts]


@_BOTH
async def test_a_poor_answer_goes_past_its_equals_to_a_more_capable_stage(streamed: bool) -> None:
    poor, right = says(_POOR, streamed=streamed), says("complaint", streamed=streamed)
    stages = (("low", "1", poor), ("low", "1", right), ("medium", "5", right), ("high", "9", right))
    async with serving("", *stages) as (server, upstreams):
        found = await completed(server, streamed=streamed)
    assert tried(found) == ["m0", "m2"]
    assert found.attempts[1].cause == answer_pb2.ATTEMPT_CAUSE_ESCALATION
    assert not upstreams[1].requests


@_BOTH
async def test_a_poor_answer_never_goes_down(streamed: bool) -> None:
    poor, right = says(_POOR, streamed=streamed), says("complaint", streamed=streamed)
    async with serving("", ("high", "9", poor), ("low", "1", right), ("high", "9", right)) as (server, _):
        found = await completed(server, streamed=streamed)
    assert tried(found) == ["m0"]
    assert found.outcome == answer_pb2.OUTCOME_NOT_ACCEPTED


@_BOTH
async def test_a_failure_goes_to_any_next_stage(streamed: bool) -> None:
    right, down = says("complaint", streamed=streamed), Reply.json({"error": {"message": "x"}}, status=500)
    async with serving("", ("high", "9", down), ("low", "1", right)) as (server, _):
        found = await completed(server, streamed=streamed)
    assert tried(found) == ["m0", "m1"]
    assert found.attempts[1].cause == answer_pb2.ATTEMPT_CAUSE_FALLBACK


@_BOTH
@pytest.mark.parametrize("manner", ["order: adaptive, ", "on_loss: refuse, "])
async def test_a_stage_whose_answers_are_mostly_poor_is_left_out_once_that_is_known(
    streamed: bool, manner: str
) -> None:
    poor, right = says(_POOR, streamed=streamed), says("complaint", streamed=streamed)
    chain = f"{manner}adaptive: {{probe_share: 0}}, "
    async with serving(chain, ("low", "5", poor), ("high", "9", right)) as (server, upstreams):
        ended = [await completed(server, streamed=streamed) for _ in range(30)]
        explained = await server.router.Explain(router_pb2.ExplainRequest(call=call()))
    assert tried(ended[0]) == ["m0", "m1"]
    assert tried(ended[-1]) == ["m1"]
    assert [(each.stage.model, each.reason) for each in ended[-1].skipped] == [("m0", "does_not_pay")]
    # It is left out for good as soon as it is.
    wasted = sum(len(each.attempts) - 1 for each in ended)
    assert 2 <= wasted == len(upstreams[0].requests) <= 25
    left_out = explained.stages[-1]
    assert (left_out.stage.model, left_out.planned, left_out.reason) == ("m0", False, "does_not_pay")
    assert "accepted" in left_out.detail
    assert explained.adaptive.expected_usd < explained.adaptive.written_usd


@_BOTH
async def test_a_written_order_is_kept_and_its_loss_is_named(streamed: bool) -> None:
    poor, right = says(_POOR, streamed=streamed), says("complaint", streamed=streamed)
    async with serving("", ("low", "5", poor), ("high", "9", right)) as (server, _):
        before = await server.router.Explain(router_pb2.ExplainRequest(call=call()))
        ended = [await completed(server, streamed=streamed) for _ in range(55)]
        after = await server.router.Explain(router_pb2.ExplainRequest(call=call()))
    assert {tuple(tried(each)) for each in ended} == {("m0", "m1")}
    assert "pay" not in before.stages[0].detail
    assert "does not pay: " in after.stages[0].detail
    assert "0% of its answers are accepted" in after.stages[0].detail
    assert "pay" not in after.stages[1].detail


@_BOTH
async def test_a_cascade_that_cannot_pay_is_refused_from_the_first_call(streamed: bool) -> None:
    right = says("complaint", streamed=streamed)
    stages = (("low", "10", right), ("high", "9", right))
    async with serving("on_loss: refuse, adaptive: {probe_share: 1}, ", *stages) as (server, upstreams):
        found = await completed(server, streamed=streamed)
        explained = await server.router.Explain(router_pb2.ExplainRequest(call=call()))
    assert tried(found) == ["m1"]
    assert not upstreams[0].requests
    (skipped,) = found.skipped
    assert (skipped.reason, skipped.detail) == (
        "does_not_pay",
        "cannot pay: m1 behind it is more capable and costs no more",
    )
    assert explained.policy["on_loss"] == "refuse"
    assert explained.policy["order"] == "written"


@pytest.mark.parametrize(
    ("prices", "planned"),
    [
        pytest.param(("1", "3"), ["m0", "m1", "m2", "m3"], id="fallbacks stay in"),
        pytest.param(
            ("3", "1"), ["m1", "m2", "m3"], id="a cheaper equal behind it saves as much: it is left out, not moved"
        ),
    ],
)
async def test_where_losses_are_refused_the_order_stays(prices: tuple[str, str], planned: list[str]) -> None:
    right = says("complaint", streamed=False)
    stages = (("low", prices[0], right), ("low", prices[1], right), ("high", "9", right), ("low", "8", right))
    async with serving("on_loss: refuse, ", *stages) as (server, _):
        explained = await server.router.Explain(router_pb2.ExplainRequest(call=call()))
    assert [each.stage.model for each in explained.stages if each.planned] == planned
