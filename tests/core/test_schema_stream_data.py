"""The JSON Schema Test Suite and SchemaStore's files, streamed in every kind of cut."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

from gearshift.core.schema import Schema, SchemaError, compile_schema
from tests.core.test_schema_conformance import DATA, compiled
from tests.support.json_cuts import agrees, is_valid, streamed

WHOLE = 3_000
"""Longer texts are cut into pieces of 4 characters only."""


def rows(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def test_every_row_of_the_suite_is_judged_as_a_whole_document_in_any_cut() -> None:
    count = 0
    for row in rows("conformance"):
        if row["needs_remote"]:
            continue
        schema = compiled(row, assert_formats="/format/" in row["file"])
        agrees(schema, json.dumps(row["data"], ensure_ascii=count % 2 == 0))
        count += 1

    assert count == 2326


def test_every_schemastore_file_is_judged_as_a_whole_document_in_any_cut() -> None:
    raw = {row["schema_name"]: row["schema"] for row in rows("schemastore_schemas")}
    schemas: dict[str, Schema | None] = {}
    valid = stopped = 0
    for row in rows("schemastore_instances"):
        name = row["schema_name"]
        if row["external_refs"]:
            continue
        if name not in schemas:
            try:
                schemas[name] = compile_schema(raw[name])
            except SchemaError:
                schemas[name] = None  # it needs look-around
        schema = schemas[name]
        if schema is None:
            continue
        text = json.dumps(row["data"], ensure_ascii=False, indent=1)
        if len(text) <= WHOLE:
            issue = agrees(schema, text)
        else:
            _, issue = streamed(schema, [text])
            assert (issue is None) is is_valid(schema, text)
            assert streamed(schema, [text[at : at + 4] for at in range(0, len(text), 4)])[1] == issue
        valid += issue is None
        stopped += issue is not None and issue.offset < len(text) - 1

    assert valid == 381
    assert stopped > 75
