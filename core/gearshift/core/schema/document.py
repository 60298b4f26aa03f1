"""Read one strict JSON document.

Rules: duplicate keys, NaN and Infinity, lone surrogates, numbers that no double
holds, and text after the document are refused; depth and the length of a number
are bounded. What is accepted here is what every JSON reader understands alike.
"""

import json
import re
from typing import Any, Final, NoReturn

from gearshift.core.schema.errors import DocumentError
from gearshift.core.schema.kinds import is_array, is_object

MAX_DEPTH: Final = 128
MAX_NUMBER_CHARS: Final = 400  # the largest double in plain digits has 309
_INFINITY: Final = float("inf")
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def parse_document(text: str, *, max_depth: int = MAX_DEPTH) -> Any:
    """Return the value of a JSON text.

    Args:
        text: exactly one document; white space may surround it.
        max_depth: most arrays and objects nested in each other.

    Raises:
        DocumentError: text is not one strict JSON document.

    """
    try:
        value = _DECODER.decode(text)
        text.encode()
        if _SURROGATE_ESCAPE.search(text) is not None:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise DocumentError(f"not JSON: {error.msg}", error.pos) from error
    except UnicodeEncodeError as error:
        raise DocumentError("not JSON: half of a surrogate pair") from error
    except RecursionError as error:
        raise DocumentError(f"nested deeper than {max_depth}") from error
    if text.count("[") + text.count("{") > max_depth:
        _check_depth(value, max_depth)
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise DocumentError(f"duplicate key {json.dumps(name[:60], ensure_ascii=False)}")
            seen.add(name)
    return members


def _int(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise DocumentError(f"a number has more than {MAX_NUMBER_CHARS} characters")
    return int(text)


def _float(text: str) -> float:
    if len(text) > MAX_NUMBER_CHARS:
        raise DocumentError(f"a number has more than {MAX_NUMBER_CHARS} characters")
    value = float(text)
    if value in (_INFINITY, -_INFINITY):
        raise DocumentError(f"number out of range: {text[:40]}")
    return value


def _constant(text: str) -> NoReturn:
    raise DocumentError(f"not JSON: {text}")


def _check_depth(value: Any, max_depth: int) -> None:
    level: list[Any] = [value] if is_object(value) or is_array(value) else []
    depth = 0
    while level:
        depth += 1
        if depth > max_depth:
            raise DocumentError(f"nested deeper than {max_depth}")
        level = [
            item
            for container in level
            for item in (container.values() if is_object(container) else container)
            if is_object(item) or is_array(item)
        ]


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_int, parse_float=_float, parse_constant=_constant
)
