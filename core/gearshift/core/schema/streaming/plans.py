"""What one schema node asks of a value of one kind, sorted by when it can be known.

Rules: made when a node first meets a kind, kept with the schema, never changed; so
making one twice at the same time does no harm. Branches that the kind alone decides
are gone: what the full validator knows by `passes` and `fails` costs nothing here.
In a schema with `unevaluated…` branches that always pass stay, since what they
looked at counts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gearshift.core.schema.arrays import ContainsKeyword, ItemsKeyword, UniqueItemsKeyword
from gearshift.core.schema.canonical import identity_key
from gearshift.core.schema.kinds import kind_of
from gearshift.core.schema.logic import (
    AllOfKeyword,
    AnyOfKeyword,
    ConditionalKeyword,
    NotKeyword,
    OneOfKeyword,
    RefKeyword,
)
from gearshift.core.schema.node import CONTAINERS, KINDS, Keyword, Run, SchemaNode, fails, passes
from gearshift.core.schema.objects import (
    DependentRequiredKeyword,
    DependentSchemasKeyword,
    MembersKeyword,
    PropertyNamesKeyword,
    RequiredKeyword,
)
from gearshift.core.schema.patterns import Pattern
from gearshift.core.schema.scalars import EnumKeyword, SizeKeyword
from gearshift.core.schema.schema import Schema
from gearshift.core.schema.streaming.prefixes import sorted_texts
from gearshift.core.schema.unevaluated import UnevaluatedKeyword


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


_NO_TEXT: Final = TextPlan(logic=None, longest=None, lists=(), cost=0)
_NOTHING: Final = Logic()
_LENGTH_COST: Final = 1


class Plans:
    """The plans of one schema."""

    __slots__ = ("_arrays", "_objects", "_schema", "_text_bound", "_texts", "tracks")

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._objects: dict[int, ObjectPlan] = {}
        self._arrays: dict[int, ArrayPlan] = {}
        self._texts: dict[int, TextPlan | None] = {}
        self._text_bound: int | None = None
        self.tracks = any(isinstance(keyword, UnevaluatedKeyword) for node in schema.nodes for keyword in node.keywords)

    def object(self, node: SchemaNode) -> ObjectPlan:
        """Return the plan of node for objects."""
        plan = self._objects.get(node.number)
        if plan is None:
            plan = self._objects[node.number] = _object_plan(node, self._logic(node, dict), self.tracks)
        return plan

    def array(self, node: SchemaNode) -> ArrayPlan:
        """Return the plan of node for arrays."""
        plan = self._arrays.get(node.number)
        if plan is None:
            plan = self._arrays[node.number] = _array_plan(node, self._logic(node, list), self.tracks)
        return plan

    def text(self, node: SchemaNode) -> TextPlan | None:
        """Return the plan of node for strings, or None where nothing is known before the end."""
        if node.number not in self._texts:
            self._texts[node.number] = self._text_plan(node)
        return self._texts[node.number]

    def text_cost(self, plan: TextPlan) -> int:
        """Return the work for one string; nodes that share others are not counted more than once each."""
        if plan.cost < 1_000:
            return plan.cost
        if self._text_bound is None:
            self._text_bound = sum(_own_text(node)[2] for node in self._schema.nodes)
        return min(plan.cost, self._text_bound)

    def _logic(self, node: SchemaNode, kind: type) -> Logic | None:
        every: list[SchemaNode] = []
        forms: list[Form] = []
        nots: list[SchemaNode] = []
        conditionals: list[Conditional] = []
        dependents: dict[str, tuple[SchemaNode, ...]] = {}
        forbidden: set[str] = set()
        for keyword in node.keywords:
            match keyword:
                case RefKeyword(node=target):
                    every.append(aliased(target))
                case AllOfKeyword(nodes=nodes):
                    every.extend(map(aliased, nodes))
                case AnyOfKeyword() | OneOfKeyword():
                    branches = tuple(aliased(branch) for branch in keyword.nodes if branch.table[kind] is not fails)
                    if len(branches) == 1:
                        every.append(branches[0])
                    elif (
                        self.tracks
                        or isinstance(keyword, OneOfKeyword)
                        or all(branch.table[kind] is not passes for branch in branches)
                    ):
                        forms.append(Form(keyword=keyword.name, nodes=branches))
                case NotKeyword(node=target):
                    if target.table[kind] is not fails:
                        nots.append(aliased(target))
                case ConditionalKeyword():
                    self._conditional(keyword, kind, every, conditionals)
                case DependentSchemasKeyword(nodes=by_name) if kind is dict:
                    for name, target in by_name.items():
                        if target.table[dict] is fails:
                            forbidden.add(name)
                        elif self.tracks or target.table[dict] is not passes:
                            dependents[name] = (*dependents.get(name, ()), aliased(target))
                case _:
                    pass
        if not self.tracks:
            every = [target for target in every if target.table[kind] is not passes]
        logic = Logic(
            every=tuple(every),
            forms=tuple(forms),
            nots=tuple(nots),
            conditionals=tuple(conditionals),
            dependents=dependents,
            forbidden=frozenset(forbidden),
        )
        return None if logic == _NOTHING else logic

    def _conditional(
        self, keyword: ConditionalKeyword, kind: type, every: list[SchemaNode], conditionals: list[Conditional]
    ) -> None:
        then, otherwise = keyword.then, keyword.otherwise
        condition = keyword.condition.table[kind]
        if condition is fails:
            if otherwise is not None:
                every.append(aliased(otherwise))
            return
        if condition is passes and not self.tracks:
            if then is not None:
                every.append(aliased(then))
            return
        rule = Conditional(
            condition=aliased(keyword.condition),
            then=self._branch(then, kind),
            otherwise=self._branch(otherwise, kind),
            then_never=then is not None and then.table[kind] is fails,
            otherwise_never=otherwise is not None and otherwise.table[kind] is fails,
        )
        if self.tracks or rule.then or rule.otherwise or rule.then_never or rule.otherwise_never:
            conditionals.append(rule)

    def _branch(self, node: SchemaNode | None, kind: type) -> SchemaNode | None:
        if node is None or node.table[kind] is fails or (node.table[kind] is passes and not self.tracks):
            return None
        return aliased(node)

    def _text_plan(self, node: SchemaNode) -> TextPlan | None:
        """Keep only logic that can fail before the end: a form needs all its branches to be able to."""
        if node.table[str] is passes or node.table[str] is fails:
            return None
        longest, lists, cost = _own_text(node)
        logic = self._logic(node, str)
        mortal: Logic | None = None
        if logic is not None:
            mortal = Logic(
                every=tuple(target for target in logic.every if self.text(target) is not None),
                forms=tuple(form for form in logic.forms if all(self.text(branch) for branch in form.nodes)),
                conditionals=tuple(rule for rule in logic.conditionals if self._may_die(rule)),
            )
            mortal = None if mortal == _NOTHING else mortal
        if mortal is None and longest is None and not lists:
            return None
        for target in () if mortal is None else applied(mortal):
            cost += (self.text(target) or _NO_TEXT).cost + 1
        return TextPlan(logic=mortal, longest=longest, lists=lists, cost=cost)

    def _may_die(self, rule: Conditional) -> bool:
        def mortal(branch: SchemaNode | None, never: bool) -> bool:
            return never or (branch is not None and self.text(branch) is not None)

        return mortal(rule.otherwise, rule.otherwise_never) and (
            mortal(rule.then, rule.then_never) or self.text(rule.condition) is not None
        )


def plans_of(schema: Schema) -> Plans:
    """Return the plans of schema, made once."""
    plans = schema.plans
    if plans is None:
        plans = schema.plans = Plans(schema)
    return plans


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


def _own_text(node: SchemaNode) -> tuple[int | None, tuple[tuple[str, tuple[str, ...]], ...], int]:
    longest: int | None = None
    lists: list[tuple[str, tuple[str, ...]]] = []
    cost = 0
    for keyword in node.keywords:
        match keyword:
            case SizeKeyword(keyword="maxLength", limit=limit):
                longest = limit if longest is None else min(longest, limit)
                cost += _LENGTH_COST
            case EnumKeyword(keyword=name, values=values):
                texts = sorted_texts(value for value in values if type(value) is str)
                if texts:
                    lists.append((name, texts))
                    cost += 1 + (max(map(len, texts)) >> 2)
            case _:
                pass
    return longest, tuple(lists), cost


def _sizes(keywords: tuple[Keyword, ...], unit: str) -> tuple[int, int | None]:
    least, most = 0, None
    for keyword in keywords:
        match keyword:
            case SizeKeyword(keyword=name, limit=limit) if name == f"min{unit}":
                least = limit
            case SizeKeyword(keyword=name, limit=limit) if name == f"max{unit}":
                most = limit
            case _:
                pass
    return least, most


def _constants(keywords: tuple[Keyword, ...]) -> tuple[tuple[str, frozenset[Any]], ...]:
    return tuple(
        (keyword.keyword, frozenset(identity_key(value) for value in keyword.values if kind_of(value) in CONTAINERS))
        for keyword in keywords
        if isinstance(keyword, EnumKeyword)
    )


def _unevaluated(keywords: tuple[Keyword, ...], kind: type) -> SchemaNode | None:
    for keyword in keywords:
        if isinstance(keyword, UnevaluatedKeyword) and keyword.kind is kind:
            return keyword.node
    return None


def _asking(*nodes: SchemaNode | None) -> tuple[SchemaNode, ...]:
    """Return the nodes that have something against any value."""
    return tuple(
        aliased(node) for node in nodes if node is not None and any(node.table[kind] is not passes for kind in KINDS)
    )


def _object_plan(node: SchemaNode, logic: Logic | None, tracks: bool) -> ObjectPlan:
    keywords = node.keywords
    least, most = _sizes(keywords, "Properties")
    required = tuple(name for keyword in keywords if isinstance(keyword, RequiredKeyword) for name in keyword.names)
    dependents = tuple(
        item
        for keyword in keywords
        if isinstance(keyword, DependentRequiredKeyword)
        for item in keyword.dependents.items()
    )
    names = _asking(*(keyword.node for keyword in keywords if isinstance(keyword, PropertyNamesKeyword)))
    members = next((keyword for keyword in keywords if isinstance(keyword, MembersKeyword)), None)
    unevaluated = _unevaluated(keywords, dict)
    properties: dict[str, tuple[SchemaNode, ...]] = {}
    rest: tuple[SchemaNode, ...] = ()
    closed: tuple[str, ...] | None = None
    if members is not None:
        properties = {name: _asking(target) for name, target in members.properties.items()}
        additional = members.additional
        rest = _asking(additional)
        if additional is not None and not members.patterns:
            is_never = all(additional.table[kind] is fails for kind in KINDS)
            closed = sorted_texts(properties) if is_never else None
    return ObjectPlan(
        logic=logic,
        least=least,
        most=most,
        constants=_constants(keywords),
        unevaluated=unevaluated,
        tracks=tracks,
        is_watching=bool(
            most is not None
            or names
            or members is not None
            or unevaluated is not None
            or (logic is not None and (logic.dependents or logic.forbidden))
        ),
        required=required,
        dependents=dependents,
        names=names,
        properties=properties,
        patterns=() if members is None else members.patterns,
        rest=rest,
        covers_all=members is not None and members.additional is not None,
        closed=closed,
        key_cost=1 + (max(map(len, closed), default=0) >> 4 if closed else 0),
    )


def _array_plan(node: SchemaNode, logic: Logic | None, tracks: bool) -> ArrayPlan:
    keywords = node.keywords
    least, most = _sizes(keywords, "Items")
    items = next((keyword for keyword in keywords if isinstance(keyword, ItemsKeyword)), None)
    contains = next((keyword for keyword in keywords if isinstance(keyword, ContainsKeyword)), None)
    unevaluated = _unevaluated(keywords, list)
    is_unique = any(isinstance(keyword, UniqueItemsKeyword) for keyword in keywords)
    return ArrayPlan(
        logic=logic,
        least=least,
        most=most,
        constants=_constants(keywords),
        unevaluated=unevaluated,
        tracks=tracks,
        is_watching=bool(
            most is not None or items is not None or contains is not None or unevaluated is not None or is_unique
        ),
        prefix=() if items is None else tuple(_asking(target) for target in items.prefix),
        rest=() if items is None else _asking(items.rest),
        covers_all=items is not None and items.rest is not None,
        contains=contains,
        is_unique=is_unique,
    )
