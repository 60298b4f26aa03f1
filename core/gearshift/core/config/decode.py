"""A tree of the file into the configuration's Structs.

Rules: the Structs' types say what may stand where; every problem is noted at its place and reading goes on with the
rest. Text fields take an unquoted scalar as it is written, so that `model: 3.10` stays `3.10`. `${NAME}` is filled in
where a field is `Secret` and refused elsewhere; `$${NAME}` is a literal `${NAME}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, Final, TypeVar, cast

from msgspec import NODEFAULT, Struct, inspect

from gearshift.core.config import scalars
from gearshift.core.config.document import Mapping as MappingNode
from gearshift.core.config.document import Node, Scalar, Sequence
from gearshift.core.config.model import ENDPOINT_PATTERN, EXPIRY_PATTERN
from gearshift.core.config.problems import Mark, Place, Report, shortened, suggestion

S = TypeVar("S", bound=Struct)

_VARIABLE = re.compile(r"(?<!\$)\$\{([^}]*)\}")
_LOOKS_LIKE_VARIABLE = re.compile(r"(?<!\$)\$\{[A-Za-z_][A-Za-z0-9_]*(:?[-?+=][^}]*)?\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)
_NAME_PATTERN_START: Final = "^[A-Za-z0-9][A-Za-z0-9._:/-]"


class _Invalid(Enum):
    """Stands for a value that the report has already complained about."""

    INVALID = 1


_INVALID: Final = _Invalid.INVALID


class Decoder:
    """Reads nodes as Structs; `positions` then tells where each value stood."""

    def __init__(self, report: Report, env: Mapping[str, str]) -> None:
        self._report = report
        self._env = env
        self.positions: dict[Place, Mark] = {}

    def read(self, node: Node, kind: type[S]) -> S | None:
        """Give the Struct, or None when the report says why not."""
        value = self._value(node, inspect.type_info(kind), ())
        return value if isinstance(value, kind) else None

    def _value(self, node: Node, wanted: inspect.Type, place: Place, extra: Mapping[str, Any] | None = None) -> object:
        self.positions.setdefault(place, node.mark)
        match wanted:
            case inspect.Metadata():
                extra = wanted.extra  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
                return self._value(node, wanted.type, place, cast("dict[str, Any] | None", extra))
            case inspect.UnionType():
                if isinstance(node, Scalar) and _is_null(node):
                    return None
                return self._value(node, next(t for t in wanted.types if not isinstance(t, inspect.NoneType)), place)
            case inspect.StructType():
                return self._struct(node, wanted, place)
            case inspect.DictType():
                return self._dict(node, wanted, place)
            case inspect.VarTupleType():
                return self._tuple(node, wanted, place)
            case inspect.CustomType() | inspect.AnyType():
                return self._anything(node, place)
            case _ if not isinstance(node, Scalar):
                article = "a list" if isinstance(node, Sequence) else "a mapping"
                return self._wrong(node, place, f"must be {_described(wanted)}, not {article}")
            case inspect.StrType():
                return self._text(node, wanted, place, extra or {})
            case inspect.BoolType():
                return self._boolean(node, place)
            case _:
                return self._number(node, wanted, place, extra or {})

    def _struct(self, node: Node, wanted: inspect.StructType, place: Place) -> object:
        if isinstance(node, Scalar) and _is_null(node):
            node = MappingNode(mark=node.mark)
        if not isinstance(node, MappingNode):
            return self._wrong(node, place, f"must be a mapping of {_fields_of(wanted)}")
        fields = {each.encode_name: each for each in wanted.fields}
        values: dict[str, object] = {}
        seen: set[str] = set()
        is_whole = True
        for key, value in self._entries(node, place):
            known = fields.get(key.text)
            if known is None:
                hint = "; merge keys are not supported" if key.text == "<<" else suggestion(key.text, fields)
                self._report.error((*place, key.text), f"unknown field{hint}", key.mark)
                is_whole = False
                continue
            seen.add(key.text)
            if isinstance(value, Scalar) and _is_null(value) and not known.required and _may_be_empty(known.type):
                continue
            self._place(key, value, (*place, key.text))
            result = self._value(value, known.type, (*place, key.text))
            is_whole = is_whole and result is not _INVALID
            values[known.name] = result
        for name, each in fields.items():
            if each.required and each.default is NODEFAULT and name not in seen:
                self._report.error((*place, name), "is missing", self.positions.get(place, node.mark))
                is_whole = False
        return wanted.cls(**values) if is_whole else _INVALID

    def _dict(self, node: Node, wanted: inspect.DictType, place: Place) -> object:
        if not isinstance(node, MappingNode):
            return self._wrong(node, place, "must be a mapping")
        values: dict[str, object] = {}
        is_whole = True
        for key, value in self._entries(node, place):
            here = (*place, key.text)
            self._place(key, value, here)
            name = self._value(key, wanted.key_type, here)
            result = self._value(value, wanted.value_type, here)
            if isinstance(name, str) and result is not _INVALID:
                values[name] = result
            else:
                is_whole = False
        return values if is_whole else _INVALID

    def _tuple(self, node: Node, wanted: inspect.VarTupleType, place: Place) -> object:
        if not isinstance(node, Sequence):
            return self._wrong(node, place, "must be a list")
        values = [self._value(item, wanted.item_type, (*place, number)) for number, item in enumerate(node.items)]
        if wanted.min_length is not None and len(values) < wanted.min_length:
            return self._wrong(node, place, "must not be empty")
        if wanted.max_length is not None and len(values) > wanted.max_length:
            return self._wrong(node, place, f"must hold at most {wanted.max_length} items, not {len(values)}")
        return _INVALID if _INVALID in values else tuple(values)

    def _anything(self, node: Node, place: Place) -> object:
        """Any JSON value, as YAML 1.2 reads it."""
        if isinstance(node, Sequence):
            items = [self._anything(item, (*place, number)) for number, item in enumerate(node.items)]
            return _INVALID if _INVALID in items else items
        if isinstance(node, MappingNode):
            values: dict[str, object] = {}
            for key, value in self._entries(node, place):
                self._place(key, value, (*place, key.text))
                values[key.text] = self._anything(value, (*place, key.text))
            return _INVALID if _INVALID in values.values() else values
        if not node.plain:
            return self._without_variables(node, place)
        try:
            plain = scalars.plain_value(node.text)
        except ValueError as error:
            return self._wrong(node, place, str(error))
        return self._without_variables(node, place) if isinstance(plain, str) else plain

    def _text(self, node: Scalar, wanted: inspect.StrType, place: Place, extra: Mapping[str, Any]) -> object:
        if _is_null(node):
            return self._wrong(node, place, 'has no value; for an empty text write ""')
        if extra.get("secret"):
            return self._secret(node, place)
        text = self._without_variables(node, place)
        if not isinstance(text, str):
            return _INVALID
        words: tuple[str, ...] = extra.get("words", ())
        if words and text not in words:
            return self._wrong(node, place, f"{shortened(text)} is not one of {_all_words(text, words)}")
        if wanted.pattern and not re.fullmatch(wanted.pattern, text):
            return self._wrong(node, place, f"{shortened(text)} {_pattern_told(wanted.pattern)}")
        return text

    def _secret(self, node: Scalar, place: Place) -> object:
        """Fill in `${NAME}`. Nothing here quotes the text: it may be a key."""
        missing = False
        found = False

        def replace(match: re.Match[str]) -> str:
            nonlocal missing, found
            found = True
            name = match[1]
            if not _NAME.fullmatch(name):
                missing = True
                self._wrong(node, place, "only ${NAME} is understood, with the name of an environment variable")
            elif not self._env.get(name):
                missing = True
                how = "is empty" if name in self._env else "is not set"
                self._wrong(node, place, f"environment variable {name} {how}")
            return self._env.get(name, "")

        text = _VARIABLE.sub(replace, node.text).replace("$${", "${")
        is_secret = place[-1] == "api_key" or _SECRET_HEADER.search(str(place[-1]))
        if text and not found and is_secret:
            self._report.warn(
                place, "a key stands in the file; put it into an environment variable: ${NAME}", node.mark
            )
        if any(not " " <= character <= "~" for character in text):
            return self._wrong(node, place, "holds a character that cannot stand in a header, such as a line break")
        return _INVALID if missing else text

    def _without_variables(self, node: Scalar, place: Place) -> object:
        if _LOOKS_LIKE_VARIABLE.search(node.text):
            return self._wrong(
                node,
                place,
                "environment variables are for secrets only (`api_key`, values of `headers`); "
                "for the characters themselves write $${…}",
            )
        return node.text.replace("$${", "${")

    def _boolean(self, node: Scalar, place: Place) -> object:
        if node.plain and (node.text in scalars.TRUES or node.text in scalars.FALSES):
            return node.text in scalars.TRUES
        return self._wrong(node, place, f"must be true or false, not {_got(node)}")

    def _number(self, node: Scalar, wanted: inspect.Type, place: Place, extra: Mapping[str, Any]) -> object:
        lowest: int | None = extra.get("minimum")
        value: int | float | Decimal | None = None
        is_right = False
        if not node.plain:
            pass
        elif isinstance(wanted, inspect.DecimalType):
            value = scalars.decimal(node.text)
            is_right = value is not None and (lowest is None or value >= lowest)
        elif isinstance(wanted, (inspect.IntType, inspect.FloatType)):
            value = (
                scalars.whole_number(node.text) if isinstance(wanted, inspect.IntType) else scalars.number(node.text)
            )
            is_right = value is not None and _in_range(value, wanted)
        if not is_right:
            return self._wrong(node, place, f"must be {_described(wanted, lowest)}, not {_got(node)}")
        return value

    def _entries(self, node: MappingNode, place: Place) -> Iterator[tuple[Scalar, Node]]:
        """Give each entry once; a key that comes again is a problem, its first value stands."""
        first: dict[str, Mark] = {}
        for key, value in node.entries:
            if key.plain and key.text in scalars.NULLS:
                self._report.error(place, "a key has no name", key.mark)
            elif key.text in first:
                self._report.error((*place, key.text), f"stands twice; first in line {first[key.text].line}", key.mark)
            else:
                first[key.text] = key.mark
                yield key, value

    def _place(self, key: Scalar, value: Node, place: Place) -> None:
        """Remember where a value is: a scalar where it stands, a mapping or list at its key, where one looks."""
        self.positions[place] = value.mark if isinstance(value, Scalar) and value.text else key.mark

    def _wrong(self, node: Node, place: Place, message: str) -> _Invalid:
        mark = node.mark if isinstance(node, Scalar) else self.positions.get(place, node.mark)
        self._report.error(place, message, mark)
        return _INVALID


def _is_null(node: Scalar) -> bool:
    return node.plain and node.text in scalars.NULLS


def _may_be_empty(wanted: inspect.Type) -> bool:
    """Sections, lists and mappings of which everything was commented out."""
    return isinstance(wanted, (inspect.StructType, inspect.DictType, inspect.VarTupleType))


def _in_range(value: float, wanted: inspect.IntType | inspect.FloatType) -> bool:
    return not (
        (wanted.ge is not None and value < wanted.ge)
        or (wanted.gt is not None and value <= wanted.gt)
        or (wanted.le is not None and value > wanted.le)
        or (wanted.lt is not None and value >= wanted.lt)
    )


def _described(wanted: inspect.Type, lowest: object = None) -> str:
    match wanted:
        case inspect.StrType():
            return "text"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            if wanted.ge is not None and wanted.ge == wanted.le:
                return f"{wanted.ge}"
            noun = "a whole number" if isinstance(wanted, inspect.IntType) else "a number"
            least = f"from {wanted.ge:,}" if wanted.ge is not None else f"above {wanted.gt:,}"
            return f"{noun} {least} to {wanted.le:,}" if wanted.le is not None else f"{noun} {least}"
        case _:
            return "a number" if lowest is None else f"a number from {lowest}"


def _got(node: Scalar) -> str:
    if _is_null(node):
        return "nothing"
    return shortened(node.text) if node.plain else f"{shortened(node.text)} in quotes"


def _fields_of(wanted: inspect.StructType) -> str:
    return ", ".join(f"`{each.encode_name}`" for each in wanted.fields[:6]) + (", …" if len(wanted.fields) > 6 else "")


def _all_words(text: str, words: Iterable[str]) -> str:
    near = suggestion(text, words)
    listed = ", ".join(f"`{word}`" for word in words if word)
    return listed + (near if near.startswith("; did") else "")


def _pattern_told(pattern: str) -> str:
    if pattern.startswith(_NAME_PATTERN_START):
        return "is not a name: letters, digits and . _ : / - (a letter or digit first, at most 128)"
    if pattern == EXPIRY_PATTERN:
        return "is not a time: write 2027-01-31 or 2027-01-31T12:00:00Z (UTC)"
    if pattern == ENDPOINT_PATTERN:
        return "is no URL: write such as http://127.0.0.1:4317 or https://otlp.example.com"
    return "is not a SHA-256 digest: 64 hexadecimal digits in lower case"
