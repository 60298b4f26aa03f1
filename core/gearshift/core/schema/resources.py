"""Where each schema of a document is, and what a reference points to.

Rules: a reference finds a place in the same document, or in one of the known
metaschemas; nothing is ever fetched. A document is walked once, without
recursion, and checked on the way against the metaschema's rules.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urljoin

from gearshift.core.schema.dialect import DRAFT_2020_12, Dialect, dialect_of
from gearshift.core.schema.errors import SchemaError, SchemaLimitError
from gearshift.core.schema.kinds import is_array, is_object
from gearshift.core.schema.limits import SchemaLimits
from gearshift.core.schema.metaschemas import load_metaschema
from gearshift.core.schema.structure import check_keywords, subschemas, token

_HAS_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_INDEX: Final = re.compile(r"0|[1-9][0-9]*\Z")


@dataclass(eq=False, slots=True)
class Resource:
    """A schema with an identity of its own: the root of a document, or a schema with `$id`."""

    uri: str
    document: str
    pointer: str
    dialect: Dialect
    anchors: "dict[str, Location]" = field(default_factory=lambda: dict[str, Location]())
    dynamic_anchors: "dict[str, Location]" = field(default_factory=lambda: dict[str, Location]())


@dataclass(eq=False, frozen=True, slots=True)
class Location:
    """One schema in one document; `document` is "" for the caller's own."""

    document: str
    pointer: str
    schema: dict[str, Any] | bool
    resource: Resource


# The dynamic anchors that are bound on the way to a place, by name.
Bindings = tuple[tuple[str, Location], ...]


