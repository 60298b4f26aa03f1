"""A compiled schema: its keywords, and one ready check for each kind of value.

Rules: a node is inspectable (`keywords`) and callable (`table`). The table maps a
value's Python type to a check, so that `type` costs nothing; it is filled once,
when the whole schema is compiled, and never changes after. A check never raises
for a bad value: it says False.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from gearshift.core.schema.canonical import identity_key
from gearshift.core.schema.errors import CheckLimitError, DocumentError
from gearshift.core.schema.issue import Report, SchemaIssue

NULL: Final = type(None)
KINDS: Final[tuple[type, ...]] = (dict, list, str, int, float, bool, NULL)
CONTAINERS: Final[tuple[type, ...]] = (dict, list)

Check = Callable[[Any, "Run"], bool]


class Run:
    """One check of one document: the work that is left, and what is already known."""

    __slots__ = ("_keys", "evaluated", "left", "verdicts")

    def __init__(self, work: int) -> None:
        self.left = work
        # By node number and id of the value; a document is held and unchanged while it is checked.
        self.verdicts: dict[tuple[int, int], bool] = {}
        self.evaluated: dict[tuple[int, int], frozenset[Any]] = {}
        self._keys: dict[int, Any] = {}

    def spend(self, amount: int) -> None:
        """Take amount from the work that is left.

        Raises:
            CheckLimitError: there was not enough.

        """
        self.left -= amount
        if self.left < 0:
            raise self.exhausted()

    def key_of(self, value: Any) -> Any:
        """Return the identity key of value; that of an array or object is worked out once."""
        if type(value) not in CONTAINERS:
            return identity_key(value)
        known = self._keys.get(id(value))
        if known is None:
            known = self._keys[id(value)] = identity_key(value)
            self.spend(1 + (len(known[1]) >> 4))
        return known

    def exhausted(self) -> CheckLimitError:
        """Return the error for a check that takes too much work."""
        return CheckLimitError("checking this document against this schema takes too much work")


def passes(value: Any, run: Run) -> bool:
    """Accept every value."""
    del value, run
    return True


def fails(value: Any, run: Run) -> bool:
    """Accept no value."""
    del value, run
    return False


class Table(dict[type, Check]):
    """The check for each kind of value."""

    __slots__ = ()

    def __missing__(self, kind: type) -> Check:
        raise DocumentError(f"not a JSON value: {kind.__name__}")


PASS_TABLE: Final = Table(dict.fromkeys(KINDS, passes))
FAIL_TABLE: Final = Table(dict.fromkeys(KINDS, fails))


class Keyword:
    """One keyword of a schema, or several that only mean something together."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The keyword as it is written in a schema."""
        raise NotImplementedError

    def checks(self) -> Mapping[type, Check]:
        """Return a check for each kind of value that this keyword says something about."""
        raise NotImplementedError

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Yield what is wrong with value, which stands at pointer; nothing when it is right."""
        raise NotImplementedError

    def in_place(self) -> "Iterator[SchemaNode]":
        """Yield the nodes that are applied to the same value."""
        return iter(())

    def children(self) -> "Iterator[SchemaNode]":
        """Yield the nodes that are applied to values within."""
        return iter(())

    def evaluated(self, value: Any, run: Run) -> frozenset[Any]:
        """Return the property names or item indexes of value that this keyword has looked at.

        Only asked where value is valid.
        """
        del value, run
        return frozenset()


class SchemaNode:
    """One schema, compiled. `pointer` is its place in the schema's document."""

    __slots__ = ("keywords", "literal", "number", "pointer", "table")

    def __init__(self, number: int, pointer: str, literal: bool | None) -> None:
        self.number = number
        self.pointer = pointer
        self.literal = literal
        """True or False for a boolean schema, otherwise None."""
        self.keywords: tuple[Keyword, ...] = ()
        self.table = Table()

    def explain(self, value: Any, pointer: str, report: Report) -> list[SchemaIssue]:
        """Return what is wrong with value, at most as many issues as the report takes."""
        if self.table[type(value)](value, report.run):
            return []
        if self.literal is False:
            return [SchemaIssue(pointer, "false", "is not allowed")]
        key = (pointer, self.number)
        known = report.known.get(key)
        if known is not None:
            return known
        issues: list[SchemaIssue] = []
        for keyword in self.keywords:
            report.run.spend(1)
            for issue in keyword.explain(value, pointer, report):
                if issue not in issues:
                    issues.append(issue)
                if len(issues) >= report.limit:
                    break
            if len(issues) >= report.limit or (issues and keyword.name == "type"):
                break
        report.known[key] = issues
        return issues

    def evaluated(self, value: Any, run: Run) -> frozenset[Any]:
        """Return the property names or item indexes of value that this schema has looked at; value is valid."""
        key = (self.number, id(value))
        known = run.evaluated.get(key)
        if known is None:
            known = run.evaluated[key] = union_evaluated(self.keywords, value, run)
        return known

    def __repr__(self) -> str:
        return f"SchemaNode({self.pointer or '(root)'}, {', '.join(keyword.name for keyword in self.keywords)})"


def union_evaluated(keywords: tuple[Keyword, ...], value: Any, run: Run) -> frozenset[Any]:
    """Return what any of the keywords has looked at in value, which is valid."""
    found: frozenset[Any] = frozenset()
    for keyword in keywords:
        more = keyword.evaluated(value, run)
        run.spend(1 + len(more))
        found = found | more if found else more
    return found


def all_of(checks: list[Check]) -> Check:
    """Return one check that passes when all do."""
    if any(check is fails for check in checks):
        return fails
    real = [check for check in checks if check is not passes]
    count = len(real)
    if count == 0:
        return passes
    if count == 1:
        return real[0]
    if count == 2:
        first, second = real

        def both(value: Any, run: Run) -> bool:
            run.left -= 2
            if run.left < 0:
                raise run.exhausted()
            return first(value, run) and second(value, run)

        return both
    every = tuple(real)

    def all_pass(value: Any, run: Run) -> bool:
        run.left -= count
        if run.left < 0:
            raise run.exhausted()
        for check in every:
            if not check(value, run):
                return False
        return True

    return all_pass


def remembered(check: Check, number: int) -> Check:
    """Return check, run at most once for each value of a document."""

    def once(value: Any, run: Run) -> bool:
        key = (number, id(value))
        verdicts = run.verdicts
        known = verdicts.get(key)
        if known is None:
            run.left -= 2
            if run.left < 0:
                raise run.exhausted()
            known = verdicts[key] = check(value, run)
        return known

    return once
