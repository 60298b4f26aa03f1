"""docs/configuration.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import Struct, inspect

from gearshift.core.catalogue import Catalogue
from gearshift.core.config import model
from gearshift.core.config.build import build
from gearshift.core.config.default import ENV_KEYS
from gearshift.core.config.kinds import FACTS
from gearshift.core.config.load import parse_config
from gearshift.core.config.reference import BEGIN, END, field_texts, reference, refreshed
from gearshift.core.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
STRUCTS = [
    each
    for each in vars(model).values()
    if isinstance(each, type) and issubclass(each, Struct) and each.__name__.endswith("Config")
]


def test_the_table_is_fresh() -> None:
    text = PAGE.read_text("utf-8")
    assert refreshed(text) == text, "run: python -m gearshift.core.config.reference"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        refreshed(f"{END} {BEGIN}")


@pytest.mark.parametrize("struct", STRUCTS)
def test_every_field_says_what_it_means(struct: type[Struct]) -> None:
    texts = field_texts()
    for name in ("", *struct.__struct_fields__):
        assert texts.get((struct.__name__, name)), f"{struct.__name__}.{name}"


def test_every_section_is_in_the_table_and_every_link_leads_somewhere() -> None:
    table = reference()
    anchors = set(re.findall(r'<a id="(\w+)">', table))
    assert len(anchors) == len(STRUCTS)
    assert set(re.findall(r"\(#(\w+)\)", table)) <= anchors


def test_fields_that_hold_secrets_are_those_that_repr_hides() -> None:
    secret = {
        field.encode_name
        for struct in STRUCTS
        for field in _fields(struct)
        if "'secret': True" in repr(field.type) and not isinstance(field.type, inspect.VarTupleType)
        and "StructType" not in repr(field.type)
    }  # fmt: skip
    assert secret == model.SECRET_FIELDS


def test_the_first_file_of_the_page_works() -> None:
    text = PAGE.read_text("utf-8").split("```yaml\n")[1].split("```")[0]
    blueprint = build(parse_config(text, {"ANTHROPIC_API_KEY": "k"}), Catalogue.load())
    assert set(blueprint.tasks) == {"email-triage"}


def test_the_problems_on_the_page_are_what_is_told() -> None:
    shown = re.findall(r"^gearshift\.yaml:\d+:\d+: (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    told: list[str] = []
    for text in (
        "provders: {}\nchains: {classify: {stages: []}}",
        "providers: {anthropic: {api_key: '${K}'}}\n"
        + "chains: {generate: {stages: [{provider: anthropic, model: claude-sonet}]}}",
    ):
        with pytest.raises(ConfigError) as raised:
            build(parse_config(text, {"K": "k"}), Catalogue.load())
        told += [each.split(": ", 1)[1] for each in raised.value.problems]
    assert shown == told


def test_kinds_and_variables_on_the_page_are_those_of_the_code() -> None:
    page = PAGE.read_text("utf-8")
    for (kind, dialect), facts in FACTS.items():
        row = next(
            line for line in page.splitlines() if line.startswith(f"| `{kind}` | {f'`{dialect}`' if dialect else ''}")
        )
        assert (f"`{facts.base_url}`" in row) == bool(facts.base_url)
        assert ("needed" in row) == facts.needs_key
    for name, variable in ENV_KEYS.items():
        assert f"| `{variable}` | `{name}` |" in page


def _fields(struct: type[Struct]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return info.fields
