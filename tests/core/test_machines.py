"""The time of own machines: what calls bear, what is idle, and what model servers say of themselves."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from dataclasses import dataclass
from decimal import Decimal

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.admission import Admission, MachinePermit, Permit
from gearshift.core.blueprint import AccountSpec, Stage
from gearshift.core.catalogue.money import machine_cost
from gearshift.core.config.model import LimitsConfig, PressureConfig
from gearshift.core.errors import RouteError
from gearshift.core.ledger.row import MachineTime
from gearshift.core.machines.hours import MachineHours
from gearshift.core.machines.kinds import question_url, watched_kind
from gearshift.core.machines.machine import Machine
from gearshift.core.machines.pressure import Pressure
from gearshift.core.machines.reading import Reading, UnreadableError, read_llamacpp, read_ollama, read_vllm
from gearshift.core.machines.watch import Watch
from gearshift.core.plan import machine_time_cost
from gearshift.core.provider import Account
from gearshift.core.shared.admission import SharedMachinePermit
from gearshift.core.words import FailureKind
from tests.support.blueprints import blueprint, stage
from tests.support.changed import changed
from tests.support.engine import engine, request
from tests.support.redis_server import redis_server
from tests.support.scripted_provider import Script, fails, says
from tests.support.scripted_server import BOUND_S, End, Reply, scripted
from tests.support.shared_limits import ask, settle, shared_admission

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="meta-llama/Llama-3.1-8B"} 7.0
vllm:num_requests_running{engine="1",model_name="meta-llama/Llama-3.1-8B"} 2.0
vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B"} 3.0
vllm:num_requests_waiting{engine="1",model_name="meta-llama/Llama-3.1-8B"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="meta-llama/Llama-3.1-8B"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="meta-llama/Llama-3.1-8B"} 0.5
vllm:time_to_first_token_seconds_bucket{le="0.001",model_name="meta-llama/Llama-3.1-8B"} 0.0
"""
LLAMACPP = """\
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
llamacpp:requests_deferred 5
"""
OLLAMA = {
    "models": [
        {
            "name": "llama3.2:3b",
            "model": "llama3.2:3b",
            "size": 4_000_000_000,
            "size_vram": 3_000_000_000,
            "expires_at": "2026-11-23T12:00:00.5+01:00",
            "details": {"family": "llama"},
        }
    ]
}


def own_stage(place: int = 0, *, usd_per_hour: str | None = "3.6", parallelism: float = 1.0) -> Stage:
    made = stage(place, price=None)
    return changed(
        made,
        model=changed(made.model, self_hosted=True),
        provider=changed(
            made.provider,
            cost_per_hour_usd=None if usd_per_hour is None else Decimal(usd_per_hour),
            parallelism=parallelism,
        ),
    )


@dataclass
class Call:
    begin: float
    length: float


_CALLS = st.lists(st.builds(Call, st.floats(0, 1000), st.floats(0, 200)), max_size=30)


def _union(calls: list[Call]) -> float:
    """Give the seconds in which at least one call ran, worked out in another way."""
    total, until = 0.0, 0.0
    for call in sorted(calls, key=lambda each: each.begin):
        end = call.begin + call.length
        total += max(0.0, end - max(until, call.begin))
        until = max(until, end)
    return total


@given(_CALLS, st.lists(st.tuples(st.floats(0, 1200), st.integers(0, 40)), max_size=5))
def test_what_calls_bear_and_idle_time_add_up_to_the_hours(calls: list[Call], seen: list[tuple[float, int]]) -> None:
    machine = Machine("own", "default", 0.0)
    moments = [(call.begin, 1, call) for call in calls] + [(call.begin + call.length, 2, call) for call in calls]
    others = [(at, 0, running) for at, running in seen]
    marks: dict[int, float] = {}
    borne = 0.0
    for at, what, value in sorted([*moments, *others], key=lambda each: each[:2]):
        if isinstance(value, int):
            machine.see(value, at, at + 5)
        elif what == 1:
            marks[id(value)] = machine.begin(at)
        else:
            borne += machine.end(marks[id(value)], at)
    busy = machine.busy(1300.0)
    assert busy == pytest.approx(_union(calls), abs=1e-6)
    if seen:
        assert borne <= busy + 1e-6  # what others bear is nobody's here
    else:
        assert borne == pytest.approx(busy, abs=1e-6)
    # In money: lines and remainder are the bill, to the last digit.
    price = Decimal("1.23")
    lines = machine_cost(price, max(0.0, borne), 1.0)
    bill = machine_cost(price, 1300.0, 1.0)
    assert lines + (bill - lines) == bill
    assert bill - lines >= Decimal("-1e-9")


