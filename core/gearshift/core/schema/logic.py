"""Keywords that combine schemas on one value, and references.

Rules: which branches can matter is decided when the schema is compiled, for each
kind of value: `anyOf` of a string and null costs nothing on a string.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gearshift.core.schema.closest import closest_issues
from gearshift.core.schema.issue import Report, SchemaIssue
from gearshift.core.schema.kinds import kind_of
from gearshift.core.schema.node import KINDS, Check, Keyword, Run, SchemaNode, all_of, fails, passes


@dataclass(frozen=True, slots=True)
class RefKeyword(Keyword):
    """`$ref` and `$dynamicRef`, resolved."""

    keyword: str
    node: SchemaNode

    @property
    def name(self) -> str:
        """The keyword."""
        return self.keyword

    def checks(self) -> Mapping[type, Check]:
        """Use the checks of the node itself."""
        return self.node.table

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Explain as the node does."""
        yield from self.node.explain(value, pointer, report)

    def in_place(self) -> Iterator[SchemaNode]:
        """Yield the node."""
        yield self.node

    def evaluated(self, value: Any, run: Run) -> frozenset[Any]:
        """Return what the node has looked at."""
        return self.node.evaluated(value, run)


@dataclass(frozen=True, slots=True)
class AllOfKeyword(Keyword):
    """`allOf`: every schema must hold."""

    nodes: tuple[SchemaNode, ...]

    @property
    def name(self) -> str:
        """The keyword."""
        return "allOf"

    def checks(self) -> Mapping[type, Check]:
        """Join the checks of the nodes."""
        return {kind: all_of([node.table[kind] for node in self.nodes]) for kind in KINDS}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Explain each node."""
        for node in self.nodes:
            yield from node.explain(value, pointer, report)

    def in_place(self) -> Iterator[SchemaNode]:
        """Yield the nodes."""
        yield from self.nodes

    def evaluated(self, value: Any, run: Run) -> frozenset[Any]:
        """Return what any node has looked at."""
        return frozenset[Any]().union(*(node.evaluated(value, run) for node in self.nodes))


@dataclass(frozen=True, slots=True)
class AnyOfKeyword(Keyword):
    """`anyOf`: at least one schema must hold."""

    nodes: tuple[SchemaNode, ...]

    @property
    def name(self) -> str:
        """The keyword."""
        return "anyOf"

    def checks(self) -> Mapping[type, Check]:
        """Try the branches that can hold for a kind of value."""
        return {kind: _any_of([node.table[kind] for node in self.nodes]) for kind in KINDS}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Explain the branch that was probably meant."""
        report.run.spend(len(self.nodes))
        if any(node.table[type(value)](value, report.run) for node in self.nodes):
            return
        yield from closest_issues("anyOf", self.nodes, value, pointer, report)

    def in_place(self) -> Iterator[SchemaNode]:
        """Yield the branches."""
        yield from self.nodes

    def evaluated(self, value: Any, run: Run) -> frozenset[Any]:
        """Return what the branches that hold have looked at."""
        return _evaluated_by_valid(self.nodes, value, run)


