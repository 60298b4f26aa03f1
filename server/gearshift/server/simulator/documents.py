"""JSON documents that fit a schema, and ones that break it at a given place.

Rules: what is made is checked with the same validator that judges answers; a schema that the maker does not understand
gets its best try, and whoever asks is told whether it fits. Work is bounded by depth and by tries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from gearshift.core.schema import CheckLimitError, DocumentError, Schema, SchemaError, compile_schema, parse_document
from gearshift.core.schema.errors import SchemaLimitError
from gearshift.server.simulator.draws import Draws
from gearshift.server.simulator.prose import english

_DEPTH = 8
_TRIES = 6
_WRONG: tuple[object, ...] = (
    {"unexpected": True},
    [["unexpected"]],
    "\N{BLACK SQUARE} unexpected",
    -1.5e300,
    None,
    True,
)
_FORMATS = {
    "date": "2026-05-10",
    "date-time": "2026-05-10T08:30:00Z",
    "time": "08:30:00Z",
    "email": "mail@example.com",
    "uri": "https://example.com/a",
    "uuid": "6f1c7bb0-53ad-4a0c-8d1e-1f0f4a1a2b3c",
    "ipv4": "192.0.2.7",
    "hostname": "example.com",
}

_Object = dict[str, Any]


def compiled(schema: object) -> Schema | None:
    """Compile a schema; None when the validator refuses it."""
    if not isinstance(schema, (dict, bool)):
        return None
    try:
        return compile_schema(cast("_Object | bool", schema))
    except (SchemaError, SchemaLimitError):
        return None


def fits(schema: Schema, document: object) -> bool:
    """Tell whether a document is valid; one that cannot be judged is not."""
    try:
        return schema.is_valid(document)
    except (CheckLimitError, DocumentError):
        return False


def document_for(schema: object, draws: Draws) -> object:
    """Give a document for a schema, valid if one of a few tries is."""
    checker = compiled(schema)
    document: object = None
    for attempt in range(_TRIES):
        document = _Maker(schema, draws.of("document", attempt)).make(schema, "", 0)
        if checker is None or fits(checker, document):
            break
    return document


def as_text(document: object) -> str:
    """Write a document as models do: one line, a space behind colons and commas."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=0)
    return text.decode()


def broken_text(text: str, schema: object, after: int) -> str:
    """Give a text that is the same up to about `after` characters and cannot be valid.

    A value that begins there or behind it becomes one that the schema forbids. Where no such value exists, the text gets
    a character that no JSON may hold.
    """
    checker = compiled(schema)
    try:
        parse_document(text)
    except DocumentError:
        checker = None
    if checker is not None:
        for start, end in _values(text):
            if start < after:
                continue
            for wrong in _WRONG:
                tried = text[:start] + as_text(wrong) + text[end:]
                if not fits(checker, parse_document(tried)):
                    return tried
    return text[:after] + "\x01" + text[after:]


def _values(text: str) -> Iterator[tuple[int, int]]:
    """Give where each scalar value of a JSON text begins and ends; keys are none."""
    at = 0
    while at < len(text):
        character = text[at]
        if character == '"':
            end = at + 1
            while text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            end += 1
            if not text.startswith(":", end):
                yield at, end
        elif character in "-0123456789tfn":
            end = at
            while end < len(text) and text[end] not in ",]} \n":
                end += 1
            yield at, end
        else:
            end = at + 1
        at = end


