"""Keywords about objects.

Rules: `properties`, `patternProperties` and `additionalProperties` are one
keyword here, since each needs the others; so a member is looked at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gearshift.core.schema.issue import Report, SchemaIssue, child_pointer, listed, quoted
from gearshift.core.schema.kinds import is_object
from gearshift.core.schema.node import PASS_TABLE, Check, Keyword, Run, SchemaNode
from gearshift.core.schema.patterns import Pattern


@dataclass(frozen=True, slots=True)
class MembersKeyword(Keyword):
    """`properties`, `patternProperties` and `additionalProperties`."""

    properties: Mapping[str, SchemaNode]
    patterns: tuple[tuple[Pattern, SchemaNode], ...]
    additional: SchemaNode | None

    @property
    def name(self) -> str:
        """The first of the three, by which nodes print."""
        return "properties"

    @property
    def is_closed(self) -> bool:
        """Whether no other property than those named is allowed."""
        return self.additional is not None and self.additional.literal is False

    def checks(self) -> Mapping[type, Check]:
        """Walk the members once."""
        find = {name: node.table for name, node in self.properties.items()}.get
        rest = PASS_TABLE if self.additional is None else self.additional.table
        patterns = tuple((pattern.matches, node.table) for pattern, node in self.patterns)
        weight = 1 + len(patterns)

        def members_pass(value: Any, run: Run) -> bool:
            run.left -= len(value)
            if run.left < 0:
                raise run.exhausted()
            for name, item in value.items():
                if not find(name, rest)[type(item)](item, run):
                    return False
            return True

        def members_and_patterns_pass(value: Any, run: Run) -> bool:
            run.left -= weight * len(value)
            if run.left < 0:
                raise run.exhausted()
            for name, item in value.items():
                table = find(name)
                if table is not None and not table[type(item)](item, run):
                    return False
                matched = table is not None
                for matches, table in patterns:
                    if matches(name, run):
                        matched = True
                        if not table[type(item)](item, run):
                            return False
                if not matched and not rest[type(item)](item, run):
                    return False
            return True

        return {dict: members_and_patterns_pass if patterns else members_pass}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Explain each member; say of one that is not allowed which are."""
        if not is_object(value):
            return
        for name, item in value.items():
            report.run.spend(1)
            nodes = [node for pattern, node in self.patterns if pattern.matches(name, report.run)]
            if name in self.properties:
                nodes.append(self.properties[name])
            at = child_pointer(pointer, name)
            if nodes:
                for node in nodes:
                    yield from node.explain(item, at, report)
            elif self.is_closed:
                yield SchemaIssue(at, "additionalProperties", self._not_allowed(value))
            elif self.additional is not None:
                yield from self.additional.explain(item, at, report)

    def _not_allowed(self, members: Mapping[str, Any]) -> str:
        free = [quoted(name) for name in self.properties if name not in members]
        if not free:
            return "is not an allowed property"
        return f"is not an allowed property; not yet used: {listed(free)}"

    def children(self) -> Iterator[SchemaNode]:
        """Yield the nodes of all members."""
        yield from self.properties.values()
        for _, node in self.patterns:
            yield node
        if self.additional is not None:
            yield self.additional

    def evaluated(self, value: Any, run: Run) -> frozenset[Any]:
        """Return the names that any of the three spoke about."""
        if not is_object(value):
            return frozenset()
        run.spend(len(value))
        if self.additional is not None:
            return frozenset(value)
        return frozenset(
            name
            for name in value
            if name in self.properties or any(pattern.matches(name, run) for pattern, _ in self.patterns)
        )


