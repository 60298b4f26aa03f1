"""Answers measured by themselves, and what callers report of them, through the service."""

from __future__ import annotations

from dataclasses import replace

import anyio

from gearshift.core.blueprint import ChainPolicy
from gearshift.core.ledger.outcomes import measured
from gearshift.core.words import Complexity
from gearshift.server.calibrating import recalibrate
from gearshift.v1 import call_pb2, router_pb2, task_pb2
from tests.support.blueprints import policy, stage
from tests.support.running_server import BOUND_S, of_stages, running_server
from tests.support.scripted_provider import ScriptedProvider, says

ASKED = "Anna has 3 nests with 4 eggs each. She sells 2 eggs. How many eggs are left? Think step by step."
RIGHT = "There are 3 * 4 = 12 eggs. She sells 2, so 12 - 2 = 10 eggs are left.\n#### 10"


def reasoned() -> call_pb2.Call:
    return call_pb2.Call(task=task_pb2.Task(id="sum", type=task_pb2.TASK_TYPE_REASON), prompt=ASKED)


def measuring(minimum: float) -> ChainPolicy:
    return replace(policy(), confidence="answer", min_confidence=minimum, escalation_threshold=minimum)


async def test_a_reported_answer_is_learned_from() -> None:
    made = of_stages(stage(0), chain_policy=measuring(0.1))
    async with running_server(made, providers={"p0": ScriptedProvider([says(RIGHT)])}) as server:
        whole = (await server.route(reasoned())).answer
        answer = whole.completion
        (verdict,) = [each for each in answer.verdicts if each.gate == "confidence"]
        assert 0 < verdict.confidence < 1
        assert "measured by answer, 0 outcomes" in verdict.detail
        with anyio.fail_after(BOUND_S):
            await server.router.ReportOutcome(
                router_pb2.ReportOutcomeRequest(
                    request_id=whole.request_id, verdict=router_pb2.OUTCOME_VERDICT_REJECTED
                )
            )
        assert await recalibrate(server.app.ledger, server.app.router) == 1
        (learned,) = measured(await server.app.ledger.outcomes(10))
        assert (learned.model, learned.task_type, learned.right) == ("m0", "reason", False)
        again = (await server.route(reasoned())).answer.completion
        (after,) = [each for each in again.verdicts if each.gate == "confidence"]
        assert after.confidence < verdict.confidence
        assert "1 outcomes known" in after.detail


async def test_a_doubtful_answer_escalates_and_the_best_is_given() -> None:
    made = of_stages(stage(0), stage(1, capability=Complexity.HIGH), chain_policy=measuring(0.999))
    providers = {"p0": ScriptedProvider([says("Perhaps 7?")]), "p1": ScriptedProvider([says(RIGHT)])}
    async with running_server(made, providers=providers) as server:
        answer = (await server.route(reasoned())).answer
    assert answer.text == RIGHT
    assert [each.stage.model for each in answer.completion.attempts] == ["m0", "m1"]


async def test_without_the_setting_nothing_is_measured() -> None:
    async with running_server(of_stages(stage(0)), providers={"p0": ScriptedProvider([says(RIGHT)])}) as server:
        answer = (await server.route(reasoned())).answer.completion
        assert server.app.router.state.gauge is None
    assert not any(each.HasField("confidence") for each in answer.verdicts)
