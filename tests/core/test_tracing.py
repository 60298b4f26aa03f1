"""W3C Trace Context: whose trace a call belongs to, and what its upstream calls are told."""

from __future__ import annotations

import random

import pytest

from gearshift.core.tracing import Trace, trace_of

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def traced(traceparent: str, tracestate: str = "", *, share: float = 1.0, seed: int = 7) -> Trace:
    return trace_of(traceparent, tracestate, share=share, chance=random.Random(seed))


def test_a_callers_trace_goes_on() -> None:
    found = traced(f"00-{TRACE}-{PARENT}-01", "vendor=1")
    assert (found.trace_id, found.parent_id, found.is_sampled, found.state) == (TRACE, PARENT, True, "vendor=1")
    assert f"{found.span:016x}" != PARENT


@pytest.mark.parametrize("flags", ["00", "02"])
def test_a_caller_that_does_not_sample_decides(flags: str) -> None:
    assert not traced(f"00-{TRACE}-{PARENT}-{flags}").is_sampled


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert traced(f"01-{TRACE}-{PARENT}-01-more").trace_id == TRACE


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "00",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01\r\nx-evil: 1",
    ],
)
def test_what_is_no_trace_begins_one(wrong: str) -> None:
    found = traced(wrong, "vendor=1")
    assert found.trace_id not in (TRACE, "0" * 32)
    assert (len(found.trace_id), found.parent_id, found.state) == (32, "", "")


def test_state_that_would_break_out_of_its_line_is_left_out() -> None:
    assert traced(f"00-{TRACE}-{PARENT}-01", "a=1\r\nx-evil: 1").state == ""
    assert traced(f"00-{TRACE}-{PARENT}-01", "a" * 513).state == ""


def test_a_share_of_the_traces_that_begin_here_is_sampled() -> None:
    chance = random.Random(1)
    sampled = sum(trace_of("", "", share=0.25, chance=chance).is_sampled for _ in range(4000))
    assert 850 < sampled < 1150
    assert not traced("", share=0.0).is_sampled


def test_upstream_calls_are_told_a_span_of_their_own() -> None:
    found = traced(f"00-{TRACE}-{PARENT}-01", "vendor=1")
    first, second = found.head(1), found.head(2)
    assert first == f"traceparent: 00-{TRACE}-{found.span_id(1):016x}-01\r\ntracestate: vendor=1\r\n".encode()
    assert first != second
    assert len({found.span_id(number) for number in range(50)}) == 50
    assert Trace(TRACE, "", 2**64 - 1, True).span_id(1) != 0