@dataclass(frozen=True, slots=True)
class OneOfKeyword(Keyword):
    """`oneOf`: exactly one schema must hold."""

    nodes: tuple[SchemaNode, ...]

    @property
    def name(self) -> str:
        """The keyword."""
        return "oneOf"

    def checks(self) -> Mapping[type, Check]:
        """Try the branches that can hold for a kind of value, until two do."""
        return {kind: _one_of([node.table[kind] for node in self.nodes]) for kind in KINDS}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Say how many branches hold, or explain the one that was probably meant."""
        report.run.spend(len(self.nodes))
        count = sum(node.table[type(value)](value, report.run) for node in self.nodes)
        if count > 1:
            yield SchemaIssue(
                pointer, "oneOf", f"matches {count} of {len(self.nodes)} forms, but must match exactly one"
            )
        elif count == 0:
            yield from closest_issues("oneOf", self.nodes, value, pointer, report)

    def in_place(self) -> Iterator[SchemaNode]:
        """Yield the branches."""
        yield from self.nodes

    def evaluated(self, value: Any, run: Run) -> frozenset[Any]:
        """Return what the branch that holds has looked at."""
        return _evaluated_by_valid(self.nodes, value, run)


@dataclass(frozen=True, slots=True)
class NotKeyword(Keyword):
    """`not`: the schema must not hold. What it looked at does not count as evaluated."""

    node: SchemaNode

    @property
    def name(self) -> str:
        """The keyword."""
        return "not"

    def checks(self) -> Mapping[type, Check]:
        """Turn the node's checks around."""
        return {kind: _negated(self.node.table[kind]) for kind in KINDS}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Say that something forbidden is there; a schema cannot say why."""
        if self.node.table[type(value)](value, report.run):
            types = [keyword for keyword in self.node.keywords if keyword.name in ("type", "const", "enum", "required")]
            kind = f" (of {types[0].name})" if len(types) == 1 and len(self.node.keywords) == 1 else ""
            yield SchemaIssue(pointer, "not", f"has a form that `not`{kind} forbids")

    def in_place(self) -> Iterator[SchemaNode]:
        """Yield the node."""
        yield self.node


@dataclass(frozen=True, slots=True)
class ConditionalKeyword(Keyword):
    """`if` with `then` and `else`."""

    condition: SchemaNode
    then: SchemaNode | None
    otherwise: SchemaNode | None

    @property
    def name(self) -> str:
        """The keyword."""
        return "if"

    def checks(self) -> Mapping[type, Check]:
        """Decide the condition now where it can only go one way."""
        return {kind: self._check(kind) for kind in KINDS}

    def _check(self, kind: type) -> Check:
        condition = self.condition.table[kind]
        then = passes if self.then is None else self.then.table[kind]
        otherwise = passes if self.otherwise is None else self.otherwise.table[kind]
        if condition is passes or then is otherwise:
            return then
        if condition is fails:
            return otherwise

        def branch_passes(value: Any, run: Run) -> bool:
            run.left -= 2
            if run.left < 0:
                raise run.exhausted()
            return then(value, run) if condition(value, run) else otherwise(value, run)

        return branch_passes

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Explain the branch that applies."""
        branch = self._branch(value, report.run)
        if branch is not None:
            yield from branch.explain(value, pointer, report)

    def _branch(self, value: Any, run: Run) -> SchemaNode | None:
        return self.then if self.condition.table[type(value)](value, run) else self.otherwise

    def in_place(self) -> Iterator[SchemaNode]:
        """Yield the condition and the branches."""
        yield self.condition
        if self.then is not None:
            yield self.then
        if self.otherwise is not None:
            yield self.otherwise

    def evaluated(self, value: Any, run: Run) -> frozenset[Any]:
        """Return what the condition, where it holds, and its branch have looked at."""
        holds = self.condition.table[type(value)](value, run)
        branch = self.then if holds else self.otherwise
        found = self.condition.evaluated(value, run) if holds else frozenset[Any]()
        return found if branch is None else found | branch.evaluated(value, run)


def _any_of(checks: list[Check]) -> Check:
    if any(check is passes for check in checks):
        return passes
    real = tuple(check for check in checks if check is not fails)
    count = len(real)
    if count == 0:
        return fails
    if count == 1:
        return real[0]

    def any_passes(value: Any, run: Run) -> bool:
        run.left -= count
        if run.left < 0:
            raise run.exhausted()
        for check in real:
            if check(value, run):
                return True
        return False

    return any_passes


def _one_of(checks: list[Check]) -> Check:
    real = tuple(check for check in checks if check is not fails)
    count = len(real)
    if sum(check is passes for check in real) > 1 or count == 0:
        return fails
    if count == 1:
        return real[0]

    def one_passes(value: Any, run: Run) -> bool:
        run.left -= count
        if run.left < 0:
            raise run.exhausted()
        found = False
        for check in real:
            if check(value, run):
                if found:
                    return False
                found = True
        return found

    return one_passes


def _negated(check: Check) -> Check:
    if check is passes:
        return fails
    if check is fails:
        return passes

    def does_not_pass(value: Any, run: Run) -> bool:
        return not check(value, run)

    return does_not_pass


def _evaluated_by_valid(nodes: tuple[SchemaNode, ...], value: Any, run: Run) -> frozenset[Any]:
    run.spend(len(nodes))
    kind = kind_of(value)
    return frozenset[Any]().union(*(node.evaluated(value, run) for node in nodes if node.table[kind](value, run)))
