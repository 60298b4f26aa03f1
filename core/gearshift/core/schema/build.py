"""From one schema object to its keywords.

Rules: the schema has been checked against the metaschema's rules before. Cheap
keywords come first, since the first that fails ends a check.
"""

from collections.abc import Callable
from typing import Any, Protocol

from gearshift.core.schema.arrays import ContainsKeyword, ItemsKeyword, UniqueItemsKeyword
from gearshift.core.schema.dialect import Dialect
from gearshift.core.schema.kinds import is_array
from gearshift.core.schema.logic import (
    AllOfKeyword,
    AnyOfKeyword,
    ConditionalKeyword,
    NotKeyword,
    OneOfKeyword,
    RefKeyword,
)
from gearshift.core.schema.node import Keyword, Run, SchemaNode
from gearshift.core.schema.objects import (
    DependentRequiredKeyword,
    DependentSchemasKeyword,
    MembersKeyword,
    PropertyNamesKeyword,
    RequiredKeyword,
)
from gearshift.core.schema.patterns import Pattern
from gearshift.core.schema.scalars import (
    BoundKeyword,
    EnumKeyword,
    FormatKeyword,
    MultipleOfKeyword,
    PatternKeyword,
    SizeKeyword,
    TypeKeyword,
)
from gearshift.core.schema.unevaluated import UnevaluatedKeyword

_SIZES = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


class Site(Protocol):
    """What stands around a schema: how to get at the schemas within and beyond it."""

    @property
    def dialect(self) -> Dialect:
        """The dialect that the schema is written in."""
        ...

    def child(self, *steps: str | int) -> SchemaNode:
        """Return the node of the schema at these steps below this one."""
        ...

    def target(self, keyword: str, reference: str) -> SchemaNode:
        """Return the node that a reference means."""
        ...

    def pattern(self, source: str, *steps: str) -> Pattern:
        """Return the compiled expression; steps lead to where it is written."""
        ...

    def format(self, name: str) -> Callable[[str, Run], bool] | None:
        """Return the rule of a format that is asserted, or None."""
        ...


def build_keywords(schema: dict[str, Any], site: Site) -> tuple[Keyword, ...]:
    """Return the keywords of schema, cheap ones first."""
    dialect = site.dialect
    if dialect.ref_hides_siblings and "$ref" in schema:
        return (RefKeyword("$ref", site.target("$ref", schema["$ref"])),)
    active = {name: value for name, value in schema.items() if name in dialect.keywords}
    keywords = [
        *_scalar_keywords(active, site),
        *_object_keywords(active, site),
        *_array_keywords(active, site),
        *_logic_keywords(active, site),
    ]
    others = tuple(keywords)
    for name in ("unevaluatedProperties", "unevaluatedItems"):
        if name in active:
            keywords.append(UnevaluatedKeyword(name, site.child(name), others))
    return tuple(keywords)


def _scalar_keywords(schema: dict[str, Any], site: Site) -> list[Keyword]:
    found: list[Keyword] = []
    if "type" in schema:
        types = schema["type"]
        found.append(TypeKeyword(tuple(types) if is_array(types) else (types,)))
    if "const" in schema:
        found.append(EnumKeyword("const", (schema["const"],)))
    if "enum" in schema:
        found.append(EnumKeyword("enum", tuple(schema["enum"])))
    found.extend(_bounds(schema, site.dialect))
    if "multipleOf" in schema:
        found.append(MultipleOfKeyword(schema["multipleOf"]))
    found.extend(SizeKeyword(name, int(schema[name])) for name in _SIZES if name in schema)
    if "pattern" in schema:
        found.append(PatternKeyword(site.pattern(schema["pattern"], "pattern")))
    if "format" in schema and (accepts := site.format(schema["format"])) is not None:
        found.append(FormatKeyword(schema["format"], accepts))
    return found


