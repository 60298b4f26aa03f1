"""Make the plan of one node for arrays, and for objects."""

from typing import Any

from gearshift.core.schema.arrays import ContainsKeyword, ItemsKeyword, UniqueItemsKeyword
from gearshift.core.schema.canonical import identity_key
from gearshift.core.schema.kinds import kind_of
from gearshift.core.schema.node import CONTAINERS, KINDS, Keyword, SchemaNode, fails, passes
from gearshift.core.schema.objects import (
    DependentRequiredKeyword,
    MembersKeyword,
    PropertyNamesKeyword,
    RequiredKeyword,
)
from gearshift.core.schema.scalars import EnumKeyword, SizeKeyword
from gearshift.core.schema.streaming.plans import ArrayPlan, Logic, ObjectPlan, aliased
from gearshift.core.schema.streaming.prefixes import sorted_texts
from gearshift.core.schema.unevaluated import UnevaluatedKeyword


def object_plan(node: SchemaNode, logic: Logic | None, tracks: bool) -> ObjectPlan:
    """Return what node asks of an object; `tracks`: whether names that were looked at count."""
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


def array_plan(node: SchemaNode, logic: Logic | None, tracks: bool) -> ArrayPlan:
    """Return what node asks of an array; `tracks`: whether indexes that were looked at count."""
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
