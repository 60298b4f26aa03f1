"""What a PromQL expression names: metrics, the labels that it picks by, and those that it groups by."""

from __future__ import annotations

from dataclasses import dataclass

import promql_parser as promql

_OPERATORS = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}


@dataclass(frozen=True)
class Selected:
    """One selector of an expression."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    """Label, operator and value."""


def parsed(expression: str) -> promql.Expr:
    """Read an expression, with Grafana's variables for times put in.

    Raises:
        ValueError: it is no PromQL.
    """
    return promql.parse(expression.replace("$__rate_interval", "5m"))


def selected(expression: promql.Expr) -> set[Selected]:
    """Give every selector in it."""
    found: set[Selected] = set()
    for node in _nodes(expression):
        if isinstance(node, promql.VectorSelector):
            matchers = tuple(
                (each.name, _OPERATORS[str(each.op).rpartition(".")[2]], each.value) for each in node.matchers.matchers
            )
            found.add(Selected(node.name or "", matchers))
    return found


def groupings(expression: promql.Expr) -> list[tuple[set[str], set[Selected]]]:
    """Give the labels that each aggregation in it goes by, and what it aggregates."""
    return [
        (set(node.modifier.labels), selected(node))
        for node in _nodes(expression)
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None
    ]


def _nodes(expression: promql.Expr) -> list[promql.Expr]:
    seen: list[promql.Expr] = []
    promql.walk(expression, seen.append)
    return seen