@dataclass(frozen=True, slots=True)
class RequiredKeyword(Keyword):
    """`required`: the properties that must be there."""

    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The keyword."""
        return "required"

    def checks(self) -> Mapping[type, Check]:
        """Compare sets of names."""
        names, count = self.names, len(self.names)
        if count == 1:
            only = names[0]

            def has_it(value: Any, run: Run) -> bool:
                del run
                return only in value

            return {dict: has_it}

        def has_all(value: Any, run: Run) -> bool:
            if len(value) < count:
                return False
            run.left -= count
            if run.left < 0:
                raise run.exhausted()
            for name in names:
                if name not in value:
                    return False
            return True

        return {dict: has_all}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Name each property that is missing."""
        if is_object(value):
            for name in self.names:
                if name not in value:
                    yield SchemaIssue(pointer, "required", f"the property {quoted(name)} is missing")


@dataclass(frozen=True, slots=True)
class DependentRequiredKeyword(Keyword):
    """`dependentRequired`, and `dependencies` with names: what must be there when something else is."""

    dependents: Mapping[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        """The keyword."""
        return "dependentRequired"

    def checks(self) -> Mapping[type, Check]:
        """Look at each name that is there."""
        dependents = tuple(self.dependents.items())
        weight = sum(1 + len(names) for _, names in dependents)

        def has_dependents(value: Any, run: Run) -> bool:
            run.spend(weight)
            return all(name not in value or all(other in value for other in names) for name, names in dependents)

        return {dict: has_dependents}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Name what is missing and because of what."""
        if not is_object(value):
            return
        for name, names in self.dependents.items():
            for other in names if name in value else ():
                if other not in value:
                    yield SchemaIssue(
                        pointer,
                        "dependentRequired",
                        f"the property {quoted(other)} is missing, since {quoted(name)} is there",
                    )


@dataclass(frozen=True, slots=True)
class PropertyNamesKeyword(Keyword):
    """`propertyNames`: what every name must be."""

    node: SchemaNode

    @property
    def name(self) -> str:
        """The keyword."""
        return "propertyNames"

    def checks(self) -> Mapping[type, Check]:
        """Check each name as a string."""
        table = self.node.table

        def names_pass(value: Any, run: Run) -> bool:
            run.left -= len(value)
            if run.left < 0:
                raise run.exhausted()
            check = table[str]
            for name in value:
                if not check(name, run):
                    return False
            return True

        return {dict: names_pass}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Say which name is wrong and why."""
        if not is_object(value):
            return
        for name in value:
            report.run.spend(1)
            if not self.node.table[str](name, report.run):
                reasons = self.node.explain(name, child_pointer(pointer, name), report)
                reason = reasons[0].message if reasons else "is not allowed"
                yield SchemaIssue(pointer, "propertyNames", f"the property name {quoted(name)}: {reason}")

    def children(self) -> Iterator[SchemaNode]:
        """Yield the node for names."""
        yield self.node


@dataclass(frozen=True, slots=True)
class DependentSchemasKeyword(Keyword):
    """`dependentSchemas`, and `dependencies` with schemas: what else must hold when a property is there."""

    nodes: Mapping[str, SchemaNode]

    @property
    def name(self) -> str:
        """The keyword."""
        return "dependentSchemas"

    def checks(self) -> Mapping[type, Check]:
        """Apply the schema of each name that is there to the object itself."""
        nodes = tuple((name, node.table[dict]) for name, node in self.nodes.items())
        weight = len(nodes)

        def dependents_pass(value: Any, run: Run) -> bool:
            run.spend(weight)
            return all(name not in value or check(value, run) for name, check in nodes)

        return {dict: dependents_pass}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Explain each schema that applies."""
        if is_object(value):
            for name, node in self.nodes.items():
                if name in value:
                    yield from node.explain(value, pointer, report)

    def in_place(self) -> Iterator[SchemaNode]:
        """Yield the dependent schemas."""
        yield from self.nodes.values()

    def evaluated(self, value: Any, run: Run) -> frozenset[Any]:
        """Return what the schemas that apply have looked at."""
        found: frozenset[Any] = frozenset()
        if is_object(value):
            for name, node in self.nodes.items():
                if name in value:
                    found |= node.evaluated(value, run)
        return found
