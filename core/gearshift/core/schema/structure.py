"""What each keyword must look like: the metaschema's rules, with messages that name the place.

Rules: unknown keywords are allowed and not looked into. Nothing is evaluated
here; a pattern is compiled later, by whoever uses it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from gearshift.core.schema.dialect import Dialect
from gearshift.core.schema.errors import SchemaError
from gearshift.core.schema.kinds import is_array, is_object

TYPES: Final = ("array", "boolean", "integer", "null", "number", "object", "string")
_ANCHOR: Final = re.compile(r"[A-Za-z_][-A-Za-z0-9._]*\Z")

Rule = Callable[[Any, str], None]


def token(name: str) -> str:
    """Return name as one step of a JSON pointer, without the slash."""
    return name.replace("~", "~0").replace("/", "~1")


def check_keywords(schema: Mapping[str, Any], pointer: str, dialect: Dialect) -> None:
    """Check the shape of every known keyword of one schema, not of the schemas within.

    Raises:
        SchemaError: a keyword does not look as the metaschema wants it.

    """
    for name, value in schema.items():
        if name not in dialect.keywords:
            continue
        at = f"{pointer}/{token(name)}"
        if name == "items" and dialect.items_may_be_tuple and is_array(value):
            continue
        if dialect.bounds_may_be_boolean and name in ("exclusiveMinimum", "exclusiveMaximum"):
            if not isinstance(value, bool) and not _is_number(value):
                raise SchemaError(at, "expected a boolean")
            continue
        if name == "required" and dialect.bounds_may_be_boolean and isinstance(value, bool):
            continue  # a leftover of draft-03 that draft-04 schemas still carry; it says nothing
        _RULES[name](value, at)
    if dialect.id_keyword in schema and not dialect.id_may_be_anchor:
        fragment = str(schema[dialect.id_keyword]).partition("#")[2]
        if fragment:
            raise SchemaError(f"{pointer}/{dialect.id_keyword}", "must not have a fragment")


def subschemas(schema: Mapping[str, Any], pointer: str, dialect: Dialect) -> Iterator[tuple[Any, str]]:
    """Yield each schema directly within schema, with its pointer."""
    for name, value in schema.items():
        if name not in dialect.keywords:
            continue
        at = f"{pointer}/{token(name)}"
        if name in _ONE_SCHEMA:
            if is_array(value):  # items as a tuple
                for index, item in enumerate(value):
                    yield item, f"{at}/{index}"
            else:
                yield value, at
        elif name in _SCHEMA_LISTS:
            for index, item in enumerate(value):
                yield item, f"{at}/{index}"
        elif name in _SCHEMA_MAPS:
            for key, item in value.items():
                if not is_array(item):  # dependencies may list names
                    yield item, f"{at}/{token(key)}"


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _kind(kind: type, name: str) -> Rule:
    def check(value: Any, at: str) -> None:
        if type(value) is not kind:
            raise SchemaError(at, f"expected {name}")

    return check


def _number(value: Any, at: str) -> None:
    if not _is_number(value):
        raise SchemaError(at, "expected a number")


def _positive(value: Any, at: str) -> None:
    if not _is_number(value) or value <= 0:
        raise SchemaError(at, "expected a number above 0")


def _count(value: Any, at: str) -> None:
    if not _is_number(value) or value < 0 or value != int(value):
        raise SchemaError(at, "expected a whole number, 0 or more")


def _names(value: Any, at: str) -> None:
    if not is_array(value) or any(type(item) is not str for item in value):
        raise SchemaError(at, "expected an array of strings")
    if len(set(value)) != len(value):
        raise SchemaError(at, "names the same string twice")


def _type(value: Any, at: str) -> None:
    types: list[Any] = value if is_array(value) else [value]
    if not types:
        raise SchemaError(at, "expected at least one type")
    for item in types:
        if type(item) is not str or item not in TYPES:
            raise SchemaError(at, f"{str(item)[:40]!r} is not a type; types are {', '.join(TYPES)}")
    if len(set(types)) != len(types):
        raise SchemaError(at, "names the same type twice")


def _array(value: Any, at: str) -> None:
    if not is_array(value):
        raise SchemaError(at, "expected an array")


def _anything(value: Any, at: str) -> None:
    del value, at


def _anchor(value: Any, at: str) -> None:
    if type(value) is not str or _ANCHOR.match(value) is None:
        raise SchemaError(at, "expected a name of letters, digits, '-', '_' and '.', starting with a letter or '_'")


def _schema(value: Any, at: str) -> None:
    if type(value) is not bool and not is_object(value):
        raise SchemaError(at, "expected a schema (an object or a boolean)")


def _schema_list(value: Any, at: str) -> None:
    if not is_array(value) or not value:
        raise SchemaError(at, "expected an array of at least one schema")


def _object(value: Any, at: str) -> None:
    if not is_object(value):
        raise SchemaError(at, "expected an object")


def _dependent_names(value: Any, at: str) -> None:
    _object(value, at)
    for name, item in value.items():
        _names(item, f"{at}/{token(name)}")


def _dependencies(value: Any, at: str) -> None:
    _object(value, at)
    for name, item in value.items():
        if is_array(item):
            _names(item, f"{at}/{token(name)}")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ONE_SCHEMA: Final = _words(
    "additionalItems additionalProperties contains contentSchema else if items not propertyNames then unevaluatedItems"
    " unevaluatedProperties"
)
_SCHEMA_LISTS: Final = _words("allOf anyOf oneOf prefixItems")
_SCHEMA_MAPS: Final = _words("$defs definitions dependencies dependentSchemas patternProperties properties")
_STRING: Final = _kind(str, "a string")
_BOOLEAN: Final = _kind(bool, "a boolean")
_RULES: Final[Mapping[str, Rule]] = (
    dict.fromkeys(_ONE_SCHEMA, _schema)
    | dict.fromkeys(_SCHEMA_LISTS, _schema_list)
    | dict.fromkeys(_SCHEMA_MAPS, _object)
    | dict.fromkeys(("$id", "id", "$schema", "$ref", "$dynamicRef", "$recursiveRef", "$comment"), _STRING)
    | dict.fromkeys(("title", "description", "format", "pattern", "contentEncoding", "contentMediaType"), _STRING)
    | dict.fromkeys(("deprecated", "readOnly", "writeOnly", "uniqueItems", "$recursiveAnchor"), _BOOLEAN)
    | dict.fromkeys(("maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"), _number)
    | dict.fromkeys(("maxLength", "minLength", "maxItems", "minItems", "maxContains", "minContains"), _count)
    | dict.fromkeys(("maxProperties", "minProperties"), _count)
    | dict.fromkeys(("enum", "examples"), _array)
    | dict.fromkeys(("const", "default"), _anything)
    | {
        "$anchor": _anchor,
        "$dynamicAnchor": _anchor,
        "$vocabulary": _object,
        "type": _type,
        "multipleOf": _positive,
        "required": _names,
        "dependentRequired": _dependent_names,
        "dependencies": _dependencies,
    }
)
