"""A static system prompt and the values that are put into it.

Rules: pure. `{{name}}` is replaced once by its value, which is never read again, so a value cannot bring in another.
What stands before the first place is the static prefix, which providers can cache; there is no template language.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from gearshift.core.errors import FieldViolation, InvalidRequestError

_PLACE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_.-]{0,63})\s*\}\}")

FIELD = "call.system"


class FilledPrompt(Struct, frozen=True):
    """The prompt as the model reads it: `static` up to the first place, `dynamic` from there on, values filled in."""

    static: str
    dynamic: str


EMPTY_PROMPT = FilledPrompt("", "")


def fill(text: str, variables: Mapping[str, str]) -> FilledPrompt:
    """Put the values into their places.

    Raises:
        InvalidRequestError: a place has no value, or a value no place.

    """
    if "{{" not in text:
        if variables:
            raise InvalidRequestError([_unknown(name, ()) for name in variables])
        return FilledPrompt(text, "")
    pieces = _PLACE.split(text)
    names = pieces[1::2]
    missing = dict.fromkeys(name for name in names if name not in variables)
    unknown = [name for name in variables if name not in names]
    if missing or unknown:
        raise InvalidRequestError(
            [
                FieldViolation(
                    field=f"{FIELD}.variables.{name}",
                    description=f"the prompt has a place {{{{{name}}}}} and no value was given",
                )
                for name in missing
            ]
            + [_unknown(name, names) for name in unknown]
        )
    if not names:
        return FilledPrompt(text, "")
    filled = [variables[piece] if index % 2 else piece for index, piece in enumerate(pieces)]
    return FilledPrompt(pieces[0], "".join(filled[1:]))


def _unknown(name: str, names: tuple[str, ...] | list[str]) -> FieldViolation:
    places = ", ".join(dict.fromkeys(names)) or "none"
    return FieldViolation(
        field=f"{FIELD}.variables.{name}",
        description=f"the prompt has no place {{{{{name}}}}}; its places: {places}",
    )
