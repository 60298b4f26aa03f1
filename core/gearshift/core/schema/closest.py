"""Which branch of `anyOf` or `oneOf` was probably meant, and what is wrong with it.

Rules: one branch is explained, not all; a model that reads the issues should have
one thing to change.
"""

from collections.abc import Iterator
from typing import Any, Final

from gearshift.core.schema.issue import Report, SchemaIssue, kind_name
from gearshift.core.schema.node import SchemaNode

_SHAPE_KEYWORDS: Final = ("type", "const", "enum", "false")


def closest_issues(
    keyword: str, nodes: tuple[SchemaNode, ...], value: Any, pointer: str, report: Report
) -> Iterator[SchemaIssue]:
    """Explain why no branch holds.

    1. Branches for another kind of value, or with another constant at the value or in one of its members, were not
       meant. If one branch remains, its issues are the explanation.
    2. If all branches want another kind, say which kinds.
    3. Otherwise name the branch with the fewest issues as the closest.
    """
    report.run.spend(len(nodes))
    found = [issues for issues in (node.explain(value, pointer, report) for node in nodes) if issues]
    of_kind = [issues for issues in found if not any(_is_shape(issue, pointer) for issue in issues)]
    meant = [issues for issues in of_kind if not any(_is_marker(issue, pointer) for issue in issues)] or of_kind
    if len(meant) == 1:
        yield from meant[0]
        return
    if not meant and all(len(issues) == 1 and issues[0].keyword == "type" for issues in found):
        kinds = dict.fromkeys(issue.message[9:].partition(", got ")[0] for issues in found for issue in issues)
        yield SchemaIssue(pointer, keyword, f"expected {' or '.join(kinds)}, got {kind_name(value)}")
        return
    best = min(meant or found, key=len, default=None)
    text = f"matches none of the {len(nodes)} allowed forms"
    if best is not None and best[0].keyword in ("anyOf", "oneOf"):
        yield best[0]  # it names the closest itself
        return
    if best is not None:
        place = best[0].pointer.removeprefix(pointer)
        text += f"; the closest: {place + ': ' if place else ''}{best[0].message}"
    yield SchemaIssue(pointer, keyword, text)


def _is_shape(issue: SchemaIssue, pointer: str) -> bool:
    return issue.pointer == pointer and issue.keyword in _SHAPE_KEYWORDS


def _is_marker(issue: SchemaIssue, pointer: str) -> bool:
    return issue.keyword in ("const", "enum") and issue.pointer.rpartition("/")[0] == pointer
