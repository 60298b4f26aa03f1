"""Compile a schema, once, into nodes that check documents.

Rules: no I/O but reading the known metaschemas, no recursion, no global state.
Which schema a `$dynamicRef` means depends on the way that led to it, and that way
is known: a place is compiled once for each binding of dynamic anchors with which
it is reached, so that a check never has to ask. References that would apply a
schema to one value for ever are refused; shared schemas are checked once per value,
so that the work is bounded by the document times the schema.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from gearshift.core.schema.build import build_keywords
from gearshift.core.schema.dialect import Dialect
from gearshift.core.schema.ecma import PatternError
from gearshift.core.schema.errors import SchemaError, SchemaLimitError
from gearshift.core.schema.formats import format_rule
from gearshift.core.schema.limits import DEFAULT_LIMITS, SchemaLimits
from gearshift.core.schema.node import (
    CONTAINERS,
    FAIL_TABLE,
    KINDS,
    PASS_TABLE,
    Check,
    Keyword,
    Run,
    SchemaNode,
    all_of,
    fails,
    passes,
    remembered,
)
from gearshift.core.schema.patterns import Pattern
from gearshift.core.schema.resources import Bindings, Library, Location
from gearshift.core.schema.schema import Schema
from gearshift.core.schema.source import read_schema
from gearshift.core.schema.structure import token

_NOTHING: Final[Mapping[str, Mapping[str, Any]]] = {}


def compile_schema(
    schema: Mapping[str, Any] | bool | str,
    *,
    metaschemas: Mapping[str, Mapping[str, Any]] = _NOTHING,
    limits: SchemaLimits = DEFAULT_LIMITS,
    assert_formats: bool = False,
) -> Schema:
    """Return schema, ready to check documents.

    Args:
        schema: as a value, or as JSON text.
        metaschemas: custom metaschemas that `$schema` may name, by URI without fragment.
        limits: how large the schema may be, and how much work a check may take.
        assert_formats: whether the formats that are known are checked, not just noted.

    Raises:
        SchemaError: schema is not valid, refers to what is not there, or uses what is refused.
        SchemaLimitError: schema passes one of the limits.

    """
    value, canonical = read_schema(schema, limits)
    return compile_value(value, canonical, metaschemas=metaschemas, limits=limits, assert_formats=assert_formats)


def compile_value(
    value: Any,
    canonical: str,
    *,
    metaschemas: Mapping[str, Mapping[str, Any]] = _NOTHING,
    limits: SchemaLimits = DEFAULT_LIMITS,
    assert_formats: bool = False,
) -> Schema:
    """Compile what `read_schema` returned; arguments and errors are those of `compile_schema`."""
    compiler = _Compiler(limits, metaschemas, assert_formats)
    try:
        root = compiler.compile(value)
    except RecursionError as error:
        raise SchemaLimitError("", "schemas are entangled too deeply") from error
    return Schema(root=root, nodes=tuple(compiler.nodes), canonical=canonical, limits=limits)


class _Compiler:
    """The work of one compilation."""

    def __init__(
        self, limits: SchemaLimits, metaschemas: Mapping[str, Mapping[str, Any]], assert_formats: bool
    ) -> None:
        self.limits = limits
        self.assert_formats = assert_formats
        self.library = Library(limits, metaschemas)
        self.nodes: list[SchemaNode] = []
        self.patterns: dict[str, Pattern] = {}
        self.pattern_chars = 0
        self._built: set[Location] = set()
        self._by_place: dict[tuple[Location, Bindings], SchemaNode] = {}
        self._waiting: list[tuple[SchemaNode, Location, Bindings]] = []

    def compile(self, schema: Any) -> SchemaNode:
        location = self.library.add("", schema, "")
        root = self.node(location, self.library.bound((), location.resource))
        self._build()
        # What only a reference could reach, and none does, must be right as well.
        for location in self.library.locations:
            if location.document == "" and location not in self._built:
                self.node(location, self.library.bound((), location.resource))
        self._build()
        self._fill(_in_order(self.nodes, self.limits), _reached_twice(self.nodes, root))
        return root

    def node(self, location: Location, bindings: Bindings) -> SchemaNode:
        """Return the node of a place, new ones to be built later."""
        node = self._by_place.get((location, bindings))
        if node is None:
            if len(self.nodes) >= self.limits.schema_nodes:
                raise SchemaLimitError(
                    location.pointer, f"more than {self.limits.schema_nodes} schemas with references"
                )
            literal = location.schema if isinstance(location.schema, bool) else None
            node = SchemaNode(len(self.nodes), location.document + location.pointer, literal)
            self.nodes.append(node)
            self._by_place[location, bindings] = node
            self._built.add(location)
            self._waiting.append((node, location, bindings))
        return node

    def _build(self) -> None:
        while self._waiting:
            node, location, bindings = self._waiting.pop()
            if isinstance(location.schema, dict):
                node.keywords = build_keywords(location.schema, _Site(self, location, bindings))

    def _fill(self, nodes: list[SchemaNode], shared: set[int]) -> None:
        """Give every node its table; nodes come after those that they apply in place."""
        for node in nodes:
            if node.literal is not None:
                node.table.update(PASS_TABLE if node.literal else FAIL_TABLE)
                continue
            checks: dict[type, list[Check]] = {kind: [] for kind in KINDS}
            for keyword in node.keywords:
                for kind, check in keyword.checks().items():
                    checks[kind].append(check)
            has_in_place = any(True for keyword in node.keywords for _ in keyword.in_place())
            has_children = any(True for keyword in node.keywords for _ in keyword.children())
            for kind in KINDS:
                check = all_of(checks[kind])
                is_costly = has_in_place or (has_children and kind in CONTAINERS)
                if node.number in shared and is_costly and check is not passes and check is not fails:
                    check = remembered(check, node.number)
                node.table[kind] = check


class _Site:
    """What stands around one schema while its keywords are built."""

    def __init__(self, compiler: _Compiler, location: Location, bindings: Bindings) -> None:
        self._compiler = compiler
        self._location = location
        self._bindings = bindings

    @property
    def dialect(self) -> Dialect:
        return self._location.resource.dialect

    def child(self, *steps: str | int) -> SchemaNode:
        library = self._compiler.library
        at = self._location.pointer + "".join(f"/{token(str(step))}" for step in steps)
        return self._enter(library.at(self._location.document, at))

    def target(self, keyword: str, reference: str) -> SchemaNode:
        at = f"{self._location.pointer}/{keyword}"
        found = self._compiler.library.resolve(reference, self._location, at)
        if keyword == "$dynamicRef":
            name = reference.partition("#")[2]
            if found.resource.dynamic_anchors.get(name) is found:
                found = dict(self._bindings).get(name, found)
        return self._enter(found)

    def _enter(self, location: Location) -> SchemaNode:
        bindings = self._bindings
        if location.resource is not self._location.resource:
            bindings = self._compiler.library.bound(bindings, location.resource)
        return self._compiler.node(location, bindings)

    def pattern(self, source: str, *steps: str) -> Pattern:
        patterns = self._compiler.patterns
        if source not in patterns:
            try:
                patterns[source] = Pattern(source)
            except PatternError as error:
                at = self._location.pointer + "".join(f"/{token(step)}" for step in steps)
                raise SchemaError(at, str(error)) from error
            self._compiler.pattern_chars += patterns[source].cost
            if self._compiler.pattern_chars > self._compiler.limits.pattern_chars:
                at = self._location.pointer + "".join(f"/{token(step)}" for step in steps)
                raise SchemaLimitError(at, "the patterns of this schema are too many or too large")
        return patterns[source]

    def format(self, name: str) -> Callable[[str, Run], bool] | None:
        if self._compiler.assert_formats or self.dialect.asserts_formats:
            return format_rule(name)
        return None


def _applied(node: SchemaNode) -> Iterator[SchemaNode]:
    for keyword in node.keywords:
        yield from keyword.in_place()


def _in_order(nodes: list[SchemaNode], limits: SchemaLimits) -> list[SchemaNode]:
    """Return nodes so that each comes after those that it applies to the same value.

    Raises:
        SchemaError: a schema applies itself to the same value, which would never end.
        SchemaLimitError: too many schemas apply each other in a row.

    """
    heights: dict[int, int] = {}
    open_nodes: set[int] = set()
    ordered: list[SchemaNode] = []
    for start in nodes:
        stack: list[tuple[SchemaNode, Iterator[SchemaNode]]] = []
        following: SchemaNode | None = start
        while following is not None or stack:
            if following is not None:
                if following.number not in heights:
                    if following.number in open_nodes:
                        raise SchemaError(following.pointer, "applies itself to the same value, which would never end")
                    open_nodes.add(following.number)
                    stack.append((following, _applied(following)))
                following = None
            if not stack:
                break
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                open_nodes.discard(node.number)
                height = 1 + max((heights[other.number] for other in _applied(node)), default=0)
                if height > limits.schema_depth:
                    raise SchemaLimitError(node.pointer, f"more than {limits.schema_depth} schemas apply each other")
                heights[node.number] = height
                ordered.append(node)
    return ordered


def _reached_twice(nodes: list[SchemaNode], root: SchemaNode) -> set[int]:
    """Return the numbers of the nodes that more than one place applies."""
    once: set[int] = {root.number}
    twice: set[int] = set()
    for node in nodes:
        for keyword in node.keywords:
            for other in _both(keyword):
                (twice if other.number in once else once).add(other.number)
    return twice


def _both(keyword: Keyword) -> Iterator[SchemaNode]:
    yield from keyword.in_place()
    yield from keyword.children()
