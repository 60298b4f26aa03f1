"""The words of strict JSON, as far as they are right, and where a reader can stand among them."""

import re
from collections.abc import Callable
from typing import Any, Final, cast

from gearshift.core.schema.node import NULL

_Match = Callable[[str, int], re.Match[str]]
# Each of these matches any text, if only with nothing.
match_space = cast(_Match, re.compile(r"[ \t\n\r]*").match)
match_run = cast(_Match, re.compile(r'[^"\\\x00-\x1f\ud800-\udfff]*').match)
match_number = cast(
    _Match,
    re.compile(r"-?(?:0|[1-9][0-9]*)?(?:(?<=[0-9])\.(?:[0-9]+)?)?(?:(?<=[0-9])[eE](?:[-+]?[0-9]*)?)?").match,
)
WHOLE_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
# An escape as far as it is right; a first half of a surrogate pair needs its second half.
_H: Final = "[0-9a-fA-F]"
match_escape = cast(
    _Match,
    re.compile(
        rf'\\(?:["\\/bfnrt]|u(?:[0-9a-ce-fA-CE-F]{_H}{{0,3}}|[dD](?:[0-7]{_H}{{0,2}}'
        rf"|[89abAB](?:{_H}(?:{_H}(?:\\(?:u(?:[dD](?:[c-fC-F]{_H}{{0,2}})?)?)?)?)?)?)?)?)?"
    ).match,
)
WHOLE_ESCAPE: Final = re.compile(
    rf'\\(?:["\\/bfnrt]|u(?:[0-9a-ce-fA-CE-F]{_H}{{3}}|[dD](?:[0-7]{_H}{{2}}|[89abAB]{_H}{{2}}\\u[dD][c-fC-F]{_H}{{2}})))'
)
LITERALS: Final[dict[str, tuple[str, type, Any]]] = {
    "t": ("true", bool, True),
    "f": ("false", bool, False),
    "n": ("null", NULL, None),
}
DIGITS: Final = frozenset("-0123456789")

# Where a reader stands: before what it wants, or within it.
VALUE: Final = 0
FIRST_ITEM: Final = 1
FIRST_KEY: Final = 2
KEY: Final = 3
COLON: Final = 4
AFTER: Final = 5
DONE: Final = 6
STRING: Final = 7
KEY_STRING: Final = 8
NUMBER: Final = 9
LITERAL: Final = 10
WANTED: Final = {
    VALUE: "a value",
    FIRST_ITEM: "a value or ]",
    FIRST_KEY: "a key in quotes or }",
    KEY: "a key in quotes",
    COLON: "a colon",
    DONE: "nothing more",
    STRING: "the end of a string",
    KEY_STRING: "the end of a key",
    NUMBER: "a number",
    LITERAL: "true, false or null",
}