class _Maker:
    """Makes one document; `root` is what references lead into."""

    def __init__(self, root: object, draws: Draws) -> None:
        self._root = root
        self._draws = draws

    def make(self, schema: object, place: str, depth: int) -> object:
        if not isinstance(schema, dict) or depth > _DEPTH:
            return None
        fields = cast("_Object", schema)
        if isinstance(reference := fields.get("$ref"), str):
            return self.make(self._resolved(reference), place, depth + 1)
        if "const" in fields:
            return fields["const"]
        if values := fields.get("enum"):
            return self._draws.one_of(list(values), "enum", place)
        for branches in (fields.get("anyOf"), fields.get("oneOf")):
            if branches:
                rest = {name: value for name, value in fields.items() if name not in ("anyOf", "oneOf")}
                branch = self._draws.one_of(list(branches), "branch", place)
                return self.make(_merged(rest, branch), place, depth + 1)
        if parts := fields.get("allOf"):
            rest = {name: value for name, value in fields.items() if name != "allOf"}
            for part in parts:
                rest = _merged(rest, part)
            return self.make(rest, place, depth + 1)
        return self._of_type(fields, place, depth)

    def _of_type(self, fields: _Object, place: str, depth: int) -> object:
        kind = fields.get("type")
        if isinstance(kind, list):
            kinds = [each for each in cast("list[str]", kind) if each != "null"]
            kind = kinds[0] if kinds else "null"
        if kind is None:
            kind = "object" if "properties" in fields else "array" if "items" in fields else "string"
        match kind:
            case "object":
                return self._object(fields, place, depth)
            case "array":
                return self._array(fields, place, depth)
            case "integer" | "number":
                return self._number(fields, place, whole=kind == "integer")
            case "boolean":
                return self._draws.number(2, "boolean", place) == 1
            case "null":
                return None
            case _:
                return self._string(fields, place)

    def _object(self, fields: _Object, place: str, depth: int) -> object:
        properties: _Object = fields.get("properties") or {}
        required = cast("list[str]", list(fields.get("required") or ()))
        made: _Object = {}
        for name, each in properties.items():
            deep = depth > _DEPTH // 2 and name not in required
            if not deep:
                made[name] = self.make(each, f"{place}/{name}", depth + 1)
        for name in required:
            if name not in made:
                made[name] = self.make(fields.get("additionalProperties"), f"{place}/{name}", depth + 1)
        return made

    def _array(self, fields: _Object, place: str, depth: int) -> object:
        least = int(fields.get("minItems", 0))
        most = int(fields.get("maxItems", max(least, 3)))
        count = max(least, min(most, 1 + self._draws.number(3, "items", place)))
        prefix = list(fields.get("prefixItems") or ())
        rest = fields.get("items", {"type": "string"})
        if not rest or depth > _DEPTH // 2:
            count = max(least, min(count, len(prefix)))
        items = [*prefix[:count], *[rest] * max(0, count - len(prefix))]
        return [self.make(item, f"{place}/{number}", depth + 1) for number, item in enumerate(items)]

    def _number(self, fields: _Object, place: str, *, whole: bool) -> object:
        low = fields.get("minimum", fields.get("exclusiveMinimum"))
        high = fields.get("maximum", fields.get("exclusiveMaximum"))
        low = low if low is not None else (high - 100 if high is not None else 0)
        high = high if high is not None else low + 100
        step = fields.get("multipleOf") or (1 if whole else 0.5)
        steps = max(1, int((high - low) / step))
        first = -(-low // step) * step
        if "exclusiveMinimum" in fields and first <= fields["exclusiveMinimum"]:
            first += step
        value = first + step * self._draws.number(steps, "number", place)
        return int(value) if whole else value

    def _string(self, fields: _Object, place: str) -> str:
        if (known := _FORMATS.get(fields.get("format", ""))) is not None:
            return known
        least, most = int(fields.get("minLength", 0)), fields.get("maxLength")
        text = " ".join(english(4, self._draws.of("string", place)).rstrip(".").split()[1:4])
        while len(text) < least:
            text += " and more"
        return text[: int(most)] if most is not None else text

    def _resolved(self, reference: str) -> object:
        """Follow a reference within the document; anything else leads to nothing."""
        found: object = self._root
        if reference.partition("#")[0]:
            return None
        for part in reference.partition("#")[2].split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            found = cast("_Object", found).get(name) if isinstance(found, dict) else None
        return found


def _merged(first: _Object, second: object) -> _Object:
    """Lay a schema over another: properties and required are joined, the rest of the second wins."""
    if not isinstance(second, dict):
        return first
    other = cast("_Object", second)
    made: _Object = {**first, **other}
    if "properties" in first or "properties" in other:
        made["properties"] = {**(first.get("properties") or {}), **(other.get("properties") or {})}
    if "required" in first or "required" in other:
        made["required"] = [*(first.get("required") or ()), *(other.get("required") or ())]
    return made