def test_calls_at_once_share_a_second() -> None:
    machine = Machine("own", "default", 0.0)
    first = machine.begin(0.0)
    second = machine.begin(10.0)
    assert machine.end(first, 20.0) == pytest.approx(15.0)
    assert machine.end(second, 30.0) == pytest.approx(15.0)
    assert machine.busy(100.0) == pytest.approx(30.0)


def test_parallelism_is_measured_while_anything_runs() -> None:
    machine = Machine("own", "default", 0.0)
    assert machine.parallelism(0.0) is None
    marks = [machine.begin(0.0) for _ in range(4)]
    assert machine.parallelism(60.0) == pytest.approx(4.0)
    for mark in marks:
        machine.end(mark, 60.0)
    assert machine.parallelism(4000.0) == pytest.approx(4.0)  # idle time says nothing


def test_calls_of_others_bear_their_part() -> None:
    machine = Machine("own", "default", 0.0)
    machine.see(4, 0.0, 100.0)
    assert machine.end(machine.begin(0.0), 8.0) == pytest.approx(2.0)


def test_a_word_that_is_too_old_is_not_believed() -> None:
    machine = Machine("own", "default", 0.0)
    machine.see(4, 0.0, 100.0)
    assert machine.end(machine.begin(200.0), 208.0) == pytest.approx(8.0)


async def test_only_machines_with_a_price_are_measured() -> None:
    for each, kind in ((own_stage(), MachinePermit), (own_stage(usd_per_hour=None), Permit), (stage(0), Permit)):
        permit = Admission().unlimited(each, frozenset())
        assert type(permit) is kind
        assert permit is not None
        assert (permit.machine_s() is None) == (kind is Permit)
        permit.cancel()


async def test_an_attempt_bears_its_part_and_none_is_left_running() -> None:
    plan = blueprint(own_stage())
    made = engine(plan, [[says("one"), says("two")]])
    answers = [await made.router.route(request(request_id=f"r{each}")) for each in range(2)]
    spec = plan.providers["p0"].accounts[0]
    machine = made.router.state.admission.machine(plan.providers["p0"], spec, 0.0)
    assert machine.in_flight == 0
    total = sum(answer.completion.cost.total_usd or Decimal(0) for answer in answers)
    assert total > 0
    assert total == pytest.approx(machine_cost(Decimal("3.6"), machine.busy_s, 1.0), abs=Decimal("1e-6"))


async def test_calls_that_run_at_once_bear_no_more_than_the_time_together() -> None:
    gate = anyio.Event()
    plan = blueprint(own_stage())
    made = engine(plan, [[Script(chunks=says("slow").chunks, waits_for=gate)]])
    costs: list[Decimal] = []

    async def call(number: int) -> None:
        answer = await made.router.route(request(request_id=f"r{number}"))
        costs.append(answer.completion.cost.total_usd or Decimal(0))

    machine = made.router.state.admission.machine(plan.providers["p0"], plan.providers["p0"].accounts[0], 0.0)
    with anyio.fail_after(BOUND_S):
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(call, number)
            await anyio.wait_all_tasks_blocked()
            assert machine.in_flight == 8
            gate.set()
    assert machine.in_flight == 0
    assert sum(costs) == pytest.approx(machine_cost(Decimal("3.6"), machine.busy_s, 1.0), abs=Decimal("1e-9"))


