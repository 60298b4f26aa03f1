"""How many instances a workload needs: traces, the queue, and the money."""

from __future__ import annotations

import gzip
import random
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as replace_struct

from gearshift.core.answer import Usage
from gearshift.core.ledger.sqlite_store import SqliteStore
from gearshift.core.sizing import Arrival, Instance, TraceError, read_trace, simulate, size
from gearshift.core.sizing.measured import Throughput, measured_throughput
from gearshift.core.sizing.queue import percentile
from gearshift.core.words import AttemptOutcome, FailureKind
from tests.support.ledger_rows import START, attempt, rows

_INSTANCE = Instance(prompt_tokens_per_s=1000, output_tokens_per_s=100, slots=2, usd_per_hour=Decimal(2))

_JOBS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 20)), min_size=1, max_size=40).map(
    lambda jobs: sorted(jobs, key=lambda each: each[0])
)


def _played_slowly(jobs: list[tuple[float, float]], servers: int) -> list[float]:
    """Give the waits, worked out without a heap."""
    free = [0.0] * servers
    waits: list[float] = []
    for at, service in jobs:
        first = min(range(servers), key=free.__getitem__)
        begin = max(at, free[first])
        free[first] = begin + service
        waits.append(begin - at)
    return sorted(waits)


@given(_JOBS, st.integers(1, 6))
def test_the_queue_is_what_it_is_worked_out_by_hand(jobs: list[tuple[float, float]], servers: int) -> None:
    waits = simulate([at for at, _ in jobs], [service for _, service in jobs], servers)
    slow = _played_slowly(jobs, servers)
    assert waits.longest_s == pytest.approx(slow[-1])
    assert waits.p95_s == pytest.approx(percentile(slow, 0.95))
    assert waits.busy_s == pytest.approx(sum(service for _, service in jobs))


@given(_JOBS, st.integers(1, 6))
def test_another_server_makes_no_wait_longer(jobs: list[tuple[float, float]], servers: int) -> None:
    arrivals, services = [at for at, _ in jobs], [service for _, service in jobs]
    fewer, more = simulate(arrivals, services, servers), simulate(arrivals, services, servers + 1)
    assert more.p50_s <= fewer.p50_s + 1e-9
    assert more.p95_s <= fewer.p95_s + 1e-9
    assert more.longest_s <= fewer.longest_s + 1e-9


def test_a_random_line_waits_as_long_as_theory_says() -> None:
    """M/M/1 at 80 % load: 95 of 100 wait less than ln(0.8 / 0.05) / (1 - 0.8) service times."""
    chance, now = random.Random(3), 0.0
    arrivals, services = list[float](), list[float]()
    for _ in range(200_000):
        now += chance.expovariate(0.8)
        arrivals.append(now)
        services.append(chance.expovariate(1.0))
    waits = simulate(arrivals, services, 1)
    assert waits.p95_s == pytest.approx(13.863, rel=0.06)
    assert waits.utilisation(1) == pytest.approx(0.8, abs=0.02)


def test_percentiles_are_values_that_occurred() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.25, 0.5, 0.51, 1.0)] == [1, 1, 2, 3, 4]


_TRACES = st.lists(
    st.builds(Arrival, st.floats(0, 500), st.integers(0, 3000), st.integers(0, 400)), min_size=1, max_size=40
).map(lambda trace: sorted(trace))


@given(_TRACES, st.floats(0, 5))
def test_the_fewest_that_hold_the_target_are_found(trace: list[Arrival], target: float) -> None:
    trace = [each._replace(at=each.at - trace[0].at) for each in trace]
    done = size(trace, _INSTANCE, target_p95_s=target, most=64)
    arrivals, services = [each.at for each in trace], [_INSTANCE.seconds(each) for each in trace]
    assert done.needed is not None
    assert simulate(arrivals, services, 2 * done.needed).p95_s <= target
    if done.needed > 1:
        assert simulate(arrivals, services, 2 * (done.needed - 1)).p95_s > target


def _even(count: int, every_s: float, entered: int = 1000, written: int = 100) -> list[Arrival]:
    return [Arrival(number * every_s, entered, written) for number in range(count)]


def test_a_request_keeps_a_slot_for_its_part_of_the_throughput() -> None:
    assert _INSTANCE.seconds(Arrival(0, 1000, 100)) == pytest.approx(4.0)  # 2 slots x (1 s + 1 s)


def test_an_instance_at_full_work_does_just_its_throughput() -> None:
    done = size(_even(1000, 2.0), _INSTANCE, target_p95_s=0.0)  # 4 s of a slot every 2 s: both slots
    assert done.needed == 1
    assert done.offered == pytest.approx(2.0)
    assert done.rows[0].utilisation == pytest.approx(1.0, abs=0.01)


def test_twice_the_load_needs_twice_the_instances() -> None:
    assert size(_even(1000, 2.0), _INSTANCE, target_p95_s=0.0, load=2).needed == 2


def test_month_and_break_even_are_worked_out_from_the_rate() -> None:
    done = size(_even(3600, 2.0), _INSTANCE, target_p95_s=0.0, api_usd=Decimal("7.2"))
    assert done.hours == pytest.approx(2.0)
    assert done.month_requests == 1800 * 730
    assert done.api_month_usd == Decimal("0.002") * 1800 * 730
    row = done.rows[0]
    assert row.month_usd == 1460
    assert row.break_even == 730_000  # 1,460 USD / 0.002 USD
    assert row.break_even_share == pytest.approx(1460 / 2628)


def test_machines_that_cannot_serve_as_many_as_would_pay_never_pay() -> None:
    done = size(_even(3600, 2.0), _INSTANCE, target_p95_s=0.0, api_usd=Decimal("0.36"))
    assert done.rows[0].break_even is None
    assert done.rows[0].break_even_share is not None
    assert done.rows[0].break_even_share > 1


