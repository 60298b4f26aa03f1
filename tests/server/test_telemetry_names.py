"""The table of names agrees with the conventions as they are installed, but for what those have since renamed."""

from __future__ import annotations

import ast
from functools import cache
from importlib import metadata, util
from itertools import pairwise
from pathlib import Path

import pytest

from gearshift.server.telemetry import names

USAGE = "gen_ai.client.token.usage"
SINCE_RENAMED = {
    names.CACHE_WRITE_TOKENS: "gen_ai.usage.cache_creation.input_tokens",
    names.DURATION: "gen_ai.client.operation.duration",
    names.TIME_TO_FIRST_CHUNK: "gen_ai.client.operation.time_to_first_chunk",
    names.EMBEDDINGS_DURATION: "gen_ai.client.operation.duration",
    names.EMBEDDINGS_INPUT_TOKENS: USAGE,
    names.OPERATION_INPUT_TOKENS: USAGE,
    names.OPERATION_OUTPUT_TOKENS: USAGE,
    **dict.fromkeys(names.USED.values(), USAGE),
}
"""Names that the conventions for generative AI gave since they have a repository of their own, and what was there before:
the Python package has the names of the last version in the old repository (1.41), and says of each that it has moved."""

MOVED = "Moved to the [OpenTelemetry GenAI semantic conventions repository]"


def ours() -> list[str]:
    """Give every name of the table that is not our own."""
    found = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    found |= set(names.USED.values())
    return sorted(each for each in found if "." in each and not each.startswith("gearshift."))


@cache
def installed() -> dict[str, str]:
    """Give every name of the installed conventions, with what is said of it."""
    spec = util.find_spec("opentelemetry.semconv")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    found = dict[str, str]()
    files = [*folder.glob("_incubating/attributes/*.py"), *folder.glob("_incubating/metrics/*.py")]
    for file in [*files, *folder.glob("attributes/*.py")]:
        body = ast.parse(file.read_text("utf-8")).body
        for statement, after in pairwise([*body, ast.Pass()]):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.value, ast.Constant):
                told = (
                    after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
                )
                found[str(statement.value.value)] = str(told)
    return found


def test_the_table_has_names_of_the_conventions() -> None:
    assert len(ours()) > 25
    assert len(installed()) > 500, "the package is laid out otherwise than this test reads it"


@pytest.mark.parametrize("name", ours())
def test_a_name_is_the_installed_one_or_its_successor(name: str) -> None:
    before = SINCE_RENAMED.get(name)
    if before is None:
        told = installed()[name]
        assert "Deprecated" not in told or MOVED in told, told
        return
    # When this fails a newer package knows the new name: take the row out.
    assert name not in installed()
    assert MOVED in installed()[before]


def test_a_shipping_instrumentation_has_renamed_too() -> None:
    package = metadata.distribution("anthropic")
    (file,) = [each for each in package.files or () if str(each) == "anthropic/_tracing.py"]
    source = Path(str(file.locate())).read_text("utf-8")
    renamed = [name for name in SINCE_RENAMED if not name.startswith("gen_ai.client.")]
    assert renamed and not [name for name in renamed if name not in source or SINCE_RENAMED[name] in source]


def test_providers_of_the_conventions_go_by_their_values() -> None:
    spec = util.find_spec("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")
    assert spec is not None and spec.origin
    source = Path(spec.origin).read_text("utf-8")
    known = ("anthropic", "openai", "groq", "deepseek")
    assert not [value for value in known if f'"{value}"' not in source]
    assert [names.provider_value("anthropic", ""), *(names.provider_value("openai", each) for each in known[1:])] == [
        *known
    ]
