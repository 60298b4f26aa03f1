"""Score the schema validator against the JSON Schema Test Suite and SchemaStore, beside Python's jsonschema.

Run: python bench/schema_conformance.py [--verbose] [--data DIR]. Prints counts and the median time of one verdict, both validators
in the same run; schemas are compiled beforehand. Rows that need a remote reference are left out.
"""

import argparse
import gzip
import json
import re
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
from referencing.exceptions import Unresolvable

from gearshift.core.schema import Schema, SchemaError, compile_schema

DATA = Path(__file__).parent / "data" / "json_schema"
COLUMNS = {
    "conformance": {"draft", "file", "optional", "group", "test", "needs_remote", "schema", "data", "valid"},
    "schemastore_instances": {"schema_name", "valid", "file", "external_refs", "data"},
    "schemastore_schemas": {"schema_name", "schema"},
}
ROUNDS = 7
# What jsonschema raises, late, for a schema that it cannot compile.
THEIR_ERRORS = (re.error, Unresolvable, jsonschema.SchemaError)
DIALECTS = {
    "draft7": ("http://json-schema.org/draft-07/schema#", jsonschema.Draft7Validator),
    "draft2020-12": ("https://json-schema.org/draft/2020-12/schema", jsonschema.Draft202012Validator),
}
_VOCABULARY = "https://json-schema.org/draft/2020-12/vocab/"
# The custom metaschemas that the suite serves at these addresses: all that matters here is which vocabularies they name.
METASCHEMAS = {
    f"http://localhost:1234/draft2020-12/{name}.json": {
        "$vocabulary": {_VOCABULARY + word: needed for word, needed in words}
    }
    for name, words in {
        "metaschema-no-validation": [("applicator", True), ("core", True)],
        "format-assertion-false": [("core", True), ("format-assertion", False)],
        "format-assertion-true": [("core", True), ("format-assertion", True)],
    }.items()
}


