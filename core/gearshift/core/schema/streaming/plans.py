"""What one schema node asks of a value of one kind, sorted by when it can be known."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gearshift.core.schema.arrays import ContainsKeyword
from gearshift.core.schema.logic import RefKeyword
from gearshift.core.schema.node import Run, SchemaNode
from gearshift.core.schema.patterns import Pattern


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """The branches of one `anyOf` or `oneOf` that this kind of value can take."""

    keyword: str
    nodes: tuple[SchemaNode, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditional:
    """One `if`. A branch that is None always holds, one that is never cannot."""

    condition: SchemaNode
    then: SchemaNode | None
    otherwise: SchemaNode | None
    then_never: bool
    otherwise_never: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Logic:
    """The nodes that are applied to the same value."""

    every: tuple[SchemaNode, ...] = ()
    forms: tuple[Form, ...] = ()
    nots: tuple[SchemaNode, ...] = ()
    conditionals: tuple[Conditional, ...] = ()
    dependents: Mapping[str, tuple[SchemaNode, ...]] = field(default_factory=dict[str, tuple[SchemaNode, ...]])
    forbidden: frozenset[str] = frozenset()
    """Names that `dependentSchemas` does not allow at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPlan:
    """What can end a string before its last character. It has no `not`: that is known at the end."""

    logic: Logic | None
    longest: int | None
    lists: tuple[tuple[str, tuple[str, ...]], ...]
    """`enum` or `const`, and the sorted strings."""
    cost: int
    """Units of work that a string may take, with all that the logic applies."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerPlan:
    """What an array or object must be at its end."""

    logic: Logic | None
    least: int
    most: int | None
    """Most items or properties."""
    constants: tuple[tuple[str, frozenset[Any]], ...]
    """`enum` and `const`: identity keys of the containers among their values."""
    unevaluated: SchemaNode | None
    tracks: bool
    """Whether names or indexes that were looked at must be kept."""
    is_watching: bool
    """Whether it has anything to say before the end, beside its logic."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectPlan(ContainerPlan):
    """What one node asks of an object."""

    required: tuple[str, ...]
    dependents: tuple[tuple[str, tuple[str, ...]], ...]
    names: tuple[SchemaNode, ...]
    properties: Mapping[str, tuple[SchemaNode, ...]]
    patterns: tuple[tuple[Pattern, SchemaNode], ...]
    rest: tuple[SchemaNode, ...]
    """For members that neither names nor patterns speak about."""
    covers_all: bool
    """Whether every member counts as looked at, by `additionalProperties`."""
    closed: tuple[str, ...] | None
    """The only names that are allowed, sorted; None where others may be."""
    key_cost: int

    def members(self, name: str, run: Run) -> tuple[tuple[SchemaNode, ...], bool]:
        """Return the nodes for a member, and whether it counts as looked at."""
        nodes = self.properties.get(name)
        if not self.patterns:
            return (self.rest, self.covers_all) if nodes is None else (nodes, True)
        matched = tuple(aliased(node) for pattern, node in self.patterns if pattern.matches(name, run))
        if nodes is None and not matched:
            return self.rest, self.covers_all
        return (nodes or ()) + matched, True


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayPlan(ContainerPlan):
    """What one node asks of an array."""

    prefix: tuple[tuple[SchemaNode, ...], ...]
    rest: tuple[SchemaNode, ...]
    covers_all: bool
    contains: ContainsKeyword | None
    is_unique: bool


def aliased(node: SchemaNode) -> SchemaNode:
    """Return what a node that is nothing but a reference refers to."""
    while len(node.keywords) == 1 and isinstance(keyword := node.keywords[0], RefKeyword):
        node = keyword.node
    return node


def applied(logic: Logic) -> Iterable[SchemaNode]:
    """Yield every node that the logic applies, some more than once."""
    yield from logic.every
    for form in logic.forms:
        yield from form.nodes
    yield from logic.nots
    for rule in logic.conditionals:
        yield rule.condition
        if rule.then is not None:
            yield rule.then
        if rule.otherwise is not None:
            yield rule.otherwise
    for nodes in logic.dependents.values():
        yield from nodes
