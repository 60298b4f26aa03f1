"""What unary calls are spared must change nothing of what they are given."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.admission import Admission, Amounts, Permit
from gearshift.core.blueprint import Stage
from gearshift.core.config.model import LimitsConfig
from gearshift.core.errors import InvalidRequestError
from gearshift.core.estimate import Estimator
from gearshift.core.failures import BreakerCount
from gearshift.core.gates import refusal
from gearshift.core.plan import Caps, Needs, Plan, lay_out, plan
from gearshift.core.resolve import resolve
from gearshift.core.validation import validate
from gearshift.core.words import Complexity
from tests.support.blueprints import blueprint, stage
from tests.support.changed import changed
from tests.support.engine import request

_AT = datetime(2026, 6, 1, tzinfo=UTC)
_NOBODY: frozenset[str] = frozenset()


def admitted(admission: Admission, of: Stage) -> Permit:
    got = admission.admit_nowait(of, Amounts(1, None), ())
    assert isinstance(got, Permit)
    return got


def test_leave_without_limits_counts_as_any_other() -> None:
    admission, of = Admission(), stage(0)
    permit = admission.unlimited(of, _NOBODY)
    assert permit is not None
    figures = admission.state_of(of, 0.0).figures
    assert figures.in_flight == 1
    permit.cancel()
    assert figures.in_flight == 0


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(stage(0, limits=LimitsConfig(concurrency=5)), id="a limit"),
        pytest.param(stage(0, limits=LimitsConfig(pace=5)), id="a pace"),
        pytest.param(stage(0, accounts=("a", "b")), id="a choice of accounts"),
    ],
)
def test_leave_is_asked_for_where_something_limits_the_stage(of: Stage) -> None:
    assert Admission().unlimited(of, _NOBODY) is None


def test_leave_is_asked_for_where_the_breaker_is_open_or_the_provider_asked_for_a_pause() -> None:
    now = time.monotonic()
    admission, of = Admission(), stage(0)
    admission.state_of(of, now).breaker.fail(BreakerCount.AUTHENTICATION, "key", now)
    assert admission.unlimited(of, _NOBODY) is None
    admission, of = Admission(), stage(1)
    admission.state_of(of, now).pause(60, now)
    assert admission.unlimited(of, _NOBODY) is None


def test_leave_is_asked_for_once_an_account_is_excluded() -> None:
    assert Admission().unlimited(stage(0), frozenset({"default"})) is None


_STAGES = st.tuples(
    st.sampled_from(list(Complexity)), st.sampled_from([0, 1500, 4000, 100_000]), st.sampled_from([None, "0.5", "3"])
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(_STAGES, min_size=1, max_size=4),
    st.integers(0, 20_000),
    st.one_of(st.none(), st.integers(1, 5000)),
    st.sampled_from([None, Decimal("0.001"), Decimal(1)]),
)
def test_kept_layout_plans_what_a_fresh_one_does(
    made: list[tuple[Complexity, int, str | None]], characters: int, max_tokens: int | None, cap: Decimal | None
) -> None:
    stages = [
        stage(index, capability=capability, context_tokens=context, price=price)
        for index, (capability, context, price) in enumerate(made)
    ]
    resolved = resolve(request(), blueprint(*stages), None)
    caps = Caps(max_cost_usd=cap, allowed_models=_NOBODY, allowed_providers=_NOBODY, require_confidence=False)
    needs = Needs(features=(), characters=characters, images=0, max_tokens=max_tokens)
    admission, estimator, layout = Admission(), Estimator(), lay_out(resolved, caps)

    def planned(*, kept: bool) -> Plan:
        return plan(
            resolved,
            needs,
            caps,
            estimator,
            lambda each: admission.state_of(each, 0.0),
            _AT,
            0.0,
            0.5,
            layout if kept else None,
        )

    def shown(given: Plan) -> list[tuple[object, ...]]:
        return [(each.stage.ref, each.input_tokens, each.output_tokens, each.expected_cost) for each in given.stages]

    once, again = planned(kept=False), planned(kept=True)
    assert shown(once) == shown(again)
    assert once.skipped == again.skipped
    for each in once.stages:
        context = each.stage.model.context_tokens
        assert not context or each.input_tokens + min(max_tokens or 1, 1024) <= context


@given(st.integers(0, 100_000), st.integers(0, 5), st.floats(0.01, 20))
def test_input_never_exceeds_what_any_model_may_make_of_it(characters: int, images: int, factor: float) -> None:
    estimator, model = Estimator(), changed(stage(0).model, characters_per_token=factor)
    assert estimator.input_tokens(characters, images, model) <= estimator.most_input_tokens(characters, images)


# cp1252 has the quotation marks of the pattern, and none of the few letters that only a pattern takes for another one.
_REFUSALS = re.compile(rf"\A(?:{refusal._REFUSAL.pattern})", refusal._REFUSAL.flags)  # pyright: ignore[reportPrivateUsage]


@settings(max_examples=100, deadline=None)
@given(st.from_regex(_REFUSALS, alphabet=st.characters(codec="cp1252")))
def test_every_beginning_that_the_refusal_pattern_knows_holds_a_mark(text: str) -> None:
    assert refusal._declines(text)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("wrong", ["", " ", "a b", "ä", "a\n", "a\x7f", "x" * 129])
def test_request_id_with_other_characters_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidRequestError):
        validate(changed(request(), request_id=wrong))


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=128))
def test_request_id_of_printable_ascii_is_taken(right: str) -> None:
    validate(changed(request(), request_id=right))
