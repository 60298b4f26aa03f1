"""`unevaluatedProperties` and `unevaluatedItems`: what no other keyword of the same schema has looked at.

Rules: other keywords count with all that they apply to the same value, through
references and the branches that hold; branches that do not hold do not count.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gearshift.core.schema.issue import Report, SchemaIssue, child_pointer
from gearshift.core.schema.kinds import is_object, kind_of
from gearshift.core.schema.node import Check, Keyword, Run, SchemaNode, union_evaluated


@dataclass(frozen=True, slots=True)
class UnevaluatedKeyword(Keyword):
    """One of the two; `others` are the keywords beside it."""

    keyword: str
    node: SchemaNode
    others: tuple[Keyword, ...]

    @property
    def name(self) -> str:
        """The keyword."""
        return self.keyword

    @property
    def kind(self) -> type:
        """The kind of value that it is about: dict or list."""
        return dict if self.keyword == "unevaluatedProperties" else list

    def checks(self) -> Mapping[type, Check]:
        """Check what is left over; the other keywords have passed before."""
        table = self.node.table

        def rest_passes(value: Any, run: Run) -> bool:
            for _, item in self._rest(value, run):
                if not table[type(item)](item, run):
                    return False
            return True

        return {self.kind: rest_passes}

    def _rest(self, value: Any, run: Run) -> list[tuple[Any, Any]]:
        run.spend(1 + len(value))
        done = union_evaluated(self.others, value, run)
        if is_object(value):
            return [(name, item) for name, item in value.items() if name not in done]
        return [(index, item) for index, item in enumerate(value) if index not in done]

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Name what is left over; silent while the other keywords fail, since they decide what is."""
        if kind_of(value) is not self.kind:
            return
        if any(True for other in self.others for _ in other.explain(value, pointer, report)):
            return
        for name, item in self._rest(value, report.run):
            yield from self.node.explain(item, child_pointer(pointer, name), report)

    def children(self) -> Iterator[SchemaNode]:
        """Yield the node for what is left over."""
        yield self.node

    def evaluated(self, value: Any, run: Run) -> frozenset[Any]:
        """Return everything: what was left over has been looked at here."""
        if kind_of(value) is not self.kind:
            return frozenset()
        run.spend(len(value))
        return frozenset(value if is_object(value) else range(len(value)))
