"""Values are put into a prompt's places once, and never read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.errors import InvalidRequestError
from gearshift.core.prompt import FilledPrompt, fill

_NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,10}", fullmatch=True)


def test_a_prompt_without_places_is_static() -> None:
    assert fill("Be brief. {x} }} {{", {}) == FilledPrompt("Be brief. {x} }} {{", "")


def test_what_stands_before_the_first_place_is_static() -> None:
    got = fill("Be brief. For {{ name }} and {{name}}.", {"name": "Ann"})
    assert got == FilledPrompt("Be brief. For ", "Ann and Ann.")


def test_a_value_is_never_read_again() -> None:
    got = fill("{{a}} {{b}}", {"a": "{{b}}", "b": "{{a}}"})
    assert got.static + got.dynamic == "{{b}} {{a}}"


@pytest.mark.parametrize(
    ("text", "variables", "fields"),
    [
        pytest.param("{{a}} {{b}}", {"a": "1"}, ["call.system.variables.b"], id="missing"),
        pytest.param("{{a}} {{a}}", {}, ["call.system.variables.a"], id="missing twice, said once"),
        pytest.param("{{a}}", {"a": "1", "c": "2"}, ["call.system.variables.c"], id="unknown"),
        pytest.param("no place", {"c": "2"}, ["call.system.variables.c"], id="unknown without places"),
        pytest.param("", {"c": "2"}, ["call.system.variables.c"], id="unknown without a prompt"),
        pytest.param("{{a}}", {"b": "1"}, ["call.system.variables.a", "call.system.variables.b"], id="both"),
        pytest.param("{{1a}} {{ }} {{a b}}", {"a b": "1"}, ["call.system.variables.a b"], id="no names"),
    ],
)
def test_missing_and_unknown_values_are_named(text: str, variables: dict[str, str], fields: list[str]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        fill(text, variables)
    assert [each.field for each in caught.value.violations] == fields


@given(
    pieces=st.lists(st.tuples(st.text(alphabet="ab{} \n", max_size=6), _NAMES), max_size=6),
    end=st.text(alphabet="ab \n", max_size=6),
    data=st.data(),
)
def test_each_place_is_replaced_once_by_its_own_value(
    pieces: list[tuple[str, str]], end: str, data: st.DataObject
) -> None:
    # Braces that would run into a place are kept away from it.
    pieces = [(text.replace("{", "[").replace("}", "]"), name) for text, name in pieces]
    names = {name for _, name in pieces}
    values = {name: data.draw(st.text(alphabet="ab{}", max_size=8) | st.just("{{" + name + "}}")) for name in names}
    template = "".join(f"{text}{{{{{name}}}}}" for text, name in pieces) + end
    got = fill(template, values)
    assert got.static + got.dynamic == "".join(text + values[name] for text, name in pieces) + end
    assert got.static == (pieces[0][0] if pieces else end)
