"""What is recorded of a call, and gates and observers of installed packages."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from importlib.metadata import EntryPoint

import pytest

from gearshift.core import open_router, plugins
from gearshift.core.config.load import parse_config
from gearshift.core.errors import ConfigError
from gearshift.core.ledger import LedgerRow
from gearshift.core.observer import Observer
from gearshift.core.words import FailureKind
from gearshift.server.recording import LedgerObserver
from tests.support.blueprints import stage
from tests.support.openai_bodies import openai_answer
from tests.support.running_server import of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, fails, says
from tests.support.scripted_server import Reply, scripted


class Kept:
    """Takes rows as a ledger does."""

    def __init__(self) -> None:
        self.rows: list[LedgerRow] = []

    def append(self, rows: Sequence[LedgerRow]) -> None:
        self.rows += rows


@pytest.mark.parametrize(("track", "models"), [(True, ["m0", "m1"]), (False, ["m1"])])
async def test_abandoned_attempts_are_recorded_unless_that_is_off(track: bool, models: list[str]) -> None:
    kept = Kept()
    providers = {"p0": ScriptedProvider([fails(FailureKind.SERVER, status=500)]), "p1": ScriptedProvider([says("hi")])}
    async with running_server(of_stages(stage(0), stage(1)), providers=providers) as server:
        await server.route(plain_call())
        context, completion, error = server.seen.ended[0]
    LedgerObserver(kept, track_fallback_costs=track).call_ended(context, completion, error)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert [row.attempt.stage.model for row in kept.rows] == models
    last = kept.rows[-1]
    assert last.attempt.served
    assert last.strongest_usd == completion.cost.strongest_usd
    assert isinstance(last.strongest_usd, Decimal)
    assert all(row.strongest_usd is None for row in kept.rows[:-1])
    call = last.call
    assert (call.task_id, call.chain, call.config_revision, call.stream, call.declared) == (
        "greet",
        "generate",
        "test",
        False,
        False,
    )


async def test_observer_of_our_own_hears_of_every_attempt_and_call() -> None:
    providers = {"p0": ScriptedProvider([fails(FailureKind.SERVER, status=500)]), "p1": ScriptedProvider([says("hi")])}
    async with running_server(of_stages(stage(0), stage(1)), providers=providers) as server:
        await server.route(plain_call())
        await server.stream(plain_call())
        assert [attempt.stage.position for attempt in server.seen.attempts] == [0, 1, 0, 1]
        assert [context.stream for context, _, _ in server.seen.ended] == [False, True]


def installed(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    def entry_points(*, group: str) -> list[EntryPoint]:
        return [point for point in points if point.group == group]

    monkeypatch.setattr(plugins, "entry_points", entry_points)


def test_installed_gates_and_observers_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(
        monkeypatch,
        EntryPoint("mine", "gearshift.core.observer:Observer", "gearshift.observers"),
        EntryPoint("own", "gearshift.core.gates.refusal:RefusalGate", "gearshift.gates"),
    )
    (observer,) = plugins.own_observers()
    assert type(observer) is Observer
    (gate,) = plugins.own_gates()
    assert gate.name == "refusal"


def test_nothing_installed_is_nothing_made(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    assert plugins.own_gates() == ()
    assert plugins.own_observers() == ()


@pytest.mark.parametrize("value", ["gearshift.nowhere:Gate", "gearshift.core.observer:Nothing", "builtins:int.missing"])
def test_gate_that_cannot_be_loaded_stops_the_start_and_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    installed(monkeypatch, EntryPoint("strict-gate", value, "gearshift.gates"))
    with pytest.raises(ConfigError, match="the entry point strict-gate of gearshift.gates cannot be loaded: "):
        plugins.own_gates()


@pytest.mark.parametrize("group", ["gearshift.gates", "gearshift.observers"])
def test_what_is_no_gate_or_observer_stops_the_start(monkeypatch: pytest.MonkeyPatch, group: str) -> None:
    installed(monkeypatch, EntryPoint("odd", "builtins:dict", group))
    with pytest.raises(ConfigError, match=f"the entry point odd of {group} gives a dict, which is no "):
        plugins.own_gates()
        plugins.own_observers()


async def test_installed_gates_judge_in_a_program_of_ones_own_too(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, EntryPoint("own", "gearshift.core.gates.refusal:RefusalGate", "gearshift.gates"))
    async with scripted(Reply.json(openai_answer("hi"))) as upstream:
        text = f"""
            providers: {{up: {{kind: openai, dialect: compatible, base_url: "{upstream.url}"}}}}
            models: {{m: {{provider: up, capability: high}}}}
            chains: {{generate: {{stages: [{{provider: up, model: m}}]}}}}
        """
        async with open_router(parse_config(text, {}).config) as router:
            answer = await router.execute("generate", "hello")
    assert [verdict.gate for verdict in answer.completion.verdicts].count("refusal") == 2