def rows(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Give the rows that have all columns; of a file that is missing there are none."""
    path, left_out = folder / f"{name}.jsonl.gz", 0
    if not path.exists():
        return
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row.keys() >= COLUMNS[name]:
                yield row
            else:
                left_out += 1
    if left_out:
        print(
            f"json_schema/{path.name}: {left_out:,} rows lack one of {', '.join(sorted(COLUMNS[name]))}",
            file=sys.stderr,
        )


def with_dialect(schema: Any, draft: str) -> Any:
    """Return schema, told to be of draft where it does not say so itself."""
    if isinstance(schema, dict) and "$schema" not in schema:
        return {"$schema": DIALECTS[draft][0], **schema}
    return schema


def timed(verdict: Callable[[Any], bool], value: Any) -> tuple[bool, float]:
    """Return the verdict and the best of some timings, in microseconds."""
    best, answer = float("inf"), False
    for _ in range(ROUNDS):
        started = time.perf_counter()
        answer = verdict(value)
        best = min(best, time.perf_counter() - started)
    return answer, best * 1e6


def conformance(folder: Path, *, optional: bool, verbose: bool) -> None:
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    errors = theirs_right = 0
    ours_us: list[float] = []
    theirs_us: list[float] = []
    for row in rows("conformance", folder):
        if row["needs_remote"] or row["optional"] is not optional or row["draft"] not in DIALECTS:
            continue
        draft = row["draft"]
        total[draft] += 1
        asserts = optional and "/format/" in row["file"]
        try:
            schema = compile_schema(with_dialect(row["schema"], draft), metaschemas=METASCHEMAS, assert_formats=asserts)
            answer, micros = timed(schema.is_valid, row["data"])
            issues = schema.check(row["data"])
            if bool(issues) is answer:
                raise AssertionError("check and is_valid disagree")
            ours_us.append(micros)
        except SchemaError as error:
            errors += 1
            answer = None
            if verbose:
                print("  error:", draft, row["file"], row["group"], error)
        right[draft] += answer is row["valid"]
        if verbose and answer is not None and answer is not row["valid"]:
            print("  wrong:", draft, row["file"], "|", row["group"], "|", row["test"], json.dumps(row["schema"])[:200])
        kind = DIALECTS[draft][1]
        with suppress(*THEIR_ERRORS):
            checker = kind.FORMAT_CHECKER if asserts else None
            their_answer, micros = timed(kind(row["schema"], format_checker=checker).is_valid, row["data"])
            theirs_us.append(micros)
            theirs_right += their_answer is row["valid"]
    name = "optional" if optional else "required"
    parts = ", ".join(f"{draft} {right[draft]}/{total[draft]}" for draft in total)
    print(
        f"{name}: {right.total()}/{total.total()} ({parts}), errors {errors}; jsonschema {theirs_right}/{total.total()}"
    )
    if not ours_us or not theirs_us:
        return
    ours, theirs = statistics.median(ours_us), statistics.median(theirs_us)
    print(f"  median {ours:.2f} us, jsonschema {theirs:.2f} us, ratio 1/{theirs / ours:.1f}")


def schemastore(folder: Path, *, verbose: bool) -> None:
    raw = {row["schema_name"]: row["schema"] for row in rows("schemastore_schemas", folder)}
    compiled: dict[str, Schema | SchemaError] = {}
    theirs: dict[str, Any] = {}
    compile_us: list[float] = []
    ours_us: list[float] = []
    theirs_us: list[float] = []
    count: Counter[str] = Counter()
    for row in rows("schemastore_instances", folder):
        name = row["schema_name"]
        if row["external_refs"] or name not in raw:
            continue
        count["instances"] += 1
        if name not in compiled:
            started = time.perf_counter()
            try:
                compiled[name] = compile_schema(raw[name])
                compile_us.append((time.perf_counter() - started) * 1e6)
            except SchemaError as error:
                compiled[name] = error
            theirs[name] = jsonschema.validators.validator_for(raw[name])(raw[name])
        schema = compiled[name]
        if isinstance(schema, SchemaError):
            refused = "look-around" if "look-around" in str(schema) else "error"
            count[refused] += 1
            if verbose:
                print(f"  {refused}:", name, schema)
        else:
            answer, micros = timed(schema.is_valid, row["data"])
            ours_us.append(micros)
            count["differ"] += answer is not row["valid"]
            issues = schema.check(row["data"])
            if bool(issues) is answer:
                raise AssertionError("check and is_valid disagree")
            if verbose and answer is not row["valid"]:
                print("  differs:", name, row["file"], "file says", row["valid"], *issues[:3])
        try:
            answer, micros = timed(theirs[name].is_valid, row["data"])
            theirs_us.append(micros)
            count["their differ"] += answer is not row["valid"]
        except THEIR_ERRORS:
            count["their errors"] += 1
    print(
        f"schemastore: {count['instances']} instances, {count['differ']} verdicts differ, {count['error']} errors, "
        f"{count['look-around']} refused for look-around; jsonschema: {count['their differ']} differ, "
        f"{count['their errors']} errors"
    )
    if not ours_us or not theirs_us:
        return
    ours, their = statistics.median(ours_us), statistics.median(theirs_us)
    print(f"  median {ours:.1f} us, jsonschema {their:.1f} us, ratio 1/{their / ours:.1f}")
    print(
        f"  compiling {len(compile_us)} schemas: median {statistics.median(compile_us):.0f} us, max {max(compile_us):.0f} us"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verbose", action="store_true", help="name each row that is wrong")
    parser.add_argument("--data", type=Path, default=DATA, help="a folder with other cases of the same shape")
    options = parser.parse_args()
    verbose, folder = bool(options.verbose), Path(options.data)
    warnings.simplefilter("ignore")
    conformance(folder, optional=False, verbose=verbose)
    conformance(folder, optional=True, verbose=verbose)
    if (folder / "schemastore_instances.jsonl.gz").exists():
        schemastore(folder, verbose=verbose)
    return 0


if __name__ == "__main__":
    sys.exit(main())
