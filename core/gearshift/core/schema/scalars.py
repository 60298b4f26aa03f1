"""Keywords about a value as a whole and about numbers and strings.

Rules: 1.0 is an integer and equals 1; true equals neither. multipleOf is exact in
decimal, as the numbers are written: 0.3 is a multiple of 0.1.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from gearshift.core.schema.canonical import identity_key, whole
from gearshift.core.schema.issue import Report, SchemaIssue, kind_name, listed, quoted
from gearshift.core.schema.kinds import kind_of
from gearshift.core.schema.node import KINDS, NULL, Check, Keyword, Run, fails, passes
from gearshift.core.schema.patterns import Pattern

_PYTHON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int, float),
    "null": (NULL,),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
}


@dataclass(frozen=True, slots=True)
class TypeKeyword(Keyword):
    """`type`: the kinds that a value may have."""

    types: tuple[str, ...]

    @property
    def name(self) -> str:
        """The keyword."""
        return "type"

    def checks(self) -> Mapping[type, Check]:
        """Decide by kind alone, except for floats that must be whole."""
        allowed = {kind for name in self.types for kind in _PYTHON_TYPES[name]}
        checks: dict[type, Check] = {kind: passes if kind in allowed else fails for kind in KINDS}
        if "integer" in self.types and "number" not in self.types:
            checks[float] = _is_whole
        return checks

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Name the kinds that are allowed and the one that came."""
        if not self.checks()[type(value)](value, report.run):
            yield SchemaIssue(pointer, "type", f"expected {' or '.join(self.types)}, got {kind_name(value)}")


def _is_whole(value: Any, run: Run) -> bool:
    del run
    return float(value).is_integer()


@dataclass(frozen=True, slots=True)
class EnumKeyword(Keyword):
    """`enum`, and `const` as an enum of one: the values that are allowed."""

    keyword: str
    values: tuple[Any, ...]

    @property
    def name(self) -> str:
        """`enum` or `const`."""
        return self.keyword

    def checks(self) -> Mapping[type, Check]:
        """Look the value up in a set."""
        strings = frozenset(value for value in self.values if type(value) is str)
        kinds = {kind_of(value) for value in self.values}
        keys = frozenset(identity_key(value) for value in self.values if type(value) is not str)

        def is_listed_string(value: Any, run: Run) -> bool:
            del run
            return value in strings

        def is_listed(value: Any, run: Run) -> bool:
            return run.key_of(value) in keys

        checks: dict[type, Check] = dict.fromkeys(KINDS, fails)
        for kind in kinds:
            checks[kind] = is_listed
        if int in kinds or float in kinds:
            checks[int] = checks[float] = is_listed
        if strings:
            checks[str] = is_listed_string
        return checks

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """List what is allowed."""
        report.run.spend(len(self.values))
        if self.checks()[type(value)](value, report.run):
            return
        if len(self.values) == 1:
            yield SchemaIssue(pointer, self.keyword, f"expected {quoted(self.values[0])}, got {quoted(value)}")
        else:
            allowed = listed(quoted(item) for item in self.values)
            yield SchemaIssue(pointer, self.keyword, f"expected one of {allowed}, got {quoted(value)}")


_BOUNDS: Final[Mapping[str, tuple[str, Callable[[Any, Any], bool]]]] = {
    "minimum": ("at least", lambda value, limit: value >= limit),
    "maximum": ("at most", lambda value, limit: value <= limit),
    "exclusiveMinimum": ("more than", lambda value, limit: value > limit),
    "exclusiveMaximum": ("less than", lambda value, limit: value < limit),
}