@pytest.mark.parametrize("script", [Script(hangs=True), fails(FailureKind.SERVER, "half")], ids=["left", "failed"])
async def test_a_call_that_ends_badly_runs_no_longer(script: Script) -> None:
    plan = blueprint(own_stage())
    made = engine(plan, [[script]])
    machine = made.router.state.admission.machine(plan.providers["p0"], plan.providers["p0"].accounts[0], 0.0)
    async with anyio.create_task_group() as tasks:

        async def call() -> None:
            with contextlib.suppress(RouteError):
                await made.router.route(request())

        tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert machine.in_flight == 0
    (record,) = made.notebook.attempts
    assert record.cost_usd is not None
    assert record.cost_usd > 0  # the machine worked all the same


async def test_machines_are_measured_over_a_shared_store_too() -> None:
    of = changed(own_stage(), provider=changed(own_stage().provider, accounts=(_limited(),)))
    async with redis_server() as redis, shared_admission(redis.url) as admission:
        permit = await ask(admission, of)
        assert isinstance(permit, SharedMachinePermit)
        machine = admission.machine(of.provider, of.provider.accounts[0], 0.0)
        assert machine.in_flight == 1
        settle(permit)
        settle(permit)
        assert machine.in_flight == 0
        permit = await ask(admission, of)
        assert isinstance(permit, Permit)
        permit.cancel()
        assert machine.in_flight == 0


def _limited() -> AccountSpec:
    return AccountSpec(
        account=Account(name="default", base_url="http://127.0.0.1:9"), limits=LimitsConfig(concurrency=2)
    )


def test_without_a_measure_the_configured_parallelism_is_taken() -> None:
    assert machine_time_cost(own_stage(parallelism=2), 10.0, None) == Decimal("0.005")
    assert machine_time_cost(own_stage(parallelism=2), 10.0, 10.0) == Decimal("0.01")


@given(st.lists(st.floats(0.001, 5000), min_size=1, max_size=30), st.decimals("0", "100", places=6))
def test_recorded_periods_add_up_to_price_times_hours(gaps: list[float], price: Decimal) -> None:
    machine, times, now = Machine("own", "default", 50.0), list[MachineTime](), 50.0
    hours = MachineHours(lambda: [(machine, price)], times.extend)
    hours.record(now, 1000 + now)
    for gap in gaps:
        now += gap
        hours.record(now, 1000 + now)
    assert sum((each.cost_usd for each in times), Decimal(0)) == machine_cost(price, now - 50.0, 1.0)
    for earlier, later in itertools.pairwise(times):
        assert later.started_at == pytest.approx(earlier.ended_at)


def test_a_new_price_holds_from_then_on_and_a_machine_that_is_gone_costs_no_more() -> None:
    machine, times = Machine("own", "default", 0.0), list[MachineTime]()
    prices = [Decimal(1)]
    hours = MachineHours(lambda: [(machine, price) for price in prices], times.extend)
    hours.record(0.0, 0.0)
    prices[:] = [Decimal(2)]
    hours.record(3600.0, 3600.0)
    prices.clear()
    hours.record(7200.0, 7200.0)
    hours.record(9000.0, 9000.0)
    assert [each.cost_usd for each in times] == [Decimal(1), Decimal(2)]


def test_vllm_engines_are_added_up() -> None:
    assert read_vllm(VLLM.encode()) == Reading(running=9, queued=4, cache_used=0.5)


def test_the_older_name_of_the_cache_is_read_too() -> None:
    older = VLLM.replace("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
    assert read_vllm(older.encode()).cache_used == 0.5


def test_llamacpp_is_read() -> None:
    assert read_llamacpp(LLAMACPP.encode()) == Reading(running=2, queued=5)


def test_ollama_says_what_is_loaded_and_no_queue() -> None:
    reading = read_ollama(json.dumps(OLLAMA).encode())
    (model,) = reading.loaded
    assert (reading.running, reading.queued) == (None, None)
    assert (model.name, model.bytes, model.vram_bytes) == ("llama3.2:3b", 4_000_000_000, 3_000_000_000)
    assert model.expires_at == 1_795_431_600.5


@pytest.mark.parametrize("read", [read_vllm, read_llamacpp])
@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"vllm:num_requests_running NaN", b"up 1"])
def test_what_is_no_metrics_is_told(read: object, body: bytes) -> None:
    with pytest.raises(UnreadableError, match="/metrics has no"):
        read(body)  # type: ignore[operator]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"models": 3}', b"<html>"])
