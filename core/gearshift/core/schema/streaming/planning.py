"""The plans of one schema, each made when its node first meets a value of a kind.

Rules: plans are kept with the schema and never changed, so making one twice at the
same time does no harm. Branches that the kind alone decides are gone: what the full
validator knows by `passes` and `fails` costs nothing here. In a schema with
`unevaluated…` branches that always pass stay, since what they looked at counts.
"""

from typing import Final

from gearshift.core.schema.logic import (
    AllOfKeyword,
    AnyOfKeyword,
    ConditionalKeyword,
    NotKeyword,
    OneOfKeyword,
    RefKeyword,
)
from gearshift.core.schema.node import SchemaNode, fails, passes
from gearshift.core.schema.objects import DependentSchemasKeyword
from gearshift.core.schema.scalars import EnumKeyword, SizeKeyword
from gearshift.core.schema.schema import Schema
from gearshift.core.schema.streaming.containers import array_plan, object_plan
from gearshift.core.schema.streaming.plans import (
    ArrayPlan,
    Conditional,
    Form,
    Logic,
    ObjectPlan,
    TextPlan,
    aliased,
    applied,
)
from gearshift.core.schema.streaming.prefixes import sorted_texts
from gearshift.core.schema.unevaluated import UnevaluatedKeyword

_NOTHING: Final = Logic()
_MANY: Final = 1_000


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
            plan = self._objects[node.number] = object_plan(node, self._logic(node, dict), self.tracks)
        return plan

    def array(self, node: SchemaNode) -> ArrayPlan:
        """Return the plan of node for arrays."""
        plan = self._arrays.get(node.number)
        if plan is None:
            plan = self._arrays[node.number] = array_plan(node, self._logic(node, list), self.tracks)
        return plan

    def text(self, node: SchemaNode) -> TextPlan | None:
        """Return the plan of node for strings, or None where nothing is known before the end."""
        if node.number not in self._texts:
            self._texts[node.number] = self._text_plan(node)
        return self._texts[node.number]

    def text_cost(self, plan: TextPlan) -> int:
        """Return the work for one string; nodes that share others are not counted more than once each."""
        if plan.cost < _MANY:
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
            below = self.text(target)
            cost += 1 if below is None else 1 + below.cost
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


def _own_text(node: SchemaNode) -> tuple[int | None, tuple[tuple[str, tuple[str, ...]], ...], int]:
    longest: int | None = None
    lists: list[tuple[str, tuple[str, ...]]] = []
    cost = 0
    for keyword in node.keywords:
        match keyword:
            case SizeKeyword(keyword="maxLength", limit=limit):
                longest = limit if longest is None else min(longest, limit)
                cost += 1
            case EnumKeyword(keyword=name, values=values):
                texts = sorted_texts(value for value in values if type(value) is str)
                if texts:
                    lists.append((name, texts))
                    cost += 1 + (max(map(len, texts)) >> 2)
            case _:
                pass
    return longest, tuple(lists), cost
