"""The JSON Schema Test Suite and SchemaStore's own test files, row by row."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gearshift.core.schema import Schema, SchemaError, compile_schema

DATA = Path(__file__).parents[2] / "bench" / "data" / "json_schema"
DIALECTS = {
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
_VOCABULARY = "https://json-schema.org/draft/2020-12/vocab/"
# What the suite serves at these addresses, as far as it matters: the vocabularies that they name.
METASCHEMAS: dict[str, dict[str, Any]] = {
    "http://localhost:1234/draft2020-12/metaschema-no-validation.json": {
        "$vocabulary": {f"{_VOCABULARY}applicator": True, f"{_VOCABULARY}core": True}
    },
    "http://localhost:1234/draft2020-12/format-assertion-false.json": {
        "$vocabulary": {f"{_VOCABULARY}core": True, f"{_VOCABULARY}format-assertion": False}
    },
    "http://localhost:1234/draft2020-12/format-assertion-true.json": {
        "$vocabulary": {f"{_VOCABULARY}core": True, f"{_VOCABULARY}format-assertion": True}
    },
}


def rows(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def compiled(row: dict[str, Any], *, assert_formats: bool = False) -> Schema:
    schema: Any = row["schema"]
    if type(schema) is dict:
        schema = {"$schema": DIALECTS[row["draft"]]} | row["schema"]
    return compile_schema(schema, metaschemas=METASCHEMAS, assert_formats=assert_formats)


def wrong_rows(*, optional: bool) -> tuple[int, Counter[str]]:
    """Return how many rows there are, and how many are judged wrongly in each file."""
    count, wrong = 0, Counter[str]()
    for row in rows("conformance"):
        if row["needs_remote"] or row["optional"] is not optional:
            continue
        count += 1
        schema = compiled(row, assert_formats="/format/" in row["file"])
        verdict = schema.is_valid(row["data"])
        assert (schema.check(row["data"]) == []) is verdict, row
        if verdict is not row["valid"]:
            wrong[row["file"]] += 1
    return count, wrong


def test_every_required_row_is_judged_as_the_suite_says() -> None:
    count, wrong = wrong_rows(optional=False)

    assert count == 1262
    assert wrong == {}


def test_optional_rows_are_right_except_content_and_international_host_names() -> None:
    count, wrong = wrong_rows(optional=True)

    assert count == 1064
    assert set(wrong) <= {
        "optional/content.json",  # contentMediaType is noted, not checked, as the specification has it
        "optional/format/hostname.json",  # the code points that IDNA 2008 allows are not checked
        "optional/format/idn-hostname.json",
    }


def test_schemastore_verdicts_differ_only_where_a_format_would_have_to_be_checked() -> None:
    raw = {row["schema_name"]: row["schema"] for row in rows("schemastore_schemas")}
    schemas: dict[str, Schema | None] = {}
    differing: set[str] = set()
    refused = 0
    for row in rows("schemastore_instances"):
        if row["external_refs"]:
            continue
        name = row["schema_name"]
        if name not in schemas:
            try:
                schemas[name] = compile_schema(raw[name])
            except SchemaError as error:
                assert "look-ahead" in error.message
                schemas[name] = None
        schema = schemas[name]
        if schema is None:
            refused += 1
            continue
        verdict = schema.is_valid(row["data"])
        assert (schema.check(row["data"]) == []) is verdict, row["file"]
        if verdict is not row["valid"]:
            differing.add(row["file"].rpartition("/")[2])
            checked = compile_schema(raw[name], assert_formats=True)
            assert checked.is_valid(row["data"]) is row["valid"], row["file"]

    assert refused == 15
    assert differing == {"abc-supply-plan-invalid-plan-date.json", "custom-string-bad-format.json"}


@pytest.mark.parametrize(
    "name", ["https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema"]
)
def test_schemas_of_the_suite_are_valid_against_their_metaschema(name: str) -> None:
    metaschema = compile_schema({"$ref": name})
    draft = "draft7" if "07" in name else "draft2020-12"
    for row in rows("conformance"):
        if row["draft"] == draft and not row["needs_remote"]:
            assert metaschema.is_valid(row["schema"]), row["schema"]