def test_what_is_no_list_of_models_is_told(body: bytes) -> None:
    with pytest.raises(UnreadableError, match="is this an Ollama server"):
        read_ollama(body)


@given(st.binary(max_size=300))
def test_no_answer_breaks_a_reader(body: bytes) -> None:
    for read in (read_vllm, read_llamacpp, read_ollama):
        try:
            read(body)
        except UnreadableError:
            pass


@pytest.mark.parametrize(
    ("kind", "dialect", "base_url", "url"),
    [
        ("openai", "vllm", "http://h:8000/v1", "http://h:8000/metrics"),
        ("openai", "llamacpp", "http://h:8080/v1", "http://h:8080/metrics"),
        ("ollama", "", "http://h:11434", "http://h:11434/api/ps"),
        ("embedded", "", "unix:///run/m.sock", "unix:///run/m.sock/metrics"),
    ],
)
def test_servers_are_asked_at_their_root(kind: str, dialect: str, base_url: str, url: str) -> None:
    assert question_url(watched_kind(kind, dialect), base_url) == url


@pytest.mark.parametrize(("kind", "dialect"), [("openai", "openai"), ("anthropic", ""), ("openai", "compatible")])
def test_others_are_not_asked(kind: str, dialect: str) -> None:
    assert watched_kind(kind, dialect) == ""


@dataclass
class Figures:
    in_flight: int = 0
    attempts: int = 0


def pressure(kind: str = "vllm", url: str = "http://127.0.0.1:9/metrics", interval_s: float = 5.0) -> Pressure:
    made = Pressure("own", "default", kind, 2)
    made.url, made.interval_s = url, interval_s
    made.figures.append(Figures())
    return made


def test_a_server_is_asked_only_while_there_are_calls_or_somebody_looks() -> None:
    one = pressure()
    figures = one.figures[0]
    assert not one.is_due(0.0, None, 30)
    figures.attempts = 1
    assert one.is_due(0.0, None, 30)
    assert not one.is_due(1.0, None, 30)
    figures.in_flight = 1
    assert one.is_due(2.0, None, 30)
    figures.in_flight = 0
    assert one.is_due(3.0, 0.0, 30)
    assert not one.is_due(40.0, 0.0, 30)


def test_a_server_is_asked_no_sooner_than_its_interval_and_not_twice_at_once() -> None:
    one = pressure()
    one.figures[0].in_flight, one.asked_at = 1, 10.0
    assert not one.is_due(14.9, None, 30)
    assert one.is_due(15.0, None, 30)
    one.is_asking = True
    assert not one.is_due(15.0, None, 30)


def test_an_old_word_is_unknown_and_unknown_is_not_pressed() -> None:
    one = pressure()
    one.said(Reading(running=1, queued=9), 0.0)
    assert one.queued(15.0) == 9
    assert one.queued(15.1) is None


def test_where_a_server_names_no_queue_it_is_our_own_calls() -> None:
    one = pressure("ollama")
    one.figures[0].in_flight = 5
    assert (one.running(0.0), one.queued(0.0)) == (2, 3)


async def _told(*replies: Reply, kind: str = "vllm", path: str = "/metrics") -> Pressure:
    async with scripted(*replies) as server:
        one = pressure(kind, server.url + path)
        one.headers = {"authorization": "Bearer secret"}
        watch = Watch(lambda: [one])
        with anyio.fail_after(BOUND_S):
            async with watch.running():
                await watch.look(patience_s=BOUND_S)
        assert server.requests[0].headers["authorization"] == "Bearer secret"
        assert server.requests[0].path == path
    return one


async def test_who_looks_hears_what_the_server_says_now() -> None:
    one = await _told(Reply.text(VLLM, content_type="text/plain"))
    assert (one.reading.running, one.reading.queued, one.error, one.failures) == (9, 4, "", 0)


async def test_ollama_is_asked_for_its_models() -> None:
    one = await _told(Reply.json(OLLAMA), kind="ollama", path="/api/ps")
    assert [each.name for each in one.reading.loaded] == ["llama3.2:3b"]