class Library:
    """The caller's document and the metaschemas that it refers to."""

    def __init__(self, limits: SchemaLimits, metaschemas: Mapping[str, Mapping[str, Any]]) -> None:
        self._limits = limits
        self._metaschemas = metaschemas
        self._roots: dict[str, Any] = {}
        self._locations: dict[tuple[str, str], Location] = {}
        self._resources: dict[str, tuple[Resource, Location]] = {}
        self._dynamic_names = {"meta"}  # the metaschemas, which may be added later, ask for this one

    @property
    def locations(self) -> list[Location]:
        """Every schema known so far, in the order in which it was found."""
        return list(self._locations.values())

    def add(self, document: str, schema: Any, uri: str) -> Location:
        """Walk a document, check it, and return its root.

        Raises:
            SchemaError: a keyword does not look as it should.

        """
        self._roots[document] = schema
        root = Resource(uri, document, "", DRAFT_2020_12)
        return self._walk(schema, "", root, document)

    def at(self, document: str, pointer: str) -> Location:
        """Return the schema that is known to stand at pointer."""
        return self._locations[document, pointer]

    def resolve(self, reference: str, origin: Location, at: str) -> Location:
        """Return the schema that reference means where origin stands; `at` is the keyword's pointer.

        Raises:
            SchemaError: there is nothing there, or it is outside of the document.

        """
        uri, _, fragment = _join(origin.resource.uri, reference).partition("#")
        found = self._resources.get(uri)
        if found is None:
            metaschema = load_metaschema(uri)
            if metaschema is None:
                raise SchemaError(
                    at, f'"{reference[:100]}" is outside of the document; remote references are not followed'
                )
            self.add(uri, metaschema, uri)
            found = self._resources[uri]
        resource, location = found
        fragment = unquote(fragment)
        if not fragment:
            return location
        if not fragment.startswith("/"):
            anchor = resource.anchors.get(fragment)
            if anchor is None:
                raise SchemaError(at, f'"{reference[:100]}" names an anchor that is not there')
            return anchor
        return self._at_pointer(resource, fragment, reference, at)

    def bound(self, bindings: Bindings, resource: Resource) -> Bindings:
        """Return bindings with the dynamic anchors of a resource that is entered; outer ones win."""
        taken = {name for name, _ in bindings}
        fresh = [
            (name, place)
            for name, place in resource.dynamic_anchors.items()
            if name not in taken and name in self._dynamic_names
        ]
        return tuple(sorted([*bindings, *fresh], key=lambda item: item[0])) if fresh else bindings

    def _at_pointer(self, resource: Resource, fragment: str, reference: str, at: str) -> Location:
        pointer = resource.pointer + fragment
        known = self._locations.get((resource.document, pointer))
        if known is not None:
            return known
        # The place is not one where a schema is known to stand: walk there, minding ids on the way.
        value, walked = self._roots[resource.document], ""
        nearest = resource
        for step in pointer.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if is_object(value) and name in value:
                value = value[name]
            elif is_array(value) and _INDEX.match(name) and len(name) < 9 and int(name) < len(value):
                value = value[int(name)]
            else:
                raise SchemaError(at, f'"{reference[:100]}" points to nothing')
            walked = f"{walked}/{token(name)}"
            passed = self._locations.get((resource.document, walked))
            nearest = passed.resource if passed is not None else nearest
        known = self._locations.get((resource.document, walked))
        if known is not None:
            return known
        if type(value) is not bool and not is_object(value):
            raise SchemaError(at, f'"{reference[:100]}" points to something that is not a schema')
        return self._walk(value, walked, nearest, resource.document)

    def _walk(self, schema: Any, pointer: str, resource: Resource, document: str) -> Location:
        first: Location | None = None
        stack: list[tuple[Any, str, Resource, int]] = [(schema, pointer, resource, 1)]
        while stack:
            value, at, parent, depth = stack.pop()
            if type(value) is not bool and not is_object(value):
                raise SchemaError(at, "expected a schema (an object or a boolean)")
            if depth > self._limits.schema_depth:
                raise SchemaLimitError(at, f"schemas are nested deeper than {self._limits.schema_depth}")
            if len(self._locations) >= self._limits.schema_nodes:
                raise SchemaLimitError(at, f"there are more than {self._limits.schema_nodes} schemas")
            location = self._register(value, at, parent, document)
            first = first or location
            if is_object(value):
                dialect = location.resource.dialect
                check_keywords(value, at, dialect)
                within = [(item, where, location.resource, depth + 1) for item, where in subschemas(value, at, dialect)]
                stack.extend(reversed(within))
        assert first is not None
        return first

    def _register(self, schema: Any, pointer: str, parent: Resource, document: str) -> Location:
        resource = self._resource_of(schema, pointer, parent, document) if is_object(schema) else parent
        location = Location(document, pointer, schema, resource)
        self._locations[document, pointer] = location
        if resource is not parent or pointer == "":
            self._resources.setdefault(resource.uri, (resource, location))
            if pointer == "":
                self._resources.setdefault(parent.uri, (resource, location))
        if is_object(schema):
            self._note_anchors(schema, location)
            if isinstance(dynamic := schema.get("$dynamicRef"), str):
                self._dynamic_names.add(dynamic.partition("#")[2])
        return location

    def _resource_of(self, schema: dict[str, Any], pointer: str, parent: Resource, document: str) -> Resource:
        """Return the resource that schema stands in: parent's, or one of its own where it has an id."""
        dialect = parent.dialect
        is_root = pointer == ""
        declared = schema.get("$schema")
        if isinstance(declared, str) and (is_root or "$id" in schema or "id" in schema):
            dialect = dialect_of(declared, f"{pointer}/$schema", self._metaschemas)
        own = schema.get(dialect.id_keyword)
        if dialect.ref_hides_siblings and "$ref" in schema:
            own = None
        if not isinstance(own, str) or (dialect.id_may_be_anchor and own.startswith("#")):
            return Resource(parent.uri, document, pointer, dialect) if is_root else parent
        uri = _join(parent.uri, own).partition("#")[0]
        return Resource(uri, document, pointer, dialect)

    @staticmethod
    def _note_anchors(schema: dict[str, Any], location: Location) -> None:
        resource = location.resource
        dialect = resource.dialect
        if dialect.id_may_be_anchor:
            own = schema.get(dialect.id_keyword)
            if isinstance(own, str) and "#" in own and not (dialect.ref_hides_siblings and "$ref" in schema):
                resource.anchors.setdefault(own.partition("#")[2], location)
            return
        for keyword in ("$anchor", "$dynamicAnchor"):
            name = schema.get(keyword)
            if isinstance(name, str) and keyword in dialect.keywords:
                resource.anchors.setdefault(name, location)
                if keyword == "$dynamicAnchor":
                    resource.dynamic_anchors.setdefault(name, location)


def _join(base: str, reference: str) -> str:
    if reference.startswith("#"):
        return base + reference
    if _HAS_SCHEME.match(reference):
        return reference
    try:
        return urljoin(base, reference)
    except ValueError:
        return reference
