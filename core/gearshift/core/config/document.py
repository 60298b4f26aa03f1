"""YAML text as a tree that knows its places.

Rules: one document of mappings, lists and scalars; scalars stay text here. What could cost more than it says is
bounded: bytes, depth, and nodes with every alias counted as what it stands for. Tags and merge keys are refused.
PyYAML is used for its events only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

import yaml

from gearshift.core.config.problems import Mark, Report

MOST_BYTES = 1024 * 1024
MOST_DEPTH = 40
MOST_NODES = 100_000

_TEXT_TAG = "tag:yaml.org,2002:str"


@dataclass(slots=True, kw_only=True)
class Scalar:
    """Text; `plain` when it stood without quotes."""

    mark: Mark
    text: str
    plain: bool
    size: int = 1
    depth: int = 1


@dataclass(slots=True, kw_only=True)
class Sequence:
    """A list."""

    mark: Mark
    items: list[Node] = field(default_factory=list["Node"])
    size: int = 1
    depth: int = 1


@dataclass(slots=True, kw_only=True)
class Mapping:
    """Keys with their values, in the order of the file; a key may stand twice here."""

    mark: Mark
    entries: list[tuple[Scalar, Node]] = field(default_factory=list["tuple[Scalar, Node]"])
    size: int = 1
    depth: int = 1


Node = Scalar | Sequence | Mapping


def read_document(text: str, report: Report) -> Node | None:
    """Give the tree of a YAML text; None when it is empty or wrong, which the report then says."""
    try:
        if len(text.encode()) > MOST_BYTES:
            report.error((), f"the file is larger than {MOST_BYTES // 1024} KiB")
            return None
        return _Tree(report).read(yaml.parse(text, Loader=yaml.SafeLoader))
    except _StoppedError:
        return None
    except yaml.MarkedYAMLError as error:
        report.error((), _explained(text, error), _mark(error.problem_mark or error.context_mark))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark = Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        report.error((), f"holds a character that YAML does not allow (number {_code(error.character):#x})", mark)
    except (yaml.YAMLError, UnicodeEncodeError, RecursionError):
        report.error((), "is not YAML")
    return None


class _StoppedError(Exception):
    """Raised when reading on makes no sense; the report says why."""


class _Tree:
    """Builds the tree from events, without recursion."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._anchors: dict[str, Node | None] = {}
        self._open: list[Sequence | Mapping] = []
        self._keys: list[Scalar | None] = []
        self._names: list[str] = []
        self._root: Node | None = None
        self._size = 0

    def read(self, events: Iterator[yaml.Event]) -> Node | None:
        documents = 0
        for event in events:
            mark = _mark(event.start_mark) or Mark(1, 1)
            match event:
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        self._stop("holds a second document; one file is one configuration", mark)
                case yaml.AliasEvent():
                    self._add(self._aliased(event.anchor, mark), mark)
                case yaml.ScalarEvent():
                    self._refuse_tag(event.tag, mark)
                    plain = event.style is None and event.tag is None
                    scalar = Scalar(mark=mark, text=event.value, plain=plain)
                    self._anchors[event.anchor or ""] = scalar
                    self._add(scalar, mark)
                case yaml.SequenceStartEvent():
                    self._open_node(Sequence(mark=mark), event.anchor, event.tag)
                case yaml.MappingStartEvent():
                    self._open_node(Mapping(mark=mark), event.anchor, event.tag)
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    node = self._open.pop()
                    self._keys.pop()
                    self._anchors[self._names.pop()] = node
                    self._add(node, node.mark)
                case _:
                    pass
        return self._root

    def _open_node(self, node: Sequence | Mapping, anchor: str | None, tag: str | None) -> None:
        self._refuse_tag(tag, node.mark)
        if len(self._open) >= MOST_DEPTH:
            self._stop(f"is nested deeper than {MOST_DEPTH} levels", node.mark)
        if self._open and isinstance(self._open[-1], Mapping) and self._keys[-1] is None:
            self._stop("a key must be text, not a list or mapping", node.mark)
        if anchor:
            self._anchors[anchor] = None
        self._open.append(node)
        self._keys.append(None)
        self._names.append(anchor or "")

    def _aliased(self, anchor: str | None, mark: Mark) -> Node:
        if not anchor or anchor not in self._anchors:
            self._stop(f"alias `*{anchor}` has no anchor before it", mark)
        node = self._anchors[anchor]
        if node is None:
            self._stop(f"alias `*{anchor}` stands inside what it names", mark)
        return node

    def _add(self, node: Node, mark: Mark) -> None:
        """Put a finished node where it belongs; aliases count as often as they are used."""
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        parent.size += node.size
        parent.depth = max(parent.depth, node.depth + 1)
        if parent.depth > MOST_DEPTH:
            self._stop(f"is nested deeper than {MOST_DEPTH} levels", mark)
        if parent.size > MOST_NODES:
            self._stop(f"holds more than {MOST_NODES:,} values, aliases counted as what they stand for", mark)
        if isinstance(parent, Sequence):
            parent.items.append(node)
            return
        key = self._keys[-1]
        if key is None:
            if not isinstance(node, Scalar):
                self._stop("a key must be text, not a list or mapping", mark)
            self._keys[-1] = node
        else:
            parent.entries.append((key, node))
            self._keys[-1] = None

    def _refuse_tag(self, tag: str | None, mark: Mark) -> None:
        if tag not in (None, "!", _TEXT_TAG):
            self._stop(f"tags are not supported (`{tag}`)", mark)

    def _stop(self, message: str, mark: Mark) -> NoReturn:
        self._report.error((), message, mark)
        raise _StoppedError


class _YamlMark(Protocol):
    line: int
    column: int


def _mark(mark: _YamlMark | None) -> Mark | None:
    return None if mark is None else Mark(mark.line + 1, mark.column + 1)


def _code(character: str | bytes | int) -> int:
    return character if isinstance(character, int) else ord(character)


def _explained(text: str, error: yaml.MarkedYAMLError) -> str:
    """Say what is wrong with the YAML and, for the usual slips, what to do; never shows the line, it may hold a key."""
    problem = error.problem or error.context or "is not YAML"
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "'\\t'" in problem or line[: len(line) - len(line.lstrip())].count("\t"):
        return "a tab may not indent; use spaces"
    if "${" in line:
        return f'not YAML: {problem}; inside {{…}} and […] write ${{NAME}} in quotes: "${{NAME}}"'
    if "mapping values are not allowed" in problem:
        return "not YAML: a second `:` in this line; put the text in quotes, or check the indentation"
    if "expected ','" in problem:
        return f"not YAML: {problem}; inside {{…}} and […] put text with ? : , or brackets in quotes"
    return f"not YAML: {problem}"