def test_machines_cost_the_whole_month_and_an_api_only_its_share() -> None:
    done = size(_even(3600, 2.0), _INSTANCE, target_p95_s=0.0, api_usd=Decimal("7.2"), month_share=0.5)
    assert done.month_requests == 900 * 730
    assert done.rows[0].month_usd == 1460


def test_a_target_that_nothing_holds_is_told() -> None:
    burst = [Arrival(0.0, 1000, 100)] * 100
    assert size(burst, _INSTANCE, target_p95_s=1.0, most=8).needed is None


def _written(tmp_path: Path, text: str, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "t_s,in_tok,out_tok\n10.5,374,44\n12,396,109\n"),
        ("t.csv.gz", "t_s,in_tok,out_tok\r\n10.5,374,44\r\n12,396,109\r\n"),
        ("t.csv", "\ufefft_s,in_tok,out_tok,prefix\n10.5,374,44,0 1 2\n\n12,396,109,\n"),
        ("t.csv", 'name,out_tok,in_tok,t_s\n"a, b",109,396,12\nc,44,374,10.5\n'),
        (
            "t.jsonl",
            '{"t_s": 10.5, "in_tok": 374, "out_tok": 44}\n\n{"t_s": 12, "in_tok": 396, "out_tok": 109, "x": {}}\n',
        ),
        ("t.jsonl.gz", '{"t_s": 12, "in_tok": 396, "out_tok": 109}\n{"t_s": 10.5, "in_tok": 374, "out_tok": 44}'),
    ],
)
def test_traces_are_read_in_each_form(tmp_path: Path, name: str, text: str) -> None:
    assert read_trace(_written(tmp_path, text, name)) == [Arrival(0.0, 374, 44), Arrival(1.5, 396, 109)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "has no requests", id="empty"),
        pytest.param("t_s,in_tok,out_tok\n", "has no requests", id="only a header"),
        pytest.param("time,in_tok,out_tok\n1,2,3\n", ":1: the header lacks t_s", id="another header"),
        pytest.param("t_s,in_tok,out_tok\n1,2,3\n1,2\n", ":3: has 2 columns, the header 3", id="a short line"),
        pytest.param("t_s,in_tok,out_tok\nsoon,2,3\n", ":2: t_s must be seconds, not `soon`", id="no time"),
        pytest.param("t_s,in_tok,out_tok\nnan,2,3\n", ":2: t_s must be seconds", id="not a number"),
        pytest.param("t_s,in_tok,out_tok\n1,2,3\n2,-5,3\n", ":3: in_tok must be a whole number", id="below zero"),
        pytest.param("t_s,in_tok,out_tok\n1,2,3.5\n", ":2: out_tok must be a whole number", id="half a token"),
        pytest.param('{"t_s": 1, "in_tok": 2}\n', ":1: lacks out_tok", id="a missing field"),
        pytest.param(
            '{"t_s": 1, "in_tok": 2, "out_tok": 3}\n{"t_s": 1,\n', ":2: is no JSON object", id="half an object"
        ),
        pytest.param('{"t_s": true, "in_tok": 2, "out_tok": 3}\n', ":1: t_s must be seconds", id="a boolean"),
        pytest.param('{"t_s": 1, "in_tok": "2x", "out_tok": 3}\n', ":1: in_tok must be a whole", id="text"),
    ],
)
def test_a_bad_trace_is_told_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_trace(_written(tmp_path, text))
    assert why in str(caught.value)
    assert "trace.csv" in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"\x1f\x8b\x08", gzip.compress(b"t_s,in_tok,out_tok\n1,2,3\n")[:-6], b"plain text"]
)
def test_a_broken_archive_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(content)
    with pytest.raises(TraceError, match="is no whole gzip file"):
        read_trace(path)


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xff\xfe\x00t")
    with pytest.raises(TraceError, match="is no UTF-8 text"):
        read_trace(path)


@given(st.binary(max_size=200))
def test_no_file_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        assert read_trace(path)
    except TraceError:
        pass


def test_progress_is_told_on_long_traces(tmp_path: Path) -> None:
    lines = "".join(f"{number},10,10\n" for number in range(20_000))
    told: list[float] = []
    read_trace(_written(tmp_path, "t_s,in_tok,out_tok\n" + lines), told.append)
    assert told
    assert told == sorted(told)
    assert all(0 <= share <= 1 for share in told)


def _measured(tmp_path: Path, count: int) -> object:
    store = SqliteStore(str(tmp_path / "ledger.db"), is_synced=False, busy_timeout_s=1.0)
    store.open()
    made = [
        replace_struct(attempt(usage=Usage(input_tokens=500, output_tokens=20)), first_token_ms=250.0, total_ms=1250.0)
        for _ in range(count)
    ]
    streamed = [row for number, each in enumerate(made) for row in rows(f"r{number}", each)]
    whole = rows("whole", replace_struct(attempt(), first_token_ms=None, total_ms=9.0))
    failed = rows("failed", attempt(failure=FailureKind.SERVER, outcome=AttemptOutcome.FAILED))
    store.write([*streamed, *whole, *failed], 0)
    try:
        with store.session() as session:
            return measured_throughput(session, "anthropic", "claude-haiku-5-5", START - 1)
    finally:
        store.close()


def test_the_throughput_of_a_slot_is_measured_on_streams(tmp_path: Path) -> None:
    assert _measured(tmp_path, 25) == Throughput(prompt_tokens_per_s=2000, output_tokens_per_s=20, attempts=25)


def test_a_few_streams_are_no_measure(tmp_path: Path) -> None:
    assert _measured(tmp_path, 5) is None