def _bounds(schema: dict[str, Any], dialect: Dialect) -> list[Keyword]:
    limits = {name: schema[name] for name in _BOUNDS if name in schema}
    if dialect.bounds_may_be_boolean:
        for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if limits.get(exclusive) is True and inclusive in limits:
                limits[exclusive] = limits.pop(inclusive)
            elif isinstance(limits.get(exclusive), bool):
                del limits[exclusive]
    return [BoundKeyword(name, limit) for name, limit in limits.items()]


def _object_keywords(schema: dict[str, Any], site: Site) -> list[Keyword]:
    found: list[Keyword] = []
    if is_array(names := schema.get("required")) and names:
        found.append(RequiredKeyword(tuple(names)))
    needed = dict(schema.get("dependentRequired", {}))
    applied: dict[str, SchemaNode] = {}
    for name, value in schema.get("dependencies", {}).items():
        if is_array(value):
            needed[name] = [*needed.get(name, ()), *schema["dependencies"][name]]
        else:
            applied[name] = site.child("dependencies", name)
    if needed:
        found.append(DependentRequiredKeyword({name: tuple(names) for name, names in needed.items()}))
    if "propertyNames" in schema:
        found.append(PropertyNamesKeyword(site.child("propertyNames")))
    if any(name in schema for name in ("properties", "patternProperties", "additionalProperties")):
        found.append(_members(schema, site))
    if applied:
        found.append(DependentSchemasKeyword(applied))
    if schema.get("dependentSchemas"):
        nodes = {name: site.child("dependentSchemas", name) for name in schema["dependentSchemas"]}
        found.append(DependentSchemasKeyword(nodes))
    return found


def _members(schema: dict[str, Any], site: Site) -> MembersKeyword:
    return MembersKeyword(
        {name: site.child("properties", name) for name in schema.get("properties", {})},
        tuple(
            (site.pattern(source, "patternProperties", source), site.child("patternProperties", source))
            for source in schema.get("patternProperties", {})
        ),
        site.child("additionalProperties") if "additionalProperties" in schema else None,
    )


def _array_keywords(schema: dict[str, Any], site: Site) -> list[Keyword]:
    found: list[Keyword] = []
    prefix: tuple[SchemaNode, ...] = ()
    rest: SchemaNode | None = None
    if is_array(schema.get("items")):
        prefix = tuple(site.child("items", index) for index in range(len(schema["items"])))
        if "additionalItems" in schema:
            rest = site.child("additionalItems")
    else:
        prefix = tuple(site.child("prefixItems", index) for index in range(len(schema.get("prefixItems", ()))))
        if "items" in schema:
            rest = site.child("items")
    if prefix or rest is not None:
        found.append(ItemsKeyword(prefix, rest))
    if "contains" in schema:
        least, most = int(schema.get("minContains", 1)), schema.get("maxContains")
        marks = site.dialect.contains_marks_items
        found.append(ContainsKeyword(site.child("contains"), least, None if most is None else int(most), marks))
    if schema.get("uniqueItems"):
        found.append(UniqueItemsKeyword())
    return found


def _logic_keywords(schema: dict[str, Any], site: Site) -> list[Keyword]:
    found: list[Keyword] = [
        RefKeyword(name, site.target(name, schema[name]))
        for name in ("$ref", "$dynamicRef", "$recursiveRef")
        if name in schema
    ]
    if "not" in schema:
        found.append(NotKeyword(site.child("not")))
    for name, kind in (("allOf", AllOfKeyword), ("anyOf", AnyOfKeyword), ("oneOf", OneOfKeyword)):
        if name in schema:
            found.append(kind(tuple(site.child(name, index) for index in range(len(schema[name])))))
    if "if" in schema and ("then" in schema or "else" in schema or site.dialect.keywords >= {"unevaluatedItems"}):
        then = site.child("then") if "then" in schema else None
        otherwise = site.child("else") if "else" in schema else None
        found.append(ConditionalKeyword(site.child("if"), then, otherwise))
    return found