@pytest.mark.parametrize(
    ("reply", "kind", "why"),
    [
        pytest.param(Reply.text("no", status=404), "vllm", "/metrics answered with status 404", id="a status"),
        pytest.param(
            Reply.text("no", status=501), "llamacpp", "start llama-server with --metrics", id="metrics are off"
        ),
        pytest.param(Reply.text("<html>"), "vllm", "is this a vLLM server?", id="another server"),
        pytest.param(Reply(pieces=(b"x",), framing="chunked", end=End.CUT), "vllm", "did not answer", id="a cut"),
        pytest.param(Reply(pieces=(b"x" * 2_000_000,)), "vllm", "did not answer", id="too much"),
    ],
)
async def test_a_question_that_fails_is_told_and_breaks_nothing(reply: Reply, kind: str, why: str) -> None:
    one = await _told(reply, kind=kind)
    assert why in one.error
    assert (one.failures, one.polls, one.reading) == (1, 1, Reading())
    assert "secret" not in one.error
    assert "127.0.0.1" not in one.error


async def test_nobody_waits_long_for_a_server_that_hangs() -> None:
    async with scripted(Reply(end=End.HANG, framing="chunked")) as server:
        one = pressure(url=server.url + "/metrics")
        watch = Watch(lambda: [one])
        with anyio.fail_after(BOUND_S):
            async with watch.running():
                await watch.look(patience_s=0.05)
        assert one.reading == Reading()


async def test_what_a_server_runs_for_others_bears_its_part() -> None:
    one, machine = pressure(), Machine("own", "default", 0.0)
    one.machine = machine
    one.said(Reading(running=4), 0.0)
    assert machine.end(machine.begin(1.0), 9.0) == pytest.approx(2.0)


def _pressed(queued: int, most: int | None, *, alone: bool = False) -> tuple[list[int], dict[str, str]]:
    first = own_stage(0)
    first = changed(
        first,
        provider=changed(first.provider, kind="openai", dialect="vllm", pressure=PressureConfig(max_queued=most)),
    )
    stages = [first] if alone else [first, stage(1)]
    made = engine(blueprint(*stages), [[says("x")] for _ in stages])
    known = made.router.state.admission.pressure(first.provider, first.provider.accounts[0])
    assert known is not None
    known.said(Reading(running=1, queued=queued), time.monotonic())
    told = made.router.explain(request())
    return [each.stage.ref.position for each in told.stages], {each.reason: each.detail for each in told.skipped}


async def test_a_machine_whose_queue_is_too_long_is_passed_over() -> None:
    planned, skipped = _pressed(5, 4)
    assert planned == [1]
    assert skipped == {"pressure": "5 requests wait in p0, more than 4"}


@pytest.mark.parametrize(
    ("queued", "most", "alone"),
    [
        pytest.param(4, 4, False, id="the queue is not too long"),
        pytest.param(50, None, False, id="nobody asked for it"),
        pytest.param(50, 4, True, id="nothing else is left"),
    ],
)
async def test_a_machine_is_used_when(queued: int, most: int | None, alone: bool) -> None:
    assert _pressed(queued, most, alone=alone)[0][0] == 0


async def test_another_machine_of_the_same_provider_takes_the_calls() -> None:
    made = own_stage(0)
    specs = tuple(
        AccountSpec(account=Account(name=name, base_url=f"http://{name}"), limits=LimitsConfig()) for name in "ab"
    )
    provider = changed(
        made.provider, kind="openai", dialect="vllm", pressure=PressureConfig(max_queued=4), accounts=specs
    )
    made = changed(made, provider=provider)
    running = engine(blueprint(made, stage(1)), [[says("x")], [says("y")]])
    pressed = running.router.state.admission.pressure(provider, specs[0])
    assert pressed is not None
    pressed.said(Reading(running=1, queued=5), time.monotonic())
    for number in range(4):
        answer = await running.router.route(request(request_id=f"r{number}"))
        assert answer.completion.attempts[0].account == "b"
    pressed.said(Reading(running=1, queued=0), time.monotonic())
    accounts = [
        (await running.router.route(request(request_id=f"s{number}"))).completion.attempts[0].account
        for number in range(4)
    ]
    assert sorted(accounts) == ["a", "a", "b", "b"]  # it takes its turns again, and no more
