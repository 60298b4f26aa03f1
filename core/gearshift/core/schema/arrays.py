"""Keywords about arrays.

Rules: `prefixItems` and `items` (in draft-07: `items` and `additionalItems`) are
one keyword here, since the second begins where the first ends.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gearshift.core.schema.issue import Report, SchemaIssue, child_pointer
from gearshift.core.schema.kinds import is_array
from gearshift.core.schema.node import PASS_TABLE, Check, Keyword, Run, SchemaNode


@dataclass(frozen=True, slots=True)
class ItemsKeyword(Keyword):
    """The items by position, and what all after them must be."""

    prefix: tuple[SchemaNode, ...]
    rest: SchemaNode | None

    @property
    def name(self) -> str:
        """The keyword for a list of one kind, by which nodes print."""
        return "items"

    @property
    def is_closed(self) -> bool:
        """Whether no item is allowed after the prefix."""
        return self.rest is not None and self.rest.literal is False

    def checks(self) -> Mapping[type, Check]:
        """Walk the items once."""
        prefix = tuple(node.table for node in self.prefix)
        rest = PASS_TABLE if self.rest is None else self.rest.table
        first = len(prefix)

        def items_pass(value: Any, run: Run) -> bool:
            run.left -= len(value)
            if run.left < 0:
                raise run.exhausted()
            for item in value:
                if not rest[type(item)](item, run):
                    return False
            return True

        def prefix_and_items_pass(value: Any, run: Run) -> bool:
            run.left -= len(value)
            if run.left < 0:
                raise run.exhausted()
            for item, table in zip(value, prefix, strict=False):
                if not table[type(item)](item, run):
                    return False
            if rest is not PASS_TABLE:
                for index in range(first, len(value)):
                    item = value[index]
                    if not rest[type(item)](item, run):
                        return False
            return True

        return {list: prefix_and_items_pass if prefix else items_pass}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Explain each item."""
        if not is_array(value):
            return
        first = len(self.prefix)
        for index, item in enumerate(value):
            report.run.spend(1)
            if index >= first and self.is_closed:
                limit = "no items" if first == 0 else f"at most {first} item{'s' if first > 1 else ''}"
                yield SchemaIssue(pointer, "items", f"expected {limit}, got {len(value)}")
                return
            node = self.prefix[index] if index < first else self.rest
            if node is not None:
                yield from node.explain(item, child_pointer(pointer, index), report)

    def children(self) -> Iterator[SchemaNode]:
        """Yield the nodes of all items."""
        yield from self.prefix
        if self.rest is not None:
            yield self.rest

    def evaluated(self, value: Any, run: Run) -> frozenset[Any]:
        """Return the indexes that either spoke about."""
        if not is_array(value):
            return frozenset()
        count = len(value) if self.rest is not None else min(len(value), len(self.prefix))
        run.spend(count)
        return frozenset(range(count))


@dataclass(frozen=True, slots=True)
class ContainsKeyword(Keyword):
    """`contains` with `minContains` and `maxContains`: how many items must be like this."""

    node: SchemaNode
    least: int
    most: int | None
    marks_items: bool

    @property
    def name(self) -> str:
        """The keyword."""
        return "contains"

    def checks(self) -> Mapping[type, Check]:
        """Count the items that match, no further than needed."""
        table, least, most = self.node.table, self.least, self.most

        def contains_enough(value: Any, run: Run) -> bool:
            run.left -= len(value)
            if run.left < 0:
                raise run.exhausted()
            count = 0
            if most is None and least == 0:
                return True
            for item in value:
                if table[type(item)](item, run):
                    count += 1
                    if most is None:
                        if count >= least:
                            return True
                    elif count > most:
                        return False
            return count >= least

        return {list: contains_enough}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Say how many items match and how many should."""
        if not is_array(value):
            return
        count = len(self._matching(value, report.run))
        if count < self.least:
            words = f"expected at least {self.least} item{'s' if self.least > 1 else ''} like its `contains`"
            yield SchemaIssue(pointer, "contains", f"{words}, found {count}")
        if self.most is not None and count > self.most:
            words = f"expected at most {self.most} item{'' if self.most == 1 else 's'} like its `contains`"
            yield SchemaIssue(pointer, "maxContains", f"{words}, found {count}")

    def _matching(self, items: list[Any], run: Run) -> list[int]:
        run.spend(len(items))
        table = self.node.table
        return [index for index, item in enumerate(items) if table[type(item)](item, run)]

    def children(self) -> Iterator[SchemaNode]:
        """Yield the node that items are counted by."""
        yield self.node

    def evaluated(self, value: Any, run: Run) -> frozenset[Any]:
        """Return the indexes of the items that match."""
        if not is_array(value) or not self.marks_items:
            return frozenset()
        return frozenset(self._matching(value, run))


@dataclass(frozen=True, slots=True)
class UniqueItemsKeyword(Keyword):
    """`uniqueItems: true`."""

    @property
    def name(self) -> str:
        """The keyword."""
        return "uniqueItems"

    def checks(self) -> Mapping[type, Check]:
        """Put the items into a set; linear, since containers go in as their canonical text."""

        def are_unique(value: Any, run: Run) -> bool:
            count = len(value)
            run.left -= count
            if run.left < 0:
                raise run.exhausted()
            return count < 2 or len({run.key_of(item) for item in value}) == count

        return {list: are_unique}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Name the first two items that are equal."""
        if not is_array(value):
            return
        seen: dict[Any, int] = {}
        for index, item in enumerate(value):
            report.run.spend(1)
            first = seen.setdefault(report.run.key_of(item), index)
            if first != index:
                yield SchemaIssue(
                    child_pointer(pointer, index), "uniqueItems", f"is the same as item {first}; items must be unique"
                )
                return