@dataclass(frozen=True, slots=True)
class BoundKeyword(Keyword):
    """`minimum`, `maximum` and their exclusive forms."""

    keyword: str
    limit: int | float

    @property
    def name(self) -> str:
        """The keyword."""
        return self.keyword

    def checks(self) -> Mapping[type, Check]:
        """Compare; Python compares ints and floats exactly."""
        limit, holds = self.limit, _BOUNDS[self.keyword][1]

        def in_bound(value: Any, run: Run) -> bool:
            del run
            return holds(value, limit)

        return {int: in_bound, float: in_bound}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Name the bound."""
        words, holds = _BOUNDS[self.keyword]
        if type(value) in (int, float) and not holds(value, self.limit):
            yield SchemaIssue(pointer, self.keyword, f"expected {words} {quoted(self.limit)}, got {quoted(value)}")


@dataclass(frozen=True, slots=True)
class MultipleOfKeyword(Keyword):
    """`multipleOf`, exact in decimal."""

    divisor: int | float

    @property
    def name(self) -> str:
        """The keyword."""
        return "multipleOf"

    def checks(self) -> Mapping[type, Check]:
        """Divide as integers where both are, otherwise as fractions of the shortest decimals."""
        divisor = self.divisor
        if type(divisor) is float and divisor.is_integer():
            divisor = whole(divisor)
        exact = Fraction(repr(divisor))

        def divides(value: int) -> bool:
            return value % divisor == 0 if type(divisor) is int else (value / exact).denominator == 1

        def divides_int(value: Any, run: Run) -> bool:
            del run
            return divides(value)

        def divides_float(value: Any, run: Run) -> bool:
            del run
            if value.is_integer():
                return divides(whole(value))
            if type(divisor) is int or value - value != 0:  # infinite or not a number
                return False
            return (Fraction(repr(value)) / exact).denominator == 1

        return {int: divides_int, float: divides_float}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Name the divisor."""
        check = self.checks().get(kind_of(value), passes)
        if not check(value, report.run):
            yield SchemaIssue(
                pointer, "multipleOf", f"expected a multiple of {quoted(self.divisor)}, got {quoted(value)}"
            )


_UNITS: Final[Mapping[str, tuple[type, str, str]]] = {
    "Length": (str, "character", "characters"),
    "Items": (list, "item", "items"),
    "Properties": (dict, "property", "properties"),
}


@dataclass(frozen=True, slots=True)
class SizeKeyword(Keyword):
    """`minLength` to `maxProperties`: how many characters, items or properties there may be."""

    keyword: str
    limit: int

    @property
    def name(self) -> str:
        """The keyword."""
        return self.keyword

    def checks(self) -> Mapping[type, Check]:
        """Compare the length; a character is a Unicode code point."""
        limit = self.limit

        def is_long_enough(value: Any, run: Run) -> bool:
            del run
            return len(value) >= limit

        def is_short_enough(value: Any, run: Run) -> bool:
            del run
            return len(value) <= limit

        kind = _UNITS[self.keyword[3:]][0]
        return {kind: is_long_enough if self.keyword.startswith("min") else is_short_enough}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Name the limit and the size."""
        check = self.checks().get(kind_of(value), passes)
        if not check(value, report.run):
            words = "at least" if self.keyword.startswith("min") else "at most"
            _, one, many = _UNITS[self.keyword[3:]]
            unit = one if self.limit == 1 else many
            yield SchemaIssue(pointer, self.keyword, f"expected {words} {self.limit} {unit}, got {len(value)}")


@dataclass(frozen=True, slots=True)
class PatternKeyword(Keyword):
    """`pattern`: what must occur in a string."""

    pattern: Pattern

    @property
    def name(self) -> str:
        """The keyword."""
        return "pattern"

    def checks(self) -> Mapping[type, Check]:
        """Search, unanchored."""
        return {str: self.pattern.matches}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Show the pattern."""
        if type(value) is str and not self.pattern.matches(value, report.run):
            yield SchemaIssue(pointer, "pattern", f"{quoted(value)} does not match the pattern {self.pattern.source}")


@dataclass(frozen=True, slots=True)
class FormatKeyword(Keyword):
    """`format`, where formats are asserted."""

    format: str
    accepts: Callable[[str, Run], bool]

    @property
    def name(self) -> str:
        """The keyword."""
        return "format"

    def checks(self) -> Mapping[type, Check]:
        """Ask the format's own rule."""
        return {str: self.accepts}

    def explain(self, value: Any, pointer: str, report: Report) -> Iterator[SchemaIssue]:
        """Name the format."""
        if type(value) is str and not self.accepts(value, report.run):
            yield SchemaIssue(pointer, "format", f"{quoted(value)} is not a valid {self.format}")
